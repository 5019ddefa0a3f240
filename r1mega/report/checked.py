"""Files of a run folder, read and checked: what later code may rely on, or one line that says what is damaged."""

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from r1mega.config import UserError
from r1mega.config.toml_lines import key_lines
from r1mega.record.metric import METRICS, read_jsonl

LARGEST_STEP = 2**53  # exact as a float, as plots need it
LARGEST_NUMBER = 1e30  # of anything that environment.json counts
RECIPE_TABLES = ("model", "layout", "data", "tokenizer", "tokenizer.template")
RECIPE_INTEGERS = ("seed", *(f"layout.{name}" for name in (
    "data_parallel", "tensor_parallel", "pipeline_parallel", "virtual_stages", "context_parallel", "expert_parallel",
    "expert_tensor_parallel")))
ENVIRONMENT_TYPES = {"packages": dict, "devices": list, "command": list, "resumed": list,
                     **dict.fromkeys(("parameters", "active_parameters", "cores", "memory_gib"), int | float)}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """metrics.jsonl: every metric is a finite number or absent. Raises UserError naming file and line."""
    return _records(path, _check_metrics)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """samples.jsonl, or nothing where it is missing: scores are finite numbers or absent. Raises UserError naming file
    and line."""
    return _records(path, _check_sample) if path.exists() else []


def read_recipe(path: Path) -> tuple[dict[str, Any], str]:
    """recipe.toml and its text, both empty where it is missing. Raises UserError naming file and line."""
    text = _text(path)
    try:
        recipe = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: {error}; copy it from the recipe of the run") from None
    for kind, expected, names in ((dict, "a table", RECIPE_TABLES), (int, "a whole number", RECIPE_INTEGERS)):
        for name in names:
            value = _at(recipe, name)
            if value is not None and not isinstance(value, kind):
                line = key_lines(text).get(tuple(name.split(".")))
                where = f"{path}:{line}" if line else path
                raise UserError(f"{where}: {name} is not {expected}; copy it from the recipe of the run")
    return recipe, text


def read_environment(path: Path) -> dict[str, Any]:
    """environment.json, empty where it is missing. Raises UserError."""
    fix = "remove the file to leave the machine out"
    try:
        environment = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); {fix}") from None
    if not isinstance(environment, dict):
        raise UserError(f"{path}: not a JSON object; {fix}")
    for name, kind in ENVIRONMENT_TYPES.items():
        if environment.get(name) is not None and not isinstance(environment[name], kind):
            raise UserError(f"{path}: {name} is a {type(environment[name]).__name__}, which no run writes; {fix}")
        if isinstance(environment.get(name), int | float) and not abs(environment[name]) < LARGEST_NUMBER:
            raise UserError(f"{path}: {name} is no number that a run writes; {fix}")
    return environment


def _records(path: Path, check: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    try:
        records = read_jsonl(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise UserError(f"{path}: a line is nested too deeply; remove that line") from None
    for number, record in enumerate(records, 1):
        try:
            if not 0 <= record["step"] <= LARGEST_STEP:
                raise ValueError(f"step={record['step']:.3g}")
            check(record)
        except (ValueError, OverflowError) as error:
            raise UserError(f"{path}:{number}: damaged line ({error}); mend or remove that line") from None
    return records


def _check_metrics(record: dict[str, Any]) -> None:
    if not isinstance(record.get("stage", ""), str):
        raise ValueError("stage is not a text")
    _make_finite(record, [key for key in record if key in METRICS and key != "stage" or key.startswith("reward_")])
    for key in ("heldout_problems", "heldout_samples"):
        if (record.get(key) or 0) < 0:
            raise ValueError(f"{key} is below 0")
    if not 0 <= (record.get("heldout_pass_at_1") or 0) <= 1:
        raise ValueError("heldout_pass_at_1 is not between 0 and 1")


def _check_sample(record: dict[str, Any]) -> None:
    parts = record.get("parts")
    if not isinstance(parts, dict | None):
        raise ValueError("parts is not an object")
    _make_finite(record, ["reward", "tokens"])
    _make_finite(parts or {}, list(parts or {}))


def _make_finite(record: dict[str, Any], keys: list[str]) -> None:
    """Numbers that are none (JSON's NaN) become None. Raises ValueError for what is no number."""
    for key in keys:
        value = record.get(key)
        if value is None:
            continue
        if not isinstance(value, int | float):
            raise ValueError(f"{key} is not a number")
        if not math.isfinite(float(value)):
            record[key] = None


def _at(recipe: Mapping[str, Any], name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
