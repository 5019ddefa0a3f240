"""Log-probabilities of given tokens, and the entropy of the distribution they were drawn from.

With m = max z over the true vocabulary, d = (z - m) / temperature, s = sum e^d, b = sum d e^d:

    log p = d_target - log s      never above 0
    H     = log s - b / s         the shifted form; never below 0

    dL/dz_j = [c (1{j = target} - p_j) - e p_j (log p_j + H)] / temperature,  c = dL/dlog p, e = dL/dH

Ranks that hold a slice of the vocabulary each exchange (m, s, z_target, b) once, forward; nothing backward.

Shapes: T rows, V columns held here, K true columns held here (K < V where the vocabulary is padded), R ranks.
"""

from typing import Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 1 << 24
"""So many logits are worked on at a time: what the working copies cost in memory (64 MiB each in fp32)."""


class LogProb(NamedTuple):
    log_probs: Tensor  # [...] fp32, or fp64 from fp64 logits
    entropy: Tensor  # [...] the same


class Options(NamedTuple):
    """What `log_prob` hands to an implementation beside its tensors."""

    temperature: float
    group: dist.ProcessGroup | None
    vocab_size: int
    ignore_index: int | None
    inplace_backward: bool


def log_prob(
    logits: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    group: dist.ProcessGroup | None = None,
    vocab_size: int | None = None,
    ignore_index: int | None = None,
    implementation: Literal["reference", "triton"] = "reference",
    inplace_backward: bool = False,
) -> LogProb:
    """Log-prob of each target and entropy of each row, differentiable once with respect to `logits`.

    logits [..., V]: any float type; computed in fp32 (fp64 for fp64). With a `group` of R ranks, rank r holds
    columns rV to (r + 1)V - 1 of the vocabulary, and all ranks get the same result; None: V is all there is.
    targets [...]: integers, indices into the whole vocabulary, the same on all ranks of the group.
    vocab_size: the true size; columns from there on are padding: no probability, no gradient. Default R * V.
    ignore_index: rows with this target give exactly 0, 0 and no gradient, whatever their logits.
    implementation: "reference" is plain PyTorch, on any device. "triton" needs a GPU (or Triton's interpreter) and
    logits of at most 32 bits, and raises RuntimeError or ValueError where it has not got them; never a fallback.
    inplace_backward: write the gradient over `logits`, which saves their size in memory. Reading them after the
    backward pass reads the gradient; another operation that saved them for its own backward pass raises there.

    A row whose upstream gradients are 0 has a gradient of exactly 0, even where its logits are NaN. A row's
    result and gradient depend on that row alone, bit for bit: on any number of rows and at any place. -inf
    logits are impossible tokens. NaN and +inf make their own row NaN, as does a target outside the vocabulary
    (finding it out would stop the device). Raises ValueError if shapes, types or sizes do not fit.
    """
    ranks = 1 if group is None else dist.get_world_size(group)
    _check(logits, targets, temperature, ranks, vocab_size)
    columns = logits.shape[-1]
    size = ranks * columns if vocab_size is None else vocab_size
    if inplace_backward and any(n > 1 and s == 0 for n, s in zip(logits.shape, logits.stride(), strict=True)):
        raise ValueError("inplace_backward=True needs logits of their own memory, and these are expanded")
    function = _function(implementation, logits)
    log_probs_T, entropy_T = function.apply(
        logits.reshape(-1, columns), targets.reshape(-1),
        Options(temperature, group, size, ignore_index, inplace_backward),
    )
    return LogProb(log_probs_T.view(targets.shape), entropy_T.view(targets.shape))


def _function(implementation: str, logits: Tensor) -> type[torch.autograd.Function]:
    """The autograd function that was asked for, if it can run here."""
    if implementation == "reference":
        return _LogProb
    if implementation != "triton":
        raise ValueError(f"implementation={implementation!r}; legal are 'reference' and 'triton'")
    try:  # an optional dependency: this is its only door
        from r1mega_kernels import log_prob_triton
    except ImportError as error:
        raise RuntimeError(
            "implementation='triton' needs the package triton; install it or use implementation='reference'"
        ) from error
    log_prob_triton.check(logits)
    return log_prob_triton.LogProbTriton


