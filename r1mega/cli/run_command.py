"""`r1mega run`: train what a recipe says."""

import argparse
import os
from pathlib import Path

from r1mega.cli.pipeline_report import write_reports
from r1mega.cli.status_command import print_status
from r1mega.config.error import UserError
from r1mega.config.loader import dump_recipe, resolve_recipe
from r1mega.config.pipeline import is_pipeline
from r1mega.config.recipe import Recipe

EPILOG = """\
examples:
  r1mega run configs/tiny/zero.toml
  r1mega run configs/tiny/zero.toml optimizer.lr=1e-4 seed=1 name=lower-lr

The same command again goes on from the last checkpoint. SIGTERM saves and stops. A pipeline file (with [stages.NAME])
runs all its stages that are not done; STAGE.KEY=VALUE overrides one stage, and --dry-run says how far it is."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="a TOML file, e.g. configs/tiny/zero.toml")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE",
                        help="e.g. optimizer.lr=3e-6; `r1mega show` prints every key")
    for option, text in (("from", "begin at"), ("until", "end after"), ("only", "run only")):
        parser.add_argument(f"--{option}", dest="only" if option == "only" else f"{option}_stage", metavar="STAGE",
                            help=f"of a pipeline: {text} this stage")
    parser.add_argument("--dry-run", action="store_true",
                        help="load and check everything, the data too, and start nothing")


def run(args: argparse.Namespace) -> None:
    if is_pipeline(Path(args.recipe)):
        _run_pipeline(args)
        return
    given = [option for option, name in (("--from", args.from_stage), ("--until", args.until_stage),
                                         ("--only", args.only)) if name is not None]
    if given:
        raise UserError(f"command line: {given[0]} is for pipelines; {args.recipe} has no [stages.NAME]: leave it out")
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
    if int(os.environ.get("RANK", "0")) != 0:
        return
    if resolved.recipe.stage == "evaluate":
        from r1mega.report.suite_table import suite_table
        print(suite_table(sorted((run_dir / "evaluation").glob("*.json"))))
        return
    from r1mega.report import write_report
    print(f"report: {write_report([run_dir], None)}")


def _run_pipeline(args: argparse.Namespace) -> None:
    from r1mega.pipeline import Choice, load_stages, run_pipeline
    stages = load_stages(Path(args.recipe), args.overrides)
    if args.dry_run:
        print_status(stages)
        return
    choice = Choice(args.from_stage, args.until_stage, args.only)
    leader = int(os.environ.get("RANK", "0")) == 0
    run_pipeline(stages, choice, lambda text: print(f"stage {text}", flush=True) if leader else None)
    if leader:
        print(f"report: {write_reports(Path(args.recipe), stages)}")


def _plan(recipe: Recipe, data: str) -> str:
    ranks, suites = recipe.layout.world_size, len(recipe.evaluation.suites.paths)
    length = {"evaluate": f"{suites} suite{'s' * (suites > 1)} of ", "rejection_sampling": ""}.get(
        recipe.stage, f"{recipe.train.steps} steps of ")
    return (f"{recipe.name}: {length}stage {recipe.stage} on {ranks} rank{'s' * (ranks > 1)}; "
            f"{data}{'; ' * bool(data)}nothing was started")
