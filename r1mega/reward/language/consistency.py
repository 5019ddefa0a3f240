"""The language-consistency reward: words in the target language / all words of the reasoning (arXiv 2501.12948)."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from r1mega.reward.language.clean import as_seen
from r1mega.reward.language.identify import languages
from r1mega.reward.language.prose import prose
from r1mega.reward.language.scripts import FAMILY_OF
from r1mega.reward.language.words import Word, words

FEWEST_WORDS = 5  # the least number of words a share is taken of
LONGEST_NAME = 3  # words: "John von Neumann" has only two with a capital
NAMES_PER_WORD = 0.25  # so many words in names may go uncounted for each counted word, and LONGEST_NAME in any text


class WordCount(NamedTuple):
    """Words of a text: in the target language, in others, and left out (names; repetitions in the target language)."""

    target: int
    other: int
    left_out: int
    distinct: int
    """Different ones among `target`."""

    @property
    def share(self) -> float:
        """In [0, 1]; see `language_share`."""
        target = self.target if self.distinct >= FEWEST_WORDS else min(self.target, self.distinct)
        return target / max(target + self.other, FEWEST_WORDS)


def language_share(text: str, language: str) -> float:
    """The share of the words of `text` that are in `language` (ISO 639-1), in time linear in its length.

    Formulas, numbers, code, addresses and names do not count. A text of fewer than FEWEST_WORDS words is measured as if
    the missing ones were in another language, so no words at all are worth 0: a policy that was paid for silence or for
    bare formulas would stop writing sentences. For the same reason words that only repeat earn nothing: in the target
    language a word counts once after the same two words, in others every time. Raises KeyError for a language
    that is not among `config.rl.LANGUAGES`.
    """
    return count_words(text, language).share


def count_words(text: str, language: str) -> WordCount:
    """What `language_share` counts. Raises KeyError for an unknown language."""
    home = FAMILY_OF[language]
    found = list(words(prose(as_seen(text))))
    at_home = [word for word in found if word.family == home]
    is_target = iter([spoken == language for spoken in languages(at_home, home)])
    named = list(_in_names(found, home))
    target = other = names = repeated = 0
    seen: set[tuple[str, str, str]] = set()
    distinct: set[str] = set()
    before = ("", "")
    for word, is_name in zip(found, named, strict=True):
        text = word.text.lower()
        context, before = (*before, text), (before[1], text)
        if word.family == home and next(is_target):
            repeated += context in seen
            target += context not in seen
            seen.add(context)
            distinct.add(text)
        elif is_name:
            names += 1
        else:
            other += 1
    excused = min(names, max(LONGEST_NAME, int(NAMES_PER_WORD * (target + other))))
    return WordCount(target, other + names - excused, repeated + excused, len(distinct))


def _in_names(found: Sequence[Word], home: str) -> Iterator[bool]:
    """For each word, whether it is part of a name in a text of another script: at most LONGEST_NAME words in a row,
    each with a capital."""
    for is_home, group in groupby(found, key=lambda word: word.family == home):
        run = list(group)
        is_name = not is_home and len(run) <= LONGEST_NAME and all(word.text[0].isupper() for word in run)
        yield from [is_name] * len(run)
