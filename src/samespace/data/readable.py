"""Images that turn out unreadable only when they are decoded: another one of their class is read in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from samespace.data.source import ImageSource, Rows, as_rows
from samespace.errors import InputError

if TYPE_CHECKING:
    import torch


class UnreadableImages(InputError):
    """Images that passed the first look and cannot be decoded, of a source that skips such images.

    Attributes:
        reasons: why, by the place of each among the rows asked for.
    """

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


class Unreadable(NamedTuple):
    """The row of an image that was asked for, and why it cannot be read."""

    row: int
    reason: str


@dataclass(frozen=True, eq=False)
class Readable:
    """Images of some rows.

    Attributes:
        rows: `(B,)` int64, whose images these are: the rows asked for, but for stand-ins.
        images: `(B, C, H, W)` uint8.
        unreadable: what stand-ins stand for, by their place among the images.
    """

    rows: npt.NDArray[np.int64]
    images: torch.Tensor
    unreadable: Mapping[int, Unreadable]


def load_readable(source: ImageSource, rows: Rows) -> Readable:
    """Images of these rows in this order; for one that cannot be read, where the source skips such, a stand-in.

    That is the next image in the order of the rows that can be read: of its class, or of any class where its own has
    none. It follows from the source and the row alone, so every process and every resumed training takes the same.

    Raises:
        InputError: no image of the source can be read, or one cannot that the source does not skip.
    """
    asked = as_rows(rows, len(source))
    try:
        return Readable(asked, source.load(asked), {})
    except UnreadableImages as error:
        reasons = error.reasons
    taken = asked.copy()
    for place in reasons:
        taken[place] = _stand_in(source, int(asked[place]))
    unreadable = {place: Unreadable(int(asked[place]), reason) for place, reason in reasons.items()}
    return Readable(taken, source.load(taken), unreadable)


def stand_ins(source: ImageSource, rows: Rows) -> npt.NDArray[np.int64] | None:
    """For each of these rows the row of its stand-in; None where one of their images can be read after all."""
    found = []
    for row in as_rows(rows, len(source)).tolist():
        if _can_be_read(source, row):
            return None
        found.append(_stand_in(source, row))
    return np.array(found, dtype=np.int64)


def _stand_in(source: ImageSource, row: int) -> int:
    for other in _candidates(source, row):
        if _can_be_read(source, other):
            return other
    raise InputError(f"none of the {len(source):,} images of {source.name} can be read any more")


def _candidates(source: ImageSource, row: int) -> Iterator[int]:
    """The rows after this one, starting over at the end: those of its class, then the others."""
    alike = source.labels == source.labels[row]
    for group in (np.flatnonzero(alike), np.flatnonzero(~alike)):
        after = int(np.searchsorted(group, row, side="right"))
        yield from (other for other in np.roll(group, -after).tolist() if other != row)


def _can_be_read(source: ImageSource, row: int) -> bool:
    try:
        source.load([row])
    except UnreadableImages:
        return False
    return True
