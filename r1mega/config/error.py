"""The one exception for mistakes of the user: shown as it is, in one or two lines, without a traceback."""


class UserError(Exception):
    """Something the user can mend. The text names the file, the key, the value, what is legal and the likely fix."""
