"""Exact nearest vectors: a float32 product finds candidates with a safe margin, float64 decides.

A float32 dot product of two unit vectors of D dimensions errs by at most D · 2⁻²⁴, in whatever order it is summed. A
row whose float32 score lies D · 2⁻²³ below the k-th best cannot be among the k best; the few that are left are scored
again in float64, each row by itself, so that a score never depends on what lies beside the row.

Inner products and squared distances are brought to that scale first: divided by the largest lengths, which the product
of the float32 rows errs in proportion to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import GalleryError
from samespace.gallery.index.found import Float64s, Neighbours
from samespace.gallery.index.segments import Segment
from samespace.gallery.ledger.state import Ints, Vectors
from samespace.space import Score

Bools = npt.NDArray[np.bool_]

_BLOCK = 16_384
_SEED = 2_048
_GATHERED = 4_096
_QUERIES = 256
_FEW = 8
_RESCORED_BYTES = 32 * 2**20
_SHORTEST = 1e-18  # lengths below are taken for this one, so that nothing overflows
_LEAST = 2.0**-125  # what a float32 may lose where it is too small to be normal


@dataclass(frozen=True, eq=False)
class Part:
    """A segment, and which of its rows may be found: `live` of them, by `mask` (None: all or none)."""

    segment: Segment
    live: int
    mask: Bools | None

    @classmethod
    def whole(cls, segment: Segment) -> Part:
        """The part with every row."""
        return cls(segment, len(segment), None)

    @classmethod
    def of(cls, segment: Segment, mask: Bools) -> Part:
        """The part with the rows of a mask."""
        live = int(np.count_nonzero(mask))
        return cls(segment, live, mask if 0 < live < len(segment) else None)

    def alive(self) -> Bools:
        """Which rows may be found, (N,)."""
        return np.full(len(self.segment), self.live > 0) if self.mask is None else self.mask

    def rows(self) -> Segment:
        """The rows that may be found, as a segment."""
        return self.segment if self.live == len(self.segment) else self.segment.take(self.alive())

    def beyond(self, start: int) -> Part:
        """The part from a row on."""
        return Part.of(self.segment.take(slice(start, None)), self.alive()[start:]) if self.live else self

    def restricted(self, allowed: Bools) -> Part:
        """The part without items that a mask by item number leaves out."""
        if not self.live:
            return self
        mask = allowed[self.segment.items]
        return Part.of(self.segment, mask if self.mask is None else mask & self.mask)


class DamagedFile(GalleryError):
    """Rows of index files, by the files' names, are not what was written: whoever asked does so without them."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        super().__init__(f"index files are damaged ({', '.join(sorted(self.names))}); search again")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows that may be among the best: (C,) query, part and place of each."""

    query: Ints
    part: Ints
    place: Ints

    @classmethod
    def joined(cls, some: Sequence[Candidates]) -> Candidates:
        """Those of several together."""
        if len(some) == 1:
            return some[0]
        columns = ([getattr(one, name) for one in some] for name in ("query", "part", "place"))
        return cls(*(np.concatenate([np.empty(0, dtype=np.int64), *column]) for column in columns))

    def take(self, places: Any) -> Candidates:
        """Some of them, by place or mask."""
        return Candidates(self.query[places], self.part[places], self.place[places])

    def runs(self, parts: Sequence[Part]) -> Iterator[tuple[Segment, slice]]:
        """The segment of each part that has candidates, and which these are, where they are sorted by part."""
        if len(self.part):
            bounds = [0, *(np.flatnonzero(self.part[1:] != self.part[:-1]) + 1).tolist(), len(self.part)]
            yield from ((parts[self.part[start]].segment, slice(start, end)) for start, end in pairwise(bounds))


def nearest(parts: Sequence[Part], queries: Vectors, k: int) -> list[Neighbours]:
    """For each of the queries, (Q, D) float32, the `k` nearest rows and all that tie with the last one.

    Queries are as the rows are: at unit length where the segments' score is the cosine.
    """
    results: list[Neighbours] = []
    for start in range(0, len(queries), _QUERIES):
        some = np.ascontiguousarray(queries[start : start + _QUERIES])
        results += best(parts, some, candidates(parts, some, k), k)
    return results


def nearest_in(segments: Iterable[Segment], queries: Vectors, k: int) -> list[Neighbours]:
    """The same over all rows of segments that come one after another, so that one at a time is in memory."""
    results = no_neighbours(len(queries))
    for segment in segments:
        results = better_of(results, nearest([Part.whole(segment)], queries, k), k)
    return results


def no_neighbours(queries: int) -> list[Neighbours]:
    """No item for any query."""
    return [Neighbours(np.empty(0, dtype=np.int64), np.empty(0))] * queries


