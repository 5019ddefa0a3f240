"""Where a weight lies in our checkpoints: one global tensor a name, all experts of a layer in one.

These are the keys that Megatron's `sharded_state_dict` gives the policy (with the names of `specs.STORED_NAMES`), so
that files can be made and read tensor by tensor without building a model.
"""

import re
from dataclasses import dataclass

from r1mega.config import ModelConfig
from r1mega.model.specs import DENSE_STORED_NAMES, GROUPED_STORED_NAMES, STORED_NAMES
from r1mega.model.weight import Weight


@dataclass(frozen=True)
class Place:
    """A weight's box in global tensor `key`: all of it, or entry `expert` of its leading dimension."""

    key: str
    expert: int | None


def stored_place(weight: Weight, model: ModelConfig) -> Place:
    """Place of a weight of the name table in the checkpoint of a policy of that shape."""
    name = weight.megatron.replace(".mtp_model_layer.", ".transformer_layer.")
    expert = re.search(r"\.local_experts\.(\d+)\.", name)
    if expert:
        name = f"{name[:expert.start()]}.experts.{name[expert.end():]}"
    if model.is_dense:
        renamed = GROUPED_STORED_NAMES
    else:
        renamed = STORED_NAMES | (DENSE_STORED_NAMES if _is_dense(name, model) else {})
    for local, stored in renamed.items():
        if name.endswith("." + local):
            name = name.removesuffix(local) + stored
    return Place(name, int(expert[1]) if expert else None)


def _is_dense(name: str, model: ModelConfig) -> bool:
    """Whether the layer of a name has a dense FFN; the MTP layer is of the kind of the last layer of the trunk."""
    layer = re.match(r"decoder\.layers\.(\d+)\.", name)
    return int(layer[1]) < model.num_dense_layers if layer else model.num_moe_layers == 0
