"""Tokenizers: what is one token, what comes back, what others make of the files."""

import random
import string
from pathlib import Path

import pytest
import tokenizers

from r1mega.config import resolve_recipe
from r1mega.config.data import ChatTemplate
from r1mega.data import Tokenizer, encode_prompt, render_prompt, train_tokenizer
from r1mega.record import Problem

TEMPLATE = ChatTemplate(prompt="User: {{ question }}\nAssistant: ")


def texts_of(count: int) -> list[str]:
    rng = random.Random(0)
    sums = [f"State the final answer: {rng.randint(0, 99)} + {rng.randint(0, 99)} =" for _ in range(count)]
    words = ["".join(rng.choices(string.ascii_lowercase, k=5)) for _ in range(count)]
    return [
        render_prompt(TEMPLATE, question) + "<think>4 + 1 = 5</think> <answer>5</answer>"
        for pair in zip(sums, [f"Spell {word} backward" for word in words], strict=True)
        for question in pair
    ]


@pytest.fixture(scope="module", params=[128, 600], ids=["characters and words", "byte level"])
def tokenizer(request) -> Tokenizer:
    return train_tokenizer(texts_of(200), request.param, TEMPLATE)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    return [tokenizer.decode([token]) for token in tokenizer.encode(text)]


def test_texts_come_back_as_they_were(tokenizer):
    for text in [*texts_of(200), "  State  answer\n\n12", "<think></think><answer>", "Stated finality"]:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_digits_are_tokens_one_by_one_and_tags_are_one_token_each(tokenizer):
    assert pieces(tokenizer, "<think>1048</think>") == ["<think>", "1", "0", "4", "8", "</think>"]
    ids = tokenizer.encode("<think>1</think><answer>1</answer>")
    assert len(ids) == 6
    assert tokenizer.decode([*ids, tokenizer.eos_id, tokenizer.pad_id], skip_special=True) == \
        "<think>1</think><answer>1</answer>"
    assert tokenizer.decode([tokenizer.eos_id]) == "<eos>"


def test_text_that_looks_like_a_special_token_is_text(tokenizer):
    assert tokenizer.eos_id not in tokenizer.encode("<eos>")
    assert tokenizer.encode("<eos>", parse_special=True) == [tokenizer.eos_id]
    assert tokenizer.encode_many(["<eos>", "12"]) == [tokenizer.encode("<eos>"), tokenizer.encode("12")]


def test_training_depends_on_the_texts_and_not_on_their_order(tokenizer, tmp_path):
    texts = texts_of(200)
    size = 128 if tokenizer.vocab_size <= 128 else 600
    random.Random(1).shuffle(texts)
    for name, trained in (("one", tokenizer), ("other", train_tokenizer(texts, size, TEMPLATE))):
        trained.save(tmp_path / name)
    assert (tmp_path / "one/tokenizer.json").read_bytes() == (tmp_path / "other/tokenizer.json").read_bytes()


def test_a_saved_tokenizer_is_the_same_for_us_and_for_transformers(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path)
    again, theirs = Tokenizer.load(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    assert (again.eos_id, again.pad_id, again.vocab_size) == (
        tokenizer.eos_id,
        tokenizer.pad_id,
        tokenizer.vocab_size,
    )
    assert (theirs.eos_token_id, theirs.pad_token_id, len(theirs)) == (
        tokenizer.eos_id, tokenizer.pad_id, tokenizer.vocab_size)
    for text in texts_of(20):
        ids = tokenizer.encode(text)
        assert again.encode(text) == ids
        assert theirs(text, add_special_tokens=False).input_ids == ids
        assert theirs.decode(ids) == text


def test_a_small_vocabulary_holds_the_fixed_words_of_prompts_whole():
    tokenizer = train_tokenizer(texts_of(200), 128, TEMPLATE)
    assert tokenizer.vocab_size <= 128
    assert pieces(tokenizer, "User: State the final answer: 40 + 7 =") == [
        "User", ":", " State", " the", " final", " answer", ":", " ", "4", "0", " +", " ", "7", " ="]
    # " final" is not cut out of another word
    assert pieces(tokenizer, "User: Spell finally") == ["User", ":", " Spell", " ", *"finally"]
    assert tokenizer.encode("\N{SNOWMAN}") == tokenizer.encode("\N{HEAVY CHECK MARK}")  # <unk>
    assert len(tokenizer.encode("\N{SNOWMAN}")) == 1


def test_words_give_way_when_the_vocabulary_is_only_large_enough_for_characters():
    texts = texts_of(50)
    tags = {"<think>", "</think>", "<answer>", "</answer>"}
    plain = [text for text in texts]
    for tag in tags:
        plain = [text.replace(tag, "") for text in plain]
    smallest = len(set("".join(plain)) | set(string.digits)) + len(tags) + 3
    assert train_tokenizer(texts, smallest, TEMPLATE).vocab_size == smallest
    assert train_tokenizer(texts, smallest + 2, TEMPLATE).vocab_size == smallest + 2


def test_bytes_read_any_text():
    tokenizer = train_tokenizer(texts_of(50), 600, TEMPLATE)
    for text in ("\N{SNOWMAN} 数学 \x00 é", "\U0001F600\u200b\u202e"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_special_tokens_of_the_template_are_tokens():
    template = ChatTemplate(prompt="<eos>User: {{ question }}")
    tokenizer = train_tokenizer(texts_of(50), 128, template)
    ids = encode_prompt(tokenizer, template, Problem("p", "State", "1"))
    assert ids[0] == tokenizer.eos_id and tokenizer.decode(ids[1:]) == "User: State"


def test_ids_of_the_padding_rows_of_an_embedding_have_no_text(tokenizer):
    assert tokenizer.decode([tokenizer.vocab_size + 5]) == ""


def test_a_begin_of_sequence_token_in_the_template_is_one_token_and_first():
    begin = "<｜begin▁of▁sentence｜>"
    backend = tokenizers.Tokenizer.from_str(train_tokenizer(texts_of(50), 600, TEMPLATE)._backend.to_str())
    backend.add_special_tokens([tokenizers.AddedToken(begin, special=True, normalized=False)])
    published = Tokenizer(backend, eos_token="<eos>")
    template = load_recipe_template()
    ids = encode_prompt(published, template, Problem("p", "1 + 1 = ?", "2"))
    assert ids[0] == backend.token_to_id(begin) and ids.count(ids[0]) == 1
    assert published.decode(ids) == render_prompt(template, "1 + 1 = ?")


def load_recipe_template() -> ChatTemplate:
    """That of the recipe for DeepSeek-V3 itself."""
    recipe = Path(__file__).parents[2] / "configs/full/zero.toml"
    return resolve_recipe(recipe, files=False).recipe.tokenizer.template
