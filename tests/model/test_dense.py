"""Dense students: every layout trains and samples as one rank does, and both ways to transformers lose nothing.

The references (transformers' Qwen2ForCausalLM and LlamaForCausalLM, fp32) are made in a process of their own.
"""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from r1mega.stage.convert import export_hf
from tests.invariance.steps import Case as TrainCase
from tests.invariance.test_layouts import FEW, WHOLE, _distances
from tests.model.dense_models import LLAMA, QWEN2, VARIANTS, Rows, make_references, transformers_rows
from tests.model.dense_ranks import run_everything
from tests.model.hf_models import read_all
from tests.ranks import run_ranks
from tests.rollout.layouts import Case as SampleCase

SEQUENCES = [list(range(3, 40)), [5, 9, 100, 2], [7] * 5 + list(range(60, 101))]  # up to 46 > the rope's original 24
TP2, PP2, VPP2 = {"tensor_parallel": 2}, {"pipeline_parallel": 2}, {"pipeline_parallel": 2, "virtual_stages": 2}

QWEN2_STEPS = dict(mtp="off", model=QWEN2.model_copy(update={"init_std": 0.06}))
LLAMA_STEPS = dict(mtp="off", model=LLAMA.model_copy(update={"init_std": 0.06}))
TRAIN = {
    1: {
        "qwen2": TrainCase(micro_batch_tokens=10_000, **QWEN2_STEPS),
        "llama": TrainCase(micro_batch_tokens=10_000, **LLAMA_STEPS),
        "one sequence a pack, full recompute": TrainCase(micro_batch_tokens=1, recompute="full", **QWEN2_STEPS),
        "selective recompute, few logits at a time": TrainCase(recompute="selective", head=FEW, **QWEN2_STEPS),
        "whole logits": TrainCase(head=WHOLE, **QWEN2_STEPS),
    },
    2: {
        "TP2": TrainCase(TP2, **QWEN2_STEPS),
        "PP2": TrainCase(PP2, **QWEN2_STEPS),
        "PP2 VPP2, whole logits": TrainCase(VPP2, head=WHOLE, **QWEN2_STEPS),
        "DP2, llama": TrainCase({"data_parallel": 2}, **LLAMA_STEPS),
        "TP2, llama": TrainCase(TP2, **LLAMA_STEPS),
        "PP2, llama": TrainCase(PP2, **LLAMA_STEPS),
    },
}
STRONG = {"init_std": 0.25}  # opinions strong enough for a wrong position or key to show
QWEN2_SAMPLES = dict(model=QWEN2.model_copy(update=STRONG))
LLAMA_SAMPLES = dict(model=LLAMA.model_copy(update=STRONG))
SAMPLE = {
    1: {"qwen2": SampleCase(**QWEN2_SAMPLES), "llama": SampleCase(**LLAMA_SAMPLES),
        "one slot, llama": SampleCase(slots=1, num_requests=5, **LLAMA_SAMPLES)},
    2: {"TP2": SampleCase(TP2, **QWEN2_SAMPLES), "PP2 VPP2": SampleCase(VPP2, **QWEN2_SAMPLES),
        "DP2, llama": SampleCase({"data_parallel": 2}, all_to_first=True, **LLAMA_SAMPLES),
        "TP2, llama": SampleCase(TP2, **LLAMA_SAMPLES)},
}
CHAINS = {1: [], 2: [[PP2, TP2, VPP2], [{"data_parallel": 2}, PP2]]}
TAUGHT = {1: {"one rank": {}}, 2: {"TP2": TP2, "PP2": PP2, "PP2 VPP2": VPP2, "DP2": {"data_parallel": 2}}}
IMPORTS = {1: {name: (name, {}) for name in VARIANTS},
           2: {"qwen2_tied, TP2": ("qwen2_tied", TP2), "qwen2_tied, PP2": ("qwen2_tied", PP2),
               "qwen2, TP2": ("qwen2", TP2), "llama3_rope, TP2": ("llama3_rope", TP2),
               "llama3_rope, PP2": ("llama3_rope", PP2)}}
ALL_IMPORTS = IMPORTS[1] | IMPORTS[2]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dense")


@pytest.fixture(scope="module")
def references(root: Path) -> dict[str, Rows]:
    return run_ranks(make_references, 1, str(root / "hf"), SEQUENCES, timeout=300)[0]


