"""`python -m tests.pipeline.faulty_pipeline PIPELINE LEDGER whole|killed`: a pipeline, left alone or killed in every
stage and at every end of one.

Each start is a child forked from this process, which has imported everything, and is killed from inside by SIGKILL at
exactly the named place: nothing of ours gets to run afterwards. Prints a line a start: the stage it dies in, and how it
ended. Every update writes a line to the ledger: its stage, its number, and which samples it was made from.
"""

import hashlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Where a stage is killed inside: (module, class or None, function), and the how-manieth call of it in the stage.
INSIDE = {
    "pretrain": ("r1mega.training.learner", None, "optimizer_step", 4),
    "sft": ("r1mega.training.learner", None, "optimizer_step", 4),
    "preference": ("r1mega.training.learner", None, "optimizer_step", 4),
    "rl": ("r1mega.training.learner", None, "optimizer_step", 4),
    "rejection_sampling": ("r1mega.rollout.engine", "Engine", "generate", 2),
    "evaluate": ("r1mega.rollout.engine", "Engine", "generate", 2),
}
AT_THE_END = ("r1mega.pipeline.run", None, "finish", 1)  # the run is at its end, and nobody has noted it yet


def main() -> None:
    from r1mega.pipeline import load_stages
    from r1mega.stage import rejection_sampling, rl, sft, suite  # noqa: F401 - so that children need not import them

    path, ledger = Path(sys.argv[1]), Path(sys.argv[2])
    keep_ledger(ledger)
    if sys.argv[3] == "killed":
        for name, point in points(load_stages(path)):
            print(name, _start(path, name, point), flush=True)
    print("all", _start(path, None, None), flush=True)


def keep_ledger(ledger: Path) -> None:
    """A sample is known by its tokens."""
    from r1mega.stage.bench import Bench

    update = Bench.update

    def noted(bench: Any, packs: Any, objective: Any, total_updates: int) -> Any:
        samples = []
        for pack in packs:
            ids = pack.sequence_ids
            samples += [hashlib.sha256(pack.token_ids[ids == n].numpy().tobytes()).hexdigest()[:12]
                        for n in range(pack.num_sequences)]
        result = update(bench, packs, objective, total_updates)
        with ledger.open("a") as file:
            file.write(json.dumps({"stage": bench.run_dir.name, "update": bench.progress.updates,
                                   "samples": sorted(samples)}) + "\n")
        return result

    Bench.update = noted


def points(stages: list) -> Iterator[tuple[str, tuple]]:
    """(stage, place) of every kill, in the order in which they come."""
    for stage in stages:
        yield stage.name, INSIDE[stage.recipe.stage]
        yield stage.name, AT_THE_END


def _start(path: Path, name: str | None, point: tuple | None) -> str:
    """Run the pipeline in a child that dies at the point of the stage; how it ended."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _run(path, name, point)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return "finished" if os.WEXITSTATUS(status) == 0 else "failed"


def _run(path: Path, name: str | None, point: tuple | None) -> None:
    from r1mega.pipeline import Choice, load_stages, run_pipeline

    def say(text: str) -> None:
        """Called at the beginning of each stage."""
        if name is not None and text.startswith(f"{name}: ") and "done before" not in text:
            arm(point)

    run_pipeline(load_stages(path), Choice(), say)


def arm(point: tuple) -> None:
    """Replace the function at the point by one that counts its calls and dies at the beginning of one."""
    module_name, class_name, name, count = point
    module = __import__(module_name, fromlist=["_"])
    owner = module if class_name is None else getattr(module, class_name)
    setattr(owner, name, _deadly(getattr(owner, name), count))


def _deadly(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    calls = 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)

    return call


if __name__ == "__main__":
    main()
