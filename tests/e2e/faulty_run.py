"""`torchrun -m tests.e2e.faulty_run RECIPE POINT COUNT RANK`: a run in which RANK is killed at a named point.

POINT is a key of POINTS, COUNT the how-manieth time it is reached. POINT "none" runs undisturbed. The process is killed
by SIGKILL, from inside, at exactly that place: nothing of ours gets to run afterwards.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

POINTS = {
    "rollout": ("r1mega.rollout.forward", "CachedForward", "__init__"),
    "reward": ("r1mega.reward.judge", "Judge", "_check"),
    "step": ("r1mega.training.learner", None, "optimizer_step"),
    "checkpoint": ("r1mega.training.checkpoint.write", None, "_write_share"),
    "rename": ("r1mega.training.checkpoint.write", None, "publish"),
    "sigterm": ("r1mega.training.learner", None, "optimizer_step"),
}


def main() -> None:
    recipe_path, point, count, rank = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    from r1mega.config import load_recipe
    from r1mega.stage.run import run_recipe

    if point != "none" and int(os.environ["RANK"]) == rank:
        arm(point, count)
    run_recipe(load_recipe(recipe_path), recipe_path)


def arm(point: str, count: int) -> None:
    """Replace the function at the point by one that counts its calls and dies in the middle of one."""
    module_name, class_name, name = POINTS[point]
    module = __import__(module_name, fromlist=["_"])
    owner = module if class_name is None else getattr(module, class_name)
    setattr(owner, name, _deadly(getattr(owner, name), count, signal.SIGTERM if point == "sigterm" else signal.SIGKILL))


def _deadly(function: Callable[..., Any], count: int, number: signal.Signals) -> Callable[..., Any]:
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), number)
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    main()
