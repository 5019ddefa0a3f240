"""Operations that are worth a kernel; importable with torch alone."""

from r1mega_kernels.backend import Implementation, Options
from r1mega_kernels.grpo import Grpo, GrpoOptions, GrpoTokens, grpo_loss
from r1mega_kernels.linear import LinearOptions, linear_log_prob, linear_loss
from r1mega_kernels.log_prob import LogProb, log_prob
from r1mega_kernels.logits_loss import logits_loss
from r1mega_kernels.token_loss import CrossEntropy, LossTokens, TokenLoss, TokenTerms

__all__ = [
    "CrossEntropy", "Grpo", "GrpoOptions", "GrpoTokens", "Implementation", "LinearOptions", "LogProb", "LossTokens",
    "Options", "TokenLoss", "TokenTerms", "grpo_loss", "linear_log_prob", "linear_loss", "log_prob", "logits_loss",
]