def better_of(some: Sequence[Neighbours], more: Sequence[Neighbours], k: int) -> list[Neighbours]:
    """The `k` best of two answers to each query, which share no item, ties with the last one included."""
    both = []
    for one, other in zip(some, more, strict=True):
        items, raw = np.concatenate([one.items, other.items]), np.concatenate([one.raw, other.raw])
        order = np.lexsort((items, -raw))
        both.append(_cut(items[order], raw[order], k))
    return both


def _cut(items: Ints, raw: Float64s, k: int) -> Neighbours:
    """The first `k` of a descending list, and what ties with the last of them."""
    # ascending as searchsorted needs it, so the ties of the k-th end where -raw first exceeds it
    end = len(raw) if len(raw) <= k else int(np.searchsorted(-raw, -raw[k - 1], side="right"))
    return Neighbours(items[:end], raw[:end])


def candidates(parts: Sequence[Part], queries: Vectors, k: int) -> Candidates:
    """Rows of which the `k` best of each query are some."""
    shortlist = _Shortlist(len(queries), k, margin(queries.shape[1]))
    scan = _Scan(parts, queries)
    for number, part in enumerate(parts):
        for places, block in _blocks(part, len(queries), seeded=shortlist.seeded):
            shortlist.offer(scan.scores(part.segment, places, block), number, places, part.mask)
    return shortlist.result()


class _Scan:
    """Float32 scores that order rows as their true ones do, but for errors below half the margin.

    An inner product is divided by the query's length and the greatest one of a row, L. For a squared distance it is
    q·r − |r|² / 2, divided by the square of the greater of L and the query's length.
    """

    def __init__(self, parts: Sequence[Part], queries: Vectors) -> None:
        self.score: Score = next((part.segment.score for part in parts), "cosine")
        self.queries = queries
        if self.score == "cosine":
            return
        segments = [part.segment for part in parts if part.live]
        live = [segment.squares.max() for segment in segments]
        if not np.isfinite(live).all():
            raise DamagedFile(one.name for one, most in zip(segments, live, strict=True) if not np.isfinite(most))
        longest = max(_SHORTEST, float(np.sqrt(max(live, default=0.0))))
        wide = queries.astype(np.float64)
        lengths = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
        greater = np.maximum(lengths, longest)
        scales = np.maximum(lengths, _SHORTEST) * longest if self.score == "ip" else greater**2
        self.queries = (wide / scales).astype(np.float32)
        self._square, self._shares = longest**2, (longest / greater).astype(np.float32) ** 2 / 2

    def scores(self, segment: Segment, places: Ints | int, block: Vectors) -> npt.NDArray[np.float32]:
        """(Q, rows) of a block of a segment's rows, by place or first place."""
        scores: npt.NDArray[np.float32] = self.queries @ block.T
        if self.score == "l2":
            squares = segment.squares[slice(places, places + len(block)) if isinstance(places, int) else places]
            scores -= (squares / self._square).astype(np.float32) * self._shares
        return scores


def margin(dim: int) -> float:
    """More than twice what a float32 dot product of unit vectors can err by."""
    return (dim + 8) * 2.0**-23


def slack(score: Score, dim: int, kth: float, lengths: float) -> float:
    """How far below the `k`-th best score a store's float32 score may lie of a row that is among the `k` best.

    Args:
        score: what the store computes: products, or the sum of squared differences.
        dim: of the vectors.
        kth: the k-th best score.
        lengths: for inner products, the query's length times the greatest length of a row.
    """
    if score == "cosine":
        return margin(dim)
    return margin(dim) * (lengths if score == "ip" else abs(kth)) + dim * _LEAST


def compare(rows: Float64s, queries: Float64s, score: Score) -> Float64s:
    """(n,) float64 scores of (n, D) rows with one query or (n, D) of them, both as they are compared."""
    if score == "l2":
        apart = rows - queries
        return np.asarray(0.0 - (apart * apart).sum(axis=1))
    return np.asarray((rows * queries).sum(axis=1))


def best(parts: Sequence[Part], queries: Vectors, chosen: Candidates, k: int) -> list[Neighbours]:
    """The `k` best candidates of each query by float64 score, ties with the last one included.

    Raises:
        DamagedFile: a row of these is not what was written.
    """
    raw, items = rescored(parts, queries, chosen)
    order = np.lexsort((items, -raw, chosen.query))
    raw, items = raw[order], items[order]
    ends = np.searchsorted(chosen.query[order], np.arange(len(queries) + 1)).tolist()
    found = [_cut(items[start:end], raw[start:end], k) for start, end in pairwise(ends)]
    answered = [order[start : start + len(one.items)] for one, start in zip(found, ends, strict=False)]
    require_whole(parts, chosen.take(np.concatenate([np.empty(0, dtype=np.int64), *answered])))
    return found


