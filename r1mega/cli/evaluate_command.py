"""`r1mega evaluate`: a finished model on suites of problems."""

import argparse
from pathlib import Path

from r1mega.cli.layout_arguments import layout_from
from r1mega.config.error import UserError
from r1mega.config.loader import load_recipe
from r1mega.config.rl import RewardConfig, SuitesConfig

EPILOG = """\
examples:
  r1mega evaluate runs/tiny-zero --suite configs/suites/own-maths.toml --samples 16
  r1mega evaluate runs/NAME --suite configs/suites/aime-2024.toml configs/suites/math-500.toml layout.data_parallel=2
  r1mega evaluate runs/NAME --recipe my.toml         (its evaluation.suites, rewards' limits and layout)
Defaults are DeepSeek-R1's: temperature 0.6, top-p 0.95, at most 32,768 tokens. The same command again goes on behind
the last finished problem. `r1mega compare` makes a table and a plot of several models' results."""
SETTINGS = ("samples", "temperature", "top_p", "max_new_tokens", "seed", "slots")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a checkpoint, or a run folder")
    parser.add_argument("layout", nargs="*", metavar="layout.KEY=VALUE", help="by default one rank, or the recipe's")
    parser.add_argument("--suite", nargs="+", action="extend", default=[], metavar="FILE",
                        help="e.g. configs/suites/aime-2024.toml")
    parser.add_argument("--recipe", metavar="RECIPE", help="take everything not given here from its evaluation.suites")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="by default evaluations/NAME")
    parser.add_argument("--name", metavar="NAME", help="of the model in tables; by default its run and step")
    parser.add_argument("--samples", type=int, metavar="K", help="of each problem; by default as the suite says")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--max-new-tokens", type=int, metavar="N")
    parser.add_argument("--seed", type=int, help="of the samples and of the order of options")
    parser.add_argument("--slots", type=int, metavar="N", help="sequences decoded at a time by one replica")
    parser.add_argument("--keep-texts", action="store_true", help="keep every completion in the results")


def run(args: argparse.Namespace) -> None:
    recipe = None if args.recipe is None else load_recipe(args.recipe)
    how = _settings(args, SuitesConfig() if recipe is None else recipe.evaluation.suites)
    words = [word for word in args.suite if _is_layout(word)] + args.layout  # --suite swallows what follows it

    from r1mega.report.suite_table import suite_table
    from r1mega.stage.model_path import find_model
    from r1mega.stage.suite import evaluate, model_name
    folder = find_model(args.model)
    layout = recipe.layout if recipe is not None and not words else layout_from(words, folder)
    output = args.output or Path("evaluations") / (args.name or model_name(folder))
    files = evaluate(args.model, layout, how, output, name=args.name,
                     reward=RewardConfig() if recipe is None else recipe.reward)
    _print_once(suite_table(files), files)


def _settings(args: argparse.Namespace, base: SuitesConfig) -> SuitesConfig:
    """The options over the recipe. Raises UserError naming the option that cannot be."""
    from pydantic import ValidationError

    given = {name: value for name in SETTINGS if (value := getattr(args, name)) is not None}
    if args.suite:
        given["paths"] = [word for word in args.suite if not _is_layout(word)]
    if args.keep_texts:
        given["keep_texts"] = True
    try:
        return SuitesConfig.model_validate(base.model_dump() | given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"command line: {option}={first['input']}: {first['msg'].lower()}") from None


def _is_layout(word: str) -> bool:
    return word.startswith("layout.") and "=" in word


def _print_once(text: str, files: list[Path]) -> None:
    import os

    if int(os.environ.get("RANK", "0")) == 0:
        print(text)
        print("\n".join(map(str, files)))
