"""What did not work for R1's authors: a Monte-Carlo tree search, and a model of how good a step is, as comparisons."""

from pydantic import Field

from r1mega.config.section import Section


class SearchConfig(Section):
    """What `r1mega search` compares. Off everywhere else: no recipe decodes by search."""

    budget: int = Field(1000, ge=1)
    """Generated tokens of each problem, for either method."""
    branches: int = Field(4, ge=1)
    """Completions that a visit to a node samples."""
    exploration: float = Field(1.0, ge=0)
    """c of PUCT: how much steps count that are likely and little tried, against those that were worth much."""
    separator: str = Field("\n", min_length=1)
    """What a step ends with."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems of the suite."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)
    """Of a completion, at most; less where twice as many would not fit into the model's context."""
    seed: int = Field(0, ge=0, lt=2**31)
    slots: int = Field(64, ge=1)


class StepLabelsConfig(Section):
    """How `r1mega steps` labels: by what becomes of completions that go on from a step (Wang et al., Math-Shepherd,
    arXiv 2312.08935)."""

    problems: int = Field(256, ge=1)
    """The first so many of those that the recipe trains on."""
    samples: int = Field(4, ge=1)
    """Completions of each problem, whose steps are labelled."""
    continuations: int = Field(4, ge=1)
    """Of each step; it is good if one of them ends in a right answer."""
    separator: str = Field("\n", min_length=1)
    """What a step ends with."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(1024, ge=1)
    """Of a completion, at most; less where twice as many would not fit into the model's context."""
    seed: int = Field(0, ge=0, lt=2**31)
    slots: int = Field(64, ge=1)
