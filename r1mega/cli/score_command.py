"""`r1mega score`: log-probabilities of given token ids."""

import argparse
from pathlib import Path

from r1mega.cli.layout_arguments import layout_from

EPILOG = """\
example: r1mega score runs/tiny-zero --input tokens.jsonl --output log_probs.jsonl layout.tensor_parallel=2
Each input line is {"token_ids": [...]}; each output line {"log_probs": [null, ...]}, one value a token."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model folder, a checkpoint, or a run folder")
    parser.add_argument("layout", nargs="*", metavar="layout.KEY=VALUE", help="by default one rank")
    parser.add_argument("--input", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--implementation", choices=["reference", "triton"], default="reference",
                        help="of the log-probs: plain PyTorch, or our kernels on a GPU")


def run(args: argparse.Namespace) -> None:
    from r1mega.stage.model_path import find_model
    from r1mega.stage.score import score
    layout = layout_from(args.layout, find_model(args.model))
    score(args.model, args.input, args.output, layout, temperature=args.temperature, precision=args.precision,
          implementation=args.implementation)
    print(args.output)
