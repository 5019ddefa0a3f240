"""`r1mega run`: train what a recipe says."""

import argparse
import os
from pathlib import Path

from r1mega.config.loader import dump_recipe, resolve_recipe
from r1mega.config.recipe import Recipe

EPILOG = """\
examples:
  r1mega run configs/tiny/zero.toml
  r1mega run configs/tiny/zero.toml optimizer.lr=1e-4 seed=1 name=lower-lr

The same command again goes on from the last checkpoint. SIGTERM saves and stops."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file, e.g. configs/tiny/zero.toml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE",
                        help="e.g. optimizer.lr=3e-6; `r1mega show` prints every key")
    parser.add_argument("--dry-run", action="store_true",
                        help="load and check everything, the data too, and start nothing")


def run(args: argparse.Namespace) -> None:
    resolved = resolve_recipe(args.recipe, args.overrides)
    if args.dry_run:
        from r1mega.stage.chain import chain
        from r1mega.stage.prepare import prepare_chain
        *_, link = prepare_chain(chain(resolved.recipe, Path(args.recipe)), write=False)
        print(dump_recipe(resolved), end="")
        print(f"\n# {_plan(link.recipe, link.data)}")
        return
    from r1mega.stage.run import run_recipe
    run_dir = run_recipe(resolved.recipe, Path(args.recipe))
    if int(os.environ.get("RANK", "0")) == 0:
        from r1mega.report import write_report
        print(f"report: {write_report([run_dir], None)}")


def _plan(recipe: Recipe, data: str) -> str:
    ranks = recipe.layout.world_size
    return (f"{recipe.name}: {recipe.train.steps} steps of stage {recipe.stage} on {ranks} rank{'s' * (ranks > 1)}; "
            f"{data}{'; ' * bool(data)}nothing was started")
