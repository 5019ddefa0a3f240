"""Operations that are worth a kernel; importable with torch alone."""

from r1mega_kernels.log_prob import LogProb, log_prob

__all__ = ["LogProb", "log_prob"]
