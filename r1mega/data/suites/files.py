"""The local files that decide what a suite asks."""

from collections.abc import Iterator
from pathlib import Path

from r1mega.config import resolve_recipe
from r1mega.config.data import FilesSource
from r1mega.config.suite import SuiteFiles, SuiteRecipe, load_suite


def suite_files(path: Path) -> Iterator[Path]:
    """The suite's own file, those of its problems, and a recipe's with its parents'. Raises UserError."""
    yield path
    source = load_suite(path).source
    match source:
        case SuiteFiles():
            yield from (path.parent / name for name in source.paths)
        case SuiteRecipe():
            recipe_path = path.parent / source.path
            resolved = resolve_recipe(recipe_path, files=False)
            origins = resolved.layers.origins.values()
            yield from sorted({origin.file for origin in origins if origin.file is not None})
            for one in resolved.recipe.data.sources:
                if isinstance(one, FilesSource):
                    yield from (recipe_path.parent / name for name in one.paths)
        case _:
            yield from (file for file in sorted((path.parent / source.path).rglob("*")) if file.is_file())
