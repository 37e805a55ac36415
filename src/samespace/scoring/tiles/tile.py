"""A tile of scores, some queries by some gallery items: in float32, or exactly."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.grid import Doubles
from samespace.scoring.score import Singles, score_pairs, score_table, single_table
from samespace.scoring.tiles.device import Held
from samespace.space import Score

if TYPE_CHECKING:
    import torch

# one exact score costs about as much as this many of a whole tile
_ALONE = 64
LOWEST = float(np.finfo(np.float32).min)
_PAIRS_AT_ONCE = 2048
_EXACT_COLUMNS = 1024
_CACHED_SCORES = 1 << 18


@dataclass(frozen=True, eq=False)
class Vectors:
    """Some vectors, (n, D), in float64 and float32, and where products are made on a device, there as well."""

    exact: Doubles
    singles: Singles
    held: Held | None = None

    @classmethod
    def of(cls, vectors: Doubles, device: torch.device | None = None) -> Vectors:
        """All forms of float64 vectors."""
        return cls(vectors, vectors.astype(np.float32), None if device is None else Held.of(vectors, device))

    def __len__(self) -> int:
        return len(self.exact)

    def part(self, rows: slice | Ints) -> Vectors:
        """Some of them."""
        return Vectors(self.exact[rows], self.singles[rows], self.held and self.held.part(rows))


class Workspace(threading.local):
    """Float32 arrays that each thread uses again for its next tile, so that no memory is cleared for every tile."""

    def __init__(self) -> None:
        self._kept: dict[str, Singles] = {}

    def array(self, name: str, shape: tuple[int, int]) -> Singles:
        """An array, filled with anything, that is the caller's until it asks for the same name again."""
        if name not in self._kept or self._kept[name].size < prod(shape):
            self._kept[name] = np.empty(prod(shape), dtype=np.float32)
        return self._kept[name][: prod(shape)].reshape(shape)


class Tile:
    """Scores of some queries (q, D) with some gallery items (g, D).

    Attributes:
        singles: (q, g) float32, written to `out`: within `single_error` of the exact scores, or these themselves where
            the tile is made `exactly`; the caller's to use up, with what it does not ask `exact` for first.
        exactly: whether these are the exact scores.
    """

    def __init__(
        self,
        queries: Vectors,
        gallery: Vectors,
        score: Score,
        longest: float | None,
        out: Singles,
        *,
        exactly: bool = False,
    ) -> None:
        self._queries, self._gallery = queries, gallery
        self._score, self._longest = score, longest
        self.exactly = exactly
        if exactly:
            self.singles = self._exactly(queries, out)
        else:
            products = queries.held.single_products(gallery.held, out) if queries.held and gallery.held else None
            self.singles = single_table(queries.singles, gallery.singles, score, out=out, products=products)

    def exact(self, query: Ints, item: Ints) -> Floats:
        """The scores of listed pairs, (P,) float32, as `score_blocks` gives them."""
        if self.exactly or len(query) * _ALONE > self.singles.size:
            return np.asarray(self._table[query, item])
        return exact_pairs(self._queries.exact, self._gallery.exact, query, item, self._score, self._longest)

    def exact_rows(self, rows: Ints) -> Floats:
        """All scores of some of the queries, (r, g) float32; the caller's to use up."""
        return self._exactly(self._queries.part(rows), np.empty((len(rows), len(self._gallery)), dtype=np.float32))

    @cached_property
    def _table(self) -> Floats:
        return self.singles if self.exactly else self.exact_rows(np.arange(len(self._queries)))

    def _exactly(self, queries: Vectors, out: Singles) -> Singles:
        """All scores of queries by blocks of columns, which stay in the processor's cache."""
        step = len(self._gallery) if queries.held else _EXACT_COLUMNS
        for first in range(0, len(self._gallery), step):
            part = slice(first, first + step)
            some = self._gallery.part(part)
            products = queries.held.exact_products(some.held) if queries.held and some.held else None
            score_table(
                queries.exact, some.exact, self._score, longest=self._longest, out=out[:, part], products=products
            )
        return out


def exact_pairs(
    queries: Doubles, gallery: Doubles, query: Ints, item: Ints, score: Score, longest: float | None
) -> Floats:
    """The scores of queries `query` (P,) with items `item` (P,), float32, as `score_blocks` gives them."""
    scores = np.empty(len(query), dtype=np.float32)
    for start in range(0, len(query), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        scores[part] = score_pairs(queries[query[part]], gallery[item[part]], score, longest=longest)
    return scores


def row_groups(rows: int, width: int) -> Iterator[slice]:
    """Rows of a table so wide, some at a time, so that a group stays in the processor's cache."""
    step = max(1, _CACHED_SCORES // max(1, width))
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def at_least(scores: Floats, cut: Floats) -> Ints:
    """Places in the flattened table (q, g), ascending, of the scores at or above the `cut` (q,) of their row.

    Example:
        >>> at_least(np.array([[0.1, 0.5], [0.7, 0.5]]), np.array([0.5, 0.6])).tolist()
        [1, 2]
    """
    width = scores.shape[1]
    found = [
        np.flatnonzero(scores[part] >= cut[part, None]) + part.start * width for part in row_groups(len(scores), width)
    ]
    return np.concatenate([np.zeros(0, dtype=np.int64), *found])
