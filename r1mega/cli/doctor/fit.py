"""Can this recipe run on this machine?"""

import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

from r1mega.cli.doctor.finding import Finding, Level
from r1mega.cli.doctor.machine import GIB, memory, num_cores
from r1mega.config.data import HuggingFaceSource
from r1mega.config.recipe import Recipe


def check_fit(recipe: Recipe, num_gpus: int, gpu_bytes: int) -> Iterator[Finding]:
    """Ranks, memory and what must be fetched. `gpu_bytes`: memory of one GPU, 0 without any."""
    yield _ranks(recipe, num_gpus)
    yield from _memory(recipe, num_gpus, gpu_bytes)
    names = [recipe.tokenizer.path] if recipe.tokenizer.path else []
    names += [source.path for source in recipe.data.sources if isinstance(source, HuggingFaceSource)]
    for name in names:
        if not Path(name).exists():
            yield Finding(Level.ABSENT, "hub", f"{name} is not a local path: fetched from the Hugging Face hub, "
                                               "or taken from its cache")
    if recipe.head.implementation == "triton" and not num_gpus:
        yield Finding(Level.PROBLEM, "head", 'head.implementation="triton" needs a GPU, and there is none; use '
                                             'head.implementation="reference"')
    if recipe.log.wandb_project and importlib.util.find_spec("wandb") is None:
        yield Finding(Level.PROBLEM, "wandb", f"log.wandb_project={recipe.log.wandb_project!r}, but wandb is missing; "
                                              "pip install 'r1mega[wandb]' or log.wandb_project=none")


def _ranks(recipe: Recipe, num_gpus: int) -> Finding:
    ranks, cores = recipe.layout.world_size, num_cores()
    if num_gpus:
        if ranks <= num_gpus:
            return Finding(Level.OK, "ranks", f"{ranks}, on {num_gpus} GPU{'s' * (num_gpus > 1)}")
        return Finding(Level.ABSENT, "ranks", f"{ranks}, more than the {num_gpus} GPUs here: start it on "
                                              f"{-(-ranks // num_gpus)} such machines with srun or torchrun")
    if ranks <= cores:
        return Finding(Level.OK, "ranks", f"{ranks}, on {cores} cores")
    return Finding(Level.ABSENT, "ranks", f"{ranks} on {cores} cores: they take turns; fewer are faster")


def _memory(recipe: Recipe, num_gpus: int, gpu_bytes: int) -> Iterator[Finding]:
    state, cache = state_bytes_per_rank(recipe), cache_bytes_per_rank(recipe)
    if num_gpus:
        where, room = "one GPU", gpu_bytes
    else:
        where, room = "this machine", memory()[1]
        state, cache = state * recipe.layout.world_size, cache * recipe.layout.world_size
    text = f"{max(state / GIB, 0.1):.1f} GiB of weights, gradients and optimizer state"
    text += f" and up to {max(cache / GIB, 0.1):.1f} of the rollout's cache" if cache else ""
    text += f" on {where}, which has {room / GIB:.0f}"
    if state > room:
        yield Finding(Level.PROBLEM, "memory", f"{text}; use a smaller [model], or more ranks in expert_parallel, "
                                               "pipeline_parallel or tensor_parallel")
    elif state + cache > room:
        yield Finding(Level.PROBLEM, "memory", f"{text}; lower rollout.slots={recipe.rollout.slots} or "
                                               f"rollout.max_new_tokens={recipe.rollout.max_new_tokens}")
    else:
        yield Finding(Level.OK, "memory", f"{text}; activations come on top")


def cache_bytes_per_rank(recipe: Recipe) -> int:
    """Latents, or keys and values, of the rollout where every slot is busy and every prompt as long as it may be; 0
    without a rollout."""
    if recipe.stage != "rl":
        return 0
    model, rollout = recipe.model, recipe.rollout
    requests = -(-rollout.problems_per_step // recipe.layout.data_parallel) * rollout.group_size
    positions = min(recipe.data.max_prompt_tokens + rollout.max_new_tokens, model.max_context)
    element = 2 if recipe.train.precision == "bf16" else 4
    layers = -(-(model.num_layers + model.num_mtp_layers) // recipe.layout.pipeline_parallel)  # MTP counts as a layer
    ranks = recipe.layout.tensor_parallel if model.is_dense else 1  # heads are spread over them, latents are not
    return (min(layers, model.num_layers) * min(rollout.slots, requests) * positions
            * model.cached_per_token // ranks * element)


def state_bytes_per_rank(recipe: Recipe) -> int:
    """Weights, a reference if there is a KL term, reward models (taken to be as large), fp32 gradients,
    and this rank's share of fp32 masters and moments.

    Layers are taken as evenly spread over stages. Optimizer state is shared out over the replicas of each weight.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Megatron's own, about the optional parts
        from r1mega.model.counts import count_parameters

    layout, counts = recipe.layout, count_parameters(recipe.model)
    per_stage = layout.tensor_parallel * layout.context_parallel * layout.data_parallel
    split = layout.expert_parallel * layout.expert_tensor_parallel
    expert = counts.sharded_experts / layout.pipeline_parallel / split
    dense = (counts.total - counts.sharded_experts) / layout.pipeline_parallel / layout.tensor_parallel
    weight = 2 if recipe.train.precision == "bf16" else 4
    judges = len(recipe.reward.preference.weights) if recipe.reward.preference is not None else 0
    frozen = (recipe.algorithm.kl_coef > 0) + judges if recipe.stage == "rl" else 0
    fixed = weight + 4 + weight * frozen
    states = 12 if recipe.train.precision == "bf16" else 8
    return int(expert * (fixed + states / (per_stage / split))
               + dense * (fixed + states / layout.context_parallel / layout.data_parallel))
