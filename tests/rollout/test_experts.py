"""Where the experts are computed while sampling."""

from types import SimpleNamespace
from unittest.mock import Mock

import pytest

from r1mega.config import load_recipe
from r1mega.rollout.experts import experts_fit
from tests.e2e.recipes import ROOT

SMALL = load_recipe(ROOT / "configs/small/zero.toml").model
BF16 = 2
ALL = 3 * SMALL.hidden_size * SMALL.moe_ffn_hidden_size * BF16 * SMALL.num_experts * SMALL.num_moe_layers  # bytes


def groups(**sizes: int) -> SimpleNamespace:
    """Process groups of these sizes, the others of one rank."""
    return SimpleNamespace(**{name: Mock(**{"size.return_value": sizes.get(name, 1)})
                              for name in ("ep", "expt_tp", "pp")})


def test_a_rank_that_holds_all_experts_needs_no_room_for_copies():
    assert ALL > 2 << 30 and experts_fit(SMALL, groups(), BF16, 0)


@pytest.mark.parametrize("spread", [{"ep": 2}, {"expt_tp": 2}])
def test_experts_spread_over_ranks_are_copied_only_within_the_budget(spread):
    assert experts_fit(SMALL, groups(**spread), BF16, ALL) and not experts_fit(SMALL, groups(**spread), BF16, ALL - 1)
    assert experts_fit(SMALL, groups(**spread, pp=SMALL.num_moe_layers), BF16, ALL // SMALL.num_moe_layers)
