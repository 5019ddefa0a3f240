"""The fields of a config.json, read with complaints in the file's own words. Torch-free."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from r1mega.config import UserError
from r1mega.config.error import Mistake
from r1mega.config.section import Section


@dataclass(frozen=True)
class Fields:
    """What a config.json says. Every method raises UserError naming file, key, value and what is legal."""

    file: Path
    values: Mapping[str, Any]
    kind: str
    """What it configures, e.g. "DeepSeek-V3"."""

    def refuse(self, key: str, text: str) -> NoReturn:
        raise UserError(f"{self.file}: {key}={self.values.get(key)!r}; {text}")

    def required(self, key: str) -> Any:
        if self.values.get(key) is None:
            found = "null" if key in self.values else "missing"
            raise UserError(f"{self.file}: {key} is {found}; a {self.kind} configuration needs it")
        return self.values[key]

    def renamed(self, required: Mapping[str, str], optional: Mapping[str, str]) -> dict[str, Any]:
        """Values under our names, from {ours: theirs}."""
        ours = {name: self.required(theirs) for name, theirs in required.items()}
        return ours | {name: self.values[theirs] for name, theirs in optional.items() if theirs in self.values}

    def check_fixed(self, must_be: Mapping[str, tuple[Any, str]]) -> None:
        """That fields have the only value we compute with, or are absent: {theirs: (value, reason)}."""
        for key, (value, reason) in must_be.items():
            if self.values.get(key) is not None and self.values[key] != value:
                self.refuse(key, f"only {value!r} is supported: {reason}")

    def rope(self) -> dict[str, Any]:
        """`rope_parameters` as transformers 5 writes them, or `rope_scaling` as published."""
        key = "rope_parameters" if self.values.get("rope_parameters") is not None else "rope_scaling"
        rope = self.values.get(key)
        if rope is None:
            return {}
        if not isinstance(rope, dict):
            self.refuse(key, "must be an object or null")
        return rope

    @staticmethod
    def rope_type(rope: Mapping[str, Any]) -> str:
        return rope.get("rope_type", rope.get("type", "default"))

    def rope_theta(self, default: float) -> Any:
        return self.rope().get("rope_theta", self.values.get("rope_theta", default))

    def build[T: Section](self, section: type[T], ours: dict[str, Any], renamed: Mapping[str, str]) -> T:
        """A section of ours from checked values; what it complains of is told by the file's names."""
        try:
            return section(**ours)
        except ValidationError as error:
            raise UserError(self._explain(error, renamed)) from None

    def _explain(self, error: ValidationError, renamed: Mapping[str, str]) -> str:
        """The first complaint."""
        first = error.errors()[0]
        mistake = first.get("ctx", {}).get("error")
        if isinstance(mistake, Mistake):  # about how fields fit together
            ours, text, value = mistake.key, mistake.text, first["input"].get(mistake.key)
        else:
            ours, text, value = str(first["loc"][0]), first["msg"][0].lower() + first["msg"][1:], first["input"]
        text = re.sub(r"\w+", lambda word: renamed.get(word[0], word[0]), text)
        return f"{self.file}: {renamed.get(ours, ours)}={value!r}: {text}"
