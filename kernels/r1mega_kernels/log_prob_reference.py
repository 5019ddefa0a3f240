"""`log_prob` in plain PyTorch, on any device: what runs without Triton, and in fp64 the measure of all others.

Shapes: T rows, V columns held here, K true columns held here (K < V where the vocabulary is padded), R rows at a time.
"""

import torch
import torch.distributed as dist
from torch import Tensor

from r1mega_kernels.backend import Options

CHUNK_ELEMENTS = 1 << 24
"""So many logits are worked on at a time: what the working copies cost in memory (64 MiB each in fp32)."""


def forward(logits_TV: Tensor, targets_T: Tensor, options: Options) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """log-probs [T], entropies [T], and what `backward` needs of every row."""
    first, true_columns, vocab_size = options.span(logits_TV.shape[1])
    local_T = targets_T.long() - first  # the target's column here; outside [0, K) on all ranks but one
    stats_4T = _local_stats(logits_TV[:, :true_columns], local_T, options.temperature)
    m_T, s_T, target_T, b_T = _merge(_gather(stats_4T, options.group), options.temperature)

    log_s_T = s_T.log()
    log_probs_T = (target_T - _finite(m_T)) / options.temperature - log_s_T
    entropy_T = log_s_T - b_T / s_T
    outside_T = (targets_T < 0) | (targets_T >= vocab_size)
    log_probs_T = log_probs_T.masked_fill(outside_T, float("nan"))
    ignored_T = torch.zeros_like(outside_T) if options.ignore_index is None else targets_T == options.ignore_index
    log_probs_T.masked_fill_(ignored_T, 0)
    entropy_T.masked_fill_(ignored_T, 0)
    return log_probs_T, entropy_T, (local_T, m_T, log_s_T, entropy_T, ignored_T)


def backward(
    gradient_TV: Tensor, logits_TV: Tensor, saved: tuple[Tensor, ...], upstream: tuple[Tensor, Tensor | None],
    options: Options,
) -> None:
    """dL/dlogits into `gradient_TV`, which may be `logits_TV`."""
    local_T, m_T, log_s_T, entropy_T, ignored_T = saved
    c_T, e_T = (None if up_T is None else up_T.to(m_T.dtype).masked_fill(ignored_T, 0) for up_T in upstream)
    unused_T = c_T == 0 if e_T is None else (c_T == 0) & (e_T == 0)
    true_columns = options.span(logits_TV.shape[1])[1]
    for rows in _chunks(logits_TV):
        here = slice(0, true_columns)
        log_p_RK = logits_TV[rows, here].to(m_T.dtype, copy=True)
        log_p_RK.sub_(_finite(m_T[rows, None])).div_(options.temperature).sub_(log_s_T[rows, None])
        p_RK = log_p_RK.exp()
        dz_RK = p_RK * -c_T[rows, None]
        _add_at(dz_RK, local_T[rows], c_T[rows])
        if e_T is not None:
            log_p_RK.clamp_(min=torch.finfo(m_T.dtype).min)  # 0 times -inf is 0 here
            dz_RK.sub_(log_p_RK.add_(entropy_T[rows, None]).mul_(p_RK).mul_(e_T[rows, None]))
        dz_RK.div_(options.temperature).masked_fill_(unused_T[rows, None], 0)
        gradient_TV[rows, here] = dz_RK.to(gradient_TV.dtype)
    gradient_TV[:, true_columns:] = 0


def scale_rows(gradient_TV: Tensor, factors_T: Tensor) -> None:
    """gradient[t] *= factor[t], in place; a row whose factor is 1 is not touched."""
    rows = (factors_T != 1).nonzero()[:, 0]
    gradient_TV[rows] = (gradient_TV[rows] * factors_T[rows, None]).to(gradient_TV.dtype)


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
