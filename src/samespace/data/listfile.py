"""Images named in a text file, one `path label` per line."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data.listing import Listing
from samespace.errors import InputError
from samespace.files import require_file

NUMBER = re.compile(r"0|-?[1-9]\d{0,17}")
HEADINGS = {"path", "image", "file", "filename"}, {"label", "class", "identity", "target"}
SEPARATORS = {"\t": "a tab", ",": "a comma", " ": "a space"}


def list_listing(path: str | Path, root: str | Path | None = None) -> Listing:
    """The images of a list file.

    A line is a path and a label, parted by a tab, a comma or spaces: by what parts them in the first line. Where
    spaces or commas part, a path that holds one stands in double quotes. The id of an image is its path as
    written. Empty lines and a first line of headings (`path,label`) are passed over. Labels that are all whole
    numbers are sorted as numbers.

    Args:
        path: the list, UTF-8.
        root: what the paths are relative to; by default the folder of the list.

    Raises:
        InputError: no such file or folder, no line, a line of another form, or a path twice.
    """
    file = Path(path)
    folder = file.parent if root is None else Path(root)
    if root is not None and not folder.is_dir():
        raise InputError(f"root {folder} of list {file} is not a folder")
    names, labels = read_list(file)

    def path_of(row: int) -> Path:
        return folder / names[row]

    return Listing.of_files(str(path), np.array(names), as_classes(labels), path_of, told=labels)


def read_list(path: Path) -> tuple[list[str], npt.NDArray[np.str_]]:
    """Paths and labels of a list file, in its order.

    Raises:
        InputError: no such file, no line in it, a line of another form, or a path twice.
    """
    seen: dict[str, int] = {}
    labels: list[str] = []
    for number, (name, label) in _lines(path):
        if (first := seen.setdefault(name, number)) != number:
            raise InputError(f"{path} names {name!r} in line {first} and again in line {number}; paths must be unique")
        labels.append(label)
    if not labels:
        raise InputError(f"{path} names no images; expected a path and a label per line")
    return list(seen), np.array(labels)


def as_classes(labels: npt.NDArray[np.str_]) -> npt.NDArray[np.int64] | npt.NDArray[np.str_]:
    """Labels as numbers where every one is a whole number written the usual way, else as they are."""
    if all(NUMBER.fullmatch(label) for label in np.unique(labels).tolist()):
        return labels.astype(np.int64)
    return labels


def _lines(path: Path) -> Iterator[tuple[int, tuple[str, str]]]:
    require_file(path, "a list of images, one path and label per line")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    separator = None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        begun, separator = separator is not None, separator or _separator(line)
        fields = _fields(line, separator)
        if len(fields) != 2 or not all(fields):
            raise InputError(
                f"{path} line {number} is {line[:80]!r}; expected a path and a label with {SEPARATORS[separator]} "
                'between them (a path that holds one in "…")'
            )
        if begun or not all(field.lower() in legal for field, legal in zip(fields, HEADINGS, strict=True)):
            yield number, (fields[0], fields[1])


def _separator(line: str) -> str:
    """What parts path and label in a first line: a tab if there is one, else the last comma or space."""
    if "\t" in line:
        return "\t"
    bare = re.sub(r'"[^"]*"', "x", line.strip())
    tail = re.split(r"\s*,\s*|\s+", bare)[-1]
    return "," if bare[: len(bare) - len(tail)].rstrip().endswith(",") else " "


def _fields(line: str, separator: str) -> list[str]:
    if separator == "\t":
        return [field.strip() for field in line.split("\t")]
    try:
        row = next(csv.reader([line.strip()], delimiter=separator, skipinitialspace=True, strict=True))
    except csv.Error:
        return []
    return [field.strip() for field in row]
