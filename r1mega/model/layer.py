"""A transformer layer that tells its parts which pack they are looking at."""

from typing import Any

from megatron.core.transformer.transformer_layer import TransformerLayer

from r1mega.model.rotary import PackedRotary


class PolicyLayer(TransformerLayer):
    """Megatron's layer; its router and its rotary tables see the pack, also when the layer is recomputed."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.self_attention.rotary_pos_emb = PackedRotary(self.self_attention.rotary_pos_emb)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        pack = kwargs.get("packed_seq_params")
        rotary, router = self.self_attention.rotary_pos_emb, getattr(self.mlp, "router", None)
        rotary.positions = None if pack is None else pack.positions
        if router is not None:
            router.pack = pack
        try:
            return super().forward(*args, **kwargs)
        finally:
            rotary.positions = None
