"""A suite: a set of problems to evaluate models on, where it comes from, how it is asked and judged."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from r1mega.config.error import Mistake, UserError
from r1mega.config.section import Section
from r1mega.config.toml_read import read_toml


class SuiteFiles(Section):
    """Local files: .jsonl, .json (one list, or one object a line), .csv, .parquet; all but parquet also as .gz."""

    kind: Literal["files"] = "files"
    paths: list[str] = Field(min_length=1)
    """Relative to the suite's file."""


class SuiteHub(Section):
    """A split of a Hugging Face dataset: a name on the hub, or a folder relative to the suite's file."""

    kind: Literal["huggingface"] = "huggingface"
    path: str
    name: str | None = None
    split: str = "test"
    revision: str | None = None
    """A commit of the dataset, so that the same problems are asked next year."""


class SuiteRecipe(Section):
    """The held-out problems of a recipe: chosen by content hash, so that no run of it was trained on them."""

    kind: Literal["recipe"] = "recipe"
    path: str
    """The recipe's file, relative to the suite's."""


class SuiteFields(Section):
    """Which field of a row holds what. `a.b` is field b of the object in a, or of each of its elements if a is a list.

    Maths and factual use question and answer; choice options or wrong; instruction constraints and arguments; code the
    rest.
    """

    question: str = "question"
    answer: str = "answer"
    """Of a factual suite possibly a list: any of them is right."""
    id: str | None = None
    context: str | None = None
    """A passage to read, shown before the question; it may be empty."""
    options: str | None = None
    """A list of all options; `answer` then says which is right, as `answer_is` says."""
    wrong: list[str] = []
    """Fields with one wrong option each; `answer` is then the text of the right one."""
    answer_is: Literal["text", "index", "letter"] = "text"
    constraints: str = "instruction_id_list"
    arguments: str = "kwargs"
    starter: str | None = None
    """Code to begin with."""
    entry_point: str | None = None
    test_program: str | None = None
    """HumanEval's form: a program that defines check(candidate)."""
    preamble: str | None = None
    """Code that answer and test program both begin with: of HumanEval, the prompt with its imports and helpers."""
    test_cases: list[str] = []
    """LiveCodeBench's form: JSON lists of {input, output, testtype}, plain or packed."""
    metadata: str | None = None
    """LiveCodeBench's JSON object with func_name."""


class SuiteConfig(Section):
    title: str
    """As it stands in a table, e.g. "AIME 2024"."""
    kind: Literal["maths", "choice", "factual", "instruction", "code", "recipe"]
    """recipe: asked as in training, with the model's own template alone, and judged by the recipe's own rewards."""
    source: Annotated[SuiteFiles | SuiteHub | SuiteRecipe, Field(discriminator="kind")]
    fields: SuiteFields = SuiteFields()
    prompt: str | None = None
    """A jinja2 text that sees question, context and options; by default that of the kind."""
    samples: int = Field(64, ge=1)
    """Of each problem. DeepSeek-R1 (arXiv 2501.12948): 4 to 64 by the size of the set."""
    shuffle: bool = True
    """Options of a choice suite are shown in an order drawn from the seed and the problem."""
    limit: int | None = Field(None, ge=1)
    """Only the first so many problems."""
    unsupported: Literal["error", "drop"] = "error"
    """A problem with a constraint we cannot check: a mistake, or left out and counted."""
    paper_row: str | None = None
    """The row of the published table that this stands beside."""
    note: str = ""
    """What a reader of the table has to know, e.g. where our rule differs from the published one."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> "SuiteConfig":
        fields = self.fields
        if (self.kind == "recipe") != isinstance(self.source, SuiteRecipe):
            raise Mistake("kind", 'kind = "recipe" and source.kind = "recipe" belong together; use both or neither')
        if self.kind == "recipe" and (self.prompt is not None or fields != SuiteFields()):
            name = "fields" if self.prompt is None else "prompt"
            raise Mistake(name, 'kind="recipe" asks the recipe\'s problems as they are; take it out')
        if self.kind == "choice" and (fields.options is None) == (not fields.wrong):
            raise Mistake("fields", 'kind="choice" needs either options (a field with a list of all) or wrong (fields '
                                    "with one wrong option each); set one of them")
        if self.kind == "choice" and fields.wrong and fields.answer_is != "text":
            raise Mistake("fields", "with wrong, answer is the text of the right option; take answer_is out")
        if self.kind == "code" and not fields.test_cases and fields.test_program is None:
            raise Mistake("fields", 'kind="code" needs test_program or test_cases; set one of them')
        if self.kind == "code" and fields.test_program is not None and fields.entry_point is None:
            raise Mistake("fields", "with test_program, entry_point has the name of the function to check; set it")
        return self


def load_suite(path: Path) -> SuiteConfig:
    """Read a suite's TOML file. Raises UserError naming the file and the key."""
    try:
        tree = read_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name a suite's file, e.g. configs/suites/own-maths.toml"
                        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML ({error})") from None
    try:
        return SuiteConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{path}: {_explained(error)}") from None


def _explained(error: ValidationError) -> str:
    """The first mistake, in our words where pydantic's would not help."""
    first = error.errors()[0]
    names = [str(part) for part in first["loc"] if part not in ("files", "huggingface", "recipe")]
    key = ".".join(names)
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, Mistake):
        return f"{inner.key}: {inner.text}"
    match first["type"]:
        case "missing":
            return f"{key}: is missing; add it"
        case "extra_forbidden":
            sources = {"files": SuiteFiles, "huggingface": SuiteHub, "recipe": SuiteRecipe}
            source = next((sources[part] for part in first["loc"] if part in sources), SuiteHub)
            section = {"fields": SuiteFields, "source": source}.get(names[0], SuiteConfig)
            return f"{key}: unknown key; legal: {', '.join(section.model_fields)}"
        case "union_tag_not_found" | "union_tag_invalid":
            return f'{key}: needs kind = "files", kind = "huggingface" or kind = "recipe"'
    return f"{key}={first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
