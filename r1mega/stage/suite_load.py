"""A suite's problems, sure to be ones that can be asked and judged here."""

from pathlib import Path

from r1mega.config import UserError
from r1mega.config.suite import load_suite
from r1mega.data.suites import SuiteProblems, load_suite_problems
from r1mega.reward.constraints import CONSTRAINTS


def load_checked(path: Path, seed: int) -> SuiteProblems:
    """`seed` decides the order of options. Raises UserError, naming the suite's file, before anything is loaded that
    takes long."""
    suite = load_suite(path)
    if suite.kind == "code":
        raise UserError(f'{path}: kind="code" can be loaded but not judged yet: programs only run in a sandbox; leave '
                        "this suite out")
    try:
        return load_suite_problems(suite, path.parent, seed, CONSTRAINTS.keys())
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
