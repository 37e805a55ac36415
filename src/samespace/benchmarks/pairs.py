"""Scores of listed pairs, and of whole blocks of rows against columns, fast and with bounded memory.

Cosines are float32 products, always cut into the same tiles whatever the memory setting, so that no result depends on
it; each is then rounded to a multiple of 2⁻²⁰, coarser than the noise of the product (about 10⁻⁷), so that equal
vectors tie, too. What this costs is at most 6·10⁻⁷ of a score.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samespace.errors import InputError
from samespace.metrics._arrays import Ints

Units = npt.NDArray[np.float32]
Codes = npt.NDArray[np.integer[Any]]

MEMORY = 1 << 30
_TILE_ROWS, _TILE_COLUMNS, _TILE_SCORES = 4096, 1024, 1 << 26
# adding 12 leaves a float32 no digit below 2⁻²⁰
_ROUNDER = 12.0
_DENSE = 0.02
_CHUNK = 1 << 20
_CHUNK_VALUES = 1 << 24


def pair_scores(left: Units, right: Units, first: Codes, second: Codes, *, memory: int = MEMORY) -> Units:
    """Cosine of each listed pair.

    Where the list fills more than a fiftieth of the table of its distinct first and distinct second items, that table
    is made, in blocks, and the pairs are looked up; otherwise each pair is multiplied by itself.

    Args:
        left: (M, D) float32 of length one, or zero.
        right: (M', D) likewise.
        first: (P,) row of `left` of each pair; a list in this order is looked up fastest.
        second: (P,) row of `right`.
        memory: bytes for the scores held at a time.

    Returns:
        (P,) float32 multiples of 2⁻²⁰; the same for any `memory`.

    Raises:
        InputError: shapes that do not fit, a row out of range, or `memory` below 1.
    """
    _require(left, right, memory)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"first and second should be one each per pair, got shapes {first.shape} and {second.shape}")
    rows, row = compact(first, len(left))
    columns, column = compact(second, len(right))
    if not worth_a_table(len(first), len(rows) * len(columns)):
        return _dots(left, right, first, second)
    lookup = Lookup(row, column, len(rows), len(columns), memory)
    for start, block in score_blocks(left[rows], right[columns], memory=memory):
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
    return np.asarray(torch.from_numpy(table).index_select(0, torch.from_numpy(items)).numpy())


def score_blocks(rows: Units, columns: Units, *, memory: int = MEMORY) -> Iterator[tuple[int, Units]]:
    """Cosine of all `rows` (R, D) with each of `columns` (C, D), some columns at a time.

    Yields:
        (first column, (R, c) float32 multiples of 2⁻²⁰); the array is the caller's to use up. At least one tile is made
        at a time, 256 MB or 64 columns, even where `memory` is less.
    """
    _require(rows, columns, memory)
    tile, step = _tile_columns(len(rows)), block_columns(len(rows), memory)
    left = torch.from_numpy(np.ascontiguousarray(rows))
    buffer = torch.empty(tile * min(len(rows), _TILE_ROWS))
    for first in range(0, len(columns), step):
        width = min(step, len(columns) - first)
        block = torch.empty((len(rows), width))
        for start in range(0, width, tile):
            stop = min(start + tile, width)
            right = torch.from_numpy(np.ascontiguousarray(columns[first + start : first + stop])).T
            for row in range(0, len(rows), _TILE_ROWS):
                part = left[row : row + _TILE_ROWS]
                product = buffer[: len(part) * (stop - start)].view(len(part), stop - start)
                torch.mm(part, right, out=product)
                out = block[row : row + _TILE_ROWS, start:stop]
                torch.sub(product.add_(_ROUNDER), _ROUNDER, out=out)
        yield first, np.asarray(block.numpy())


def block_columns(rows: int, memory: int) -> int:
    """How many columns `score_blocks` makes at a time for so many rows."""
    tile = _tile_columns(rows)
    return max(1, memory // (4 * max(1, rows) * tile)) * tile


class Lookup:
    """Takes the scores of listed pairs out of blocks of a table.

    Args:
        row: (P,) row of each pair.
        column: (P,) its column.
        rows: how many rows the table has.
        columns: how many columns.
        memory: as given to `score_blocks`.
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
        if self._order is None:
            self._take(slice(0, len(self.row)), start, block)
            return
        place = start // self._step
        self._take(self._order[self._ends[place] : self._ends[place + 1]], start, block)

    def _take(self, pairs: slice | Ints, start: int, block: Units) -> None:
        table = torch.from_numpy(block)
        count = pairs.stop if isinstance(pairs, slice) else len(pairs)
        for first in range(0, count, _CHUNK):
            part: Any = slice(first, first + _CHUNK)
            if not isinstance(pairs, slice):
                part = pairs[part]
            # torch shares these out over threads
            place = torch.from_numpy(self.row[part]).long().mul_(block.shape[1])
            place.add_(torch.from_numpy(self.column[part])).sub_(start)
            self.scores[part] = torch.take(table, place).numpy()


def _dots(left: Units, right: Units, first: Codes, second: Codes) -> Units:
    out = np.empty(len(first), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // max(1, left.shape[1]))
    for start in range(0, len(first), step):
        part = slice(start, start + step)
        dots = np.einsum("ij,ij->i", left[first[part]], right[second[part]])
        out[part] = (dots + np.float32(_ROUNDER)) - np.float32(_ROUNDER)
    return out


def _tile_columns(rows: int) -> int:
    return max(64, min(_TILE_COLUMNS, _TILE_SCORES // max(1, rows)))


def _require(left: Units, right: Units, memory: int) -> None:
    for side in (left, right):
        if side.ndim != 2 or side.dtype != np.float32:
            raise InputError(f"vectors to score should be (items, dims) float32, got {side.dtype} {side.shape}")
    if left.shape[1] != right.shape[1]:
        raise InputError(f"vectors to score should agree in dimension, got {left.shape[1]} and {right.shape[1]}")
    if memory < 1:
        raise InputError(f"memory should be at least 1 byte, got {memory}")
