"""The nearest items of several spaces in one pass, by graphs or by scans, at the cost of a search of one space.

Each space's graph is walked with a width in proportion to the items that the space serves, at least half of the full
one, and what all of them propose is scored and sorted as one list. Where a query finds more in a space than such a walk
is made for, its walks are repeated at full width; where graphs come back with too little, every row is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from samespace.gallery.index.exact import Candidates, DamagedFile, Part, candidates, require_whole, rescored
from samespace.gallery.index.found import Found, Key
from samespace.gallery.index.walk import Walk
from samespace.gallery.ledger.state import Ints, Vectors

Effort = Literal["shared", "full", "scan"]
"""How rows are looked for: by walks that share one walk's width, by walks of full width, or by scans."""

_NEXT: dict[Effort, Effort] = {"shared": "full", "full": "scan"}
_QUERIES = 256
_LEAST_SHARE = 0.5
# a walk of half of the width finds 8 of the 10 best as surely as a full one all 10, and any few
_SHARED, _FEW = 1.6, 16


@dataclass(frozen=True, eq=False)
class SpaceSearch:
    """What is searched of one space.

    Attributes:
        generation: of the space.
        queries: (Q, D) float32, as they meet its rows.
        parts: its rows that may be found.
        walk: over these, where there is a graph to walk.
    """

    generation: int
    queries: Vectors
    parts: tuple[Part, ...]
    walk: Walk | None

    @property
    def live(self) -> int:
        """How many rows may be found."""
        return sum(part.live for part in self.parts)

    def asked(self, queries: Any) -> SpaceSearch:
        """The same for some of the queries, by place or mask."""
        return SpaceSearch(self.generation, np.ascontiguousarray(self.queries[queries]), self.parts, self.walk)

    def candidates(self, k: int, effort: Effort, share: float) -> Candidates:
        """Rows among which the `k` best are, or are likely to be."""
        if effort == "scan" or self.walk is None:
            return self._scanned(k)
        found = [self.walk.proposed(self.queries, k, share)]
        if self.walk.rest:
            numbers, starts, parts = zip(*self.walk.rest, strict=True)
            rest = candidates(parts, self.queries, k)
            found.append(Candidates(rest.query, np.array(numbers)[rest.part], rest.place + np.array(starts)[rest.part]))
        return Candidates.joined(found)

    def _scanned(self, k: int) -> Candidates:
        found = candidates(self.parts, self.queries, k)
        if (np.bincount(found.query, minlength=len(self.queries)) < min(k, self.live)).any():
            # a damaged row that is no number hides others
            files = [part.segment for part in self.parts if part.segment.name]
            if damaged := [segment.name for segment in files if segment.damaged(np.arange(len(segment)))]:
                raise DamagedFile(damaged)
        return found


def nearest_of_all(spaces: Sequence[SpaceSearch], k: int, key: Key, *, exact: bool) -> Found:
    """The `k` items with the highest key of each query, and all that tie with the last one: by query, best first.

    Raises:
        DamagedFile: a row of these, or one that may hide some, is not what was written.
    """
    walks = [one for one in spaces if one.walk is not None]
    effort: Effort = "scan" if exact or not walks else "shared" if len(spaces) > 1 else "full"
    count = len(spaces[0].queries) if spaces else 0
    if 0 < count <= _QUERIES:
        return _nearest(spaces, k, key, effort)
    found = []
    for start in range(0, count, _QUERIES):
        some = [one.asked(slice(start, start + _QUERIES)) for one in spaces]
        found.append(_shifted(_nearest(some, k, key, effort), np.arange(start, count)))
    return Found.joined(found)


def _nearest(spaces: Sequence[SpaceSearch], k: int, key: Key, effort: Effort) -> Found:
    count, live = len(spaces[0].queries), sum(one.live for one in spaces)
    shares = [1.0 if effort == "full" else max(_LEAST_SHARE, one.live / max(1, live)) for one in spaces]
    chosen = [one.candidates(k, effort, share) for one, share in zip(spaces, shares, strict=True)]
    found = _scored(spaces, chosen, key)
    places = found.best(k)
    again = np.zeros(count, dtype=np.bool_)
    if effort != "scan":
        again |= np.bincount(found.query, minlength=count) < min(k, live)
    if effort == "shared":
        for one, share in zip(spaces, shares, strict=True):
            hits = found.query[places[found.generation[places] == one.generation]]
            if one.walk is not None and share < 1:
                again |= np.bincount(hits, minlength=count) > share * max(_SHARED * k, _FEW)
    if again.any():
        places = places[~again[found.query[places]]]
    require_whole(*_together(spaces, chosen, places))
    if not again.any():
        return found.take(places)
    repeated = _nearest([one.asked(again) for one in spaces], k, key, _NEXT[effort])
    both = Found.joined([found.take(places), _shifted(repeated, np.flatnonzero(again))])
    return both.take(np.argsort(both.query, kind="stable"))


def _scored(spaces: Sequence[SpaceSearch], chosen: Sequence[Candidates], key: Key) -> Found:
    """All candidates of all spaces, one space after another."""
    sizes = [len(some.query) for some in chosen]
    if len({one.queries.shape[1] for one in spaces}) == 1:
        # one look at all rows costs less than one for each space
        parts, every = _together(spaces, chosen)
        shifts = np.repeat(len(spaces[0].queries) * np.arange(len(spaces)), sizes)
        asked = np.concatenate([one.queries for one in spaces])
        raw, items = rescored(parts, asked, Candidates(every.query + shifts, every.part, every.place))
    else:
        pairs = [rescored(one.parts, one.queries, some) for one, some in zip(spaces, chosen, strict=True)]
        raw, items = (np.concatenate(column) for column in zip(*pairs, strict=True))
    ends = list(accumulate(sizes))
    keys = [key(one.generation, raw[end - size : end]) for one, end, size in zip(spaces, ends, sizes, strict=True)]
    generations = np.repeat([one.generation for one in spaces], sizes)
    return Found(np.concatenate([some.query for some in chosen]), generations, items, raw, np.concatenate(keys))


def _together(
    spaces: Sequence[SpaceSearch], chosen: Sequence[Candidates], places: Any = slice(None)
) -> tuple[list[Part], Candidates]:
    """The parts of all spaces in a row, and the candidates in these, some of them by place."""
    starts = [0, *accumulate(len(one.parts) for one in spaces)]
    every = Candidates(
        np.concatenate([some.query for some in chosen])[places],
        np.concatenate([some.part + start for some, start in zip(chosen, starts, strict=False)])[places],
        np.concatenate([some.place for some in chosen])[places],
    )
    return [part for one in spaces for part in one.parts], every


def _shifted(found: Found, queries: Ints) -> Found:
    """The same, with the numbers that the queries have among more of them."""
    return replace(found, query=queries[found.query])
