"""Completions in, scores out."""

from collections.abc import Iterable, Sequence
from typing import Self

from r1mega.config.data import ChatTemplate
from r1mega.config.error import UserError
from r1mega.config.rl import RewardConfig
from r1mega.record import Problem, Score
from r1mega.reward.code import CodeChecker
from r1mega.reward.format import extract_answer, is_well_formed, reasoning
from r1mega.reward.process_pool import ProcessPool
from r1mega.reward.rubric import weigh
from r1mega.reward.scorer import Check, Verdict, is_same_text

SENT_METADATA = ("options", "entry", "no_answer")  # what the reasoning_gym scorer reads


class Judge:
    """R1's rule rewards: is the answer right, does the completion have the required shape and, where the recipe sets
    `reward.language`, is its reasoning in the target language.

    Use as a context manager. Scores depend on the problem and the completion alone: a hostile answer costs
    its own accuracy and no one else's, whatever it does to the process that checks it.
    """

    def __init__(self, config: RewardConfig, template: ChatTemplate, scorers: Iterable[str] = ()):
        """`scorers`: those known to be needed; their libraries then load while the first completions are
        sampled. Raises UserError where programs are among them and nothing here can confine a program."""
        self._config = config
        self._template = template
        self._scorers = sorted(set(scorers) - {"exact", "code", "preference"})
        self._pool = ProcessPool(config)
        self._code = CodeChecker(config.code, config.workers) if "code" in scorers else None

    def __enter__(self) -> Self:
        if self._scorers:
            self._pool.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        if self._code is not None:
            self._code.close()

    def score(self, items: Sequence[tuple[Problem, str]]) -> list[Score]:
        """Scores of (problem, completion text) pairs, in their order. General prompts (scorer "preference") have no
        right answer, and their scores no accuracy. Raises UserError where a problem should tell its language and does
        not."""
        answers = [extract_answer(text, self._template) for _, text in items]
        verdicts = self._check([problem for problem, _ in items], answers)
        every = {"accuracy": self._config.accuracy, "format": self._config.format}
        if self._config.language is not None:
            every["language"] = self._config.language
        scores = []
        for (problem, text), verdict in zip(items, verdicts, strict=True):
            in_form = is_well_formed(text, self._template, self._config.form)
            parts = {"format": float(in_form)}
            if problem.scorer != "preference":
                parts = {"accuracy": float(verdict.right), **parts}
            if self._config.language is not None:
                parts["language"] = self._language(problem, text)
            weights = {name: every[name] for name in parts}
            scores.append(weigh(parts, weights, {"accuracy": verdict.note} if verdict.note else {}))
        return scores

    def _language(self, problem: Problem, text: str) -> float:
        """The share of the reasoning that is in the target language."""
        # Here, since checking processes import this module too and shall start in milliseconds
        from r1mega.reward.language import language_share

        language = self._config.target_language
        if language == "problem":
            language = problem.metadata.get("language")
            if language is None:
                raise UserError(f'reward.target_language="problem", but {problem.metadata.get("origin", problem.id)} '
                                'tells no language; name its column (data.sources: fields.language), or set '
                                'reward.target_language = "en"')
        return language_share(reasoning(text, self._template), language)

    def _check(self, problems: Sequence[Problem], answers: Sequence[str | None]) -> list[Verdict]:
        """Equal answers to one problem are checked once."""
        verdicts: dict[tuple[str, str, str | None], Verdict] = {}
        checks: dict[tuple[str, str, str | None], Check] = {}
        programs: dict[tuple[str, str, str | None], tuple[Problem, str]] = {}
        keys = [
            (problem.id, problem.scorer, answer) for problem, answer in zip(problems, answers, strict=True)
        ]
        for key, problem, answer in zip(keys, problems, answers, strict=True):
            if key in verdicts or key in checks or key in programs:
                continue
            if problem.scorer == "preference":
                verdicts[key] = Verdict(False)
            elif answer is None:
                verdicts[key] = Verdict(False, "no answer")
            elif problem.scorer == "code":
                programs[key] = (problem, answer)
            elif len(answer) > self._config.max_answer_chars:
                verdicts[key] = Verdict(False, f"an answer of {len(answer)} characters, more than "
                                               f"max_answer_chars={self._config.max_answer_chars}")
            elif problem.scorer == "exact":  # comparing two texts needs no protection
                verdicts[key] = Verdict(is_same_text(problem.answer, answer))
            else:
                metadata = {
                    name: problem.metadata[name] for name in SENT_METADATA if name in problem.metadata
                }
                checks[key] = Check(
                    problem.scorer, problem.task, problem.question, problem.answer, metadata, answer
                )
        verdicts.update(zip(checks, self._pool.check(list(checks.values())), strict=True))
        verdicts.update(zip(programs, self._run(list(programs.values())), strict=True))
        return [verdicts[key] for key in keys]

    def _run(self, programs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        if programs and self._code is None:
            self._code = CodeChecker(self._config.code, self._config.workers)
        return self._code.check(programs) if programs else []
