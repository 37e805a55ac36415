"""Text that users write, read one way: lists, tables, JSON lines and ids, whatever program wrote the file.

Text is UTF-8, with or without a byte-order mark, or UTF-16 or UTF-32 with one. A line ends at LF, CR LF or CR and
nowhere else: U+2028, U+0085 and form feeds are characters like any other. Bytes that are no text and NUL are refused by
their line.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.files import require_file

Scalar = str | int | float | bool

# UTF-32 before UTF-16, whose mark is the beginning of its own
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BREAK = re.compile(r"\r\n|\r|\n")
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_FIELD = 2**30
_SHOWN = 80


def read(path: Path, what: str) -> str:
    """The text of a file; `what` names its role in the message where there is none.

    Raises:
        InputError: no such file, bytes that are no text, or NUL, by its line.
    """
    require_file(path, what)
    raw = path.read_bytes()
    encoding = next((name for mark, name in _MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        # counted from after the mark where the codec leaves it out
        start = error.start + (len(codecs.BOM_UTF8) if encoding == "utf-8-sig" else 0)
        before = raw[:start].decode(encoding, errors="ignore")
        line, expected = _line_at(before, len(before)), encoding.removesuffix("-sig").upper()
        raise InputError(
            f"{path}, line {line}: not {expected} text, at byte {start} of the file; save it as UTF-8"
        ) from None
    if (place := text.find("\0")) >= 0:
        raise InputError(
            f"{path}, line {_line_at(text, place)}: a NUL character, which text does not hold; save it as UTF-8 text"
        )
    return text


def split_lines(text: str) -> list[str]:
    """The lines of a text, without their ends."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Raises:
        InputError: as `read`.
    """
    for number, line in enumerate(split_lines(read(path, what)), start=1):
        if line and not line.isspace():
            yield number, line


def rows(path: Path, what: str, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """Number of the first line, from 1, and fields of each row of a table that is not blank; see `split_rows`.

    Raises:
        InputError: as `read`, or a quoted field that does not end where its row does.
    """
    yield from split_rows(read(path, what), path, delimiter)


def split_rows(
    text: str, path: Path, delimiter: str, *, first: int = 1, spaced: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table, by the rules of RFC 4180: a field in double quotes may hold anything, quotes doubled.

    `first` is the number of the first line; fields may be `spaced` from the delimiter before them.

    Raises:
        InputError: a quoted field that does not end, or goes on after its end.
    """
    # the limit is the whole process's, and its default of 131,072 characters is less than some tables hold in a field
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_FIELD))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    number = first
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0] and not row[0].isspace()):
                yield number, row
            number = first + reader.line_num
    except csv.Error as error:
        reason = "is not closed" if "end of data" in str(error) else "goes on after its end"
        raise InputError(
            f"{path}, line {number}: a field in double quotes {reason}; write a quote inside it twice"
        ) from None


def json_lines(path: Path, what: str, holds: str = "an object") -> Iterator[tuple[int, dict[str, Any]]]:
    """Number, from 1, and object of each line of JSON that is not blank; messages say what a line `holds`.

    Raises:
        InputError: as `read`; or a line that is no JSON object, names a key twice, or holds text that no file can.
    """
    for number, line in lines(path, what):
        yield number, _json_object(line, f"{path}, line {number}", "JSON lines", holds)


def read_object(path: Path, what: str) -> dict[str, Any]:
    """A file of one JSON object that a user wrote.

    Raises:
        InputError: as `json_lines`, of the whole file.
    """
    return _json_object(read(path, what), str(path), "JSON", "one object")


def number(text: str) -> int | float | None:
    """The number that is printed as this text, a whole one of 64 bits or a finite float64; None where none is.

    Example:
        >>> number("2024"), number("-0.5"), number("1e-05")
        (2024, -0.5, 1e-05)
        >>> [number(text) for text in ("007", "1_000", "12E3", "+1", " 1", "2.50", "nan", "9223372036854775808")]
        [None, None, None, None, None, None, None, None]
    """
    if _WHOLE.fullmatch(text):
        value = int(text)
        return value if -(2**63) <= value < 2**63 else None
    if text[:1] not in set("-0123456789"):
        return None
    try:
        fraction = float(text)
    except ValueError:
        return None
    return fraction if math.isfinite(fraction) and repr(fraction) == text else None


def typed_column(cells: Sequence[str]) -> tuple[list[Scalar], str | None]:
    """The cells of a column as what they are: all numbers, all `true` or `false`, or all text.

    They are numbers only where each is written as its number is printed, and none in two ways (`1` and `1.0`).

    Returns:
        The values, and where they are text because of one cell among numbers, that cell.

    Example:
        >>> typed_column(["7", "0.5"]), typed_column(["7", "007"]), typed_column(["true", "false"])
        (([7, 0.5], None), (['7', '007'], '007'), ([True, False], None))
    """
    distinct = dict.fromkeys(cells)
    if distinct.keys() <= {"true", "false"}:
        return [cell == "true" for cell in cells], None
    values = {cell: number(cell) for cell in distinct}
    numbers: dict[Any, str] = {}
    odd = None
    for cell, value in values.items():
        if value is None or numbers.setdefault(value, cell) != cell:
            odd = cell
            break
    if odd is None:
        return [values[cell] for cell in cells], None  # type: ignore[misc]
    return list(cells), odd if any(value is not None for value in values.values()) else None


def parses_as_float(text: str) -> bool:
    """Whether Python reads the text as a float, however it is written; `number` is strict about that."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def require_names_once(header: Sequence[str], path: Path) -> None:
    """Refuse a line of column names that names one twice.

    Raises:
        InputError: a name comes twice.
    """
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(f"{path} names the column '{twice[0]}' twice; each column needs a name of its own")


def _line_at(text: str, place: int) -> int:
    return len(_BREAK.findall(text, 0, place)) + 1


def _json_object(text: str, where: str, form: str, holds: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or text.count(":") != len(value):
            # only with more colons than keys can one have come twice; looking at every pair takes twice as long
            value = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise InputError(f"{where} is not valid {form}: {_misplaced(text, error)}") from None
    except _Repeated as error:
        raise InputError(f"{where}: the key {error.args[0]!r} comes twice in one object") from None
    except ValueError:
        raise InputError(f"{where}: a number of too many digits; write it as text, in quotes") from None
    except RecursionError:
        raise InputError(f"{where}: objects and lists are nested too deeply") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected {holds}, got {text.strip()[:_SHOWN]!r}")
    # only escapes can bring in what the file's own encoding cannot
    if "\\u" in text and (odd := _unwritable(value)) is not None:
        raise InputError(f"{where}: {odd[:_SHOWN]!r} holds NUL or half a character, which cannot be kept")
    return value


def _misplaced(text: str, error: json.JSONDecodeError) -> str:
    place = f"character {error.pos + 1}"
    if error.pos >= len(text.rstrip()):
        return f"it ends too early, at {place}"
    if error.msg.startswith("Unterminated"):
        return f"the text that begins at {place} is not closed"
    return f"{text[error.pos]!r} at {place} is out of place"


class _Repeated(ValueError):
    """A key comes twice in an object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Repeated(next(name for name in names if names.count(name) > 1))
    return value


def _unwritable(value: Any) -> str | None:
    """The first text within a JSON value that holds NUL or an unpaired surrogate."""
    if isinstance(value, str):
        return value if "\0" in value or _SURROGATE.search(value) else None
    parts = [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []
    return next((odd for part in parts if (odd := _unwritable(part)) is not None), None)
