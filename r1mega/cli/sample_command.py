"""`r1mega sample`: talk to a model."""

import argparse
from pathlib import Path

from r1mega.cli.layout_arguments import layout_from

EPILOG = """\
examples:
  r1mega sample runs/tiny-zero                                   (asks for questions)
  r1mega sample runs/tiny-zero --question "3 + 4 - 9 =" --samples 4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a checkpoint, or a run folder")
    parser.add_argument("layout", nargs="*", metavar="layout.KEY=VALUE", help="by default one rank")
    parser.add_argument("--question", action="append", default=[], metavar="TEXT", help="may be repeated")
    parser.add_argument("--samples", type=int, default=1, metavar="N", help="completions a question")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest token")
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="by default as many as the context holds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--raw", action="store_true", help="the text is the prompt: no chat template around it")


def run(args: argparse.Namespace) -> None:
    from r1mega.stage.model_path import find_model
    from r1mega.stage.sample import Asking, sample
    layout = layout_from(args.layout, find_model(args.model))
    how = Asking(num_samples=args.samples, temperature=args.temperature, top_p=args.top_p,
                 new_tokens=args.max_new_tokens, seed=args.seed, raw=args.raw)
    sample(args.model, args.question, layout, how)
