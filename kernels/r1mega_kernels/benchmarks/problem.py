"""The inputs of a comparison, the same for every peer, from a seed.

Shapes: T rows, V vocabulary, H hidden.
"""

import torch
from torch import Tensor

FILL_ELEMENTS = 1 << 26
LOGITS_SCALE = 3.0
"""Standard deviation of the logits: entropies of about 8 at V = 129,280."""


class LogitsProblem:
    """Logits in bf16 and targets; also what GRPO needs: one sequence, its advantage, old and reference log-probs.

    The logits stand in a buffer of one row more, which is the shape that one of the peers asks for.
    """

    hidden = 0

    def __init__(self, tokens: int, vocab: int, device: torch.device, seed: int):
        self.tokens, self.vocab, self.device = tokens, vocab, device
        generator = torch.Generator(device).manual_seed(seed)
        self.pristine_TV = normal((tokens, vocab), LOGITS_SCALE, generator)
        self.buffer_1T1V = torch.zeros(1, tokens + 1, vocab, dtype=torch.bfloat16, device=device)
        self.targets_T = torch.randint(0, vocab, (tokens,), generator=generator, device=device)
        near_T = self._log_probs()
        self.old_T, self.ref_T = (
            near_T + 0.3 * torch.randn(tokens, generator=generator, device=device) for _ in range(2))
        self.advantage = 0.7
        self.ones_T, self.one = torch.ones(tokens, device=device), torch.ones((), device=device)
        self.restore()
        self.padded_1T1V = self.buffer_1T1V.detach().requires_grad_()
        self.logits_TV = self.buffer_1T1V[0, :tokens].detach().requires_grad_()
        self.leaves = (self.logits_TV,)

    def restore(self) -> None:
        """The logits as they were, after a peer has written over them."""
        with torch.no_grad():
            self.buffer_1T1V[0, : self.tokens].copy_(self.pristine_TV)

    def _log_probs(self) -> Tensor:
        """Those of the targets, to give old and reference policies something near."""
        log_probs_T = torch.empty(self.tokens, device=self.device)
        step = max(1, FILL_ELEMENTS // self.vocab)
        for at in range(0, self.tokens, step):
            rows = slice(at, at + step)
            log_p_RV = self.pristine_TV[rows].float().log_softmax(1)
            log_probs_T[rows] = log_p_RV.gather(1, self.targets_T[rows, None])[:, 0]
        return log_probs_T


class LinearProblem:
    """Hidden states and weight in bf16, targets, and an fp32 buffer for those who add the weight's gradient to one."""

    def __init__(self, tokens: int, vocab: int, hidden: int, device: torch.device, seed: int):
        self.tokens, self.vocab, self.hidden, self.device = tokens, vocab, hidden, device
        generator = torch.Generator(device).manual_seed(seed)
        self.hidden_TH = normal((tokens, hidden), 1.0, generator).requires_grad_()
        self.weight_VH = normal((vocab, hidden), LOGITS_SCALE / hidden**0.5, generator).requires_grad_()
        self.targets_T = torch.randint(0, vocab, (tokens,), generator=generator, device=device)
        self.main_grad_VH = torch.zeros(vocab, hidden, device=device)
        self.ones_T, self.one = torch.ones(tokens, device=device), torch.ones((), device=device)
        self.leaves = (self.hidden_TH, self.weight_VH)

    def restore(self) -> None:
        self.main_grad_VH.zero_()


Problem = LogitsProblem | LinearProblem


def normal(shape: tuple[int, int], scale: float, generator: torch.Generator) -> Tensor:
    """bf16, made in parts: a generator's kernels may count elements in 32 bits, and logits have more."""
    rows, columns = shape
    values = torch.empty(shape, dtype=torch.bfloat16, device=generator.device)
    step = max(1, FILL_ELEMENTS // columns)
    for at in range(0, rows, step):
        part = values[at:at + step]
        part.copy_(torch.randn(part.shape, generator=generator, device=generator.device) * scale)
    return values
