"""`r1mega status`: how far a pipeline is."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from r1mega.config.error import UserError
from r1mega.config.pipeline import is_pipeline

EPILOG = """\
example: r1mega status configs/tiny/r1.toml
Give the overrides that the pipeline is run with, too: other settings are other results."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pipeline", type=Path, metavar="PIPELINE", help="a TOML file with [stages.NAME]")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for `r1mega run`")


def run(args: argparse.Namespace) -> None:
    if not is_pipeline(args.pipeline):
        raise UserError(f"{args.pipeline}: is no pipeline: there are no [stages.NAME] in it; of a single run see "
                        "`r1mega report`")
    from r1mega.pipeline import load_stages
    print_status(load_stages(args.pipeline, args.overrides))


def print_status(stages: Sequence) -> None:
    """A line for each stage: its name, what it reads, its state and why, its folder."""
    from r1mega.pipeline import status

    width = max(len(stage.name) for stage in stages)
    reads = {stage.name: ", ".join(dict.fromkeys(stage.inputs.values())) for stage in stages}
    room = max(map(len, reads.values())) + 3
    for entry in status(stages):
        before = f"<- {reads[entry.stage.name]}" if reads[entry.stage.name] else ""
        print(f"{entry.stage.name:{width}}  {before:{room}}  {entry.state:7}  {entry.why}  {entry.stage.run_dir}")
