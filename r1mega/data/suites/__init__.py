"""Problems to evaluate on."""

from r1mega.data.suites.load import SuiteProblem, SuiteProblems, load_suite_problems

__all__ = ["SuiteProblem", "SuiteProblems", "load_suite_problems"]
