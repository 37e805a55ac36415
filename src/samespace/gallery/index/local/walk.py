"""`Walk`: a graph as one state of the gallery uses it: which of its rows serve items, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.gallery.index.exact import Bools, Candidates, Part
from samespace.gallery.index.local.hnsw import Graph, selector, walked
from samespace.gallery.index.local.placing import located
from samespace.gallery.index.segments import Segment
from samespace.gallery.ledger.state import Vectors


@dataclass(frozen=True, eq=False)
class Places:
    """Where the rows of a graph lie in segments.

    Attributes:
        graph: whose rows they are.
        segments: in which they lie, by number.
        part: (N,) which segment; -1 where the row is in none.
        place: (N,) which of its rows.
    """

    graph: Graph
    segments: dict[int, Segment]
    part: npt.NDArray[np.int16]
    place: npt.NDArray[np.int32]

    @classmethod
    def of(cls, graph: Graph, segments: dict[int, Segment]) -> Places:
        """Look them up by row number."""
        part = np.full(len(graph.numbers), -1, dtype=np.int16)
        place = np.zeros(len(graph.numbers), dtype=np.int32)
        for number, segment in segments.items():
            hit, row = located(graph.numbers, segment.numbers)
            part[row], place[row] = number, hit
        return cls(graph, segments, part, place)


@dataclass(frozen=True, eq=False)
class Walk:
    """A graph, its rows that may be found, and the rows of the space that it lacks.

    Attributes:
        places: the graph, and where its rows lie.
        mask: (N,) which of its rows may be found.
        rest: rows that the graph lacks and that may be found: number of the segment, first row, part.
        served: how many rows of the graph could be found but for a filter.
    """

    places: Places
    mask: Bools
    rest: tuple[tuple[int, int, Part], ...]
    served: int

    @classmethod
    def over(cls, places: Places, mask: Bools, parts: Sequence[Part]) -> Walk | None:
        """The walk over all rows of `parts`, those in `mask` by the graph; None where the two are not all of them."""
        rest = []
        for number, part in enumerate(parts):
            start = places.graph.beyond(part.segment)
            if part.live and start < len(part.segment) and (tail := part.beyond(start)).live:
                rest.append((number, start, tail))
        walk = cls(places, mask, tuple(rest), int(np.count_nonzero(mask)))
        complete = walk.live + sum(part.live for _, _, part in rest) == sum(part.live for part in parts)
        return walk if complete else None

    @cached_property
    def live(self) -> int:
        """How many rows of the graph may be found."""
        return int(np.count_nonzero(self.mask))

    @cached_property
    def _selector(self) -> Any:
        return None if self.live == len(self.mask) else selector(self.mask)

    def restricted(self, allowed: Bools) -> Walk:
        """The walk without items that a mask by item number leaves out."""
        mask = self.mask & allowed[np.minimum(self.places.graph.items, len(allowed) - 1)]
        rest = tuple((number, start, part.restricted(allowed)) for number, start, part in self.rest)
        return Walk(self.places, mask, rest, self.served)

    def proposed(self, queries: Vectors, k: int, share: float = 1.0) -> Candidates:
        """Rows of the graph that may be among the `k` nearest; `share` of a full search's width is walked.

        A full walk is made wider for rows that do not serve. One that shares its width is so by its share, and made
        wider for a filter alone.
        """
        among = len(self.mask) if share == 1 else self.served
        query, row = walked(self.places.graph, queries, k, self.live, self._selector, among=among, share=share)
        part = self.places.part[row]
        if len(part) and part.min() < 0:
            query, row, part = query[part >= 0], row[part >= 0], part[part >= 0]
        return Candidates(query, part.astype(np.int64), self.places.place[row].astype(np.int64))


def placed_rows(graph: Graph, parts: Sequence[Part], known: Places | None) -> Places:
    """Where the rows of a graph lie in the segments of parts; `known`, of an earlier state, where that still holds."""
    last = graph.numbers[-1]
    # what was added since the graph was built is in segments of its own, and changes nothing here
    segments = {number: part.segment for number, part in enumerate(parts) if part.segment.numbers[0] <= last}
    return known if known is not None and known.segments == segments else Places.of(graph, segments)
