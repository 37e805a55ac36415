"""Which column of a list of images is what: by names in its first line, by what the user says, or by its looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from samespace.data.sources.kinds import SUFFIXES
from samespace.errors import InputError, suggest
from samespace.text import parses_as_float

# the first name that is there counts
PATHS = (
    "path", "image", "file", "filename", "image_path", "img_path", "image_name", "file_name", "filepath", "file_path",
    "relative_path", "img", "impath",
)  # fmt: skip
LABELS = (
    "label", "class", "identity", "target", "class_id", "item_id", "person_id", "pid", "vehicle_id", "landmark_id",
    "identity_id", "label_id", "class_name", "label_name", "category_id", "category",
)  # fmt: skip
PARTS = ("split", "evaluation_status", "partition", "subset", "part")
FLAGS = ("is_query", "is_gallery")


@dataclass(frozen=True)
class Columns:
    """What the columns of a list are, by their places from 0.

    Attributes:
        count: how many there are.
        path: of the image files.
        label: of the classes.
        names: of each, in lower case; empty where the list has no line of names.
        numbers: whether labels are printed as fractions, `3.000000`, as in MXNet's lists.
        note: a sentence that says so.
    """

    count: int
    path: int
    label: int
    names: tuple[str, ...] = ()
    numbers: bool = False
    note: str = ""

    def place(self, names: Sequence[str]) -> int | None:
        """The place of the first of these names that is there."""
        return next((self.names.index(name) for name in names if name in self.names), None)


def find_columns(
    first: Sequence[str], second: Sequence[str], *, path: str | None, label: str | None, where: str
) -> Columns | None:
    """What the columns are, from the first two rows; None where that cannot be told.

    `path` and `label` are what the user names them, by a name in the first row or by a number from 1.

    Raises:
        InputError: there is no such column.
    """
    names = tuple(field.strip().lower() for field in first)
    while names and not names[-1]:
        names = names[:-1]
    chosen = _chosen(names, path, PATHS, where, "path"), _chosen(names, label, LABELS, where, "label")
    if _has_names(names, second, path, label, chosen):
        return _named(names, chosen, where)
    numbers = [_number(text, len(names), where) for text in (path, label)]
    return _unnamed(first[: len(names)], numbers)


def _chosen(names: tuple[str, ...], given: str | None, usual: Sequence[str], where: str, option: str) -> int | None:
    """Place of the column by its name: the user's, or else the first usual one."""
    if given is None:
        return next((names.index(name) for name in usual if name in names), None)
    if given.lower() in names:
        return names.index(given.lower())
    if given.isdecimal():
        return None
    raise InputError(f"{where} has no column {given!r} ({option}=); {suggest(given, names)}, or a number from 1")


def _has_names(
    names: tuple[str, ...], second: Sequence[str], path: str | None, label: str | None, chosen: tuple[int | None, ...]
) -> bool:
    """Whether the first row names the columns: both are known, or one of two is and an image stands below it."""
    if any(text is not None and not text.isdecimal() for text in (path, label)):
        return True
    if None not in chosen and chosen[0] != chosen[1]:
        return True
    place = chosen[0]
    return place is not None and place < len(second) and not is_picture(names[place]) and is_picture(second[place])


def _named(names: tuple[str, ...], chosen: tuple[int | None, ...], where: str) -> Columns:
    if twice := [name for name in names if name and names.count(name) > 1]:
        raise InputError(f"{where} names the column {twice[0]!r} twice")
    path, label = chosen
    if len(names) == 2 and (path is None) != (label is None):
        path, label = (1 - (label or 0) if path is None else path), (1 - (path or 0) if label is None else label)
    if path is None or label is None:
        what, option = ("the images", "path") if path is None else ("the class", "label")
        raise InputError(f"{where} has columns {', '.join(names)[:120]}; say which is {what}: {option}=NAME")
    if path == label:
        raise InputError(f"{where}: path and label are both the column {names[path]!r}")
    unread = [name for place, name in enumerate(names) if place not in (path, label)]
    note = f"columns: {names[path]} is the image, {names[label]} the class"
    return Columns(len(names), path, label, names, note=f"{note}; not read: {', '.join(unread)}" if unread else note)


def _unnamed(first: Sequence[str], numbers: Sequence[int | None]) -> Columns | None:
    count = len(first)
    path, label = numbers
    fractions = False
    if path is None and label is None:
        looks = [is_picture(field) for field in first]
        if (
            count >= 3
            and first[0].strip().isdecimal()
            and all(map(parses_as_float, first[1:-1]))
            and not parses_as_float(first[-1])
        ):
            # index, labels and path, as MXNet writes
            path, label, fractions = count - 1, 1, True
        elif count == 2:
            path = 1 if looks == [False, True] else 0
            label = 1 - path
    elif count == 2:
        path, label = (1 - (label or 0) if path is None else path), (1 - (path or 0) if label is None else label)
    if path is None or label is None or path == label:
        return None
    more = f"; not read: {count - 2} more" if count > 2 else ""
    note = f"no names of columns: column {path + 1} is the image, column {label + 1} the class{more}"
    return Columns(count, path, label, numbers=fractions, note=note)


def _number(given: str | None, count: int, where: str) -> int | None:
    if given is None or not given.isdecimal():
        return None
    if not 1 <= int(given) <= count:
        raise InputError(f"{where} has {count} columns, counted from 1; there is no column {given}")
    return int(given) - 1


def is_picture(name: str) -> bool:
    """Whether a name ends as image files do, even where nothing stands before its suffix."""
    return "." + name.strip().lower().rpartition(".")[2] in SUFFIXES
