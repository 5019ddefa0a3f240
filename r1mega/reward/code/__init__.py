"""Code as a verifiable task: untrusted programs, run behind walls and judged from outside."""

from r1mega.reward.code.checker import CodeChecker
from r1mega.reward.code.probe import Isolation, find_walls
from r1mega.reward.code.sandbox import NoSandbox

__all__ = ["CodeChecker", "Isolation", "NoSandbox", "find_walls"]
