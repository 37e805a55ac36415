"""`Found`: what several queries found in several spaces, in one order that the spaces share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.gallery.ledger.state import Ints

Float64s = npt.NDArray[np.float64]
Key = Callable[[int, Float64s], Float64s]
"""What items are sorted by, from their generation and raw scores, (n,): rises with the raw score; NaN leaves out."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest items of one query in one space, best first.

    Attributes:
        items: (n,) item numbers.
        raw: (n,) scores, float64; the same vectors give the same bits, whatever lies beside them.
    """

    items: Ints
    raw: Float64s


@dataclass(frozen=True, eq=False)
class Found:
    """Items found, (n,) each; an item comes once for a query.

    Attributes:
        query: number of the query.
        generation: of the space that serves the item.
        items: item numbers.
        raw: scores within the space.
        key: what they are sorted by, higher is better.
    """

    query: Ints
    generation: Ints
    items: Ints
    raw: Float64s
    key: Float64s

    @classmethod
    def joined(cls, some: Sequence[Found]) -> Found:
        """All of several together."""
        none = np.empty(0, dtype=np.int64), np.empty(0)
        kinds = {"query": none[0], "generation": none[0], "items": none[0], "raw": none[1], "key": none[1]}
        return cls(
            **{name: np.concatenate([empty, *(getattr(one, name) for one in some)]) for name, empty in kinds.items()}
        )

    @classmethod
    def listed(cls, lists: Mapping[int, Sequence[Neighbours]], key: Key) -> Found:
        """What each space found for each query."""
        some = []
        for generation, neighbours in lists.items():
            sizes = [len(one.items) for one in neighbours]
            query = np.repeat(np.arange(len(sizes)), sizes)
            items = np.concatenate([np.empty(0, dtype=np.int64), *(one.items for one in neighbours)])
            raw = np.concatenate([np.empty(0), *(one.raw for one in neighbours)])
            some.append(cls(query, np.full(len(query), generation), items, raw, key(generation, raw)))
        return cls.joined(some)

    def take(self, places: Any) -> Found:
        """Some of it, by place or mask."""
        return Found(
            self.query[places], self.generation[places], self.items[places], self.raw[places], self.key[places]
        )

    def best(self, k: int) -> Ints:
        """Places of the `k` best of each query and of all that tie with the last one: by query, best first."""
        order = np.lexsort((self.items, -self.key, self.query))
        order = order[~np.isnan(self.key[order])]
        query, key = self.query[order], self.key[order]
        first = np.searchsorted(query, query)
        last = np.minimum(first + k - 1, len(order) - 1)
        # the k-th of the query; where the query has fewer, `last` belongs to another one and all are kept
        keep = (np.arange(len(order)) < first + k) | ((query[last] == query) & (key == key[last]))
        return np.asarray(order[keep])
