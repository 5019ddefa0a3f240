"""`r1mega export`: a model folder becomes Hugging Face DeepSeek-V3 weights."""

import argparse
from pathlib import Path

EPILOG = "example:\n  r1mega export runs/tiny-zero/checkpoints/step-00000100 exported"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model_dir", type=Path, metavar="MODEL_DIR", help="a model folder or a run's checkpoint")
    parser.add_argument("hf_dir", type=Path, metavar="HF_DIR", help="made; must not be there, or be empty")
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="convert to; by default as stored")


def run(args: argparse.Namespace) -> None:
    from r1mega.stage.convert import export_hf
    export_hf(args.model_dir, args.hf_dir, precision=args.precision)
    print(args.hf_dir)
