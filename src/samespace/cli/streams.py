"""Standard output and standard error that no console, closed pipe or full disk can make fail."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from samespace.errors import escaped

# what stands for a character of our own output where the console's encoding lacks it
_PLAIN = {
    "✓": "ok", "✗": "x", "…": "...", "−": "-", "–": "-", "—": "-", "→": "->", "←": "<-", "×": "x", "·": ".", "•": "*",
    "≥": ">=", "≤": "<=", "±": "+-", "‘": "'", "’": "'", "“": '"', "”": '"', "\u00a0": " ", "\u202f": " ",
    "\u2009": " ", "│": "|", "█": "#", "━": "-", "─": "-", "╸": "-", "╺": "-",
}  # fmt: skip


def shown(text: str, encoding: str | None) -> str:
    r"""The text as a console of this encoding can show it; a character that it lacks is replaced, none is refused.

    Example:
        >>> shown("0 … 1 − ü", "ascii"), shown("0 … 1", "cp1252"), shown("m\udcfcller", "utf-8")
        ('0 ... 1 - \\xfc', '0 … 1', 'm\\xfcller')
    """
    try:
        text.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return "".join(_shown(character, encoding or "utf-8") for character in text)
    return text


def _shown(character: str, encoding: str) -> str:
    try:
        character.encode(encoding)
    except UnicodeEncodeError:
        if "\udc80" <= character <= "\udcff":
            return escaped(character)
        return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode()
    return character


class Outlet:
    """A text stream in front of another, to which writing never fails.

    What the console cannot encode is replaced. Once the reader has gone or the disk is full, the rest is dropped, so
    that the work is finished all the same.

    Attributes:
        fault: why nothing more is written; None while all is well.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        # without a buffer of bytes, so that nobody writes past this
        if name in ("buffer", "reconfigure", "detach") or self._stream is None:
            raise AttributeError(name)
        return getattr(self._stream, name)

    @property
    def encoding(self) -> str:
        """Of the stream behind, UTF-8 where it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        """What is done about characters that cannot be encoded: nothing, they are replaced before."""
        return "strict"

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        with suppress(ValueError, OSError, AttributeError):
            return self._stream is not None and self._stream.isatty()
        return False

    def write(self, text: str) -> int:
        """Write what the console can show."""
        if not isinstance(text, str):
            raise TypeError(f"expected text, got {type(text).__name__}")
        if self._stream is not None and self.fault is None:
            try:
                self._stream.write(shown(text, self.encoding))
            except (OSError, ValueError) as error:
                self.fault = error
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write what is held back."""
        if self._stream is not None and self.fault is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self.fault = error

    @property
    def open(self) -> bool:
        """Whether there is a stream behind."""
        return self._stream is not None

    @property
    def abandoned(self) -> bool:
        """Whether its reader has gone, as `head` does when it has seen enough."""
        return isinstance(self.fault, OSError) and self.fault.errno in (errno.EPIPE, errno.ECONNRESET)

    @property
    def lost(self) -> str | None:
        """Why something was not written that somebody waits for; None where nothing is lost."""
        if self.fault is None or self.abandoned:
            return None
        return (isinstance(self.fault, OSError) and self.fault.strerror) or "it is closed"

    def leave(self) -> None:
        """Turn a stream that failed to nowhere, so that the interpreter does not fail on it once more at its end."""
        if self.fault is not None and self._stream is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


@contextmanager
def outlets() -> Iterator[tuple[Outlet, Outlet]]:
    """Put an `Outlet` in the place of standard output and of standard error while the block runs."""
    before = sys.stdout, sys.stderr
    out, err = Outlet(sys.stdout), Outlet(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield out, err
    finally:
        sys.stdout, sys.stderr = before
