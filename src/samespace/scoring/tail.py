"""The exact upper tail of a stream of scores, kept in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Floats
from samespace.scoring.mates import Mates

Places = npt.NDArray[np.int32]
Codes = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, eq=False)
class Tail:
    """The largest impostor scores of a pair of models, descending, (T,); `complete` where these are all there are.

    `query` and `gallery` are the identities of both sides, (T,), and `place` that of the gallery item; int32 where
    they were gathered.
    """

    scores: Floats
    query: Codes
    gallery: Codes
    place: Codes
    complete: bool

    def __len__(self) -> int:
        return len(self.scores)

    def largest(self, place: int) -> float:
        """The score at a place, from 0."""
        return float(self.scores[place])

    def reaching(self, score: float) -> int:
        """How many are at or above a score."""
        return len(self.scores) - int(self.scores[::-1].searchsorted(np.float32(score)))


class TailCollector:
    """Keeps the `size` largest finite scores of the blocks it is shown, with where they stood.

    Scores at or below `floor` are passed over; the caller answers for there being enough above it.
    """

    def __init__(self, size: int, floor: float = -np.inf) -> None:
        self.size = size
        self.floor = floor
        self.seen = 0
        self._parts: list[tuple[Floats, Places, Places]] = []

    def add(self, scores: Floats, first_row: int) -> None:
        """Take the scores of a block of query rows, (q, G); −inf marks pairs that do not count."""
        if self.size == 0:
            return
        above = scores > self.floor
        if np.count_nonzero(above) > 2 * self.size:
            place = scores.size - self.size
            above = scores >= max(np.partition(scores, place, axis=None)[place], np.finfo(scores.dtype).min)
        row, column = (places.astype(np.int32) for places in np.nonzero(above))
        row += np.int32(first_row)
        self.take(scores[above], row, column)

    def take(self, scores: Floats, row: Places, column: Places) -> None:
        """Take some scores, (n,) float32, of query `row` with gallery item `column`."""
        self._parts.append((scores, row, column))
        self.seen += len(row)
        if self.seen > 2 * self.size:
            self._compact()

    def finish(self, mates: Mates) -> Tail:
        """The tail in descending order, with the identities of both sides."""
        total = mates.impostors
        if not self._parts:
            none = np.zeros(0, dtype=np.int32)
            return Tail(np.zeros(0, dtype=np.float32), none, none, none, total == 0)
        self._compact()
        scores, row, column = self._parts[0]
        order = np.argsort(-scores)
        self._parts = []
        place = column[order]
        query = mates.query_codes.astype(np.int32)[row[order]]
        return Tail(scores[order], query, mates.gallery_codes.astype(np.int32)[place], place, len(scores) == total)

    def _compact(self) -> None:
        scores, row, column = (np.concatenate(parts) for parts in zip(*self._parts, strict=True))
        if len(scores) > self.size:
            keep = np.argpartition(scores, len(scores) - self.size)[-self.size :]
            scores, row, column = scores[keep], row[keep], column[keep]
            self.floor = float(scores.min())
        self._parts = [(scores, row, column)]
        self.seen = len(scores)
