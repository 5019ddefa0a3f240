"""Mistakes of the user: shown as they are, in one or two lines, without a traceback."""


class UserError(Exception):
    """Something the user can mend. The text names the file, the key, the value, what is legal and the likely fix."""


class Mistake(ValueError):
    """What is wrong with one key of a recipe; the loader adds the file, the line and the value.

    `key` is dotted (`layout.tensor_parallel`); inside a section's own validator it is the bare field name.
    `text` says what is wrong, what is legal and the likely fix, e.g. "does not divide num_experts=8; use 1, 2, 4 or 8".
    """

    def __init__(self, key: str, text: str) -> None:
        super().__init__(f"{key}: {text}")
        self.key = key
        self.text = text
