"""Text that a tokenizer can read."""

from r1mega.config.error import UserError


def readable(text: str, field: str, origin: str) -> str:
    """The text as it is. Raises UserError, naming `origin` and `field`, for half of a surrogate pair, which is no
    character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{origin}: field {field!r} has a lone surrogate (U+{ord(text[error.start]):04X}) at character "
                        f"{error.start}, which no tokenizer can read; remove it") from None
    return text
