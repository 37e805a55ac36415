"""The nearest items of several spaces in one pass, by graphs or by scans, at the cost of a search of one space.

The graphs share the width of one walk, and what all of them propose is scored and sorted as one list. Where a query
finds most of what the walk of a space proposes, its walks are repeated at full width; where graphs come back with too
little, every row is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from samespace.gallery.index.exact import Candidates, DamagedFile, Part, candidates, require_whole, rescored
from samespace.gallery.index.found import Found, Key
from samespace.gallery.index.local.hnsw import proposals
from samespace.gallery.index.local.walk import Walk
from samespace.gallery.ledger.state import Ints, Vectors

Effort = Literal["shared", "full", "scan"]
"""How rows are looked for: by walks that share one walk's width, by walks of full width, or by scans."""

_NEXT: dict[Effort, Effort] = {"shared": "full", "full": "scan"}
_QUERIES = 256
# of a small space the best few are found by a quarter: 99.7 % of 100,000 x 128 in 4,000 clusters where a tenth served
_LEAST = 0.25
_MOST = 0.8


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

    @cached_property
    def live(self) -> int:
        """How many rows may be found."""
        return sum(part.live for part in self.parts)

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
    effort: Effort = "scan" if exact or not walks else "shared" if len(walks) > 1 else "full"
    count = len(spaces[0].queries) if spaces else 0
    if 0 < count <= _QUERIES:
        return _nearest(spaces, k, key, effort)
    found = []
    for start in range(0, count, _QUERIES):
        some = _asked(spaces, slice(start, start + _QUERIES))
        found.append(_shifted(_nearest(some, k, key, effort), np.arange(start, count)))
    return Found.joined(found)


def _asked(spaces: Sequence[SpaceSearch], queries: Any) -> list[SpaceSearch]:
    """The same searches for some of the queries, by place or mask; those that share an array do so still."""
    cut = {id(one.queries): np.ascontiguousarray(one.queries[queries]) for one in spaces}
    return [replace(one, queries=cut[id(one.queries)]) for one in spaces]


def _nearest(spaces: Sequence[SpaceSearch], k: int, key: Key, effort: Effort) -> Found:
    count, live = len(spaces[0].queries), sum(one.live for one in spaces)
    shares = _shares([one.walk for one in spaces]) if effort == "shared" else [1.0] * len(spaces)
    chosen = [one.candidates(k, effort, share) for one, share in zip(spaces, shares, strict=True)]
    parts, every = _together(spaces, chosen)
    found = _scored(spaces, parts, every, [len(some.query) for some in chosen], key)
    places = found.best(k)
    again = np.zeros(count, dtype=np.bool_)
    if effort != "scan":
        again |= np.bincount(found.query, minlength=count) < min(k, live)
    if effort == "shared":
        for one, share in zip(spaces, shares, strict=True):
            hits = found.query[places[found.generation[places] == one.generation]]
            if one.walk is not None:
                again |= np.bincount(hits, minlength=count) > _MOST * proposals(k, share)
    if again.any():
        places = places[~again[found.query[places]]]
    require_whole(parts, every.take(places))
    if not again.any():
        return found.take(places)
    repeated = _nearest(_asked(spaces, again), k, key, _NEXT[effort])
    both = Found.joined([found.take(places), _shifted(repeated, np.flatnonzero(again))])
    return both.take(np.argsort(both.query, kind="stable"))


def _shares(walks: Sequence[Walk | None]) -> list[float]:
    """How much of a full walk's width each graph gets.

    The best `k` of all lie as deep in a graph as its rows, whether they serve or not, are of the rows of all.
    """
    rows = [0 if walk is None else len(walk.mask) for walk in walks]
    divided = max(0.0, 1 - _LEAST * sum(walk is not None for walk in walks))
    return [_LEAST + divided * one / sum(rows) for one in rows]


def _together(spaces: Sequence[SpaceSearch], chosen: Sequence[Candidates]) -> tuple[list[Part], Candidates]:
    """The parts of all spaces in a row, and the candidates in these."""
    if len(spaces) == 1:
        return list(spaces[0].parts), chosen[0]
    starts = accumulate([len(one.parts) for one in spaces], initial=0)
    shifted = [
        Candidates(some.query, some.part + start, some.place) for some, start in zip(chosen, starts, strict=False)
    ]
    return [part for one in spaces for part in one.parts], Candidates.joined(shifted)


def _scored(
    spaces: Sequence[SpaceSearch], parts: Sequence[Part], every: Candidates, sizes: Sequence[int], key: Key
) -> Found:
    """All candidates of all spaces, one space after another, `sizes` of each."""
    runs = [slice(end - size, end) for end, size in zip(accumulate(sizes), sizes, strict=True)]
    if all(one.queries is spaces[0].queries for one in spaces):
        # one look at all rows costs less than one for each space
        raw, items = rescored(parts, spaces[0].queries, every)
    else:
        pairs = [rescored(parts, one.queries, every.take(run)) for one, run in zip(spaces, runs, strict=True)]
        raw, items = (np.concatenate(column) for column in zip(*pairs, strict=True))
    keys = [key(one.generation, raw[run]) for one, run in zip(spaces, runs, strict=True)]
    generations = np.repeat([one.generation for one in spaces], sizes)
    return Found(every.query, generations, items, raw, np.concatenate(keys))


def _shifted(found: Found, queries: Ints) -> Found:
    """The same, with the numbers that the queries have among more of them."""
    return replace(found, query=queries[found.query])
