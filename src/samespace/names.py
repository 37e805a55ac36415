"""Names of items, classes and files: which can be kept everywhere, and how any is shown on one line."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable
from itertools import islice
from shlex import quote

from samespace.errors import InputError, escaped

_BLOCK = 65_536


def fault(name: str) -> str | None:
    r"""Why a name cannot be kept in JSON, Parquet and databases alike; None where it can.

    A file's name that is not UTF-8 reaches Python with surrogates in the place of its bytes; NUL ends a text in many
    stores.

    Example:
        >>> fault("m\udcfcller"), fault("Müller")
        ('its name is not UTF-8', None)
    """
    if "\0" in name:
        return "its name holds a NUL character"
    try:
        name.encode()
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        if encoding == "utf-8":
            return "its name is not UTF-8"
        return f"its name cannot be read in the encoding of this environment, {encoding}; set PYTHONUTF8=1"
    return None


def faults(names: Iterable[str]) -> dict[int, str]:
    """By their places, the names that cannot be kept, each with the reason."""
    found: dict[int, str] = {}
    rest, start = iter(names), 0
    while block := list(islice(rest, _BLOCK)):
        if fault("".join(block)) is not None:
            found.update((start + place, why) for place, name in enumerate(block) if (why := fault(name)))
        start += len(block)
    return found


def require_names(names: Iterable[str], what: str, where: str) -> None:
    """Refuse names that cannot be kept, by an InputError that shows the first; `what` they are, such as `ids`."""
    given = list(names)
    found = faults(given)
    if found:
        row, why = next(iter(found.items()))
        raise InputError(
            f"{where}: {what} should be UTF-8 text without NUL, got '{given[row]}' in row {row} "
            f"(from 0; {why}); write it anew, {len(found):,} of {len(given):,} are such"
        )


def require_name(name: str | os.PathLike[str], what: str) -> None:
    """Refuse a path or a name that cannot be kept, by an InputError; `what` it is, such as `the folder`."""
    why = fault(os.fspath(name))
    if why is not None:
        raise InputError(f"{what} '{os.fspath(name)}' cannot be used: {why}; rename it, or give a link to it")


def as_argument(place: str | os.PathLike[str]) -> str:
    """A path as a shell takes it for an argument: quoted where it must be, and never taken for an option.

    Example:
        >>> as_argument("my items"), as_argument("-x"), as_argument("runs/v2")
        ("'my items'", './-x', 'runs/v2')
    """
    text = os.fspath(place)
    return quote(f"./{text}" if text.startswith("-") else text)


def one_line(text: str) -> str:
    r"""Text on one line: runs of blanks become one, and what would steer a terminal is written as an escape.

    Example:
        >>> one_line("no such file\n  'a\x1b[31m'")
        "no such file 'a\\x1b[31m'"
    """
    return escaped(" ".join(text.split()))


def told_apart(one: str, other: str) -> str:
    r"""Two names in quotes, with escapes where they look the same on a terminal: they differ in Unicode form alone.

    Example:
        >>> print(told_apart("Ann", "ann "), told_apart("\xe9", "e\u0301"), sep="; ")
        'Ann' and 'ann '; '\xe9' and 'e\u0301'
    """
    same = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    shown = [name.encode("ascii", "backslashreplace").decode() if same else escaped(name) for name in (one, other)]
    return f"'{shown[0]}' and '{shown[1]}'"
