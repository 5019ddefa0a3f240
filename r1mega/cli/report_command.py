"""`r1mega report`: one self-contained HTML page about one or more runs."""

import argparse
from pathlib import Path

from r1mega.config.error import UserError
from r1mega.config.pipeline import is_pipeline

EPILOG = """\
examples:
  r1mega report runs/tiny-zero runs/tiny-zero-seed1 --output compare.html
  r1mega report configs/tiny/r1.toml seed=1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="a run folder, e.g. runs/tiny-zero; or a pipeline file and the overrides it was run with")
    parser.add_argument("--output", type=Path, metavar="FILE", help="by default report.html in the first run's folder")


def run(args: argparse.Namespace) -> None:
    if is_pipeline(args.runs[0]):
        if args.output is not None:
            raise UserError("command line: --output: the report of a pipeline lies in its folder; leave it out")
        from r1mega.cli.pipeline_report import write_reports
        from r1mega.pipeline import load_stages
        print(write_reports(args.runs[0], load_stages(args.runs[0], list(map(str, args.runs[1:])))))
        return
    from r1mega.report import write_report
    print(write_report(args.runs, args.output))
