"""Steps of completions, cut by hand."""

import pytest

from r1mega.config import UserError
from r1mega.config.data import ChatTemplate
from r1mega.data.steps import first_step, prefixes, step_ends
from r1mega.data.train_tokenizer import train_tokenizer


def test_a_step_ends_with_its_token_and_the_last_one_with_the_completion():
    assert first_step((3, 9, 4), {9}) == 2 and first_step((3, 4), {9}) == 2 and first_step((9,), {9}) == 1
    assert prefixes((3, 9, 9, 4), {9}) == [(3, 9), (3, 9, 9), (3, 9, 9, 4)]
    assert prefixes((3, 9), {9}) == [(3, 9)] and prefixes((3, 4), {9}) == [(3, 4)]


def test_tokens_that_hold_the_separator_end_steps():
    tokenizer = train_tokenizer(["one two one two"], 100, ChatTemplate())
    ends = step_ends(tokenizer, " ")
    assert ends and all(" " in tokenizer.decode([token]) for token in ends)
    assert all(" " not in tokenizer.decode([token]) for token in range(tokenizer.vocab_size) if token not in ends)
    with pytest.raises(UserError, match="separator='\\\\x00'"):
        step_ends(tokenizer, "\x00")
