"""Tokenizers made from the run's own texts.

Two kinds, by size. From `BYTE_LEVEL` tokens up: byte-level BPE, which reads any text. Below it 256 bytes
would eat the vocabulary, and merges of frequent letter pairs would spend a good part of it on fragments that
only lead to longer ones. So a small tokenizer has the characters of its texts, and as whole words those that
recur in many texts: the fixed words of prompts become one token each, everything that varies (digits, words
to be spelled) stays characters, and no character hides in an odd fragment. What it has never seen becomes
<unk>.

Both split digits one by one, and give each think and answer tag a token of its own that decoding always
shows.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.data.tokenizer import Tokenizer

BYTE_LEVEL = 512  # 256 bytes and at least as many merges and specials
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
RECURRING = 0.05  # share of the texts that a word must occur in to become a token

# With the space before it, so that a sentence is one token a word; signs likewise, but digits stay
# themselves.
_WORD = re.compile(r" ?[A-Za-z]{2,}| [^\sA-Za-z0-9]")


def train_tokenizer(texts: Iterable[str], vocab_size: int, template: ChatTemplate) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, the same for the same texts in any order.

    `texts` should be prompts as rendered and everything a model may have to write. Raises UserError when the
    vocabulary is too small for the characters, or there is no text.
    """
    texts = list(texts)
    if not any(texts):
        raise UserError("tokenizer.kind='train': there is no text to train on; check data.sources")
    tags = list(
        dict.fromkeys(
            [template.think_open, template.think_close, template.answer_open, template.answer_close]
        )
    )
    if vocab_size >= BYTE_LEVEL:
        backend = _byte_level(texts, vocab_size, tags)
    else:
        backend = _characters_and_words(texts, vocab_size, tags)
    backend.add_special_tokens(
        [tokenizers.AddedToken(text, special=True, normalized=False) for text in (PAD, EOS)]
    )
    backend.add_tokens([tokenizers.AddedToken(tag, special=False, normalized=False) for tag in tags])
    return Tokenizer(backend, eos_token=EOS, pad_token=PAD)


def _byte_level(texts: Sequence[str], vocab_size: int, tags: Sequence[str]) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    # Tags come after training: a token that was ever special stays so, and plain text could not make it.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(tags),
        special_tokens=[PAD, EOS],
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    backend.train_from_iterator(sorted(_without_tags(texts, tags)), trainer)
    return backend


def _characters_and_words(texts: Sequence[str], vocab_size: int, tags: Sequence[str]) -> tokenizers.Tokenizer:
    pieces = [_without_tags([text], tags) for text in texts]
    characters = sorted(set(chain("0123456789", *chain(*pieces))))
    fixed = [PAD, EOS, UNKNOWN, *tags, *characters]
    if len(fixed) > vocab_size:
        raise UserError(f"tokenizer.vocab_size={vocab_size} is too small: the texts have {len(characters)} "
                        f"different characters and there are {len(fixed) - len(characters)} special tokens "
                        f"and tags; use at least {len(fixed)}, or {BYTE_LEVEL} for one that reads any text")
    words = _recurring_words(pieces)[:vocab_size - len(fixed)]
    vocabulary = {token: number for number, token in enumerate([*fixed, *words])}
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(
        tokenizers.Regex(_word_or_character(words)), behavior="isolated"
    )
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([tokenizers.AddedToken(UNKNOWN, special=True, normalized=False)])
    return backend


def _recurring_words(pieces: Sequence[Sequence[str]]) -> list[str]:
    """Words in at least `RECURRING` of the texts (and in two), those that save most tokens first."""
    count, in_texts = Counter(), Counter()
    for parts in pieces:
        words = [word for part in parts for word in _WORD.findall(part)]
        count.update(words)
        in_texts.update(set(words))
    least = max(2, RECURRING * len(pieces))
    recurring = [word for word in count if in_texts[word] >= least]
    return sorted(recurring, key=lambda word: (-count[word] * (len(word) - 1), word))


def _word_or_character(words: Sequence[str]) -> str:
    """Matches one whole word of the vocabulary or a sign with its space, else one character."""
    after_space = sorted(word[1:] for word in words if word[0] == " " and word[1:].isalpha())
    at_start = sorted(word for word in words if word.isalpha())
    signs = sorted(re.escape(word[1:]) for word in words if word[0] == " " and not word[1:].isalpha())
    choices = [rf" (?:{'|'.join(after_space)})(?![A-Za-z])"] if after_space else []
    choices += [rf"(?<![A-Za-z])(?:{'|'.join(at_start)})(?![A-Za-z])"] if at_start else []
    choices += [rf" (?:{'|'.join(signs)})"] if signs else []
    return "|".join([*choices, r"[\s\S]"])


def _without_tags(texts: Iterable[str], tags: Sequence[str]) -> list[str]:
    """The stretches of text between tags and special tokens, which are no part of what is learnt."""
    cut = re.compile("|".join(re.escape(token) for token in (*tags, PAD, EOS, UNKNOWN)))
    return [part for text in texts for part in cut.split(text) if part]
