"""Options of the command line for every key of a section."""

import argparse
from typing import get_args

from pydantic import ValidationError

from r1mega.config.error import UserError
from r1mega.config.section import Section


def add_options(parser: argparse.ArgumentParser, section: type[Section]) -> None:
    """--max-new-tokens for max_new_tokens, and so on; what is not given is the section's default."""
    for name, field in section.model_fields.items():
        kind = next(kind for kind in (*get_args(field.annotation), field.annotation) if kind in (int, float, str))
        parser.add_argument("--" + name.replace("_", "-"), type=kind, metavar=kind.__name__.upper(),
                            help=" ".join((field.description or "").split()) or None)


def options_of[S: Section](args: argparse.Namespace, section: type[S]) -> S:
    """The section of the options that were given. Raises UserError naming the one that cannot be."""
    given = {name: value for name in section.model_fields if (value := getattr(args, name)) is not None}
    try:
        return section.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise UserError(f"command line: {option}={first['input']}: {first['msg'].lower()}") from None
