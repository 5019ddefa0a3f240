"""The recipe as a JSON schema, for editors."""

import json
from typing import Any

from r1mega.config.recipe import Recipe

_EXTENDS = {"type": "string", "description": "A parent file, relative to this one: its keys, unless set here."}
_UNSET = {"type": "array", "items": {"type": "string"}, "description": "Dotted keys of the parents to leave out."}


def recipe_schema() -> str:
    """The text of configs/recipe.schema.json: no key is required, since a parent may set it."""
    schema = Recipe.model_json_schema()
    schema["title"] = "r1mega recipe"
    schema["properties"] |= {"extends": _EXTENDS, "unset": _UNSET}
    for field in schema["properties"].values():
        for name in _referenced(field):
            schema["$defs"][name]["properties"]["extends"] = _EXTENDS
    _relax(schema)
    return json.dumps(schema, indent=2) + "\n"


def _referenced(field: dict[str, Any]) -> list[str]:
    options = [field, *field.get("anyOf", [])]
    return [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]


def _relax(node: Any) -> None:
    if isinstance(node, dict):
        if node.get("type") == "object":
            node.pop("required", None)
        for child in node.values():
            _relax(child)
    elif isinstance(node, list):
        for child in node:
            _relax(child)
