"""`log_prob` in Triton: the logits are read once forward, and read and written once backward.

The statistics of a row are m = max z, and in units of log2 with d = (z - m) log2(e) / temperature: s = sum 2^d,
b = sum 2^d d, and z at the target. A row is cut into splits of a fixed number of columns, one program each; the
splits are merged in order, then the ranks in rank order. Nothing about that depends on the number of rows, and
nothing is tuned while running: a row has the same bits in any batch. Offsets into logits are 64 bits wide.

Shapes: T rows, V columns held here, K true columns held here, P parts to merge (splits, or ranks).
Triton compiles anew for other types, and for integers in another of the classes 1, multiple of 16, or neither. So
what changes from call to call (rows, ranks) comes as the grid's size or is listed as do_not_specialize; only what a
model has once (strides, V) comes in tuples, of arguments that belong together, for which there is no such list. Floats
are never specialized. Pointers to single numbers are all aligned, so that they are of one class.
"""

import math

import torch
import torch.distributed as dist
import triton
import triton.language as tl
from torch import Tensor

from r1mega_kernels.backend import Options

BLOCK_COLUMNS = 2048
"""Columns a program has in its registers at a time."""
SPLIT_BLOCKS = 8
"""Blocks in a split: 8 splits of V = 129,280, one of 16,160."""
MERGE_ROWS = 128
SCALE_PROGRAMS = 132 * 8
"""Programs that share all rows when these are scaled: what an H100 runs at a time."""
SCALE_ROWS = 64
"""Rows whose factors a program looks at in one load."""

INTERPRETED = triton.knobs.runtime.interpret
"""Whether the kernels below are run by Triton's interpreter; decided when they are defined."""

LN2: tl.constexpr = tl.constexpr(math.log(2))
LOG2_E: tl.constexpr = tl.constexpr(1 / math.log(2))
LOWEST: tl.constexpr = tl.constexpr(-3.4028234663852886e38)  # finite, so that 0 times it is 0 and not NaN


@triton.jit
def _take_in(x, m, s, b, scale):
    """One more block of a row: m is one number, s and b a number a lane, added up once at the end."""
    new_m = tl.maximum(m, tl.max(x, axis=0))
    base = tl.where(new_m == float("-inf"), 0.0, new_m)
    shift = (m - base) * scale
    decay = tl.exp2(shift)
    shift = tl.where(decay > 0, shift, 0.0)  # nothing is left of the old sums: no 0 times infinity
    d = (x - base) * scale
    e = tl.exp2(d)
    b = (b + s * shift) * decay + e * tl.maximum(d, LOWEST)
    s = s * decay + e
    return new_m, s, b


@triton.jit(do_not_specialize=["true_columns", "first"])
def _stats_kernel(logits, targets, partials, true_columns, first, BLOCK: tl.constexpr, SPLIT: tl.constexpr):
    """partials[split, row] = (m, s, z_target, b), on a grid of rows x splits.

    logits = (pointer, row stride, column stride, V, log2(e) / temperature); column 0 is token `first`.
    """
    pointer, row_stride, column_stride, columns, scale = logits
    row = tl.program_id(0).to(tl.int64)
    split = tl.program_id(1)
    start = split * SPLIT
    end = tl.minimum(start + SPLIT, true_columns)
    row_pointer = pointer + row * row_stride
    lanes = tl.arange(0, BLOCK)

    m = tl.full((), float("-inf"), tl.float32)
    s = tl.zeros((BLOCK,), tl.float32)
    b = tl.zeros((BLOCK,), tl.float32)
    tail = start + tl.maximum(end - start, 0) // BLOCK * BLOCK
    for at in tl.range(start, tail, BLOCK, num_stages=3):  # the next blocks are on their way meanwhile
        x = tl.load(row_pointer + (at + lanes).to(tl.int64) * column_stride).to(tl.float32)
        m, s, b = _take_in(x, m, s, b, scale)
    if tail < end:
        column = tail + lanes
        x = tl.load(row_pointer + column.to(tl.int64) * column_stride, mask=column < columns, other=0).to(tl.float32)
        m, s, b = _take_in(tl.where(column < end, x, float("-inf")), m, s, b, scale)

    target = tl.load(targets + row).to(tl.int64) - first
    held = (target >= start) & (target < end)
    part = partials + (split.to(tl.int64) * tl.num_programs(0) + row) * 4
    tl.store(part, m)
    tl.store(part + 1, tl.sum(s, axis=0))
    tl.store(part + 2, tl.load(row_pointer + target * column_stride, mask=held, other=0).to(tl.float32))
    tl.store(part + 3, tl.sum(b, axis=0))


