"""`r1mega compare`: evaluation results side by side."""

import argparse
from pathlib import Path

from r1mega.config.error import UserError

EPILOG = """\
examples:
  r1mega compare evaluations/base evaluations/zero
  r1mega compare evaluations/* --published r1-stages --markdown table.md --plot table.svg"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="+", type=Path, metavar="RESULTS",
                        help="results of `r1mega evaluate`: files, or folders of them; models in the order given")
    parser.add_argument("--published", metavar="NAME",
                        help="show published figures in columns of their own: r1-stages, r1 or r1-students")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown too")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it: .svg, .png or .pdf")


def run(args: argparse.Namespace) -> None:
    from r1mega.report.published import read_published
    from r1mega.report.suite_result import read_results
    from r1mega.report.suite_table import markdown_table, text_table

    results = read_results(args.results)
    published = None if args.published is None else read_published(args.published)
    if args.plot is not None and args.plot.suffix not in (".svg", ".png", ".pdf"):
        raise UserError(f"command line: --plot={args.plot}: {args.plot.suffix!r} is no format; use .svg, .png or .pdf")
    print(text_table(results, published))
    try:
        if args.markdown is not None:
            args.markdown.write_text(markdown_table(results, published), encoding="utf-8")
        if args.plot is not None:
            from r1mega.report.suite_plot import plot_results
            plot_results(results, published, args.plot)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror or error}; name a file in a folder that is there") from None
