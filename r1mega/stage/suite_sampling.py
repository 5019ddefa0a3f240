"""A model's completions of problems, sampled by whole problems on every data-parallel replica and judged there."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch.distributed as dist

from r1mega.config.rl import RewardConfig, SuitesConfig
from r1mega.data import Tokenizer, encode_prompt
from r1mega.data.suites import SuiteProblem, SuiteProblems
from r1mega.model import PolicySettings, build_policy
from r1mega.parallel import Groups
from r1mega.record import SampleRequest
from r1mega.reward.recipe_judge import RecipeJudge
from r1mega.reward.suite_judge import SuiteJudge
from r1mega.rollout import Engine, Sampling, sample_seed
from r1mega.stage.model_path import max_new_tokens, template_of
from r1mega.stage.rollouts import from_leader, is_replica_leader
from r1mega.stage.suite_metrics import problem_record
from r1mega.training.checkpoint import load_model_folder, read_model_config

WAVE = 4  # a wave samples so many times what the slots hold: long completions then leave few slots empty


type AnyJudge = SuiteJudge | RecipeJudge


class Examinee:
    """A model that answers problems."""

    def __init__(self, model: Path, groups: Groups, how: SuitesConfig, reward: RewardConfig):
        self.groups, self.how, self.reward = groups, how, reward
        self.config, self.tokenizer = read_model_config(model), Tokenizer.load(model / "tokenizer")
        self.template = template_of(model)
        chunks = build_policy(self.config, groups, PolicySettings())
        load_model_folder(model, chunks, groups)
        self.engine = Engine(chunks, groups, self.config, slots=how.slots)

    def judge(self, loaded: SuiteProblems) -> AbstractContextManager[AnyJudge | None]:
        """Of a suite's problems, on one rank of each replica; None on the others."""
        if not is_replica_leader(self.groups):
            return nullcontext()
        if loaded.reward is None:
            return SuiteJudge(self.reward, self.template)
        return RecipeJudge(loaded.reward, self.template, sorted({one.problem.scorer for one in loaded.problems}))

    def prompts(self, problems: Sequence[SuiteProblem]) -> list[tuple[int, ...]]:
        """Token ids of each problem's prompt. Raises UserError naming one with a special token in it."""
        return [encode_prompt(self.tokenizer, self.template, one.problem) for one in problems]

    def sampling(self, prompts: Sequence[tuple[int, ...]]) -> Sampling:
        """The recipe's, cut to what the model's context leaves beside the suite's longest prompt."""
        longest = max(map(len, prompts))
        return Sampling(temperature=self.how.temperature, top_p=self.how.top_p, stop_ids=(self.tokenizer.eos_id,),
                        max_new_tokens=max_new_tokens(self.config, longest, self.how.max_new_tokens))

    def wave_size(self, num_samples: int) -> int:
        """Problems to be sampled at a time, over all replicas."""
        replicas = self.groups.dp.size()
        return replicas * max(1, WAVE * self.how.slots // num_samples)

    def answer(
        self, problems: Sequence[SuiteProblem], prompts: Sequence[tuple[int, ...]], num_samples: int,
        sampling: Sampling, judge: AnyJudge | None,
    ) -> list[dict[str, Any]]:
        """The records of the problems, in their order, on every rank. Collective.

        A sample's seed is a function of the run's seed, the problem and the sample's number, so that neither waves nor
        layouts nor a restart change it.
        """
        dp, rank = self.groups.dp.size(), self.groups.dp_rank
        share = -(-len(problems) // dp)
        mine = range(len(problems))[rank * share:(rank + 1) * share]
        requests = [SampleRequest(prompts[at], sample_seed(self.how.seed, 0, problems[at].key, index))
                    for at in mine for index in range(num_samples)]
        completions = self.engine.generate(requests, sampling)
        records: list[dict[str, Any]] = []
        if judge is not None:
            texts = [self.tokenizer.decode(one.token_ids, skip_special=True) for one in completions]
            parts = [slice(at * num_samples, (at + 1) * num_samples) for at in range(len(mine))]
            marked = judge.judge([(problems[at].problem, texts[part])
                                  for at, part in zip(mine, parts, strict=True)])
            records = [problem_record(problems[at], marks, completions[part],
                                      texts[part] if self.how.keep_texts else None)
                       for at, part, marks in zip(mine, parts, marked, strict=True)]
        gathered: list[list[dict[str, Any]]] = [[] for _ in range(dp)]
        dist.all_gather_object(gathered, from_leader(records, self.groups), group=self.groups.dp)
        return [record for part in gathered for record in part]
