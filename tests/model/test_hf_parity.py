"""Imported weights compute what transformers computes, under every layout, and come back bit for bit: by the code of
`r1mega import` and `r1mega export`, with a model loaded and saved under the layout in between.

The references (transformers' DeepseekV3ForCausalLM and its MtpModel, fp32) are made in a process that has not
imported Megatron.
"""

from pathlib import Path

import pytest
import torch

from r1mega.stage.convert import export_hf
from tests.model.hf_models import VARIANTS, read_all, reference_log_probs, save_hf_model
from tests.model.hf_ranks import LogProbs, import_run_save
from tests.ranks import run_ranks

TOLERANCE = 1e-4  # measured: at most 2e-6
SEQUENCES = [list(range(3, 40)), [5, 9, 100, 2], [7] * 5 + list(range(60, 101))]  # up to 46 > YaRN's original 32

LAYOUTS = {
    "tp2": dict(tensor_parallel=2, data_parallel=2),
    "ep2": dict(expert_parallel=2, data_parallel=4),
    "pp2": dict(pipeline_parallel=2, data_parallel=2),
    "tp2_pp2_ep2": dict(tensor_parallel=2, pipeline_parallel=2, expert_parallel=2),
    "etp2": dict(tensor_parallel=2, data_parallel=2, expert_tensor_parallel=2),
    "pp2_vpp2": dict(pipeline_parallel=2, virtual_stages=2, data_parallel=2),
}
SPREAD = [  # (variant, layout) on four ranks
    *(("yarn", layout) for layout in LAYOUTS),
    ("plain", "tp2_pp2_ep2"), ("top2_of_2_groups", "tp2_pp2_ep2"), ("halves_rope", "tp2"),
    ("top3_one_group", "tp2"),  # 131 tokens: the second half of the padded vocabulary holds 3 of them
    ("ungrouped", "ep2"),
]


def make_references(root: str) -> dict[str, LogProbs]:
    references = {}
    for seed, (name, overrides) in enumerate(VARIANTS.items()):
        save_hf_model(Path(root) / name, overrides, seed=seed)
        references[name] = reference_log_probs(Path(root) / name, SEQUENCES)
    return references


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, LogProbs]]:
    root = tmp_path_factory.mktemp("hf")
    return root, run_ranks(make_references, 1, str(root), timeout=300)[0]


def assert_equal_log_probs(ours: LogProbs, reference: LogProbs, what: str) -> None:
    for (main, mtp), (main_reference, mtp_reference) in zip(ours, reference, strict=True):
        assert (main - main_reference).abs().max() < TOLERANCE, what
        assert (mtp - mtp_reference).abs().max() < TOLERANCE, f"{what}, MTP layer"


def assert_exports_the_same_bits(saved: Path, original: Path) -> None:
    exported = saved.with_name(f"{saved.name}-exported")
    export_hf(saved, exported, max_file_bytes=100_000)
    ours, theirs = read_all(exported), read_all(original)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name].view(torch.uint8), tensor.view(torch.uint8)), name


def test_one_rank_gives_the_log_probs_of_transformers_and_of_its_mtp_model(models, tmp_path):
    root, references = models
    cases = [(str(root / name), {}, name) for name in VARIANTS]
    results = run_ranks(import_run_save, 1, cases, SEQUENCES, str(tmp_path), timeout=300)[0]
    for name, result in zip(VARIANTS, results, strict=True):
        assert_equal_log_probs(result, references[name], name)
        if name != "halves_rope":  # whose rotated rows go out as the published files have them
            assert_exports_the_same_bits(tmp_path / name, root / name)


def test_every_layout_gives_the_same_log_probs_and_exports_the_same_bits(models, tmp_path):
    root, references = models
    cases = [(str(root / variant), LAYOUTS[layout], f"{variant}-{layout}") for variant, layout in SPREAD]
    by_rank = run_ranks(import_run_save, 4, cases, SEQUENCES, str(tmp_path), timeout=500)
    for case, (variant, layout) in enumerate(SPREAD):
        results = [rank[case] for rank in by_rank if rank[case] is not None]
        assert len(results) == (2 if "pp2" in layout else 4)
        for result in results:
            assert_equal_log_probs(result, references[variant], f"{variant} under {layout}")
        if variant != "halves_rope":
            assert_exports_the_same_bits(tmp_path / f"{variant}-{layout}", root / variant)
