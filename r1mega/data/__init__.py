"""Problems, tokens and packs. Only packing needs torch, so it is imported when first asked for."""

from importlib import import_module
from typing import Any

from r1mega.data.chat_template import render_prompt
from r1mega.data.order import check_step_size, problem_batch
from r1mega.data.problems import load_problems
from r1mega.data.prompt_tokens import PromptSet, encode_prompt, encode_prompts
from r1mega.data.split import Split, split
from r1mega.data.tokenizer import Tokenizer
from r1mega.data.train_tokenizer import train_tokenizer

_NEEDS_TORCH = dict.fromkeys(("pack", "pack_for_replicas", "pack_units_for_replicas", "empty_pack"), "packing")

__all__ = [  # noqa: F822 (four of them come from __getattr__)
    "PromptSet", "Split", "Tokenizer", "check_step_size", "empty_pack", "encode_prompt", "encode_prompts",
    "load_problems", "pack", "pack_for_replicas", "pack_units_for_replicas", "problem_batch", "render_prompt", "split",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(import_module(f"r1mega.data.{_NEEDS_TORCH[name]}"), name)
    raise AttributeError(f"module 'r1mega.data' has no attribute {name!r}")
