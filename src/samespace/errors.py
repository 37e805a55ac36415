"""The few errors a user can catch; each says what was given, what is legal and what to do."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

_LONGEST_MESSAGE = 2000


class SamespaceError(Exception):
    """Base of every error that samespace raises on purpose; the message is one line for the user.

    What was given may be anything: a message that would fill the screen is shown without its middle, and characters
    that break lines or steer a terminal as escapes.
    """

    def __str__(self) -> str:
        text, half = super().__str__(), _LONGEST_MESSAGE // 2
        text = text if len(text) <= _LONGEST_MESSAGE else f"{text[:half]} … {text[-half:]}"
        return escaped(text)


class InputError(SamespaceError, ValueError):
    """A file, value or option that cannot be used: missing, malformed, empty, out of range or contradictory."""


class SpaceError(SamespaceError, ValueError):
    """Vectors of unlike spaces were about to be compared, and no certificate links them."""


class GalleryError(SamespaceError, RuntimeError):
    """A gallery cannot do what was asked: its disk is full, its file damaged, or its state does not allow it."""


class TrainingError(SamespaceError, RuntimeError):
    """Training cannot go on, for instance because the loss is no longer finite."""


def escaped(text: str) -> str:
    r"""Text with escapes for what would break a line, steer a terminal, or is no character; messages are such anyway.

    Example:
        >>> escaped("a\nb\u202e"), escaped("m\udcfcller")
        ('a\\nb\\u202e', 'm\\xfcller')
    """
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    if 0xDC80 <= ord(character) <= 0xDCFF:
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode()
    return character


def short(value: object, most: int = 80) -> str:
    """A value as Python writes it, for a message: in one line, cut where it is long.

    Example:
        >>> short("a" * 100, 10), short(2**300)
        ("'aaaaaaaaa…", 'a number of 301 bits')
    """
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    written = repr(value)
    return written if len(written) <= most else written[:most] + "…"


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with what it counts; `many` where it is not `one` with an s.

    Example:
        >>> counted(1, "item"), counted(2000, "item"), counted(0, "query", "queries")
        ('1 item', '2,000 items', '0 queries')
        >>> counted(1, "item has", "items have")
        '1 item has'
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def suggest(given: str, legal: Iterable[str], *, meant: str | None = None) -> str:
    """Say which legal name was probably meant, and list what is legal.

    `meant` is the right name where it is known; by default the nearest legal one, whatever its case, is looked for.
    Where there is nothing to choose from, that is said.

    Example:
        >>> suggest("epoch", ["epochs", "lr"])
        "did you mean 'epochs'? legal: epochs, lr"
        >>> suggest("zzz", ["epochs", "lr"])
        'legal: epochs, lr'
    """
    names = list(legal)
    if not names:
        return "it has none"
    if meant is None:
        spelt = {name.casefold(): name for name in reversed(names)}
        close = difflib.get_close_matches(given.casefold(), spelt, n=1, cutoff=0.6)
        meant = spelt[close[0]] if close else None
    hint = f"did you mean '{meant}'? " if meant is not None else ""
    return f"{hint}legal: {', '.join(names)}"
