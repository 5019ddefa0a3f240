"""Layers over pipeline stages."""

import pytest

from r1mega.config import LayoutConfig, ModelConfig
from r1mega.model.stages import layers_per_stage, pipeline_layout
from tests.model.test_router import TINY


@pytest.mark.parametrize(("num_layers", "num_mtp", "num_stages", "expected"), [
    (4, 1, 2, [3, 1]),
    (4, 1, 4, [1, 2, 1, 0]),
    (61, 1, 16, [3, *[4] * 14, 2]),
    (3, 0, 3, [1, 1, 1]),
])
def test_layers_are_spread_evenly_with_mtp_counted_as_one(num_layers, num_mtp, num_stages, expected):
    counts = layers_per_stage(num_layers, num_mtp, num_stages)
    assert counts == expected and sum(counts) == num_layers


def test_layout_string_names_embedding_layers_mtp_and_loss():
    model = ModelConfig(**{**TINY, "num_layers": 4})
    assert pipeline_layout(model, LayoutConfig()) is None
    assert pipeline_layout(model, LayoutConfig(pipeline_parallel=2, virtual_stages=2)) == "Et|tt|t|mL"
    assert pipeline_layout(model, LayoutConfig(pipeline_parallel=2, pipeline_layout="Ett|ttmL")) == "Ett|ttmL"
