"""Where the steps of a completion end."""

from collections.abc import Collection, Sequence

from r1mega.config import UserError
from r1mega.data import Tokenizer


def step_ends(tokenizer: Tokenizer, separator: str) -> frozenset[int]:
    """Tokens whose text ends a step. Raises UserError where there is none."""
    ends = frozenset(token for token in range(tokenizer.vocab_size) if separator in tokenizer.decode([token]))
    if not ends:
        raise UserError(f"command line: --separator={separator!r}: is in none of the tokenizer's tokens; name a text "
                        "that steps end with, and that is one token")
    return ends


def first_step(token_ids: Sequence[int], ends: Collection[int]) -> int:
    """How many tokens the first step has, the one that ends it included."""
    return next((at for at, token in enumerate(token_ids, 1) if token in ends), len(token_ids))


def prefixes(token_ids: Sequence[int], ends: Collection[int]) -> list[tuple[int, ...]]:
    """The beginnings that end with a step, all of it last."""
    cuts = [at for at, token in enumerate(token_ids, 1) if token in ends and at < len(token_ids)]
    return [tuple(token_ids[:at]) for at in (*cuts, len(token_ids))]