def _check(logits: Tensor, targets: Tensor, temperature: float, ranks: int, vocab_size: int | None) -> None:
    if logits.shape[:-1] != targets.shape or logits.ndim == 0 or logits.shape[-1] == 0:
        raise ValueError(
            f"logits {list(logits.shape)} need one target a row, [..., V] and [...], but targets are "
            f"{list(targets.shape)}"
        )
    if not logits.is_floating_point() or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(f"logits are {logits.dtype} and targets {targets.dtype}: floats and integers needed")
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature} must be above 0 and finite")
    if vocab_size is not None and not 0 < vocab_size <= ranks * logits.shape[-1]:
        raise ValueError(
            f"vocab_size={vocab_size} must lie between 1 and the {ranks * logits.shape[-1]} columns that "
            f"{ranks} ranks of {logits.shape[-1]} hold"
        )


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_TV, targets_T, options):
        temperature, group, vocab_size, ignore_index, _ = options
        rank = 0 if group is None else dist.get_rank(group)
        first = rank * logits_TV.shape[1]
        true_columns = min(max(vocab_size - first, 0), logits_TV.shape[1])
        local_T = targets_T.long() - first  # the target's column here; outside [0, K) on all ranks but one

        stats_4T = _local_stats(logits_TV[:, :true_columns], local_T, temperature)
        m_T, s_T, target_T, b_T = _merge(_gather(stats_4T, group), temperature)

        log_s_T = s_T.log()
        log_probs_T = (target_T - _finite(m_T)) / temperature - log_s_T
        entropy_T = log_s_T - b_T / s_T
        outside_T = (targets_T < 0) | (targets_T >= vocab_size)
        log_probs_T = log_probs_T.masked_fill(outside_T, float("nan"))
        ignored_T = torch.zeros_like(outside_T) if ignore_index is None else targets_T == ignore_index
        log_probs_T.masked_fill_(ignored_T, 0)
        entropy_T.masked_fill_(ignored_T, 0)

        ctx.save_for_backward(logits_TV, local_T, m_T, log_s_T, entropy_T, ignored_T)
        ctx.options, ctx.true_columns = options, true_columns
        ctx.set_materialize_grads(False)
        return log_probs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx, c_T, e_T):
        logits_TV, local_T, m_T, log_s_T, entropy_T, ignored_T = ctx.saved_tensors
        entropy_used = e_T is not None
        zeros_T = torch.zeros_like(m_T)
        c_T = zeros_T if c_T is None else c_T.masked_fill(ignored_T, 0)
        e_T = zeros_T if e_T is None else e_T.masked_fill(ignored_T, 0)
        unused_T = (c_T == 0) & (e_T == 0)
        temperature = ctx.options.temperature
        grad_TV = logits_TV if ctx.options.inplace_backward else torch.empty_like(logits_TV)
        grad_TV[:, ctx.true_columns :] = 0
        for rows in _chunks(logits_TV):
            here = slice(0, ctx.true_columns)
            log_p_RK = logits_TV[rows, here].to(m_T.dtype, copy=True)
            log_p_RK.sub_(_finite(m_T[rows, None])).div_(temperature).sub_(log_s_T[rows, None])
            p_RK = log_p_RK.exp()
            dz_RK = p_RK * -c_T[rows, None]
            _add_at(dz_RK, local_T[rows], c_T[rows])
            if entropy_used:
                log_p_RK.clamp_(min=torch.finfo(m_T.dtype).min)  # 0 times -inf is 0 here
                dz_RK.sub_(log_p_RK.add_(entropy_T[rows, None]).mul_(p_RK).mul_(e_T[rows, None]))
            dz_RK.div_(temperature).masked_fill_(unused_T[rows, None], 0)
            grad_TV[rows, here] = dz_RK.to(grad_TV.dtype)
        return grad_TV, None, None


