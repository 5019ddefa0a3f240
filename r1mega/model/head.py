"""The policy's head: hidden states to log-probs, or to losses whose gradient is made on the spot.

The vocabulary stays split between tensor-parallel ranks: what they exchange is four numbers a token.
"""

# Shapes: T tokens of a pack, S of them on this rank (fewer if sequence parallel), V rows of the weight here, H hidden.

import torch
from r1mega_kernels import (
    LinearOptions,
    LogProb,
    LossTokens,
    TokenLoss,
    linear_log_prob,
    linear_loss,
    log_prob,
    logits_loss,
)
from torch import Tensor, nn

from r1mega.config.head import HeadConfig
from r1mega.model.distillation import Teaching, distillation_loss

IGNORED = -100  # the target of a token that does not count


class Head:
    """The head's weight (the embedding's where the two are tied), and how the recipe wants it used."""

    def __init__(self, output_layer: nn.Module, weight_VH: Tensor, options: LinearOptions, whole: bool):
        self.output_layer, self.weight_VH, self.options, self.whole = output_layer, weight_VH, options, whole

    @classmethod
    def of(cls, policy: nn.Module, config: HeadConfig, temperature: float) -> "Head":
        options = LinearOptions(
            temperature=temperature, group=policy.pg_collection.tp, vocab_size=policy.true_vocab_size,
            ignore_index=IGNORED, implementation=config.implementation, fp32_logits=config.fp32_logits,
            max_logits_bytes=int(config.max_logits_mib * 2**20), sequence_parallel=policy.config.sequence_parallel)
        return cls(policy.output_layer, policy.head_weight, options, config.logits == "whole")

    def log_prob(self, hidden_S1H: Tensor, targets_T: Tensor) -> LogProb:
        """Of every target but the ignored, which get 0."""
        if self.whole:
            return log_prob(self._logits(hidden_S1H, self.weight_VH), targets_T, temperature=self.options.temperature,
                            group=self.options.group, vocab_size=self.options.vocab_size, ignore_index=IGNORED,
                            implementation=self.options.implementation)
        return linear_log_prob(
            hidden_S1H[:, 0], self.weight_VH, targets_T, self.options, main_grad=_main_grad(self.weight_VH))

    def loss(
        self, hidden_S1H: Tensor, targets_T: Tensor, token_loss: TokenLoss | Teaching, weight_VH: Tensor | None = None
    ) -> LossTokens:
        """`token_loss` of every target but the ignored. `weight_VH` replaces the head's own (detached, say)."""
        weight_VH = self.weight_VH if weight_VH is None else weight_VH
        if isinstance(token_loss, Teaching):  # always in chunks and in plain PyTorch
            return distillation_loss(
                hidden_S1H[:, 0], weight_VH, targets_T, token_loss, self.options, main_grad=_main_grad(weight_VH))
        if self.whole:
            logits_TV = self._logits(hidden_S1H, weight_VH)
            return logits_loss(logits_TV, targets_T, token_loss, self.options, inplace=True)
        return linear_loss(
            hidden_S1H[:, 0], weight_VH, targets_T, token_loss, self.options, main_grad=_main_grad(weight_VH))

    def _logits(self, hidden_S1H: Tensor, weight_VH: Tensor) -> Tensor:
        return self.output_layer(hidden_S1H, weight=weight_VH)[0][:, 0]


def _main_grad(weight_VH: Tensor) -> Tensor | None:
    """Where Megatron adds up the weight's gradient, told that we have added ours; None where nobody trains it.

    Of an embedding that is the head, Megatron adds the embedding's own gradient all the same (zero_out_wgrad).
    """
    main_grad = getattr(weight_VH, "main_grad", None)
    if main_grad is None or not weight_VH.requires_grad or not torch.is_grad_enabled():
        return None
    weight_VH.grad_added_to_main_grad = True
    return main_grad
