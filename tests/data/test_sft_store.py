"""Samples as tokens: what is learned of them, and how they come back from disk."""

from pathlib import Path

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.data import train_tokenizer
from r1mega.data.sft_encode import encode_demonstrations
from r1mega.data.sft_row import Demonstration
from r1mega.data.sft_store import SampleStore, StoreWriter

PLAIN = ChatTemplate(prompt="{{ question }}\n", next_prompt="|{{ question }}\n")
WORDS = ["abcdefgh xyz|\n0123456789<>os"]


def sample(turns: list[tuple[str, str]], name: str = "s", source: str = "a", system: str = "") -> Demonstration:
    return Demonstration(name, source, tuple(turns), f"f:{name}", system)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(WORDS, 128, PLAIN)


def learned(tokenizer, demonstration: Demonstration, template: ChatTemplate = PLAIN) -> tuple[str, list[str]]:
    """The whole text, and what is learned of it, run by run."""
    ((ids, marks),) = encode_demonstrations([demonstration], tokenizer, template)
    runs, current = [], []
    for token, mark in zip([*ids, 0], [*marks, 0], strict=True):
        if mark:
            current.append(token)
        elif current:
            runs.append(tokenizer.decode(current))
            current = []
    return tokenizer.decode(list(ids)), runs


def test_only_assistant_turns_and_their_ends_are_learned(tokenizer):
    text, runs = learned(tokenizer, sample([("ab", "cd"), ("ef", "gh")]))
    assert text == "ab\ncd<eos>|ef\ngh<eos>"
    assert runs == ["cd<eos>", "gh<eos>"]


def test_a_system_message_goes_before_the_first_question_only(tokenizer):
    text, _ = learned(tokenizer, sample([("a", "b"), ("c", "d")], system="xyz"))
    assert text == "xyz\n\na\nb<eos>|c\nd<eos>"


def test_a_response_cannot_end_its_own_sequence_and_a_question_may_not_try(tokenizer):
    ((ids, marks),) = encode_demonstrations([sample([("a", "b<eos>c")])], tokenizer, PLAIN)
    assert list(ids).count(tokenizer.eos_id) == 1 and ids[-1] == tokenizer.eos_id
    with pytest.raises(UserError, match="f:s: the question contains .*'<eos>'"):
        list(encode_demonstrations([sample([("a<eos>", "b")])], tokenizer, PLAIN))


def test_a_character_in_no_token_is_named_and_not_learned_as_unknown():
    small = train_tokenizer(["first 3 plus 4 is 7"], 64, PLAIN)
    assert list(encode_demonstrations([sample([("3 + 4", "first 3 plus 4")])], small, PLAIN))
    with pytest.raises(UserError, match="the response has 'T', which is in no token of the tokenizer"):
        list(encode_demonstrations([sample([("3 plus 4", "first 7 The")])], small, PLAIN))


def test_where_the_prompt_opens_the_reasoning_the_response_goes_on_inside_it(tokenizer):
    inside = ChatTemplate(prompt="{{ question }}\n<think>", think_in_prompt=True)
    for response in ("<think>x</think>y", "x</think>y"):
        text, runs = learned(tokenizer, sample([("a", response)]), inside)
        assert text == "a\n<think>x</think>y<eos>" and runs == ["x</think>y<eos>"]
    with pytest.raises(UserError, match="f:s: the response has no </think>"):
        list(encode_demonstrations([sample([("a", "y")])], tokenizer, inside))


def test_later_questions_need_a_prompt_of_their_own(tokenizer):
    once = ChatTemplate(prompt="{{ question }}")
    with pytest.raises(UserError, match="f:s: has 2 questions.*next_prompt"):
        list(encode_demonstrations([sample([("a", "b"), ("c", "d")])], tokenizer, once))


def write(folder: Path | None, tokenizer, samples: list[tuple[int, Demonstration]], heldout: int = 0) -> SampleStore:
    with StoreWriter(folder, 2) as writer:
        for source, one in samples:
            if writer.is_new(one):
                (encoded,) = encode_demonstrations([one], tokenizer, PLAIN)
                writer.add(source, one, encoded)
        return writer.finish(heldout)


def test_samples_come_back_from_disk_as_they_were(tokenizer, tmp_path: Path):
    samples = [(0, sample([("a", "b")], "1")), (0, sample([("c", "d")], "2", "b")), (1, sample([("e", "fgh")], "3"))]
    write(tmp_path, tokenizer, samples)
    store = SampleStore.open(tmp_path)
    assert store.sizes == (2, 1) and store.labels == ("a", "b") and store.ids() == ["1", "2", "3"]
    assert store.questions() == {"a", "c", "e"}
    third, second = store.samples([2, 1])
    assert tokenizer.decode(third.token_ids) == "e\nfgh<eos>" and list(third.loss_mask) == [0, 0, 1, 1, 1, 1]
    assert [one.per_sample["source"] for one in (third, second)] == [0.0, 1.0]


def test_a_repetition_is_left_out_and_another_answer_to_the_same_question_is_not(tokenizer):
    samples = [(0, sample([("a", "b")], "1")), (1, sample([("a", "b")], "2", "b")), (1, sample([("a", "c")], "3"))]
    store = write(None, tokenizer, samples)
    assert store.sizes == (1, 1) and store.dropped == {"duplicates": 1}


def test_whole_questions_are_held_out_whatever_the_order(tokenizer, tmp_path: Path):
    samples = [(number % 2, sample([(f"{number // 2}", f"{number}")], str(number))) for number in range(20)]
    held = []
    for name, order in (("a", samples), ("b", samples[::-1])):
        store = write(tmp_path / name, tokenizer, order, heldout=3)
        held.append({tokenizer.decode(one.token_ids).partition("\n")[0] for one in store.heldout_samples()})
        trained = {tokenizer.decode(one.token_ids).partition("\n")[0] for one in store.samples(range(16))}
        assert len(store.heldout) == 4 and sum(store.sizes) == 16  # two samples a question: 3 become 4
        assert not held[-1] & trained
    assert held[0] == held[1]
    with pytest.raises(UserError, match=r"sft\.heldout_samples=19 leaves nothing"):
        write(None, tokenizer, samples, heldout=19)