@triton.jit
def _merged(partials, row, inside, rows, parts, scale):
    """(m, s, z_target, b) of the parts, added up in their order."""
    m = tl.full(row.shape, float("-inf"), tl.float32)
    for i in range(parts):
        m = tl.maximum(m, tl.load(partials + (i * rows + row) * 4, mask=inside, other=0))
    base = tl.where(m == float("-inf"), 0.0, m)
    s = tl.zeros(row.shape, tl.float32)
    target = tl.zeros(row.shape, tl.float32)
    b = tl.zeros(row.shape, tl.float32)
    for i in range(parts):
        part = partials + (i * rows + row) * 4
        shift = (tl.load(part, mask=inside, other=0) - base) * scale
        decay = tl.exp2(shift)
        shift = tl.where(decay > 0, shift, 0.0)
        part_s = tl.load(part + 1, mask=inside, other=1)
        s += part_s * decay
        target += tl.load(part + 2, mask=inside, other=0)
        b += (tl.load(part + 3, mask=inside, other=0) + part_s * shift) * decay
    return m, s, target, b


@triton.jit(do_not_specialize=["rows", "parts"])
def _merge_kernel(partials, merged, rows, parts, scale, BLOCK: tl.constexpr):
    """The splits of one rank to one part."""
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    m, s, target, b = _merged(partials, row, inside, rows, parts, scale)
    tl.store(merged + row * 4, m, mask=inside)
    tl.store(merged + row * 4 + 1, s, mask=inside)
    tl.store(merged + row * 4 + 2, target, mask=inside)
    tl.store(merged + row * 4 + 3, b, mask=inside)


@triton.jit(do_not_specialize=["rows", "parts"])
def _finish_kernel(partials, targets, outputs, rows, parts, constants, BLOCK: tl.constexpr):
    """The last merge; outputs = (log_probs [T], entropy [T], saved [T, 4] = (m, log s, H, 0 if ignored else 1)).

    constants = (true vocabulary size, ignored target or None, temperature, log2(e) / temperature).
    """
    log_probs, entropies, saved = outputs
    vocab_size, ignore_index, temperature, scale = constants
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = row < rows
    m, s, at_target, b = _merged(partials, row, inside, rows, parts, scale)
    base = tl.where(m == float("-inf"), 0.0, m)
    log_s = tl.log(s)
    log_p = tl.div_rn(at_target - base, temperature) - log_s
    entropy = log_s - tl.div_rn(b * LN2, s)

    target = tl.load(targets + row, mask=inside, other=0).to(tl.int64)
    log_p = tl.where((target < 0) | (target >= vocab_size), float("nan"), log_p)
    counted = tl.full(row.shape, 1.0, tl.float32)
    if ignore_index is not None:
        ignored = target == ignore_index
        log_p = tl.where(ignored, 0.0, log_p)
        entropy = tl.where(ignored, 0.0, entropy)
        counted = tl.where(ignored, 0.0, counted)
    tl.store(log_probs + row, log_p, mask=inside)
    tl.store(entropies + row, entropy, mask=inside)
    tl.store(saved + row * 4, base, mask=inside)
    tl.store(saved + row * 4 + 1, log_s, mask=inside)
    tl.store(saved + row * 4 + 2, entropy, mask=inside)
    tl.store(saved + row * 4 + 3, counted, mask=inside)


