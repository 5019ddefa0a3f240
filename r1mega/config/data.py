"""Where problems come from, and how text becomes tokens."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from r1mega.config.error import Mistake
from r1mega.config.section import RelativePath, Section

JSONL_ENDINGS = (".jsonl", ".ndjson", ".json")  # one object a line, whatever the ending
DATA_ENDINGS = (*JSONL_ENDINGS, ".parquet")


class Fields(Section):
    """Which column holds what."""

    question: str = "question"
    answer: str = "answer"
    language: str | None = None
    """The column with the language to reason in (ISO 639-1), read if reward.target_language = "problem"."""
    tests: str = "tests"
    """scorer = code: a list of {"input", "output"} texts, or of {"arguments", "output"} where there is a function."""
    function: str = "function"
    """scorer = code: the name of the function to call; absent for programs that read standard input."""


class ReasoningGymSource(Section):
    """Problems made by one task of the reasoning-gym library."""

    kind: Literal["reasoning_gym"] = "reasoning_gym"
    task: str
    options: dict[str, Any] = {}
    """Passed to the task as they are."""
    size: int = Field(ge=1)
    seed: int = 0


Scorer = Literal["math", "exact", "code", "preference", "judge"]


class HuggingFaceSource(Section):
    """Problems from a Hugging Face dataset (the hub, or a folder `datasets.load_dataset` can read)."""

    kind: Literal["huggingface"] = "huggingface"
    path: Annotated[str, RelativePath(or_name=True)]
    name: str | None = None
    split: str = "train"
    fields: Fields = Fields()
    scorer: Scorer = "math"
    """preference: general prompts, which have no answer (see reward.preference). judge: only rejection.judge can tell
    right from wrong, unless the texts are equal."""


class FilesSource(Section):
    """Problems from local JSONL or parquet files."""

    kind: Literal["files"] = "files"
    paths: list[Annotated[str, RelativePath()]] = Field(min_length=1)
    """Relative to the recipe file that names them."""
    fields: Fields = Fields()
    scorer: Scorer = "math"


class BilingualSource(Section):
    """The same sums, asked in each of several languages."""

    kind: Literal["bilingual"] = "bilingual"
    languages: list[Literal["en", "de", "zh"]] = Field(["en", "zh"], min_length=2)
    """What a problem is asked in, and so what its reasoning should be in."""
    terms: int = Field(3, ge=3, le=6)
    """One-digit numbers to add or subtract."""
    size: int = Field(ge=1)
    """Sums; each gives a problem a language."""
    seed: int = 0

    @model_validator(mode="after")
    def _languages_differ(self) -> "BilingualSource":
        if len(set(self.languages)) < len(self.languages):
            raise Mistake("languages", 'names a language twice; name each once, e.g. ["en", "zh"]')
        return self


class GeneralSource(Section):
    """Short requests without a right answer ("greet Ana"), where a rule that no reward sees knows good from bad."""

    kind: Literal["general"] = "general"
    size: int = Field(ge=1)
    """As many of each kind of request, as long as there are some left."""
    seed: int = 0


Source = Annotated[ReasoningGymSource | HuggingFaceSource | FilesSource | BilingualSource | GeneralSource,
                   Field(discriminator="kind")]


class DataConfig(Section):
    sources: list[Source] = Field(min_length=1)
    heldout_problems: int = Field(256, ge=0)
    """Kept out of every kind of training, chosen by content hash (the same ones whatever the seed or order)."""
    max_prompt_tokens: int = Field(512, ge=1)
    overlong_prompts: Literal["error", "drop"] = "error"


DEFAULT_TEMPLATE = (
    "A conversation between a user and an assistant. The assistant first reasons inside <think> </think>, "
    "then gives the result inside <answer> </answer>.\nUser: {{ question }}\nAssistant: "
)


class ChatTemplate(Section):
    """The template as data: a jinja2 text that sees `question`, and the tags that mark reasoning and answer."""

    prompt: str = DEFAULT_TEMPLATE
    think_open: str = "<think>"
    think_close: str = "</think>"
    answer_open: str = "<answer>"
    answer_close: str = "</answer>"
    think_in_prompt: bool = False
    """The prompt already ends in `think_open`, so a well-formed completion starts inside it."""
    next_prompt: str | None = None
    """As `prompt`, for later questions of a conversation; without it, samples have one question each."""

    @model_validator(mode="after")
    def _tags_can_be_told_apart(self) -> "ChatTemplate":
        names = ("think_open", "think_close", "answer_open", "answer_close")
        for name in names:
            tag = getattr(self, name)
            if tag != tag.strip() or not tag:
                raise Mistake(name, "a tag is text without white space around it; write e.g. "
                                    f'"{type(self).model_fields[name].default}"')
            for other in names:
                if other != name and tag in getattr(self, other):
                    raise Mistake(name, f'is part of {other}="{getattr(self, other)}", so a reward could not tell them '
                                        f'apart; write e.g. "{type(self).model_fields[name].default}"')
        return self


class TokenizerConfig(Section):
    kind: Literal["train", "huggingface"] = "huggingface"
    path: Annotated[str | None, RelativePath(or_name=True)] = None
    """kind = huggingface: a folder or hub name. kind = train: not used; the tokenizer lies in the run's folder."""
    vocab_size: int | None = Field(None, ge=64)
    """kind = train: how many tokens at most; by default the model's vocabulary."""
    template: ChatTemplate = ChatTemplate()