def _local_stats(logits_TK: Tensor, local_T: Tensor, temperature: float) -> Tensor:
    """(m, s, z_target, b) of the columns held here, [4, T]; z_target is 0 where the target is elsewhere."""
    dtype = torch.float64 if logits_TK.dtype == torch.float64 else torch.float32
    stats_4T = torch.zeros(4, logits_TK.shape[0], dtype=dtype, device=logits_TK.device)
    stats_4T[0] = float("-inf")
    if logits_TK.shape[1] == 0:  # this rank holds padding only
        return stats_4T
    for rows in _chunks(logits_TK):
        m_R, s_R, target_R, b_R = stats_4T[:, rows]
        z_RK = logits_TK[rows].to(dtype, copy=True)
        m_R.copy_(z_RK.amax(dim=1))
        held_R = (local_T[rows] >= 0) & (local_T[rows] < z_RK.shape[1])
        column_R = local_T[rows].clamp(0, z_RK.shape[1] - 1)
        target_R.copy_(z_RK.gather(1, column_R[:, None])[:, 0].where(held_R, 0))
        d_RK = z_RK.sub_(_finite(m_R)[:, None]).div_(temperature)
        e_RK = d_RK.exp()
        d_RK.clamp_(min=torch.finfo(dtype).min).mul_(e_RK)  # 0 times -inf is 0 here
        s_R.copy_(_sum_by_halving(e_RK))
        b_R.copy_(_sum_by_halving(d_RK))
    return stats_4T


def _gather(stats_4T: Tensor, group: dist.ProcessGroup | None) -> list[Tensor]:
    """Every rank's (m, s, z_target, b), in rank order."""
    if group is None or dist.get_world_size(group) == 1 or stats_4T.numel() == 0:
        return [stats_4T]
    gathered = [torch.empty_like(stats_4T) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, stats_4T, group=group)
    return gathered


def _merge(stats: list[Tensor], temperature: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(m, s, z_target, b) of all columns, added up in rank order: the same bits on every rank."""
    if len(stats) == 1:
        m_T, s_T, target_T, b_T = stats[0]
        return m_T, s_T, target_T, b_T
    m_T = torch.stack([stats_4T[0] for stats_4T in stats]).amax(dim=0)
    s_T, target_T, b_T = torch.zeros_like(m_T), torch.zeros_like(m_T), torch.zeros_like(m_T)
    for m_r_T, s_r_T, target_r_T, b_r_T in stats:
        shift_T = (m_r_T - _finite(m_T)) / temperature
        scale_T = shift_T.exp()
        s_T += s_r_T * scale_T
        shift_T = shift_T.masked_fill(scale_T == 0, 0)  # nothing of this part is left: no 0 times infinity
        b_T += (b_r_T + s_r_T * shift_T) * scale_T
        target_T += target_r_T
    return m_T, s_T, target_T, b_T


def _finite(m: Tensor) -> Tensor:
    """A maximum to subtract: 0 for a row of nothing but -inf, whose exponentials are then 0 and not NaN."""
    return m.masked_fill(m == float("-inf"), 0)


def _add_at(dz_RK: Tensor, local_R: Tensor, c_R: Tensor) -> None:
    """dz[r, local[r]] += c[r] where that column is held here."""
    if dz_RK.shape[1] == 0:
        return
    held_R = (local_R >= 0) & (local_R < dz_RK.shape[1])
    column_R1 = local_R.clamp(0, dz_RK.shape[1] - 1)[:, None]
    dz_RK.scatter_add_(1, column_R1, c_R.where(held_R, 0)[:, None].to(dz_RK.dtype))


def _sum_by_halving(values_RK: Tensor) -> Tensor:
    """Row sums, [R]; overwrites its argument.

    Elementwise additions only, so K alone sets their order: torch.sum splits a row between threads or blocks
    differently for different numbers of rows. Pairwise, so the error grows with log K.
    """
    width = values_RK.shape[1]
    while width > 1:
        half = width // 2
        values_RK[:, :half] += values_RK[:, width - half : width]
        width -= half
    return values_RK[:, 0]


def _chunks(rows_TK: Tensor) -> list[slice]:
    step = max(1, CHUNK_ELEMENTS // max(1, rows_TK.shape[1]))
    return [slice(start, start + step) for start in range(0, rows_TK.shape[0], step)]
