"""The policy: packed token sequences in, per-token log-probs out."""

from typing import Any

import torch
from megatron.core.models.gpt import GPTModel
from r1mega_kernels import log_prob

from r1mega.model.pack import Pack
from r1mega.record import PackedBatch

LOG_PROBS, ENTROPY, MTP_LOG_PROBS = 0, 1, 2  # rows of what a policy returns


class Policy(GPTModel):
    """Megatron's GPTModel with our head: never a loss, never gathered logits, but log-probs of given tokens.

    `true_vocab_size` and `mtp` are set by `build_policy`.
    """

    true_vocab_size: int
    mtp_mode: str = "off"

    def forward(self, batch: PackedBatch, temperature: float = 1.0) -> torch.Tensor:
        """Run this stage on one pack.

        On the last stage, returns fp32 [3, T]: log p(targets) and entropy at the temperature, and log p of the token
        after the target by the MTP layer (zeros unless training with MTP on). On others, the hidden states for the
        next stage.
        """
        pack = Pack.of(batch.cu_seqlens, batch.num_sequences)
        token_ids_1T = batch.token_ids[None]
        # Embedding and position tables; MLA makes its own rotary tables, so the positions are never looked at.
        decoder_input, *_ = self._preprocess(
            input_ids=token_ids_1T, position_ids=torch.zeros_like(token_ids_1T), packed_seq_params=pack)
        hidden_T1H = self.decoder(
            hidden_states=decoder_input, attention_mask=None, packed_seq_params=pack)
        if not self.post_process:
            return hidden_T1H
        log_probs_T, entropy_T = self._head(hidden_T1H, batch.targets, temperature)
        mtp_T = torch.zeros_like(log_probs_T)
        if self.mtp_mode != "off" and torch.is_grad_enabled():
            mtp_T = self._mtp_log_probs(hidden_T1H, batch, pack)
        return torch.stack([log_probs_T, entropy_T, mtp_T])

    def _head(
        self, hidden: torch.Tensor, targets_T: torch.Tensor, temperature: float = 1.0, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits_T1V, _ = self.output_layer(hidden, **kwargs)  # V of this rank
        return log_prob(logits_T1V[:, 0], targets_T, temperature=temperature, group=self.pg_collection.tp,
                        vocab_size=self.true_vocab_size)

    def _mtp_log_probs(self, hidden_T1H: torch.Tensor, batch: PackedBatch, pack: Pack) -> torch.Tensor:
        """log p of the token after the target, [T]; meaningful where `mtp_mask` is 1."""
        token_ids_1T = batch.token_ids[None]
        both = self.mtp(
            input_ids=token_ids_1T, position_ids=torch.zeros_like(token_ids_1T), hidden_states=hidden_T1H,
            attention_mask=None, packed_seq_params=pack, embedding=self.embedding)
        mtp_hidden_T1H = both.chunk(2)[1]
        # Detached: the trunk, the embedding and the head are left as the main loss alone would have them.
        weight = self.output_layer.weight.detach() if self.mtp_mode == "detached" else None
        return self._head(mtp_hidden_T1H, mtp_targets(batch), weight=weight)[0]


def mtp_targets(batch: PackedBatch) -> torch.Tensor:
    """[T] int64: the token two places on (whatever stands there, where the sequence ends)."""
    return torch.roll(batch.targets, -1)


def mtp_mask(batch: PackedBatch) -> torch.Tensor:
    """[T] float: 1 where the token two places on is in the same sequence and is trained on."""
    ids = batch.sequence_ids
    same = (ids == torch.roll(ids, -1)) & (ids >= 0)
    same[-1] = False
    return torch.roll(batch.loss_mask, -1) * same
