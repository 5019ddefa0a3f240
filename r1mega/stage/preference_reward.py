"""What general prompts earn: the scores of frozen reward models, which run in the trainer's own layout and groups.

A score becomes a reward by the sigmoid: of a pointwise model that is the chance that the reply is safe, of a pairwise
one the chance that it is better than a reply of score 0. So no reply can earn more than 1 by pleasing a model.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist

from r1mega.config import Recipe
from r1mega.config.data import ChatTemplate
from r1mega.data import Tokenizer
from r1mega.data.preference_encode import prompt_tokens, shown_reply, summary
from r1mega.model import Policy, PolicySettings, add_scalar_head, build_policy
from r1mega.model.scalar_head import last_tokens
from r1mega.parallel import Groups
from r1mega.record import Problem, Rollout, RolloutGroup, Score, TrainSample
from r1mega.stage.model_path import template_of
from r1mega.stage.packs import replica_packs
from r1mega.stage.reward_model_folder import KINDS, reward_model_folders
from r1mega.training.checkpoint import load_model_folder, read_model_config
from r1mega.training.learner import score_packs


class RewardModel:
    """One frozen reward model, with the tokenizer and the template it was trained with."""

    def __init__(self, name: str, folder: Path, recipe: Recipe, groups: Groups):
        """Collective. `name` is helpfulness or safety."""
        self.kind, self.groups = KINDS[name], groups
        self.template, self.tokenizer = template_of(folder), Tokenizer.load(folder / "tokenizer")
        self.max_tokens, self.pack_tokens = read_model_config(folder).max_context, recipe.train.micro_batch_tokens
        settings = PolicySettings(precision=recipe.train.precision, head=recipe.head)
        self.chunks = build_policy(read_model_config(folder), groups, settings)
        add_scalar_head(self.chunks, self.kind)
        load_model_folder(folder, self.chunks, groups)
        for chunk in self.chunks:
            chunk.requires_grad_(False)
            chunk.eval()

    def rewards(self, asked: Sequence[tuple[Problem, str]], template: ChatTemplate) -> list[float]:
        """Of (problem, reply) pairs, the same on every rank; `template` is the policy's. Collective, and every rank
        brings all. Where only the summary counts, a reply without one earns 0."""
        seen = [number for number, (_, reply) in enumerate(asked)
                if self.kind == "pointwise" or summary(reply, template)]
        rewards = [0.0] * len(asked)
        if seen:
            samples = [self._sample(*asked[n], template, at) for at, n in enumerate(seen)]
            found = sequence_rewards(self.chunks, samples, self.pack_tokens, self.tokenizer.pad_id, self.groups)
            for number, reward in zip(seen, found, strict=True):
                rewards[number] = reward
        return rewards

    def _sample(self, problem: Problem, reply: str, template: ChatTemplate, number: int) -> TrainSample:
        """As it was trained, the reply's beginning cut off where all is more than the model's context."""
        if self.kind == "pairwise":
            reply = shown_reply("pairwise", reply, template)
        prompt = prompt_tokens(problem.question, self.tokenizer, self.template,
                               str(problem.metadata.get("origin", problem.id)))
        response = [*self.tokenizer.encode(reply), self.tokenizer.eos_id]
        ids = [*prompt, *response[-max(1, self.max_tokens - len(prompt)):]]
        return TrainSample(ids, bytes(len(ids)), per_sample={"number": float(number)})


def sequence_rewards(
    chunks: Sequence[Policy], samples: Sequence[TrainSample], pack_tokens: int, pad_id: int, groups: Groups
) -> list[float]:
    """The sigmoid of each sequence's score, the same on every rank. Collective, and every rank brings all (one or
    more), with their places as per_sample["number"]."""
    packs = replica_packs(samples, pack_tokens, pad_id, groups)
    mine: dict[int, float] = {}
    for pack, scores_T in zip(packs, score_packs(chunks, packs, groups), strict=True):
        rewards_S = torch.sigmoid(scores_T[last_tokens(pack)].double())
        mine |= dict(zip(map(int, pack.per_sample["number"].tolist()), rewards_S.tolist(), strict=True))
    parts: list[dict[int, float]] = [{} for _ in range(groups.dp.size())]
    dist.all_gather_object(parts, mine, group=groups.dp)
    found = {number: reward for part in parts for number, reward in part.items()}
    return [found[number] for number in range(len(samples))]


class PreferenceJudge:
    """Adds the parts helpfulness and safety to the scores of general prompts. Nothing to do without reward models."""

    def __init__(self, recipe: Recipe, groups: Groups):
        """Collective."""
        self.template = recipe.tokenizer.template
        self.weights = {} if recipe.reward.preference is None else recipe.reward.preference.weights
        self.models = {name: RewardModel(name, folder, recipe, groups)
                       for name, folder in reward_model_folders(recipe).items()}

    def judge(self, groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """The groups, in their order. Collective; every rank brings all groups."""
        general = [rollout for group in groups for rollout in group.rollouts if rollout.problem.scorer == "preference"]
        if not general or not self.models:
            return list(groups)
        asked = [(rollout.problem, rollout.text) for rollout in general]
        parts = {name: model.rewards(asked, self.template) for name, model in self.models.items()}
        judged = iter([self._with(rollout, {name: values[number] for name, values in parts.items()})
                       for number, rollout in enumerate(general)])
        return [replace(group, rollouts=tuple(next(judged) for _ in group.rollouts))
                if group.problem.scorer == "preference" else group for group in groups]

    def _with(self, rollout: Rollout, parts: dict[str, float]) -> Rollout:
        score = rollout.score
        total = score.total + sum(self.weights[name] * value for name, value in parts.items())
        return replace(rollout, score=Score(total, {**score.parts, **parts}, score.notes))
