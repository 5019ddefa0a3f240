"""`r1mega search`: Monte-Carlo tree search beside plain sampling."""

import argparse
import json
import os
from pathlib import Path

from r1mega.cli.config_options import add_options, options_of
from r1mega.cli.layout_arguments import layout_from
from r1mega.config.error import UserError
from r1mega.config.search import SearchConfig

EPILOG = """\
example:
  r1mega search runs/tiny-base --suite configs/suites/tiny-sums.toml --separator " " --budget 400 --limit 128
DeepSeek-R1's authors found that search did not scale (arXiv 2501.12948, section 4.2); this is the comparison in small,
at equal numbers of generated tokens. configs/tiny/comparisons has recorded ones."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a checkpoint, or a run folder")
    parser.add_argument("layout", nargs="*", metavar="layout.KEY=VALUE", help="by default one rank")
    parser.add_argument("--suite", required=True, type=Path, metavar="FILE", help="e.g. configs/suites/tiny-sums.toml")
    parser.add_argument("--output", type=Path, metavar="FILE", help="by default searches/MODEL-SUITE.json")
    parser.add_argument("--process-model", type=Path, metavar="MODEL",
                        help="judges steps: of stage preference, kind = pointwise, trained on rows of `r1mega steps`")
    add_options(parser, SearchConfig)


def run(args: argparse.Namespace) -> None:
    config = options_of(args, SearchConfig)

    from r1mega.stage.model_path import find_model
    from r1mega.stage.search_comparison import compare_search
    from r1mega.stage.suite import model_name
    folder = find_model(args.model)
    output = args.output or Path("searches") / f"{model_name(folder)}-{args.suite.stem}.json"
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"command line: --output={output}: {error.strerror or error}; name a file") from None
    compare_search(args.model, layout_from(args.layout, folder), args.suite, config, output, args.process_model)
    if int(os.environ.get("RANK", "0")) == 0:
        print(_table(json.loads(output.read_text(encoding="utf-8"))))
        print(output)


def _table(tree: dict) -> str:
    """A line a method."""
    metrics = [metric for metric in ("found", "majority", "best")
               if any(metric in one["metrics"] for one in tree["methods"].values())]
    lines = [f"{'':18}" + "".join(f"{metric:>25}" for metric in metrics) + f"{'completions':>13}{'depth':>7}"]
    for name, one in tree["methods"].items():
        shown = []
        for metric in metrics:
            estimate = one["metrics"].get(metric)
            shown.append("-" if estimate is None else "{value:.1%} ({low:.1%} to {high:.1%})".format(**estimate))
        lines.append(f"{name:18}" + "".join(f"{text:>25}" for text in shown) +
                     f"{one['completions_a_problem']:>13.1f}{one['mean_depth']:>7.1f}")
    budget = tree["settings"]["budget"]
    lines.append(f"{tree['problems']} problems, {budget} generated tokens each; completions a problem, and how many "
                 "steps they began with.")
    return "\n".join(lines)