@pytest.fixture(scope="module")
def results(root: Path, references: dict[str, Rows]) -> dict[str, dict[str, list]]:
    """Kind -> case -> one entry a rank."""
    found: dict[str, dict[str, list]] = {"train": {}, "sample": {}, "chains": {}, "taught": {}, "imports": {}}
    for ranks in (1, 2):
        imports = [(str(root / "hf" / variant), layout, case) for case, (variant, layout) in IMPORTS[ranks].items()]
        by_rank = run_ranks(run_everything, ranks, list(TRAIN[ranks].values()), list(SAMPLE[ranks].values()),
                            CHAINS[ranks], list(TAUGHT[ranks].values()), imports, SEQUENCES, str(root), timeout=500)
        names = {"train": TRAIN[ranks], "sample": SAMPLE[ranks], "imports": IMPORTS[ranks],
                 "chains": range(len(CHAINS[ranks])), "taught": TAUGHT[ranks]}
        for kind, cases in names.items():
            for number, case in enumerate(cases):
                found[kind][case] = [rank[kind][number] for rank in by_rank]
    return found


@pytest.mark.parametrize("name", TRAIN[1] | TRAIN[2])
def test_gradients_and_weights_are_those_of_one_rank_and_one_pack(results, name):
    case = (TRAIN[1] | TRAIN[2])[name]
    (reference,) = results["train"][case.model.architecture]
    if name == case.model.architecture:
        assert reference.num_packs == 1 and reference.losses[1] < reference.losses[0]
        assert all(shard.piece.any() for shard in reference.gradients)
        return
    distances = _distances(tuple(results["train"][name]), reference)
    assert [(what, *reached) for what, reached in distances.items() if not reached[0] < 1e-4] == []


@pytest.mark.parametrize("name", SAMPLE[1] | SAMPLE[2])
def test_samples_are_those_of_one_rank_and_log_probs_those_of_the_trainer(results, name):
    architecture = (SAMPLE[1] | SAMPLE[2])[name].model.architecture
    expected = results["sample"][architecture][0][0]
    assert len({completion.token_ids for completion in expected.values()}) > 20
    seen = set()
    for completions, trainer in results["sample"][name]:
        for index, completion in completions.items():
            assert trainer[index] == pytest.approx(completion.log_probs, abs=1e-4)
            assert completion.token_ids == expected[index].token_ids
            assert completion.log_probs == pytest.approx(expected[index].log_probs, abs=1e-4)
            seen.add(index)
    assert seen == set(range((SAMPLE[1] | SAMPLE[2])[name].num_requests))


@pytest.mark.parametrize("number", range(2))
def test_a_checkpoint_with_tied_embeddings_goes_on_under_another_layout(results, number):
    for rank in results["chains"][number]:
        first, *others = (torch.tensor(losses_and_norms) for losses_and_norms in rank)
        for other in others:
            assert_close(other, first, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", TAUGHT[2])
def test_a_teacher_teaches_the_same_under_every_layout(results, name):
    expected = torch.tensor(results["taught"]["one rank"][0])
    assert expected[1, 0] < expected[0, 0] and expected[1, 2] < expected[0, 2]
    for rank in results["taught"][name]:
        assert_close(torch.tensor(rank), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ALL_IMPORTS)
def test_imported_weights_compute_what_transformers_computes(results, references, name):
    expected = references[ALL_IMPORTS[name][0]]
    found = [rows for rows in results["imports"][name] if rows is not None]
    assert len(found) == (1 if name in IMPORTS[1] or "PP2" in name else 2)
    for rows in found:
        for ours, theirs in zip(rows, expected, strict=True):
            for value, reference in zip(ours, theirs, strict=True):
                assert (value - reference).abs().max() < 1e-4


def exported(root: Path, name: str) -> Path:
    folder = root / f"{name}-exported"
    if not folder.exists():
        export_hf(root / name, folder, max_file_bytes=50_000)
    return folder


@pytest.mark.parametrize("name", ALL_IMPORTS)
def test_exported_weights_are_the_same_bits_under_the_same_names(results, root, name):
    ours, theirs = read_all(exported(root, name)), read_all(root / "hf" / ALL_IMPORTS[name][0])
    assert ours.keys() == theirs.keys()
    assert [key for key in theirs if not torch.equal(ours[key], theirs[key])] == []


@pytest.mark.parametrize("name", VARIANTS)
def test_transformers_loads_what_is_exported_and_computes_the_same(results, root, references, name):
    assert_close(transformers_rows(str(exported(root, name)), SEQUENCES), references[name], rtol=0, atol=1e-5)
