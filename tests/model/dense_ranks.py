"""What the ranks of the dense students' tests run, one after the other in the same processes: optimizer steps,
sampling, a checkpoint that goes on under another layout, and folders of transformers' imported, run and saved."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from r1mega.config import LayoutConfig, ModelConfig
from tests.invariance.steps import Case as TrainCase
from tests.invariance.steps import samples, train_under
from tests.model.dense_models import QWEN2, Rows
from tests.model.hf_ranks import forward, pack
from tests.rollout.layouts import MODEL as V3
from tests.rollout.layouts import Case as SampleCase
from tests.rollout.layouts import sample_all


def run_everything(
    train: list[TrainCase], sample: list[SampleCase], chains: list[list[dict]], taught: list[dict],
    imports: list[tuple[str, dict, str]], sequences: list[list[int]], root: str,
) -> dict[str, Any]:
    """This rank's results by kind, each in the order of its cases."""
    logging.disable(logging.WARNING)
    return {
        "train": train_under(train), "sample": sample_all(sample),
        "chains": [go_on(chain, QWEN2, Path(root) / f"chain-{number}") for number, chain in enumerate(chains)],
        "taught": [learn_from_teacher(layout) for layout in taught],
        "imports": [import_run_save(*case, sequences, Path(root)) for case in imports],
    }


def go_on(layouts: list[dict], model: ModelConfig, root: Path) -> list[list[tuple[float, float]]]:
    """Train two steps under the first layout and save; under every layout, (loss, norm) of two steps from there on."""
    from r1mega.training.checkpoint import CheckpointStore
    from tests.training.checkpoint.runs import Run

    results = []
    for number, layout in enumerate(layouts):
        run = Run(layout, seed=number, model=model)
        store = CheckpointStore(root, 9, True, run.groups)
        if number == 0:
            run.train(2)
            store.save(2, run.snapshot())
            store.finish()
        else:
            run.resume(store, 2)
        results.append(run.train(2))
        run.leave()
    return results


def learn_from_teacher(layout: dict) -> list[tuple[float, float, float]]:
    """(loss, gradient norm, KL) of two steps of a dense student that a mixture of experts teaches."""
    from megatron.core import parallel_state

    from r1mega.config.sft import TeacherConfig
    from r1mega.config.training import OptimizerConfig, TrainConfig
    from r1mega.data.sft_store import LABEL
    from r1mega.model import build_policy
    from r1mega.parallel import start
    from r1mega.stage.packs import replica_packs
    from r1mega.stage.sft import ResponseLoss, TaughtLoss
    from r1mega.stage.teacher import Teacher
    from r1mega.training.learner import Learner

    groups = start(LayoutConfig(**layout), seed=0)
    teacher = Teacher(TeacherConfig(model="", coef=0.6, temperature=2.0), build_policy(V3, groups, seed=5), groups)
    train = TrainConfig(steps=2, precision="fp32", micro_batch_tokens=128, mtp="off")
    learner = Learner(build_policy(QWEN2, groups, seed=1), groups, OptimizerConfig(lr=1e-3), train)
    labelled = [replace(sample, per_sample={LABEL: 0.0}) for sample in samples()]
    packs, responses = replica_packs(labelled, 128, 0, groups), ResponseLoss(200, ("all",))
    results = []
    for update in (1, 2):
        result = learner.step(packs, TaughtLoss(responses, teacher.study(packs)), update, 2)
        assert result.applied
        results.append((result.loss, result.grad_norm, result.sums["kl"]))
    parallel_state.destroy_model_parallel()
    return results


def import_run_save(folder: str, layout: dict, name: str, sequences: list[list[int]], root: Path) -> Rows | None:
    """Import under the layout, load and run the sequences, save to `root`/name. Log-probs and entropies on the last
    stage, None elsewhere."""
    from megatron.core import parallel_state

    from r1mega.model import build_policy
    from r1mega.parallel import start
    from r1mega.stage.convert import import_with
    from r1mega.training.checkpoint import load_model_folder, read_model_config, save_model_folder

    groups, imported = start(LayoutConfig(**layout), seed=0), root / f"{name}-imported"
    import_with(groups, Path(folder), imported)
    model = read_model_config(imported)
    chunks = build_policy(model, groups, seed=1)
    load_model_folder(imported, chunks, groups)
    rows_RT = forward(chunks, groups, pack(sequences, layout.get("tensor_parallel", 1)))
    save_model_folder(root / name, chunks, model, groups)
    parallel_state.destroy_model_parallel()
    return None if rows_RT is None else _unpack(rows_RT, sequences)


def _unpack(rows_RT: Any, sequences: list[list[int]]) -> Rows:
    results, begin = [], 0
    for sequence in sequences:
        end = begin + len(sequence) - 1
        results.append((rows_RT[0, begin:end], rows_RT[1, begin:end]))
        begin = end + 1
    return results
