"""Images named in a text file, one a line, with their classes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.listing import Listing
from samespace.data.sources.columns import FLAGS, PARTS, Columns, find_columns, is_picture
from samespace.errors import InputError, suggest

NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
SEPARATORS = {"\t": "a tab", ",": "a comma", ";": "a semicolon", " ": "a space"}
WHAT = "a list of images, one path and label per line"
_LINE = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_ROW = re.compile(r'(?:"[^"]*"|[^"\r\n])*"?[^\r\n]*')
Numbered = Iterator[tuple[int, list[str]]]


@dataclass(frozen=True, eq=False)
class ImageList:
    """What a list of images says.

    Attributes:
        names: path of each image as written, unique.
        labels: (N,) class of each.
        notes: what its columns were taken as, a sentence each.
    """

    names: list[str]
    labels: npt.NDArray[np.str_]
    notes: tuple[str, ...]


def list_listing(
    place: str | Path,
    root: str | Path | None = None,
    *,
    path: str | None = None,
    label: str | None = None,
    part: str | None = None,
) -> Listing:
    """The images of a list file; see `read_image_list`. The id of an image is its path as written.

    Args:
        place: the list.
        root: what the paths are relative to; by default the folder of the list.
        path: the column of the paths, by its name or its number from 1.
        label: the column of the classes.
        part: only the images of this part, `train`, `query` or `gallery`, by a column that says so.

    Raises:
        InputError: no such file or folder, no line, a line of another form, or a path twice.
    """
    file = Path(place)
    folder = file.parent if root is None else Path(root)
    if root is not None and not folder.is_dir():
        raise InputError(f"root {folder} of list {file} is not a folder")
    found = read_image_list(file, path=path, label=label, part=part)

    def path_of(row: int) -> Path:
        return folder / found.names[row]

    return Listing.of_files(
        str(place), np.array(found.names), as_classes(found.labels), path_of, told=found.labels, notes=found.notes
    )


def read_list(path: Path) -> tuple[list[str], npt.NDArray[np.str_]]:
    """Paths and labels of a list file, in its order; see `read_image_list`."""
    found = read_image_list(path)
    return found.names, found.labels


def read_image_list(
    file: Path, *, path: str | None = None, label: str | None = None, part: str | None = None
) -> ImageList:
    """Paths and labels of a list file, in its order.

    A line is a row of fields, parted by tabs, commas, semicolons or spaces: by what parts them in the first line. Where
    it is no tab, a field that holds the delimiter stands in double quotes. The first line may name the columns, in any
    order (`path,label,split,is_query,is_gallery` of Open Metric Learning, `image_id class_id super_class_id path` of
    Stanford Online Products, `image_name item_id evaluation_status` of In-Shop after a line with the number of images).
    Without names two columns are path and label, whichever looks like an image file, and three or more are index,
    labels and path of an MXNet `.lst`, where the first label counts. Empty lines and comments (`# …`) before the first
    row are passed over.

    Args:
        file: the list.
        path: the column of the paths, by its name or its number from 1.
        label: the column of the classes.
        part: keep the images of this part: the value of a column such as `split` or `evaluation_status`, or `query` and
            `gallery` by columns `is_query` and `is_gallery`; `test` is query and gallery together.

    Raises:
        InputError: no such file, no line in it, a line of another form, no such column or part, or a path twice.
    """
    content = text.read(file, WHAT)
    top = _top(content, file)
    rows = _rows(content, file, top)
    columns, rows = _columns(rows, file, content, top, path=path, label=label)
    wanted, note = _wanted(columns, part, file)
    seen: dict[str, int] = {}
    labels: list[str] = []
    others: dict[str, int] = {}
    count = 0
    for number, row in rows:
        if len(row) != columns.count:
            row = _fitted(row, columns.count)
        name, written = (row[columns.path].strip(" "), row[columns.label].strip(" ")) if row else ("", "")
        if not name or not written:
            raise InputError(_unlike(content, file, number, top.separator, columns))
        count += 1
        if wanted is not None and not wanted(row, others):
            continue
        if (first := seen.setdefault(name, number)) != number:
            raise InputError(f"{file} names {name!r} in line {first} and again in line {number}; paths must be unique")
        labels.append(_whole(written, file, number) if columns.numbers else written)
    if top.count is not None and top.count != count:
        raise InputError(f"{file} announces {top.count} images in its first line and names {count}; is it cut short?")
    if not labels:
        there = f" of part {part!r}; it has {', '.join(others)}" if part and others else ""
        raise InputError(f"{file} names no images{there or '; expected a path and a label per line'}")
    notes = (*top.notes, columns.note, *note(others, len(labels)))
    return ImageList(list(seen), np.array(labels), tuple(filter(None, notes)))


def as_classes(labels: npt.NDArray[np.str_]) -> npt.NDArray[np.int64] | npt.NDArray[np.str_]:
    """Labels as numbers where every one is a whole number written the usual way, else as they are."""
    if all(NUMBER.fullmatch(label) for label in np.unique(labels).tolist()):
        return labels.astype(np.int64)
    return labels


@dataclass(frozen=True)
class _Top:
    """What stands before the rows.

    `start` is the place of the first row in the text and `line` its number; `count` the number of images that the first
    line gives, as the lists of DeepFashion and CelebA do.
    """

    start: int
    line: int
    separator: str
    count: int | None
    notes: tuple[str, ...]


def _top(content: str, file: Path) -> _Top:
    count, comments = None, 0
    for number, match in enumerate(_LINE.finditer(content), start=1):
        line = match[1].strip()
        if (
            line.startswith("#")
            and (line == "#" or line[1] in " #!")
            and not is_picture(re.split(r"[\t,; ]", line)[-2:][0])
        ):
            comments += 1
        elif line.isdecimal() and count is None and line.isascii() and len(line) < 19:
            count = int(line)
        elif line:
            notes = (f"{comments} lines of comment are passed over",) if comments else ()
            return _Top(match.start(), number, _separator(content, match.start()), count, notes)
        if match.end() == len(content):
            break
    raise InputError(f"{file} names no images; expected a path and a label per line")


def _separator(content: str, start: int) -> str:
    """What parts the fields of a first row: a tab if there is one, else the last comma, semicolon or space."""
    match = _ROW.match(content, start)
    line = match[0] if match else ""
    if "\t" in line:
        return "\t"
    bare = re.sub(r'"[^"]*"', "x", line.strip(" "))
    tail = re.split(r" *[,;] *| +", bare)[-1]
    last = bare[: len(bare) - len(tail)].rstrip(" ")[-1:]
    return last if last in (",", ";") else " "


def _rows(content: str, file: Path, top: _Top) -> Numbered:
    rest = content[top.start :]
    if top.separator != "\t":
        yield from text.split_rows(rest, file, top.separator, first=top.line, spaced=True)
        return
    for number, line in enumerate(text.split_lines(rest), start=top.line):
        if line and not line.isspace():
            yield number, line.split("\t")


def _columns(
    rows: Numbered, file: Path, content: str, top: _Top, *, path: str | None, label: str | None
) -> tuple[Columns, Numbered]:
    """What the columns are, and the rows that follow their names."""
    number, first = next(rows)
    second = next(rows, None)
    columns = find_columns(first, second[1] if second else (), path=path, label=label, where=str(file))
    if columns is None:
        raise InputError(_unlike(content, file, number, top.separator, None))

    def following() -> Numbered:
        if not columns.names:
            yield number, first
        if second is not None:
            yield second
        yield from rows

    return columns, following()


def _fitted(row: list[str], count: int) -> list[str]:
    """The row without empty fields beyond the columns; empty where it does not fit them."""
    return row[:count] if len(row) > count and not any(field.strip() for field in row[count:]) else []


Wanted = Callable[[list[str], dict[str, int]], bool]
Note = Callable[[dict[str, int], int], list[str]]


def _wanted(columns: Columns, part: str | None, file: Path) -> tuple[Wanted | None, Note]:
    """Which rows belong to the part that is asked for, counting what parts there are; and what to say of them."""
    place = columns.place(PARTS)
    flags = {name[3:]: columns.names.index(name) for name in FLAGS if name in columns.names}
    if part is not None and place is None and not flags:
        raise InputError(f"{file} has no column that says which part an image is of; {suggest('part', PARTS + FLAGS)}")
    if place is None and not flags:
        return None, lambda others, kept: []

    def parts(row: list[str]) -> list[str]:
        found = [name for name, at in flags.items() if row[at].strip().lower() in ("true", "1", "1.0")]
        return found or ([row[place].strip()] if place is not None and row[place].strip() else [])

    accepted = {part, *(("query", "gallery") if part == "test" else ())}

    def wanted(row: list[str], others: dict[str, int]) -> bool:
        found = parts(row)
        for name in found:
            others[name] = others.get(name, 0) + 1
        return part is None or not accepted.isdisjoint(found)

    def note(others: dict[str, int], kept: int) -> list[str]:
        counts = ", ".join(f"{name} {count:,}" for name, count in others.items())
        if not counts:
            return []
        taken = f"{kept:,} of part {part}" if part else "all of them; part=NAME takes one"
        return [f"parts: {counts}; taken: {taken}"]

    return wanted, note


def _whole(label: str, file: Path, number: int) -> str:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not value.is_integer() or abs(value) >= 2**53:
        raise InputError(f"{file} line {number}: label {label[:40]} is no whole number")
    return str(int(value))


def _unlike(content: str, file: Path, number: int, separator: str, columns: Columns | None) -> str:
    line = text.split_lines(content)[number - 1]
    if columns is not None and columns.count > 2:
        named = f" ({', '.join(columns.names)[:120]})" if columns.names else ""
        return (
            f"{file} line {number} is {line[:80]!r}; expected {columns.count} columns{named} with "
            f"{SEPARATORS[separator]} between them, image and class not empty"
        )
    more = "" if columns else ", or which columns they are: path=NUMBER and label=NUMBER, counted from 1"
    return (
        f"{file} line {number} is {line[:80]!r}; expected a path and a label with {SEPARATORS[separator]} "
        f'between them (a path that holds one in "…"){more}'
    )
