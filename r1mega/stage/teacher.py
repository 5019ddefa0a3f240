"""The teacher of stage sft: another finished model, frozen, that says what the student's distribution should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from r1mega.config import UserError
from r1mega.config.check_layout import check_layout
from r1mega.config.sft import TeacherConfig
from r1mega.data import Tokenizer
from r1mega.model import Policy, PolicySettings, build_policy
from r1mega.model.distillation import Teaching
from r1mega.parallel import Groups
from r1mega.record import PackedBatch
from r1mega.stage.bench import Bench
from r1mega.training.checkpoint import load_model_folder, read_model_config
from r1mega.training.learner import run_schedule


@dataclass(frozen=True)
class Teacher:
    """Its chunks on this rank, under the student's layout; they are frozen, and give hidden states from then on."""

    config: TeacherConfig
    chunks: list[Policy]
    groups: Groups

    def __post_init__(self) -> None:
        for chunk in self.chunks:
            chunk.requires_grad_(False)
            chunk.eval()
            chunk.gives_hidden_states = True

    @torch.no_grad()
    def study(self, packs: Sequence[PackedBatch]) -> "Lesson":
        """What it thinks of the packs. Collective; every replica brings the same number of packs."""
        states: dict[int, Tensor] = {}

        def keep(batch: PackedBatch, hidden_S1H: Tensor) -> tuple[Tensor, dict]:
            states[id(batch)] = hidden_S1H[:, 0].detach().clone()
            return hidden_S1H.sum(), {}

        run_schedule(self.chunks, packs, keep, self.groups, 1.0, forward_only=True)
        return Lesson(self, states)


@dataclass(frozen=True)
class Lesson:
    """The teacher's last hidden states of packs, by id(pack): those of this rank's rows, on the last stage alone."""

    teacher: Teacher
    states: Mapping[int, Tensor]

    def teaching(self, batch: PackedBatch, weights_T: Tensor) -> Teaching:
        """The loss of a pack's targets, each with its weight; on the last stage."""
        config = self.teacher.config
        return Teaching(weights_T, self.states[id(batch)], self.teacher.chunks[-1].head_weight, config.coef,
                        config.temperature)


def load_teacher(bench: Bench) -> Teacher | None:
    """The recipe's, or None. Collective. Raises UserError, on all ranks, if it cannot teach this student."""
    recipe = bench.recipe
    config = recipe.sft.teacher
    if config is None:
        return None
    folder = Path(config.model)
    model = read_model_config(folder)
    _check(folder, bench.prepared.tokenizer)
    if model.vocab_size != recipe.model.vocab_size:
        raise UserError(f"sft.teacher.model={folder}: has vocab_size={model.vocab_size}, the student "
                        f"{recipe.model.vocab_size}; a teacher has the student's vocabulary")
    longest = recipe.sft.max_tokens or recipe.model.max_context
    if longest > model.max_context:
        raise UserError(f"sft.teacher.model={folder}: reads at most max_context={model.max_context} tokens, but "
                        f"samples may have {longest}; set sft.max_tokens={model.max_context}, or use another teacher")
    for mistake in check_layout(model, recipe.layout):
        raise UserError(f"sft.teacher.model={folder}: {mistake.key} {mistake.text} (of the teacher's sizes)")
    settings = PolicySettings(precision=recipe.train.precision, head=recipe.head)
    chunks = build_policy(model, bench.groups, settings)
    load_model_folder(folder, chunks, bench.groups)
    return Teacher(config, chunks, bench.groups)


def _check(folder: Path, tokenizer: Tokenizer) -> None:
    """That the teacher's tokens mean what the student's do."""
    if not (folder / "tokenizer").is_dir():
        raise UserError(f"sft.teacher.model={folder}: has no tokenizer/, so nobody can tell whether its tokens are the "
                        "student's; import it with its tokenizer files")
    if Tokenizer.load(folder / "tokenizer").digest() != tokenizer.digest():
        raise UserError(f"sft.teacher.model={folder}: its tokenizer is not the student's, and logits of other tokens "
                        "teach nothing; use a teacher of the same tokenizer, or take [sft.teacher] out and train on "
                        "its samples")
