"""Listed pairs: their scores from tables of float32 products, and TAR at bounds on FAR over them.

Scores are multiples of 2⁻²⁰ that no memory setting changes; this costs at most 6·10⁻⁷ of a cosine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.verification import allowed_count
from samespace.scoring.blocks import MEMORY, Units, block_columns, require_table, table_blocks
from samespace.scoring.grid import TABLE_DIGITS, rounded
from samespace.scoring.tail import Codes
from samespace.scoring.thresholds import TailTooShort, pair_thresholds, pair_weight, thresholds_at
from samespace.scoring.weighted import share_above

_DENSE = 0.02
_CHUNK = 1 << 20
_CHUNK_VALUES = 1 << 24
_MARGIN, _SPARE = 1.3, 4096


class PairScores:
    """Scores of a list of pairs under one pair of models; all are kept, only the highest are ever sorted.

    Args:
        genuine: (p,) scores of pairs of one identity.
        genuine_identity: (p,) that identity.
        impostor: (n,) scores of pairs of unlike identities.
        identities: gives the identities of the first and of the second of each, (n,) both; called only where weights
            differ.
    """

    def __init__(
        self, genuine: Units, genuine_identity: Ints, impostor: Units, identities: Callable[[], tuple[Codes, Codes]]
    ) -> None:
        self.genuine, self.genuine_identity = genuine, genuine_identity
        self.impostor, self.identities = impostor, identities
        self._tail: tuple[Units, tuple[Codes, Codes]] | None = None

    def tar(self, rates: Sequence[Fraction], counts: Ints) -> list[Floats]:
        """TAR at each rate under each row of `counts` (r, identities): (r,) float64 each, NaN without such pairs."""
        if (counts == 1).all():
            levels = [np.full(len(counts), level) for level in thresholds_at(self.impostor, rates)]
            usable = np.full(len(counts), self.impostor.size > 0)
        else:
            total = pair_weight(*self.identities(), counts)
            levels, usable = self._thresholds(rates, total, counts), total > 0
        shares = [share_above(self.genuine, self.genuine_identity, level, counts) for level in levels]
        return [np.where(usable, share, np.nan) for share in shares]

    def _thresholds(self, rates: Sequence[Fraction], total: Ints, counts: Ints) -> list[Floats]:
        size = _SPARE + int(_MARGIN * max(allowed_count(rate, len(self.impostor)) for rate in rates))
        while True:
            scores, sides = self._highest(min(size, len(self.impostor)))
            try:
                return pair_thresholds(rates, scores, sides, len(scores) == len(self.impostor), total, counts)
            except TailTooShort:
                size *= 2

    def _highest(self, size: int) -> tuple[Units, tuple[Codes, Codes]]:
        """At least the `size` highest impostor scores, descending, with their identities; kept for the next call."""
        if self._tail is None or len(self._tail[0]) < size:
            cut = len(self.impostor) - size
            chosen = np.argpartition(self.impostor, cut)[cut:] if cut else np.arange(size)
            chosen = chosen[np.argsort(-self.impostor[chosen], kind="stable")]
            first, second = self.identities()
            self._tail = self.impostor[chosen], (first[chosen], second[chosen])
        return self._tail


def table_scores(left: Units, right: Units, first: Codes, second: Codes, *, memory: int = MEMORY) -> Units:
    """Cosine of each listed pair.

    Where the list fills more than a fiftieth of the table of its distinct first and distinct second items, that table
    is made, in blocks, and the pairs are looked up; otherwise each pair is multiplied by itself.

    `left` (M, D) and `right` (M', D) are float32 of length one, or zero; `first` and `second` (P,) are rows of them. A
    list in the order of `first` is looked up fastest. The result, (P,) float32 multiples of 2⁻²⁰, is the same for any
    `memory`.

    Raises:
        InputError: shapes that do not fit, a row out of range, or `memory` below 1.
    """
    require_table(left, right, memory)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"first and second should be one each per pair, got shapes {first.shape} and {second.shape}")
    rows, row = compact(first, len(left))
    columns, column = compact(second, len(right))
    if not worth_a_table(len(first), len(rows) * len(columns)):
        return _one_by_one(left, right, first, second)
    lookup = Lookup(row, column, len(rows), len(columns), memory)
    for start, block in table_blocks(left[rows], right[columns], memory=memory):
        lookup.add(start, block)
    return lookup.scores


def worth_a_table(pairs: int, scores: int) -> bool:
    """Whether so many pairs are had sooner from a table of so many scores than one by one."""
    return pairs >= _DENSE * scores


def compact(items: Codes, count: int) -> tuple[Ints, npt.NDArray[np.int32]]:
    """The distinct rows among `items`, ascending, and the place of each item among them.

    Raises:
        InputError: a row outside 0 … count − 1.

    Example:
        >>> rows, place = compact(np.array([5, 2, 5]), 9)
        >>> rows.tolist(), place.tolist()
        ([2, 5], [1, 0, 1])
    """
    if items.size and not 0 <= items.min() <= items.max() < count:
        raise InputError(f"pairs should name rows 0 to {count - 1}, got {items.min()} to {items.max()}")
    rows = distinct(items, count)
    return rows, places_of(rows, items, count)


def distinct(items: Codes, count: int) -> Ints:
    """The distinct rows among `items`, all below `count`, ascending; for long lists, without sorting."""
    used = np.zeros(count, dtype=bool)
    used[items] = True
    return np.flatnonzero(used)


def places_of(rows: Ints, items: Codes, count: int) -> npt.NDArray[np.int32]:
    """The place of each of `items` among `rows`, all below `count`; −1 for one that is not there."""
    table = np.full(count, -1, dtype=np.int32)
    table[rows] = np.arange(len(rows), dtype=np.int32)
    return np.asarray(table.take(items))


class Lookup:
    """Takes the scores of listed pairs out of blocks of a table.

    `row`: (P,) row of each pair. `column`: (P,) its column. `memory`: as given to `table_blocks`.
    """

    def __init__(self, row: Codes, column: Codes, rows: int, columns: int, memory: int) -> None:
        self.row, self.column = row, column
        self.scores: Units = np.empty(len(row), dtype=np.float32)
        self._step = block_columns(rows, memory)
        self._order: Ints | None = None
        if self._step < columns:
            which = (column // self._step).astype(np.min_scalar_type(columns // self._step))
            self._order = np.argsort(which, kind="stable")
            self._ends = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=-(-columns // self._step)))])

    def add(self, start: int, block: Units) -> None:
        """Take what the block that starts at column `start` holds."""
        pairs: slice | Ints = slice(0, len(self.row))
        if self._order is not None:
            place = start // self._step
            pairs = self._order[self._ends[place] : self._ends[place + 1]]
        # torch shares a look-up out over threads
        import torch

        table = torch.from_numpy(block)
        count = pairs.stop if isinstance(pairs, slice) else len(pairs)
        for first in range(0, count, _CHUNK):
            part: Any = slice(first, first + _CHUNK)
            if not isinstance(pairs, slice):
                part = pairs[part]
            at = torch.from_numpy(self.row[part]).long().mul_(block.shape[1])
            at.add_(torch.from_numpy(self.column[part])).sub_(start)
            self.scores[part] = torch.take(table, at).numpy()


def _one_by_one(left: Units, right: Units, first: Codes, second: Codes) -> Units:
    scores = np.empty(len(first), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // max(1, left.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        scores[part] = np.einsum("ij,ij->i", left[first[part]], right[second[part]])
    return rounded(scores, TABLE_DIGITS)
