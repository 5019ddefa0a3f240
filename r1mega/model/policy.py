"""The policy: packed token sequences in, per-token log-probs and losses out."""

from typing import Protocol

import torch
from megatron.core.models.gpt import GPTModel
from r1mega_kernels import TokenLoss

from r1mega.config.head import HeadConfig
from r1mega.model.distillation import Teaching
from r1mega.model.head import IGNORED, Head
from r1mega.model.pack import Pack
from r1mega.record import PackedBatch

LOG_PROBS, ENTROPY = 0, 1  # rows of what a policy returns
LOSS, MTP_LOSS, MTP_LOG_PROBS, RECORDS = 2, 3, 4, 5  # more of them where a loss is asked for


class PolicyLoss(Protocol):
    """What is minimised, as losses of tokens; the gradient is that of their sum."""

    def of_targets(self, batch: PackedBatch) -> TokenLoss | Teaching: ...

    def of_mtp_targets(self, batch: PackedBatch) -> TokenLoss: ...


class Policy(GPTModel):
    """Megatron's GPTModel with our head: never gathered logits, but log-probs of given tokens, and their losses.

    `true_vocab_size`, `mtp_mode`, `head` and `scalar_head` are set by `build_policy`.
    """

    true_vocab_size: int
    mtp_mode: str = "off"
    head: HeadConfig = HeadConfig()
    gives_hidden_states: bool = False
    """Instead of anything of its head's, as a teacher does."""
    scalar_head: torch.nn.Module | None  # a reward model's, which scores sequences (see `add_scalar_head`)

    @property
    def head_weight(self) -> torch.Tensor:
        """[V, H], this rank's rows, on the last stage; the embedding's where the two are one and stand on one stage."""
        weight = self.output_layer.weight
        return self.shared_embedding_or_output_weight() if weight is None else weight

    def rope_tables(self, length: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin [length, F] of positions 0.. length - 1, for sampling; only on a stage that has layers."""
        if self.config.multi_latent_attention:
            return self.decoder.layers[0].self_attention.rope_tables(length, dtype)
        angles = self.rotary_pos_emb(length, packed_seq=True)[:, 0, 0, : self.config.kv_channels // 2]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def forward(self, batch: PackedBatch, temperature: float = 1.0, loss: PolicyLoss | None = None) -> torch.Tensor:
        """Run this stage on one pack.

        On the last stage, returns fp32 [rows, T]: log p(targets) and entropy at the temperature; with a `loss` also its
        share at each token, that of the MTP layer, log p of the token after the target by that layer (zeros if MTP is
        off), and what the loss records. Only the two losses carry a gradient then, which is made here, so that they
        have to be summed up. All is 0 where `batch.loss_mask` is. On other stages, the hidden states for the next one;
        on the last one, too, if it `gives_hidden_states` (this rank's rows, with sequence parallelism).
        """
        pack = Pack.of(batch.cu_seqlens, batch.num_sequences)
        token_ids_1T = batch.token_ids[None]
        # Embedding and rotary table by position, None with MLA, which makes its own; position_ids are never looked at.
        decoder_input, rotary, *_ = self._preprocess(
            input_ids=token_ids_1T, position_ids=torch.zeros_like(token_ids_1T), packed_seq_params=pack)
        hidden_T1H = self.decoder(
            hidden_states=decoder_input, attention_mask=None, packed_seq_params=pack,
            rotary_pos_emb=None if rotary is None else rotary[pack.positions])
        if not self.post_process or self.gives_hidden_states:
            return hidden_T1H
        if self.scalar_head is not None:
            return self.scalar_head(hidden_T1H, batch, self, loss)
        targets_T = batch.targets.masked_fill(batch.loss_mask <= 0, IGNORED)
        head = Head.of(self, self.head, temperature)
        if loss is None:
            return torch.stack(head.log_prob(hidden_T1H, targets_T))
        tokens = head.loss(hidden_T1H, targets_T, loss.of_targets(batch))
        mtp_2T = torch.zeros(2, len(targets_T), device=targets_T.device)
        if self.mtp_mode != "off":
            mtp_2T = self._mtp(hidden_T1H, batch, pack, loss)
        return torch.stack([tokens.log_probs, tokens.entropy, tokens.loss, *mtp_2T, *tokens.records.values()])

    def _mtp(self, hidden_T1H: torch.Tensor, batch: PackedBatch, pack: Pack, loss: PolicyLoss) -> torch.Tensor:
        """[2, T]: the MTP layer's loss and log p of the token after the target."""
        token_ids_1T = batch.token_ids[None]
        both = self.mtp(
            input_ids=token_ids_1T, position_ids=torch.zeros_like(token_ids_1T), hidden_states=hidden_T1H,
            attention_mask=None, packed_seq_params=pack, embedding=self.embedding)
        mtp_hidden_T1H = both.chunk(2)[1]
        # Detached: the trunk, the embedding and the head are left as the main loss alone would have them.
        weight = self.output_layer.weight.detach() if self.mtp_mode == "detached" else None
        targets_T = mtp_targets(batch).masked_fill(mtp_mask(batch) <= 0, IGNORED)
        tokens = Head.of(self, self.head, 1.0).loss(mtp_hidden_T1H, targets_T, loss.of_mtp_targets(batch), weight)
        return torch.stack([tokens.loss, tokens.log_probs])


def mtp_targets(batch: PackedBatch) -> torch.Tensor:
    """[T] int64: the token two places on (whatever stands there, where the sequence ends)."""
    return torch.roll(batch.targets, -1)


def mtp_mask(batch: PackedBatch) -> torch.Tensor:
    """[T] float: 1 where the token two places on is in the same sequence and is trained on."""
    ids = batch.sequence_ids
    same = (ids == torch.roll(ids, -1)) & (ids >= 0)
    same[-1] = False
    return torch.roll(batch.loss_mask, -1) * same
