"""The impostor scores of one pair of models between two scores, and how many lie above, by identities of both sides."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.mates import Mates
from samespace.scoring.score import single_error, vector_lengths
from samespace.scoring.sides import SideVectors
from samespace.scoring.tail import Codes
from samespace.scoring.tiles.tile import LOWEST, Tile, Vectors, Workspace, at_least
from samespace.threads import in_order, threads

_TILE_QUERIES, _TILE_ITEMS = 256, 16_384
_EXACT, _WEIGHED_ROWS = 1 << 24, 512

ModelPair = tuple[SideVectors, SideVectors]
Found = tuple[int, Ints, Floats, Ints, Ints]


@dataclass(frozen=True, eq=False)
class Band:
    """Impostor scores above `low` and at most `high`, descending, and how many are above `high`.

    Attributes:
        low: lower end, exclusive.
        high: upper end, inclusive.
        scores: (T,) float32.
        query: (T,) identity of each score's query.
        gallery: (T,) identity of its item.
        above: (q, g) how many scores above `high` there are of each of the `query_identities` (q,) with each of the
            `gallery_identities` (g,).
    """

    low: float
    high: float
    scores: Floats
    query: Codes
    gallery: Codes
    above: npt.NDArray[np.unsignedinteger[Any]] = field(repr=False)
    query_identities: Ints = field(repr=False)
    gallery_identities: Ints = field(repr=False)

    def weight_above(self, counts: Ints) -> Ints:
        """Σ c_query · c_item over the scores above `high` under each row of `counts` (r, identities): (r,) int64."""
        total = np.zeros(len(counts), dtype=np.int64)
        fitting = int(self.above.sum(axis=1, dtype=np.int64).max(initial=0)) * int(counts.max(initial=0)) < _EXACT
        # whole numbers below 2²⁴ are exact in float32, which is twice as fast
        kind = np.float32 if fitting else np.float64
        items = counts.astype(kind)[:, self.gallery_identities]
        for start in range(0, len(self.above), _WEIGHED_ROWS):
            part = slice(start, start + _WEIGHED_ROWS)
            sums = items @ self.above[part].T.astype(kind)
            total += np.einsum("rq,rq->r", counts[:, self.query_identities[part]], sums.astype(np.int64))
        return total


def table_bytes(mates: Mates) -> int:
    """The memory of `Band.above`."""
    kind = _table_kind(mates)
    return len(np.unique(mates.query_codes)) * len(np.unique(mates.gallery_codes)) * kind.itemsize


def gather_band(pair: ModelPair, mates: Mates, low: float, high: float) -> Band:
    """One pass over queries × gallery for the band of impostor scores in (low, high]."""
    present, who = np.unique(mates.query_codes, return_inverse=True)
    items, place = np.unique(mates.gallery_codes, return_inverse=True)
    above = np.zeros((len(present), len(items)), dtype=_table_kind(mates))
    reader = _Reader(pair, mates, low, high, who, place)
    parts: list[tuple[Floats, Codes, Codes]] = []
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads(), "samespace-band") as pool:
        for rows, first, table, found in in_order(reader.read, reader.tiles(), pool, threads()):
            above[rows[:, None], first + np.arange(table.shape[1])] += table.astype(above.dtype)
            parts.append(found)
    scores, query, item = (np.concatenate(some) for some in zip(*parts, strict=True))
    parts.clear()
    order = np.argsort(-scores)
    kinds = present.astype(np.int32), items.astype(np.int32)
    return Band(low, high, scores[order], kinds[0][query[order]], kinds[1][item[order]], above, present, items)


class _Reader:
    """Reads tiles of queries and items for the scores of a band."""

    def __init__(self, pair: ModelPair, mates: Mates, low: float, high: float, who: Ints, place: Ints) -> None:
        (queries, self._gallery), self._mates, self._ends = pair, mates, (low, high)
        self._who, self._place = who, place
        self._queries = Vectors.of(queries.read(0, len(queries)))
        self._longest = None if self._gallery.score == "cosine" else self._gallery.longest
        furthest = max(float(vector_lengths(values).max(initial=0.0)) for _, values in self._gallery.blocks())
        reach = vector_lengths(self._queries.exact)
        self._error = single_error(reach, furthest, self._gallery.dim, self._gallery.score)
        self._workspace = Workspace()

    def tiles(self) -> Iterator[tuple[slice, int, Vectors]]:
        """Queries, the first item and the items of each tile."""
        for first, values in self._gallery.blocks(_TILE_ITEMS):
            items = Vectors.of(values)
            for start in range(0, len(self._queries), _TILE_QUERIES):
                yield slice(start, min(start + _TILE_QUERIES, len(self._queries))), first, items

    def read(self, task: tuple[slice, int, Vectors]) -> tuple[Ints, int, Ints, tuple[Floats, Codes, Codes]]:
        """What a tile shows, identities as numbers.

        Those of its queries, the first of its items', how many scores of each with each are above the band, and the
        scores in the band with their identities.
        """
        rows, first, items = task
        out = self._workspace.array("scores", (rows.stop - rows.start, len(items)))
        tile = Tile(self._queries.part(rows), items, self._gallery.score, self._longest, out)
        tile.singles[self._mates.listed(rows, first, len(items))] = -np.inf
        low, high = self._ends
        flat = at_least(tile.singles, np.maximum(low - self._error[rows], LOWEST).astype(np.float32))
        query, item = np.divmod(flat, len(items))
        scores = tile.singles.reshape(-1).take(flat)
        doubt = np.flatnonzero(scores <= (high + self._error[rows]).astype(np.float32)[query])
        scores[doubt] = tile.exact(query[doubt], item[doubt])
        who, inverse = np.unique(self._who[rows], return_inverse=True)
        place = self._place[first : first + len(items)]
        width = int(place[-1] - place[0]) + 1
        surely = scores > high
        cell = inverse[query[surely]] * width + (place[item[surely]] - place[0])
        table = np.bincount(cell, minlength=len(who) * width).reshape(len(who), width)
        within = ~surely & (scores > low)
        mine = self._who[rows][query[within]].astype(np.int32), place[item[within]].astype(np.int32)
        return who, int(place[0]), table, (scores[within], *mine)


def _table_kind(mates: Mates) -> np.dtype[np.unsignedinteger[Any]]:
    """The smallest whole numbers that hold all pairs of two identities."""
    queries, gallery = mates.items
    return np.dtype(np.min_scalar_type(int(queries.max(initial=0)) * int(gallery.max(initial=0))))
