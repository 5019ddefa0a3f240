"""What does not fit in a recipe of stage rejection_sampling."""

from collections.abc import Iterator
from pathlib import Path

from r1mega.config.data import DATA_ENDINGS, FilesSource, GeneralSource, HuggingFaceSource
from r1mega.config.error import Mistake
from r1mega.config.recipe import Recipe
from r1mega.config.rejection import OwnModel
from r1mega.config.sft import SampleFiles


def check_rejection(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake for every pair of values that cannot work together. Looks at no file."""
    general = [isinstance(source, GeneralSource) or getattr(source, "scorer", None) == "preference"
               for source in recipe.data.sources]
    if recipe.stage == "rejection_sampling" and all(general):
        yield Mistake("data.sources.0", "all sources are of general prompts, which have no right answer by which "
                                        "samples could be kept, and are not sampled; add one of problems")
    for index, source in enumerate(recipe.data.sources):
        if not isinstance(source, HuggingFaceSource | FilesSource) or source.scorer != "judge":
            continue
        if recipe.stage != "rejection_sampling":
            yield Mistake(f"data.sources.{index}.scorer", f'no rule can tell right from wrong here, and stage='
                                                          f'"{recipe.stage}" asks no judge; use "math" or "exact"')
        elif recipe.rejection is not None and recipe.rejection.judge is None:
            yield Mistake(f"data.sources.{index}.scorer", 'there is no judge to ask; add [rejection.judge], or use '
                                                          '"math" or "exact"')
    if recipe.stage != "rejection_sampling":
        return
    if recipe.rollout is None:
        yield Mistake("rollout", "is missing, and stage=\"rejection_sampling\" samples; add [rollout] with "
                                 "max_new_tokens = 256")
    if recipe.rejection is None:
        yield Mistake("rejection", 'is missing, and stage="rejection_sampling" needs it; add [rejection] with samples '
                                   "= 16")
        return
    config = recipe.rejection
    if config.rewrite != "none" and recipe.reward.form == "summary":
        yield Mistake("rejection.rewrite", 'reward.form="summary" asks for outputs that have a summary already; use '
                                           '"none", or reward.form = "answer"')
    if config.per_problem > config.samples:
        yield Mistake("rejection.per_problem", f"is more than rejection.samples={config.samples}; use at most that")


def check_rejection_files(recipe: Recipe) -> Iterator[tuple[str, Path]]:
    """(key, path) of every data file that stage rejection_sampling names; Mistakes are whoever's who looks at them."""
    if recipe.rejection is None:
        return
    for index, source in enumerate(recipe.rejection.files):
        if isinstance(source, SampleFiles):
            for number, path in enumerate(source.paths):
                yield f"rejection.files.{index}.paths.{number}", Path(path)
    for number, path in enumerate(recipe.rejection.decontaminate):
        if Path(path).suffix in DATA_ENDINGS:
            yield f"rejection.decontaminate.{number}", Path(path)


def check_rejection_models(recipe: Recipe) -> Iterator[Mistake]:
    """Yield a Mistake for every model, and every suite, that is not there."""
    if recipe.rejection is None:
        return
    config = recipe.rejection
    for key, helper in (("judge", config.judge), ("rewriter", config.rewriter)):
        if isinstance(helper, OwnModel) and helper.path is not None and not Path(helper.path, "model.json").is_file():
            yield Mistake(f"rejection.{key}.path", "the folder has no model.json; name a model folder (`r1mega import` "
                                                   "makes one) or a run's checkpoints/step-N")
    for number, text in enumerate(config.decontaminate):
        path = Path(text)
        if path.suffix not in (".toml", *DATA_ENDINGS):
            yield Mistake(f"rejection.decontaminate.{number}", "is neither a suite (.toml) nor a file of problems "
                                                               f"({', '.join(DATA_ENDINGS)}); name one of these")
        elif path.suffix == ".toml" and not path.is_file():
            yield Mistake(f"rejection.decontaminate.{number}", "the suite is not there; a path is relative to the file "
                                                               "that sets it")
