"""Equality of outputs, worked by hand."""

import pytest

from r1mega.reward.code.compare import NotJson, is_same_output, is_same_value, read_json


@pytest.mark.parametrize(("expected", "found", "same"), [
    ("1\n2\n", "1\n2", True), ("1\n2\n", "1 \n2\n\n\n", True), ("1\n2\n", "1\n\n2\n", False), ("1 2", "1  2", True),
    ("1 2\n", "12\n", False), ("1 2", "1 2 3", False), ("1 2 3", "1 2", False), ("", "", True), ("", "x", False),
    ("0.50", "0.5", True), ("0.5", "0.5000004", True), ("0.5", "0.500001", False), ("1.5", "nan", False),
    ("1.5", "inf", False), ("1.5", "x", False), ("1", "1.0", False), ("10", "10.0000001", False), ("a", "A", False),
    ("-1.5e3", "-1500", True), ("nan", "nan", True), ("0.5", "0" * 200 + ".5", False),
])
def test_outputs(expected: str, found: str, same: bool) -> None:
    assert is_same_output(expected, found) is same


@pytest.mark.parametrize(("expected", "found", "same"), [
    (1, 1, True), (1, 1.0, True), (1, True, False), (True, 1, False), (0, False, False), (None, None, True),
    (None, 0, False), ("1", 1, False), (1, "1", False), ([1, [2]], [1, [2]], True), ([1, 2], [2, 1], False),
    ([], {}, False), ([1], [1, 1], False), ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"b": 1}, False),
    ({"a": 1}, {"a": 1, "b": 1}, False), (0.1 + 0.2, 0.3, True), (1.0, 1.000002, False), (0.0, 1e-10, True),
    (1.0, float("nan"), False), (1.0, float("inf"), False), (10**400, 10**400, True), (10**400, 1.5, False),
    (2**53, 2**53 + 1, False),
])
def test_values(expected: object, found: object, same: bool) -> None:
    assert is_same_value(expected, found) is same


def test_values_nested_deeper_than_pythons_stack_are_compared() -> None:
    def nested(depth: int) -> list:
        value: list = []
        for _ in range(depth):
            value = [value]
        return value
    assert is_same_value(nested(20_000), nested(20_000))
    assert not is_same_value(nested(20_000), nested(20_001))


@pytest.mark.parametrize("line", [b"", b"{", b"[" * 100_000, b"9" * 10_000, b"\xff", b"nonsense"])
def test_what_is_no_json_is_said_to_be_none(line: bytes) -> None:
    with pytest.raises(NotJson):
        read_json(line)
