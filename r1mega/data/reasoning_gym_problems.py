"""Problems made by the tasks of the reasoning-gym library.

Importing the library takes 2 s (sympy and a hundred generators), so it is imported only when a recipe names
it.
"""

import dataclasses
import enum
import json
from typing import Any

from r1mega.config.data import ReasoningGymSource
from r1mega.config.error import UserError
from r1mega.data.entry_codec import encode_value
from r1mega.data.suggest import did_you_mean
from r1mega.record import Problem


def reasoning_gym_problems(source: ReasoningGymSource, where: str) -> list[Problem]:
    """`source.size` problems of one task.

    Their metadata is what the scorer needs to rebuild the task and the entry in another process: {"origin",
    "options": the task's options, "entry": the entry's metadata as encode_value writes it}. A task whose
    entries have no answer of their own (any valid one will do) gives Problems with an empty `answer` and
    "no_answer": true.
    """
    dataset = build_task(source.task, source.options, where, size=source.size, seed=source.seed)
    problems = []
    for index in range(source.size):
        try:
            entry = dataset[index]
            metadata = {"origin": f"{where} ({source.task}) item {index}", "options": source.options,
                        "entry": encode_value(entry["metadata"])}
        except Exception as error:  # generators raise anything when their options do not fit together
            raise UserError(f"{where}: task={source.task!r} cannot make item {index} with "
                            f"options={source.options} ({_first_line(error)}); change options") from None
        if entry["answer"] is None:
            metadata["no_answer"] = True
        problems.append(
            Problem(
                task=source.task,
                question=entry["question"],
                answer=str(entry["answer"] or ""),
                scorer="reasoning_gym",
                metadata=metadata,
            )
        )
    return problems


def build_task(task: str, options: dict[str, Any], where: str, size: int = 1, seed: int = 0) -> Any:
    """A reasoning-gym dataset object, whatever goes wrong told as a UserError that starts with `where`."""
    from reasoning_gym.factory import DATASETS, create_dataset

    if task == "composite":
        raise UserError(f"{where}: task='composite' is not a task of its own; write one source for each of "
                        "its tasks")
    if task not in DATASETS:
        raise UserError(f"{where}: task={task!r} is not one of reasoning-gym's {len(DATASETS)}; "
                        f"{did_you_mean(task, DATASETS)}")
    config_class = DATASETS[task][1]
    defaults = {field.name: field for field in dataclasses.fields(config_class) if field.init}
    for name in options:
        if name in ("size", "seed"):
            raise UserError(f"{where}: options.{name} is set by the source's own key; write {name} beside "
                            "task")
        if name not in defaults:
            legal = sorted(set(defaults) - {"size", "seed"})
            raise UserError(f"{where}: task={task!r} has no option {name!r}; {did_you_mean(name, legal)}")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError):
        raise UserError(f"{where}: options={options}: only numbers, texts, booleans, lists and tables can be "
                        "options; write dates as text") from None
    values = {name: _as_enum(value, defaults[name]) for name, value in options.items()}
    try:
        return create_dataset(task, size=size, seed=seed, **values)
    except Exception as error:  # validate() asserts; constructors raise TypeError, ValueError, KeyError, …
        raise UserError(f"{where}: task={task!r} refuses options={options} ({_first_line(error)}); change "
                        "options") from None


def _as_enum(value: Any, field: dataclasses.Field) -> Any:
    """A text becomes the member of the enum that the option's default belongs to."""
    if isinstance(field.default, enum.Enum) and isinstance(value, str):
        for member in type(field.default):
            if value in (member.value, member.name):
                return member
    return value


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
