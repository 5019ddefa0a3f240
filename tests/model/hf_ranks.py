"""What the ranks of the Hugging Face parity tests run: import, load, forward, save, layout after layout."""

from pathlib import Path

import torch

from r1mega.config import LayoutConfig
from r1mega.record import PackedBatch
from tests.objectives import Nll

LogProbs = list[tuple[torch.Tensor, torch.Tensor]]


def pack(sequences: list[list[int]], multiple_of: int) -> PackedBatch:
    """Sequences end to end, the tail padded as one more segment of token 0."""
    lengths = [len(sequence) for sequence in sequences]
    padding = -sum(lengths) % multiple_of
    ids, targets, mask, owner = [], [], [], []
    for number, sequence in enumerate([*sequences, [0] * padding]):
        real = number < len(sequences)
        ids += sequence
        targets += sequence[1:] + [0] * bool(sequence)
        mask += [float(real)] * (len(sequence) - 1) + [0.0] * bool(sequence)
        owner += [number if real else -1] * len(sequence)
    edges = torch.tensor([0, *lengths, *([padding] if padding else [])]).cumsum(0).int()
    return PackedBatch(torch.tensor(ids), torch.tensor(targets), torch.tensor(mask), edges, torch.tensor(owner),
                       num_sequences=len(sequences))


def unpack(rows: torch.Tensor, sequences: list[list[int]]) -> LogProbs:
    """A policy's output [rows, T] as `reference_log_probs` has it: of n tokens, n - 1 and (by MTP) n - 2 log-probs."""
    from r1mega.model import MTP_LOG_PROBS

    results, begin = [], 0
    for sequence in sequences:
        end = begin + len(sequence)
        results.append((rows[0, begin:end - 1], rows[MTP_LOG_PROBS, begin:end - 2]))
        begin = end
    return results


def import_run_save(
    cases: list[tuple[str, dict, str]], sequences: list[list[int]], root: str
) -> list[LogProbs | None]:
    """For every case (folder, layout, name): import the folder, load the result under the layout, run the sequences,
    and save to `root`/name. Returns what `unpack` gives, or None on the ranks that are not on a last stage."""
    from megatron.core import parallel_state

    from r1mega.model import PolicySettings, build_policy
    from r1mega.parallel import start
    from r1mega.stage.convert import import_with
    from r1mega.training.checkpoint import load_model_folder, read_model_config, save_model_folder

    results = []
    for folder, layout, name in cases:
        groups, imported = start(LayoutConfig(**layout), seed=0), Path(root) / f"{name}-imported"
        import_with(groups, Path(folder), imported)
        model = read_model_config(imported)
        chunks = build_policy(model, groups, PolicySettings(mtp="joint"), seed=1)
        for chunk in chunks:
            chunk.eval()
        load_model_folder(imported, chunks, groups)
        rows = forward(chunks, groups, pack(sequences, layout.get("tensor_parallel", 1)))
        results.append(None if rows is None else unpack(rows, sequences))
        save_model_folder(Path(root) / name, chunks, model, groups)
        parallel_state.destroy_model_parallel()
    return results


def forward(chunks: list, groups, batch: PackedBatch) -> torch.Tensor | None:
    """[rows, T] on the last stage. With a loss, since only then the policy runs its MTP layer."""
    from megatron.core.pipeline_parallel import get_forward_backward_func

    def step(batches, chunk):
        return chunk(next(batches), 1.0, Nll(1)), lambda output, non_loss_data: output.detach()

    count = groups.pp.size()  # the interleaved schedule wants as many micro-batches as stages
    iterators = [iter([batch] * count) for _ in chunks]
    outputs = get_forward_backward_func()(
        forward_step_func=step, data_iterator=iterators if len(chunks) > 1 else iterators[0], model=chunks,
        num_microbatches=count, seq_length=len(batch.token_ids), micro_batch_size=1, forward_only=True,
        collect_non_loss_data=True)
    return outputs[0] if groups.is_last_stage else None
