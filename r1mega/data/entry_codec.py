"""Reasoning-gym entries as JSON and back.

Their metadata holds tuples, sets, dates and dictionaries keyed by numbers, and some scorers care (rearc
compares tuples), so plain JSON would change scores. Such values are written as one-key objects: {"%tuple":
[1, 2]}.
"""

import datetime
import enum
import fractions
from collections.abc import Mapping
from typing import Any

_MOMENTS = {"%datetime": datetime.datetime, "%date": datetime.date, "%time": datetime.time}


def encode_value(value: Any) -> Any:
    """`value` with only what JSON knows. Enum members and numpy scalars become their plain value.

    Raises TypeError for anything else that JSON cannot hold.
    """
    match value:
        case enum.Enum():
            return encode_value(value.value)
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [encode_value(item) for item in value]
        case tuple():
            return {"%tuple": [encode_value(item) for item in value]}
        case set() | frozenset():
            return {"%set": sorted((encode_value(item) for item in value), key=repr)}
        case Mapping() if all(isinstance(key, str) and not key.startswith("%") for key in value):
            return {str(key): encode_value(item) for key, item in value.items()}
        case Mapping():
            return {"%dict": [[encode_value(key), encode_value(item)] for key, item in value.items()]}
        case fractions.Fraction():
            return {"%fraction": [value.numerator, value.denominator]}
        case datetime.datetime():
            return {"%datetime": value.isoformat()}
        case datetime.date():
            return {"%date": value.isoformat()}
        case datetime.time():
            return {"%time": value.isoformat()}
    if hasattr(value, "tolist"):  # a numpy scalar or array
        return encode_value(value.tolist())
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def decode_value(value: Any) -> Any:
    """What `encode_value` was given (numpy values as Python ones, enum members as their values)."""
    if isinstance(value, list):
        return [decode_value(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1:
        (tag, inner), = value.items()
        match tag:
            case "%tuple":
                return tuple(decode_value(item) for item in inner)
            case "%fraction":
                return fractions.Fraction(*inner)
            case "%set":
                return {decode_value(item) for item in inner}
            case "%dict":
                return {decode_value(key): decode_value(item) for key, item in inner}
            case "%datetime" | "%date" | "%time":
                return _MOMENTS[tag].fromisoformat(inner)
    return {key: decode_value(item) for key, item in value.items()}
