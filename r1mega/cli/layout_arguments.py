"""layout.KEY=VALUE on the command line of commands that take a model instead of a recipe."""

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from r1mega.config.check_layout import check_layout
from r1mega.config.error import UserError
from r1mega.config.layout import LayoutConfig


def layout_from(words: Sequence[str], model_dir: Path) -> LayoutConfig:
    """The layout that `layout.KEY=VALUE` words describe, checked against the model. Raises UserError."""
    from r1mega.training.checkpoint import read_model_config

    values: dict[str, object] = {}
    for word in words:
        name, separator, value = word.partition("=")
        key = name.removeprefix("layout.")
        if not separator or key not in LayoutConfig.model_fields:
            legal = ", ".join(f"layout.{field}" for field in LayoutConfig.model_fields)
            raise UserError(f"command line: {word}: not a layout setting; write KEY=VALUE with one of {legal}")
        values[key] = value if key == "pipeline_layout" else _whole_number(word, value)
    try:
        layout = LayoutConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"command line: layout.{first['loc'][0]}={first['input']}: {first['msg']}") from None
    for mistake in check_layout(read_model_config(model_dir), layout):
        raise UserError(f"command line: {mistake}")
    return layout


def _whole_number(word: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UserError(f"command line: {word}: {value!r} is not a whole number; write e.g. 2") from None
