"""The largest scores of a stream as counts of each value: the memory follows the values that occur, not the scores."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Floats
from samespace.scoring.tail import Places

Keys = npt.NDArray[np.int64]

_SIGN = np.uint32(1 << 31)
_PAGE_BITS = 16
_BUFFERED = 1 << 20


class ScoreCounts:
    """How often each float32 score above a floor occurs.

    Between two powers of two lie 2²³ float32 values: cosines above 0.1 have at most 28 million, at four bytes each,
    however many cosines there are.

    Attributes:
        size: how many of the largest scores are wanted; those behind them are passed over.
        floor: scores at or below it are not taken; the caller answers for there being enough above it.
        seen: how many scores were taken.
    """

    def __init__(self, size: int, floor: float) -> None:
        self.size, self.floor, self.seen = size, floor, 0
        self._pages: dict[int, npt.NDArray[np.uint32]] = {}
        self._waiting: list[Floats] = []
        self._buffered = 0

    def __len__(self) -> int:
        return min(self.size, self.seen)

    def take(self, scores: Floats, row: Places, column: Places) -> None:
        """Count some scores, (n,) float32; whose they are plays no part."""
        self._waiting.append(scores)
        self.seen += len(scores)
        self._buffered += len(scores)
        if self._buffered > _BUFFERED:
            self._count()

    def largest(self, place: int) -> float:
        """The score at a place, from 0, of all in descending order."""
        self._count()
        above = 0
        for number in sorted(self._pages, reverse=True):
            page = self._pages[number]
            here = int(page.sum(dtype=np.int64))
            if above + here > place:
                reached = above + np.cumsum(page[::-1], dtype=np.int64)
                return _value((number << _PAGE_BITS) + len(page) - 1 - int(reached.searchsorted(place, "right")))
            above += here
        raise IndexError(f"score {place} of {above}")

    def reaching(self, score: float) -> int:
        """How many of the wanted scores are at or above one of them."""
        self._count()
        number, first = divmod(_key(score), 1 << _PAGE_BITS)
        parts = [page for other, page in self._pages.items() if other > number]
        parts += [self._pages[number][first:]] if number in self._pages else []
        return min(len(self), sum(int(part.sum(dtype=np.int64)) for part in parts))

    def below(self, score: float) -> float:
        """The highest score that is lower; −inf without one."""
        self._count()
        number, end = divmod(_key(score), 1 << _PAGE_BITS)
        for other in sorted((other for other in self._pages if other <= number), reverse=True):
            lower = np.flatnonzero(self._pages[other][: end if other == number else None])
            if len(lower):
                return _value((other << _PAGE_BITS) + int(lower[-1]))
        return -np.inf

    def _count(self) -> None:
        if not self._waiting:
            return
        keys, counts = np.unique(_keys(np.concatenate(self._waiting)), return_counts=True)
        self._waiting, self._buffered = [], 0
        numbers, first = np.unique(keys >> _PAGE_BITS, return_index=True)
        for number, start, stop in zip(numbers.tolist(), first, np.append(first[1:], len(keys)), strict=True):
            page = self._pages.setdefault(number, np.zeros(1 << _PAGE_BITS, dtype=np.uint32))
            page[keys[start:stop] & ((1 << _PAGE_BITS) - 1)] += counts[start:stop].astype(np.uint32)


def _keys(scores: Floats) -> Keys:
    """Whole numbers in the order of float32 scores, the same for both zeros."""
    bits = (scores.astype(np.float32) + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN).astype(np.int64)


def _key(score: float) -> int:
    return int(_keys(np.array([score]))[0])


def _value(key: int) -> float:
    """The score that has a key."""
    bits = np.array([key], dtype=np.uint32)
    return float(np.where(bits & _SIGN, bits ^ _SIGN, ~bits).view(np.float32)[0])
