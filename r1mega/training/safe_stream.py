"""A text stream that never raises: closed pipes swallow, characters the encoding lacks are replaced."""

import os
from typing import TextIO


class SafeStream:
    """Wraps `stream` for `rich` and for plain printing."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._open = True

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """Write and flush `text`, whole lines at a time being the caller's business."""
        if self._open:
            try:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
                self._stream.flush()
            except (OSError, ValueError):  # the reader is gone, the disk is full, or the stream is closed
                self._open = False
                self._discard()
        return len(text)

    def flush(self) -> None:
        """Nothing to do: `write` flushes."""

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):
            return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def _discard(self) -> None:
        """Send what is buffered, and what others print, nowhere; else the interpreter fails at its end."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError, AttributeError):
            pass  # not a file: nothing is buffered outside this process
