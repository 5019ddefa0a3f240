"""The policy's head: how hidden states become log-probs and losses of tokens."""

from typing import Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import Section


class HeadConfig(Section):
    """See kernels/README.md. None of this changes what is computed, except for rounding."""

    implementation: Literal["reference", "triton"] = "reference"
    """reference: plain PyTorch, on any device. triton: our kernels, on a GPU; refused where they cannot run."""
    logits: Literal["chunked", "whole"] = "chunked"
    """chunked: only of tokens that count, no more at a time than `max_logits_mib`. whole: of all tokens at once."""
    max_logits_mib: float = Field(1024.0, gt=0)
    """What the logits of a chunk and their gradient may take on a rank. Below 4,096 tokens' worth it costs time."""
    fp32_logits: bool = False
    """Keep the product's fp32 where weights are bf16 (rounded logits cost up to 6e-2 in log-prob). Needs chunks."""

    @model_validator(mode="after")
    def _fp32_in_chunks(self) -> "HeadConfig":
        if self.fp32_logits and self.logits == "whole":
            raise Mistake("fp32_logits", 'needs logits="chunked"; whole logits are made by Megatron\'s own layer')
        return self
