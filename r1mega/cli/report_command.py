"""`r1mega report`: one self-contained HTML page about one or more runs."""

import argparse
from pathlib import Path

EPILOG = "example:\n  r1mega report runs/tiny-zero runs/tiny-zero-seed1 --output compare.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder, e.g. runs/tiny-zero")
    parser.add_argument("--output", type=Path, metavar="FILE", help="by default report.html in the first run's folder")


def run(args: argparse.Namespace) -> None:
    from r1mega.report import write_report
    print(write_report(args.runs, args.output))
