"""What every recipe section is: frozen, strict, keyword-only, without torch."""

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A recipe section. Unknown keys, wrong types, infinities and later changes are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


@dataclass(frozen=True)
class RelativePath:
    """Marks a text field as a path relative to the file that sets it (the current folder on the command line).

    The loader makes it absolute, so that a resolved recipe means the same wherever it is read from.
    `or_name`: the text may also be a name on the Hugging Face hub; it is a path only if something lies there.
    """

    or_name: bool = False