def require_whole(parts: Sequence[Part], chosen: Candidates) -> None:
    """Refuse candidates of index files that are not what was written.

    Raises:
        DamagedFile: with the names of the files.
    """
    chosen = chosen.take(np.argsort(chosen.part, kind="stable"))
    runs = ((segment, chosen.place[some]) for segment, some in chosen.runs(parts) if segment.name)
    if damaged := [segment.name for segment, places in runs if segment.damaged(places)]:
        raise DamagedFile(damaged)


def rescored(parts: Sequence[Part], queries: Vectors, chosen: Candidates) -> tuple[Float64s, Ints]:
    """Float64 score and item of each candidate."""
    raw = np.empty(len(chosen.query))
    items = np.empty(len(chosen.query), dtype=np.int64)
    step = max(1, _RESCORED_BYTES // (8 * max(1, queries.shape[1])))
    score = parts[0].segment.score if parts else "cosine"
    order = np.argsort(chosen.part, kind="stable")
    for start in range(0, len(raw), step):
        which = order[start : start + step]
        some = chosen.take(which)
        rows = np.empty((len(which), queries.shape[1]), dtype=np.float32)
        for segment, run in some.runs(parts):
            rows[run], items[which[run]] = segment.values[some.place[run]], segment.items[some.place[run]]
        asked = queries[some.query] if len(queries) > 1 else queries
        raw[which] = compare(rows.astype(np.float64), asked.astype(np.float64), score)
    return raw, items


def _blocks(part: Part, queries: int, *, seeded: bool) -> Iterator[tuple[Ints | int, Vectors]]:
    """Blocks of a part's rows with their places, or with their first place where they are all of a stretch.

    Copying rows out costs about twice as much as one query on them, so single queries rather pass over dead rows.
    """
    values, count = part.segment.values, len(part.segment)
    if not part.live:
        return
    if part.mask is not None and part.live < count * (0.35 if queries < _FEW else 0.85):
        places = np.flatnonzero(part.mask)
        for start in range(0, len(places), _GATHERED):
            yield places[start : start + _GATHERED], values[places[start : start + _GATHERED]]
        return
    start, size = 0, _BLOCK if seeded else _SEED
    while start < count:
        yield start, values[start : start + size]
        start, size = start + size, _BLOCK


class _Shortlist:
    """Rows whose float32 score is within the margin of the k-th best so far, for each query."""

    def __init__(self, queries: int, k: int, margin: float) -> None:
        self.k = k
        self.margin = np.float32(margin)
        self.floor = np.full(queries, -np.inf, dtype=np.float32)
        self.seeded = False
        self._kept: list[tuple[Ints, Ints, Ints, npt.NDArray[np.float32]]] = []
        self._count = 0
        self._limit = 4 * queries * k + 4096

    def offer(self, scores: npt.NDArray[np.float32], part: int, places: Ints | int, mask: Bools | None) -> None:
        """Take what may be among the best of a block of scores, (Q, rows)."""
        width = scores.shape[1]
        # places of a stretch may be dead; those of a gathered block are not
        alive = mask[places : places + width] if mask is not None and isinstance(places, int) else None
        if not self.seeded:
            usable = scores if alive is None else scores[:, alive]
            cut = usable.shape[1] - self.k
            if cut >= 0:
                self.floor = np.partition(usable, cut, axis=1)[:, cut] - self.margin
                self.seeded = True
        flat = np.flatnonzero(scores >= self.floor[:, None])
        query, column = np.divmod(flat, width)
        if alive is not None:
            keep = alive[column]
            query, column, flat = query[keep], column[keep], flat[keep]
        if not len(flat):
            return
        place = column + places if isinstance(places, int) else places[column]
        self._kept.append((query, np.full(len(query), part), place, scores.ravel()[flat]))
        self._count += len(query)
        if self._count > self._limit:
            self._tighten()

    def result(self) -> Candidates:
        """All that is left."""
        if not self._kept:
            return Candidates.joined([])
        self._tighten()
        query, part, place, _ = self._kept[0]
        return Candidates(query, part, place)

    def _tighten(self) -> None:
        query, part, place, score = (np.concatenate(column) for column in zip(*self._kept, strict=True))
        order = np.lexsort((-score, query))
        ends = np.searchsorted(query[order], np.arange(len(self.floor) + 1))
        full = np.flatnonzero(np.diff(ends) >= self.k)
        self.floor[full] = score[order[ends[full] + self.k - 1]] - self.margin
        self.seeded = len(full) == len(self.floor)
        keep = score >= self.floor[query]
        self._kept = [(query[keep], part[keep], place[keep], score[keep])]
        self._count = int(np.count_nonzero(keep))
        self._limit = max(self._limit, 2 * self._count)
