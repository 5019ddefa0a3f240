"""`r1mega steps`: labels for a process reward model."""

import argparse
from pathlib import Path

from r1mega.cli.config_options import add_options, options_of
from r1mega.cli.layout_arguments import layout_from
from r1mega.config.error import UserError
from r1mega.config.search import StepLabelsConfig

EPILOG = """\
example:
  r1mega steps runs/tiny-base configs/tiny/zero.toml --separator " " --output steps.jsonl
The rows train a model of stage "preference", preference.kind = "pointwise"; `r1mega search --process-model` asks it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a checkpoint, or a run folder")
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="steps are of problems that it trains on")
    parser.add_argument("layout", nargs="*", metavar="layout.KEY=VALUE", help="by default one rank")
    parser.add_argument("--output", required=True, type=Path, metavar="FILE", help="a .jsonl")
    add_options(parser, StepLabelsConfig)


def run(args: argparse.Namespace) -> None:
    config = options_of(args, StepLabelsConfig)
    if not args.output.parent.is_dir():
        raise UserError(f"command line: --output={args.output}: there is no folder {args.output.parent}; make it first")

    from r1mega.stage.model_path import find_model
    from r1mega.stage.step_labels import label_steps
    label_steps(args.model, layout_from(args.layout, find_model(args.model)), args.recipe, config, args.output)
