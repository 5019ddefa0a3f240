"""AdamW over Megatron's distributed optimizer, with fp32 master weights."""

import r1mega.parallel  # noqa: F401, I001  the CPU door has to be open before anything here imports megatron.core

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig, finalize_model_grads
from megatron.core.optimizer import ChainedOptimizer, get_megatron_optimizer
from megatron.core.optimizer import OptimizerConfig as MegatronOptimizerConfig
from megatron.core.optimizer.clip_grads import clip_grad_by_total_norm_fp32
from megatron.core.optimizer.optimizer import GRAD_NORM_GROUP_ATTR

from r1mega.config.training import OptimizerConfig
from r1mega.model import Policy
from r1mega.parallel import Groups


def wrap(chunks: Sequence[Policy], groups: Groups) -> list[DistributedDataParallel]:
    """Give the chunks their gradient buffers, sharded over the data-parallel ranks, summed in fp32."""
    config = DistributedDataParallelConfig(
        use_distributed_optimizer=True, grad_reduce_in_fp32=True, overlap_grad_reduce=False)
    return [DistributedDataParallel(chunk.config, config, chunk, disable_bucketing=index > 0, pg_collection=groups.pg)
            for index, chunk in enumerate(chunks)]


def build_optimizer(
    wrapped: Sequence[DistributedDataParallel], config: OptimizerConfig, before_reduction: Callable[[], None]
) -> ChainedOptimizer:
    """AdamW for wrapped chunks; norms and selection biases are not decayed. Each rank keeps its share of the state.

    `before_reduction` is called when all gradients of a step are there, just before they are summed over ranks.
    """
    model_config = wrapped[0].config
    optimizer = get_megatron_optimizer(
        MegatronOptimizerConfig(
            optimizer="adam", lr=config.lr, weight_decay=config.weight_decay, adam_beta1=config.beta1,
            adam_beta2=config.beta2, adam_eps=config.eps, clip_grad=config.clip_grad, use_distributed_optimizer=True,
            bf16=model_config.bf16, params_dtype=model_config.params_dtype),
        list(wrapped))
    model_config.grad_scale_func = optimizer.scale_loss

    def finish(*args: Any, **kwargs: Any) -> None:
        before_reduction()  # Megatron's reduction also clears what the routers have counted
        finalize_model_grads(*args, **kwargs)

    model_config.finalize_model_grads_func = finish
    return optimizer


def optimizer_step(optimizer: ChainedOptimizer, learning_rate: float) -> float:
    """Clip and apply the gradients; returns their norm before clipping.

    If a norm is not finite (of the trunk, or of detached MTP layers), weights and moments stay as they were, and what
    is returned is not finite either.
    """
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.prepare_grads()
    # By kind of parameter: Megatron gives detached MTP layers a norm of their own, and None to all others.
    norms = {None: float(optimizer.get_grad_norm()),
             **{kind: float(norm) for kind, norm in optimizer._compute_grad_norms_by_group().items()}}
    if not all(map(math.isfinite, norms.values())):
        return math.nan
    _clip(optimizer, norms)
    optimizer.step_with_ready_grads()
    return norms[None]


def _clip(optimizer: ChainedOptimizer, norms: Mapping[str | None, float]) -> None:
    """Scale each kind of gradient whose norm is too large. As Megatron's `step` does, which would prepare the gradients
    and compute their norms again, and would apply them whatever the norms are."""
    for inner in optimizer.chained_optimizers:
        kinds = defaultdict(list)
        for parameter in inner.get_parameters():
            kinds[getattr(parameter, GRAD_NORM_GROUP_ATTR, None)].append(parameter)
        for kind, parameters in kinds.items():
            clip_grad_by_total_norm_fp32(parameters, inner.config.clip_grad, norms[kind])


def zero_gradients(wrapped: Sequence[DistributedDataParallel], optimizer: ChainedOptimizer) -> None:
    for chunk in wrapped:
        chunk.zero_grad_buffer()
    optimizer.zero_grad()
