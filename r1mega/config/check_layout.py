"""Which layouts can hold which model; the reason and the legal values where one cannot."""

import math
import re
from collections.abc import Callable, Iterator

from r1mega.config.error import Mistake
from r1mega.config.layout import LayoutConfig
from r1mega.config.model import ModelConfig

_ROLES = {"E": "embedding", "t": "layer", "m": "MTP layer", "L": "loss"}


def check_layout(model: ModelConfig, layout: LayoutConfig) -> Iterator[Mistake]:
    """Yield a Mistake for everything Megatron could not build or train. Keys are `layout.…`."""
    yield from _check_context(layout)
    yield from _check_tensor(model, layout)
    yield from _check_experts(model, layout)
    yield from _check_pipeline(model, layout)


def _check_context(layout: LayoutConfig) -> Iterator[Mistake]:
    if layout.context_parallel > 1:
        yield Mistake("layout.context_parallel",
                      "packed sequences with multi-token prediction are not correct under context parallelism in "
                      "megatron-core (the MTP loss is divided by a rank's own token count); legal: 1; use "
                      "tensor_parallel (it shards activations too) for long sequences")


def _check_tensor(model: ModelConfig, layout: LayoutConfig) -> Iterator[Mistake]:
    """Everything that a column- or row-parallel layer cuts in `tensor_parallel` equal parts."""
    sizes = {
        "num_attention_heads": model.num_attention_heads,
        "hidden_size": model.hidden_size,
        "ffn_hidden_size": model.ffn_hidden_size,
    }
    if model.is_dense:
        sizes["num_key_value_heads"] = model.num_key_value_heads
    else:
        sizes["q_lora_rank"] = model.q_lora_rank
        sizes["kv_lora_rank + qk_rope_head_dim"] = model.kv_lora_rank + model.qk_rope_head_dim
        sizes["num_shared_experts * moe_ffn_hidden_size"] = model.num_shared_experts * model.moe_ffn_hidden_size
    sizes["the padded vocabulary"] = model.padded_vocab_size
    yield from _divides("layout.tensor_parallel", layout.tensor_parallel, sizes)


def _check_experts(model: ModelConfig, layout: LayoutConfig) -> Iterator[Mistake]:
    ep, etp = layout.expert_parallel, layout.expert_tensor_parallel
    if model.is_dense:
        for key in ("expert_parallel", "expert_tensor_parallel"):
            if getattr(layout, key) > 1:
                yield Mistake(f"layout.{key}", f'model.architecture="{model.architecture}" has no experts to spread; '
                                               "use 1")
        return
    ranks = layout.tensor_parallel * layout.context_parallel * layout.data_parallel
    if model.num_experts % ep:
        fits = _values(lambda n: model.num_experts % n == 0 and ranks % (n * etp) == 0, model.num_experts)
        yield Mistake("layout.expert_parallel", f"does not divide model.num_experts={model.num_experts}; every rank "
                                                f"must hold the same number of experts; use {fits}")
    elif ranks % (ep * etp):
        fits = _values(lambda n: model.num_experts % n == 0 and ranks % (n * etp) == 0, model.num_experts)
        more = ep * etp // math.gcd(ep * etp, layout.tensor_parallel * layout.context_parallel)
        yield Mistake(
            "layout.expert_parallel",
            f"times expert_tensor_parallel={etp} must divide the {ranks} ranks of a pipeline stage (tensor_parallel "
            f"x context_parallel x data_parallel); use {fits or 'a smaller expert_tensor_parallel'}, "
            f"or data_parallel={more}")
    yield from _divides("layout.expert_tensor_parallel", etp, {"moe_ffn_hidden_size": model.moe_ffn_hidden_size})


def _check_pipeline(model: ModelConfig, layout: LayoutConfig) -> Iterator[Mistake]:
    stages = layout.pipeline_parallel * layout.virtual_stages
    if layout.virtual_stages > 1 and layout.pipeline_parallel == 1:
        yield Mistake("layout.virtual_stages", "the interleaved schedule needs a pipeline; "
                                               "use 1, or set layout.pipeline_parallel to 2 or more")
        return
    if layout.pipeline_layout is not None:
        if layout.pipeline_parallel == 1:
            yield Mistake("layout.pipeline_layout", "there is no pipeline to lay out; take it out, or set "
                                                    "layout.pipeline_parallel to 2 or more")
            return
        problem = _pipeline_text_problem(layout.pipeline_layout, stages, model)
        if problem:
            yield Mistake("layout.pipeline_layout", problem)
        return
    layers = model.num_layers + model.num_mtp_layers
    if stages > layers:
        fits = layers // layout.virtual_stages
        yield Mistake("layout.pipeline_parallel",
                      f"with virtual_stages={layout.virtual_stages} makes {stages} stages, but there are only {layers} "
                      f"layers (MTP counted) to put on them; use at most {max(1, fits)}")


def _pipeline_text_problem(text: str, num_stages: int, model: ModelConfig) -> str | None:
    """What is wrong with a pipeline_layout (Megatron's syntax, `(tt|)*3` included); None if it fits."""
    text = _unroll(text.replace(",", ""))
    foreign = sorted(set(text) - set("EtmL|"))
    if foreign:
        return (f"has '{foreign[0]}'; legal: E (embedding), t (layer), m (MTP layer), L (loss), | (next stage), "
                "(...)*n; take it out")
    stages = text.split("|")
    if len(stages) != num_stages:
        return (f"has {len(stages)} stages, but pipeline_parallel x virtual_stages is {num_stages}; "
                f"write {num_stages - 1} bars")
    for letter, wanted in {"E": 1, "t": model.num_layers, "m": model.num_mtp_layers, "L": 1}.items():
        if text.count(letter) != wanted:
            return (f"has {text.count(letter)} '{letter}' ({_ROLES[letter]}), the model needs {wanted}; "
                    f"write {wanted} of them")
    if not re.fullmatch(r"E\|?[t|]*[m|]*L", text):
        return "is out of order; write E first, then every t, then every m, and L last"
    if not stages[-1].endswith("m" * model.num_mtp_layers + "L"):
        return "puts an MTP layer before the last stage, where the loss is; move the m next to the L"
    if "" in stages:
        return "has a stage with nothing on it; give every stage at least one letter"
    return None


def _unroll(text: str) -> str:
    for pattern in (r"\(([^)]+)\)\*(\d{1,4})", r"(.)\*(\d{1,4})"):
        text = re.sub(pattern, lambda match: match.group(1) * int(match.group(2)), text)
    return text


def _divides(key: str, parts: int, sizes: dict[str, int]) -> Iterator[Mistake]:
    """One Mistake at most: the first size that `parts` does not divide, and the values that divide them all."""
    for name, size in sizes.items():
        if size % parts:
            fits = _values(lambda n: all(other % n == 0 for other in sizes.values()), min(filter(None, sizes.values())))
            yield Mistake(key, f"does not divide {name} ({size}); every rank must hold the same part; use {fits}")
            return


def _values(fits: Callable[[int], bool], up_to: int) -> str:
    """ "1", "1 or 2", "1, 2, 4 or 8": what fits, the first dozen."""
    found = [str(n) for n in range(1, up_to + 1) if fits(n)][:12]
    return " or ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)
