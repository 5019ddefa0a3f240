import pytest
import torch
from r1mega_kernels.reduction import constant_mean, count_outputs, count_tokens, per_output_mean, per_token_mean

# Three sequences and padding: 2, 1 and 0 trained tokens.
MASK = torch.tensor([0.0, 1, 1, 0, 0, 1, 0, 0, 0])
IDS = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1, -1])


def test_per_output_weights_by_hand():
    # two outputs have tokens: 1/2 each, shared by 2 tokens and by 1
    total = count_outputs(MASK, IDS, 3)
    assert total.item() == 2
    assert per_output_mean(MASK, IDS, 3, 2).tolist() == [0, 0.25, 0.25, 0, 0, 0.5, 0, 0, 0]


def test_per_token_weights_by_hand():
    assert count_tokens(MASK).item() == 3
    assert per_token_mean(MASK, 4).tolist() == [0, 0.25, 0.25, 0, 0, 0.25, 0, 0, 0]  # 1 elsewhere


def test_constant_weights_by_hand():
    # 2 outputs, a length of 8: 1/16 a token, however many tokens its output has
    assert constant_mean(MASK, 2, 8).tolist() == [0, 1 / 16, 1 / 16, 0, 0, 1 / 16, 0, 0, 0]


@pytest.mark.parametrize("mask", [torch.zeros(9), torch.zeros(0)])
def test_nothing_to_train_on_weighs_nothing(mask: torch.Tensor):
    ids = IDS[: len(mask)]
    num_sequences = 3 if len(mask) else 0
    assert (per_output_mean(mask, ids, num_sequences, 0) == 0).all()
    assert (per_token_mean(mask, 0) == 0).all()
    assert count_outputs(mask, ids, num_sequences).item() == count_tokens(mask).item() == 0


def test_a_trained_position_of_padding_counts_for_no_sequence():
    assert count_outputs(torch.ones(2), torch.tensor([-1, 0]), 1).item() == 1
    assert count_outputs(torch.ones(1), torch.tensor([-1]), 0).item() == 0


@pytest.mark.parametrize("reduction", ["per_output", "per_token"])
def test_any_cut_into_micro_batches_gives_the_loss_of_the_whole(reduction: str):
    """Against the paper's sums as loops, for every cut of 7 outputs into consecutive micro-batches."""
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 3, 0, 8, 2, 2]
    losses = [torch.randn(length, generator=generator, dtype=torch.float64) for length in lengths]
    if reduction == "per_output":
        outputs = [output for output in losses if len(output)]
        expected = sum(sum(output.tolist()) / len(output) for output in outputs) / len(outputs)
    else:
        expected = sum(sum(output.tolist()) for output in losses) / sum(lengths)

    for cuts in range(2**6):
        edges = [0, *(i + 1 for i in range(6) if cuts >> i & 1), 7]
        total = 0.0
        for start, end in zip(edges, edges[1:], strict=False):
            part = losses[start:end]
            mask = torch.ones(sum(len(output) for output in part))
            ids = torch.cat([torch.full((len(output),), i) for i, output in enumerate(part)]).long()
            if reduction == "per_output":
                weights = per_output_mean(mask, ids, end - start, 6)
            else:
                weights = per_token_mean(mask, sum(lengths))
            total += (weights.double() * torch.cat(part)).sum().item()
        assert total == pytest.approx(expected, abs=1e-6)  # weights are fp32
