"""The one place where the policy is built."""

from megatron.core import parallel_state
from r1mega_kernels.backend import backend

from r1mega.config import ModelConfig, UserError
from r1mega.model.initialize import initialize
from r1mega.model.policy import Policy
from r1mega.model.rotary import llama3_frequencies
from r1mega.model.router import Router
from r1mega.model.settings import PolicySettings
from r1mega.model.specs import block_spec, mtp_spec
from r1mega.model.transformer_config import transformer_config
from r1mega.parallel import Groups


def build_policy(
    model: ModelConfig, groups: Groups, settings: PolicySettings = PolicySettings(), seed: int = 0  # noqa: B008
) -> list[Policy]:
    """This rank's part of the policy, one chunk a virtual stage, with random weights that depend on the seed alone.

    The chunks share one Megatron configuration, `chunks[0].config`.
    """
    config = transformer_config(model, groups.layout, settings, groups.device)
    virtual = groups.layout.virtual_stages
    chunks = []
    for vp_stage in range(virtual) if virtual > 1 else (None,):
        where = {"ignore_virtual": False, "vp_stage": vp_stage} if vp_stage is not None else {}
        chunk = Policy(
            config, block_spec(config, vp_stage), vocab_size=model.padded_vocab_size,
            max_sequence_length=model.max_context, mtp_block_spec=mtp_spec(config, vp_stage), vp_stage=vp_stage,
            pre_process=parallel_state.is_pipeline_first_stage(**where),
            post_process=parallel_state.is_pipeline_last_stage(**where),
            position_embedding_type="rope", rotary_base=model.rope_theta,
            share_embeddings_and_output_weights=model.tied_embeddings, pg_collection=groups.pg)
        if model.llama3_rope is not None:
            rotary = chunk.rotary_pos_emb
            rotary.inv_freq = llama3_frequencies(rotary.inv_freq, model.llama3_rope)
        chunk.true_vocab_size = model.vocab_size
        chunk.head = settings.head
        chunk.scalar_head = None
        chunk.mtp_mode = settings.mtp if model.num_mtp_layers else "off"
        if chunk.mtp_mode == "off" and chunk.mtp_process:
            chunk.mtp.requires_grad_(False)  # kept and saved, but neither trained nor decayed
        for module in chunk.modules():
            if isinstance(module, Router):
                module.balance_weight = settings.sequence_balance_weight
        chunks.append(chunk.to(groups.device))
    _check_head(chunks, settings)
    initialize(chunks, model, groups, seed)
    return chunks


def _check_head(chunks: list[Policy], settings: PolicySettings) -> None:
    """Raise UserError now if the head's implementation cannot run here, rather than in the first step."""
    try:
        backend(settings.head.implementation, next(chunks[0].parameters()))
    except (RuntimeError, ValueError) as error:
        raise UserError(f"head.{error}") from None
