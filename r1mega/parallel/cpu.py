"""Megatron-Core on a CPU: what it says of "cuda" is answered for the CPU.

megatron-core names the CUDA device in a handful of places that are reached even when every tensor lives on the CPU.
`open_door` replaces exactly those calls. Numbers are untouched: only devices, streams and random-state calls
are redirected. It is called once, before megatron.core is imported, and only where no CUDA device exists.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.utils._device

FACTORIES = ("tensor", "zeros", "empty", "ones", "full", "arange", "rand", "randn")


class _NoStream:
    """Work on a CPU is already in order: waiting for a stream, or recording an event on it, is nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def wait_stream(self, *args: Any) -> None: ...

    def wait_event(self, *args: Any) -> None: ...

    def wait(self, *args: Any) -> None: ...

    def synchronize(self) -> None: ...

    def record(self, *args: Any) -> None: ...

    def query(self) -> bool:
        return True

    def record_event(self, *args: Any) -> "_NoStream":
        return _NoStream()


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or (device is not None and str(device).startswith("cuda"))


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        return factory(*args, **kwargs)

    make._r1mega_cpu_door = True  # type: ignore[attr-defined]
    return make


def open_door() -> None:
    """Redirect the CUDA calls megatron-core makes. Idempotent."""
    if getattr(torch.zeros, "_r1mega_cpu_door", False):
        return
    # torch.compile would need a C++ compiler on the user's machine, and is slower for small models.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    quiet()
    cuda = torch.cuda
    cuda.current_device = lambda: torch.device("cpu")
    cuda.synchronize = lambda *args: None
    cuda.current_stream = cuda.default_stream = lambda *args: _NoStream()
    cuda.Stream = cuda.Event = _NoStream
    cuda.stream = lambda stream: contextlib.nullcontext()
    cuda.get_rng_state = lambda *args, **kwargs: torch.get_rng_state()
    cuda.set_rng_state = lambda state, *args, **kwargs: torch.set_rng_state(state)
    cuda.manual_seed = torch.manual_seed
    cuda.nvtx.range_push = cuda.nvtx.range_pop = lambda *args: None
    torch.Tensor.cuda = lambda self, *args, **kwargs: self
    plain_type = torch.Tensor.type

    def cuda_type(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        # Megatron's optimizer and clipping accept tensors whose type() reads torch.cuda.FloatTensor.
        if args or kwargs:
            return plain_type(self, *args, **kwargs)
        return plain_type(self).replace("torch.", "torch.cuda.")

    torch.Tensor.type = cuda_type
    # `with torch.device("meta")` knows the factories by identity, from its first use on: show it the originals.
    torch.utils._device._device_constructors()
    for name in FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    _patch_megatron()


def _patch_megatron() -> None:
    import megatron.core.tensor_parallel.mappings as mappings
    import megatron.core.tensor_parallel.random as random
    import megatron.core.transformer.moe.token_dispatcher as dispatcher

    def maybe_move_tensor_to_cpu(tensor: Any, as_numpy: bool = False, record_stream: bool = False) -> Any:
        return tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor

    dispatcher.maybe_move_tensor_to_cpu = maybe_move_tensor_to_cpu
    mappings._gather_along_first_dim = _padded_gather(mappings._gather_along_first_dim)
    mappings._reduce_scatter_along_first_dim = _padded_reduce_scatter(mappings._reduce_scatter_along_first_dim)
    random._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)
    random._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()


def _padded_gather(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """NCCL takes pieces of unlike sizes, as where ranks that share out an expert bring it unlike numbers of tokens.
    Gloo does not, so all are made as long as the longest."""

    def gather(input_: torch.Tensor, group: Any, output_split_sizes: Any = None, *args: Any) -> torch.Tensor:
        if output_split_sizes is None or len(set(output_split_sizes)) == 1:
            return plain(input_, group, output_split_sizes, *args)
        longest = max(output_split_sizes)
        parts = plain(_lengthen(input_, longest), group).split(longest)
        return torch.cat([part[:size] for part, size in zip(parts, output_split_sizes, strict=True)])

    return gather


def _padded_reduce_scatter(plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The way back of `_padded_gather`."""

    def reduce_scatter(input_: torch.Tensor, group: Any, input_split_sizes: Any = None, *args: Any) -> torch.Tensor:
        if input_split_sizes is None or len(set(input_split_sizes)) == 1:
            return plain(input_, group, input_split_sizes, *args)
        longest = max(input_split_sizes)
        parts = [_lengthen(part, longest) for part in input_.split(list(input_split_sizes))]
        return plain(torch.cat(parts), group)[:input_split_sizes[group.rank()]].contiguous()

    return reduce_scatter


def _lengthen(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    return torch.cat([tensor, tensor.new_zeros(rows - len(tensor), *tensor.shape[1:])])


def quiet() -> None:
    """Silence what Megatron says at import of parts that are absent on purpose; `r1mega doctor` names them."""
    for text in ("Transformer Engine and Apex are not installed", "Apex is not installed",
                 "absl.logging is not installed", "MimoModelConfig is experimental",
                 "The following imports from `dynamic_context", ".*full scope is deprecated",
                 "The .grad attribute of a Tensor that is not a leaf", "No CUDA runtime is found",
                 "MLP requires ffn_hidden_size"):
        warnings.filterwarnings("ignore", message=text)
    for name in ("megatron.core.models.gpt.gpt_model", "megatron.core.optimizer",
                 "megatron.core.dist_checkpointing", "torch.utils.cpp_extension",
                 "megatron.core.distributed.distributed_data_parallel"):
        logging.getLogger(name).setLevel(logging.ERROR)
