"""Which layers a pipeline stage holds. Torch-free."""

from r1mega.config import LayoutConfig, ModelConfig


def pipeline_layout(model: ModelConfig, layout: LayoutConfig) -> str | None:
    """Megatron's layout string (E embedding, t layer, m MTP layer, L loss, | stage), or None without a pipeline.

    By default the transformer layers are spread as evenly as they go, with MTP counted as a layer of the last stage
    and the embedding and the loss as none; a remainder goes to the earliest stages after the first.
    """
    num_stages = layout.pipeline_parallel * layout.virtual_stages
    if layout.pipeline_parallel == 1:
        return None
    if layout.pipeline_layout is not None:
        return layout.pipeline_layout
    counts = layers_per_stage(model.num_layers, model.num_mtp_layers, num_stages)
    stages = ["t" * count for count in counts]
    stages[0] = "E" + stages[0]
    stages[-1] += "m" * model.num_mtp_layers + "L"
    return "|".join(stages)


def layers_per_stage(num_layers: int, num_mtp_layers: int, num_stages: int) -> list[int]:
    """Transformer layers of each stage, so that layers and MTP layers together differ by at most one.

    >>> layers_per_stage(61, 1, 16)
    [3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2]
    """
    share, rest = divmod(num_layers + num_mtp_layers, num_stages)
    counts = [share] * num_stages
    # The first stage also embeds and the last also has the head, so neither takes a layer more before the others have.
    middle_first = [*range(1, num_stages - 1), 0, num_stages - 1]
    for stage in middle_first[:rest]:
        counts[stage] += 1
    counts[-1] -= num_mtp_layers
    return counts