@triton.jit(do_not_specialize=["true_columns", "first"])
def _gradient_kernel(logits, gradient, targets, by_row, true_columns, first, BLOCK: tl.constexpr):
    """dL/dz on a grid of rows x blocks; may write where it reads.

    logits as for the statistics; gradient = (pointer, row stride, column stride, temperature);
    by_row = (saved [T, 4], c [T], e [T], or None if the entropy was not used).
    """
    pointer, row_stride, column_stride, columns, scale = logits
    out_pointer, out_row_stride, out_column_stride, temperature = gradient
    saved, c_pointer, e_pointer = by_row
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    out = out_pointer + row * out_row_stride + column.to(tl.int64) * out_column_stride

    c = tl.load(c_pointer + row).to(tl.float32)
    used = c != 0
    if e_pointer is not None:
        e = tl.load(e_pointer + row).to(tl.float32)
        used = used | (e != 0)
    used = used & (tl.load(saved + row * 4 + 3) != 0)
    dz = tl.zeros((BLOCK,), tl.float32)
    if used:  # else the logits are not even read
        m = tl.load(saved + row * 4)
        log2_s = tl.load(saved + row * 4 + 1) * LOG2_E
        c = tl.div_rn(c, temperature)
        x = tl.load(pointer + row * row_stride + column.to(tl.int64) * column_stride, mask=inside, other=0)
        log2_p = (x.to(tl.float32) - m) * scale - log2_s
        p = tl.exp2(log2_p)
        dz = -c * p
        if e_pointer is not None:
            entropy = tl.load(saved + row * 4 + 2)
            dz -= tl.div_rn(e, temperature) * p * (tl.maximum(log2_p, LOWEST) * LN2 + entropy)
        target = tl.load(targets + row).to(tl.int64) - first
        dz = tl.where(column == target, dz + c, dz)
        dz = tl.where(column < true_columns, dz, 0.0)
    tl.store(out, dz.to(out_pointer.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def _scale_kernel(gradient, factors, rows, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Program i of n has the rows i, i + n, i + 2n...; gradient = (pointer, row stride, column stride, V).

    The factors of ROWS of them come in one load: where all are 1, as usual, there is nothing else to wait for.
    """
    pointer, row_stride, column_stride, columns = gradient
    programs = tl.num_programs(0)
    lanes = tl.arange(0, BLOCK)
    for first in range(tl.program_id(0).to(tl.int64), rows, programs * ROWS):  # so all rows are 64 bits wide
        own = first + tl.arange(0, ROWS) * programs
        others = tl.load(factors + own, mask=own < rows, other=1) != 1
        if tl.max(others.to(tl.int32), axis=0) > 0:
            for row in range(first, tl.minimum(first + programs * ROWS, rows), programs):
                factor = tl.load(factors + row).to(tl.float32)
                if factor != 1:
                    row_pointer = pointer + row * row_stride
                    for at in range(0, columns, BLOCK):
                        column = at + lanes
                        place = row_pointer + column.to(tl.int64) * column_stride
                        scaled = tl.load(place, mask=column < columns, other=0).to(tl.float32) * factor
                        tl.store(place, scaled.to(pointer.dtype.element_ty), mask=column < columns)


def local_stats(logits_TV: Tensor, targets_T: Tensor, temperature: float, first: int, true_columns: int) -> Tensor:
    """(m, s, z_target, b) of every split of the columns held here, [P, T, 4] fp32; column 0 is token `first`."""
    rows, columns = logits_TV.shape
    block = _block(columns)
    splits = max(1, math.ceil(true_columns / (block * SPLIT_BLOCKS)))
    partials_PT4 = torch.empty(splits, rows, 4, dtype=torch.float32, device=logits_TV.device)
    if rows:
        _stats_kernel[(rows, splits)](
            (logits_TV, *logits_TV.stride(), columns, _scale(temperature)), aligned(targets_T), partials_PT4,
            true_columns, first, BLOCK=block, SPLIT=block * SPLIT_BLOCKS, num_warps=_warps(block),
        )
    return partials_PT4


def gather(partials_PT4: Tensor, temperature: float, group: dist.ProcessGroup | None) -> Tensor:
    """Every rank's (m, s, z_target, b) in rank order, [R, T, 4]: one collective. On one rank the splits as given."""
    parts, rows, _ = partials_PT4.shape
    if group is None or dist.get_world_size(group) == 1 or rows == 0:
        return partials_PT4
    merged_1T4 = merge(partials_PT4, temperature) if parts > 1 else partials_PT4
    gathered_RT4 = merged_1T4.new_empty(dist.get_world_size(group), rows, 4)
    dist.all_gather_into_tensor(gathered_RT4, merged_1T4, group=group)
    return gathered_RT4


def merge(partials_PT4: Tensor, temperature: float) -> Tensor:
    """The parts of every row as one, [1, T, 4]."""
    parts, rows, _ = partials_PT4.shape
    merged_1T4 = partials_PT4.new_empty(1, rows, 4)
    _merge_kernel[(triton.cdiv(rows, MERGE_ROWS),)](
        partials_PT4, merged_1T4, rows, parts, _scale(temperature), BLOCK=MERGE_ROWS
    )
    return merged_1T4


def finish(
    partials_PT4: Tensor, targets_T: Tensor, temperature: float, vocab_size: int, ignore_index: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """log-probs [T], entropies [T], and what the backward pass needs of every row, [T, 4]."""
    parts, rows, _ = partials_PT4.shape
    log_probs_T, entropy_T, saved_T4 = (partials_PT4.new_empty(shape) for shape in ((rows,), (rows,), (rows, 4)))
    if rows:
        _finish_kernel[(triton.cdiv(rows, MERGE_ROWS),)](
            partials_PT4, aligned(targets_T), (log_probs_T, entropy_T, saved_T4), rows, parts,
            (vocab_size, ignore_index, float(temperature), _scale(temperature)), BLOCK=MERGE_ROWS,
        )
    return log_probs_T, entropy_T, saved_T4


def write_gradient(
    gradient_TV: Tensor, logits_TV: Tensor, targets_T: Tensor, saved_T4: Tensor,
    upstream: tuple[Tensor, Tensor | None], temperature: float, span: tuple[int, int],
) -> None:
    """dL/dlogits into `gradient_TV`, which may be `logits_TV`. upstream = (c, e); span = (first token, K)."""
    rows, columns = logits_TV.shape
    c_T, e_T = upstream
    first, true_columns = span
    block = _block(columns)
    if rows:
        _gradient_kernel[(rows, triton.cdiv(columns, block))](
            (logits_TV, *logits_TV.stride(), columns, _scale(temperature)),
            (gradient_TV, *gradient_TV.stride(), float(temperature)), aligned(targets_T),
            (saved_T4, aligned(c_T), None if e_T is None else aligned(e_T)),
            true_columns, first, BLOCK=block, num_warps=_warps(block),
        )


def forward(logits_TV: Tensor, targets_T: Tensor, options: Options) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """As log_prob_reference.forward; one collective."""
    first, true_columns, vocab_size = options.span(logits_TV.shape[1])
    targets_T = aligned(targets_T)
    with torch.cuda.device_of(logits_TV):
        partials_PT4 = local_stats(logits_TV, targets_T, options.temperature, first, true_columns)
        gathered_RT4 = gather(partials_PT4, options.temperature, options.group)
        log_probs_T, entropy_T, saved_T4 = finish(
            gathered_RT4, targets_T, options.temperature, vocab_size, options.ignore_index
        )
    return log_probs_T, entropy_T, (targets_T, saved_T4)


def backward(
    gradient_TV: Tensor, logits_TV: Tensor, saved: tuple[Tensor, ...], upstream: tuple[Tensor, Tensor | None],
    options: Options,
) -> None:
    """As log_prob_reference.backward."""
    targets_T, saved_T4 = saved
    first, true_columns, _ = options.span(logits_TV.shape[1])
    with torch.cuda.device_of(logits_TV):
        write_gradient(gradient_TV, logits_TV, targets_T, saved_T4, upstream, options.temperature,
                       (first, true_columns))


def scale_rows(gradient_TV: Tensor, factors_T: Tensor) -> None:
    """gradient[t] *= factor[t], in place; a row whose factor is 1 is not touched. Nothing is waited for."""
    rows, columns = gradient_TV.shape
    block = _block(columns)
    if rows:
        with torch.cuda.device_of(gradient_TV):
            _scale_kernel[(min(rows, SCALE_PROGRAMS),)](
                (gradient_TV, *gradient_TV.stride(), columns), aligned(factors_T), rows,
                ROWS=SCALE_ROWS, BLOCK=block, num_warps=_warps(block),
            )


def check(values: Tensor) -> None:
    """Raise what `implementation="triton"` cannot do with tensors such as this one."""
    if values.dtype == torch.float64:
        raise ValueError("implementation='triton' computes in fp32, and was given fp64; use 'reference'")
    if not INTERPRETED and not values.is_cuda:
        raise RuntimeError(
            f"implementation='triton' needs a GPU, and tensors are on {values.device}; use implementation='reference', "
            "or set TRITON_INTERPRET=1 before Python starts to run the kernels in Triton's interpreter"
        )


def aligned(values_T: Tensor) -> Tensor:
    """The values one after another from an address that is a multiple of 16; a copy of T numbers at most."""
    if values_T.is_contiguous() and values_T.data_ptr() % 16 == 0:
        return values_T
    return values_T.clone(memory_format=torch.contiguous_format)


def _block(columns: int) -> int:
    return min(BLOCK_COLUMNS, triton.next_power_of_2(columns))


def _warps(block: int) -> int:
    return max(1, min(8, block // 512))


def _scale(temperature: float) -> float:
    return 1 / (math.log(2) * temperature)
