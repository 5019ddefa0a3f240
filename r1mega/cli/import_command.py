"""`r1mega import`: Hugging Face DeepSeek-V3 weights become a model folder."""

import argparse
from pathlib import Path

from r1mega.config.error import UserError

EPILOG = """\
The files are read a weight at a time, never the whole model; FP8 weights become bf16. Under torchrun or srun the ranks
share the work.
example: r1mega import DeepSeek-V3-Base models/deepseek-v3-base"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hf_dir", type=Path, metavar="HF_DIR", help="config.json, *.safetensors and tokenizer files")
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="made; must not be there, or be empty")
    parser.add_argument("--ranks", type=int, default=1, metavar="N", help="processes that share the work (default 1)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="convert to; by default as in the files")
    parser.add_argument("--no-mtp", action="store_true", help="leave the MTP layer out")


def run(args: argparse.Namespace) -> None:
    from r1mega.config.layout import LayoutConfig
    from r1mega.stage.convert import import_hf
    if args.ranks < 1:
        raise UserError(f"command line: --ranks={args.ranks}: not a number of processes; use 1 or more")
    import_hf(args.hf_dir, args.model_dir, LayoutConfig(data_parallel=args.ranks), precision=args.precision,
              mtp=not args.no_mtp)
    print(args.model_dir)
