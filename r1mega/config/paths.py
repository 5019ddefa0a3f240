"""Which texts can be a path at all, and whether a run could be written where a recipe says."""

import os
from collections.abc import Iterator
from pathlib import Path

from r1mega.config.error import Mistake
from r1mega.config.recipe import Recipe

MAX_NAME, MAX_PATH = 255, 4000  # bytes, as Linux's file systems have it; a run puts files below the path
ROOM_IN_NAME = 40  # what is put before or after a run's name: its seed, a mark that it is being written


def path_problem(text: str) -> str | None:
    """Why no file could have this path; None if one could."""
    if "\0" in text:
        return "has a NUL character in it, which no path can have; take it out"
    if max(len(os.fsencode(part)) for part in text.split("/")) > MAX_NAME or len(os.fsencode(text)) > MAX_PATH:
        return f"is too long for a path (a name has at most {MAX_NAME} bytes); use a shorter one"
    return None


def check_run_folder(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake where runs_dir/name is no path. Looks at no file."""
    if not recipe.runs_dir.strip():
        yield Mistake("runs_dir", 'is empty; write e.g. runs_dir = "runs"')
    elif problem := path_problem(recipe.runs_dir):
        yield Mistake("runs_dir", problem)
    if len(recipe.name) > MAX_NAME - ROOM_IN_NAME:
        yield Mistake("name", f"has {len(recipe.name)} characters and becomes a folder's name; use at most "
                              f"{MAX_NAME - ROOM_IN_NAME}")


def check_run_folder_can_be_made(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake where runs_dir is not, and cannot become, a folder to write into."""
    there = Path(recipe.runs_dir).expanduser().absolute() / recipe.name
    while not os.path.exists(there) and there != there.parent:  # unlike Path.exists, it takes any text
        there = there.parent
    if not os.path.isdir(there):
        yield Mistake("runs_dir", f"{there} is not a folder, so no run can be written below it; name a folder")
    elif not os.access(there, os.W_OK | os.X_OK):
        yield Mistake("runs_dir", f"you may not write into {there}; name a folder of yours")
