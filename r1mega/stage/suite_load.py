"""A suite's problems, sure to be ones that can be asked and judged here."""

from pathlib import Path

from r1mega.config import UserError
from r1mega.config.rl import RewardConfig
from r1mega.config.suite import load_suite
from r1mega.data.suites import SuiteProblems, load_suite_problems
from r1mega.reward.code import CodeChecker
from r1mega.reward.constraints import CONSTRAINTS


def load_checked(path: Path, seed: int, reward: RewardConfig) -> SuiteProblems:
    """`seed` decides the order of options. Raises UserError, naming the suite's file: for what is wrong with it, and
    where it has programs and none can be confined here."""
    suite = load_suite(path)
    try:
        loaded = load_suite_problems(suite, path.parent, seed, CONSTRAINTS.keys())
        if any(one.problem.scorer == "code" for one in loaded.problems):
            CodeChecker((loaded.reward or reward).code, workers=1).close()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return loaded
