"""How the work is spread over ranks."""

from pydantic import Field

from r1mega.config.section import Section


class LayoutConfig(Section):
    """Parallel sizes. The ranks of a run are `tensor x pipeline x context x data`; experts reuse them.

    Sequence parallelism is on whenever `tensor_parallel > 1` (Megatron needs it to train a mixture of experts).
    Data parallelism always uses the distributed optimizer.
    """

    tensor_parallel: int = Field(1, ge=1)
    pipeline_parallel: int = Field(1, ge=1)
    virtual_stages: int = Field(1, ge=1)
    """Model chunks a pipeline rank holds (interleaved schedule)."""
    context_parallel: int = Field(1, ge=1)
    expert_parallel: int = Field(1, ge=1)
    expert_tensor_parallel: int = Field(1, ge=1)
    data_parallel: int = Field(1, ge=1)
    pipeline_layout: str | None = None
    """Megatron's string, e.g. "Et|ttmL" (E embedding, t layer, m MTP, L loss, | stage); by default layers are
    spread evenly with embedding, MTP and loss counted."""

    @property
    def world_size(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel * self.context_parallel * self.data_parallel

    @property
    def sequence_parallel(self) -> bool:
        return self.tensor_parallel > 1
