"""A model in the state for sampling, and back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

# Where Megatron keeps the switch: in the configuration (experts have a copy of their own) and in modules.
_SWITCHES = ("sequence_parallel", "scatter_to_sequence_parallel", "reduce_scatter_embeddings")


@contextmanager
def sampling_mode(chunks: Sequence[nn.Module]) -> Iterator[None]:
    """No gradients, evaluation mode, sequence parallelism off; everything as it was afterwards, also on an
    error.

    Megatron's set_model_to_sequence_parallel would do the last, but remembers modules by `id(model)`, which a
    later model may get again.
    """
    modules = [module for chunk in chunks for module in chunk.modules()]
    training = [module for module in modules if module.training]
    owners = {id(owner): owner for module in modules for owner in (module, getattr(module, "config", None))}
    switched = [(owner, name) for owner in owners.values() for name in _SWITCHES
                if getattr(owner, name, False) is True]
    try:
        for module in training:
            module.training = False
        for owner, name in switched:
            setattr(owner, name, False)
        with torch.no_grad():
            yield
    finally:
        for owner, name in switched:
            setattr(owner, name, True)
        for module in training:
            module.training = True
