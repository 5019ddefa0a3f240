"""Rejection sampling: many samples of each problem from a model, and what becomes of them."""

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import RelativePath, Section
from r1mega.config.sft import SampleSource


class FilterConfig(Section):
    """What a sample must keep to. Defaults are ours; the paper names the criteria without numbers (arXiv 2501.12948,
    supplement): right, readable, no mixed languages, no long paragraphs, no code blocks, no repetition."""

    correct: bool = True
    form: bool = True
    """The shape that reward.form says."""
    complete: bool = True
    """Ended by itself, not cut at rollout.max_new_tokens."""
    max_tokens: int | None = Field(None, ge=1)
    max_repetition: float = Field(0.2, ge=0, le=1)
    """Of the reasoning's n-grams of words, the share that was there before. 1: not asked."""
    repetition_ngram: int = Field(8, ge=1)
    min_language: float = Field(0.9, ge=0, le=1)
    """Language consistency of the reasoning; asked only where reward.language is set."""
    max_clutter: float = Field(0.1, ge=0, le=1)
    """Of the reasoning's characters, the share in blocks of code or that cannot be seen. 1: not asked."""
    max_paragraph_words: int | None = Field(None, ge=1)
    """Of the longest paragraph of the reasoning; a character is a word in scripts without spaces."""
    equations: bool = True
    """Every `a + b = c` of two numbers in the reasoning holds."""


class HttpModel(Section):
    """A model behind an OpenAI-compatible endpoint."""

    kind: Literal["openai"] = "openai"
    base_url: str
    """Up to and including /v1, e.g. "http://localhost:8000/v1"; an http address is read by everyone on the way."""
    model: str
    key_variable: str | None = None
    """The environment variable that holds the key; by default none is sent. Never the key itself: recipes are read by
    others."""
    max_new_tokens: int = Field(2048, ge=1)
    temperature: float = Field(0.0, ge=0)
    timeout_s: float = Field(120.0, gt=0)
    """Of one request, from its beginning to the last byte of the reply."""
    retries: int = Field(4, ge=0)
    """After a time-out, a broken connection, a reply that is none, or status 408, 429 or 5xx."""
    concurrency: int = Field(16, ge=1)
    """Requests under way at a time."""

    @model_validator(mode="after")
    def _names_can_be_ones(self) -> "HttpModel":
        if not re.match(r"https?://[^\s/]+", self.base_url):
            raise Mistake("base_url", 'is no address of HTTP; write e.g. "http://localhost:8000/v1"')
        if self.key_variable is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.key_variable):
            raise Mistake("key_variable", 'is no name of an environment variable; write e.g. "JUDGE_KEY", and put the '
                                          "key into that variable")
        return self


class OwnModel(Section):
    """A model folder of ours, sampled by our own engine under the run's layout."""

    kind: Literal["model"] = "model"
    path: Annotated[str | None, RelativePath()] = None
    """A model folder or a checkpoint; by default the model that is sampled from."""
    max_new_tokens: int = Field(2048, ge=1)
    """At most; never more than half of its context."""
    temperature: float = Field(0.0, ge=0)


Helper = Annotated[HttpModel | OwnModel, Field(discriminator="kind")]


When = Literal["undecided", "always"]


class HttpJudge(HttpModel):
    """A generative judge behind an endpoint."""

    when: When = "undecided"
    """undecided: whether an answer is right, where no rule can tell (data.sources: scorer = "judge"). always: also
    whether the reasoning of what would be kept is readable."""


class OwnJudge(OwnModel):
    """A model of ours as the generative judge."""

    when: When = "undecided"
    """undecided: whether an answer is right, where no rule can tell (data.sources: scorer = "judge"). always: also
    whether the reasoning of what would be kept is readable."""


Judge = Annotated[HttpJudge | OwnJudge, Field(discriminator="kind")]


class RejectionConfig(Section):
    samples: int = Field(16, ge=1)
    """Of each problem. Problems come in waves of rollout.problems_per_step."""
    problems: int | None = Field(None, ge=1)
    """So many training problems, chosen by the seed; by default all. Held-out problems are never sampled."""
    per_problem: int = Field(1, ge=1)
    """Rows of one problem at most."""
    choose: Literal["shortest", "random"] = "shortest"
    """Which of those that pass are kept, when there are more: the fewest tokens, or by the seed."""
    filters: FilterConfig = FilterConfig()
    max_overlap: float = Field(0.8, ge=0, le=1)
    """Two samples of a problem that share more than this of their n-grams of words (Jaccard) are one. Equal ones always
    are."""
    overlap_ngram: int = Field(5, ge=1)
    decontaminate: list[Annotated[str, RelativePath()]] = []
    """Suites (.toml) and files (.jsonl, .parquet) of evaluation problems, beside the recipe's own held-out ones."""
    decontaminate_ngram: int = Field(13, ge=1)
    """A problem or a row with so many words in a row of an evaluation problem or its solution is left out (arXiv
    2005.14165, appendix C); characters, where a script has no spaces."""
    rewrite: Literal["none", "rules", "model"] = "none"
    """How what is kept becomes readable, with a summary after the reasoning. rules: maths, without a model; model:
    by `rewriter`."""
    rewriter: Helper = OwnModel()
    files: list[SampleSource] = []
    """Users' own samples, added to the dataset as they are (decontaminated, never sampled or judged)."""
    judge: Judge | None = None
    """Asked where rules cannot decide (arXiv 2501.12948, supplement: DeepSeek-V3 sees question, reference answer and
    prediction)."""

    @model_validator(mode="after")
    def _sources_have_no_weights(self) -> "RejectionConfig":
        for number, source in enumerate(self.files):
            if source.weight is not None:
                raise Mistake(f"files.{number}.weight", "a dataset has no weights, only the mix of stage sft has; take "
                                                        "it out")
            if source.name in [other.name for other in self.files[:number]]:
                raise Mistake(f"files.{number}.name", "another source has this name; give each its own")
        return self
