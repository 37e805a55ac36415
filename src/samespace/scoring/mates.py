"""Which pairs of a query and a gallery item are of one identity: mates, or listed pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samespace.metrics._arrays import Ints, Mask
from samespace.metrics.bootstrap import weigh


@dataclass(frozen=True, eq=False)
class Mates:
    """The identities of queries and gallery; mates are neighbours in the gallery.

    Attributes:
        query_codes: (Q,) identity numbers of the queries.
        gallery_codes: (G,) identity numbers of the gallery, ascending.
        self_place: (Q,) place of the query's own item in the gallery; −1 where it is not there. An item is not matched
            with itself.
        identities: how many identities there are in all.
    """

    query_codes: Ints
    gallery_codes: Ints
    self_place: Ints
    identities: int

    @cached_property
    def range(self) -> tuple[Ints, Ints]:
        """First place and one past the last place of each query's identity in the gallery, (Q,) each."""
        first = np.searchsorted(self.gallery_codes, self.query_codes, side="left")
        last = np.searchsorted(self.gallery_codes, self.query_codes, side="right")
        return first.astype(np.int64), last.astype(np.int64)

    @cached_property
    def counts(self) -> Ints:
        """How many mates each query has in the gallery, itself left out, (Q,)."""
        first, last = self.range
        return np.asarray(last - first - (self.self_place >= 0))

    @cached_property
    def impostors(self) -> int:
        """How many pairs of unlike identities there are."""
        first, last = self.range
        return len(self.query_codes) * len(self.gallery_codes) - int((last - first).sum())

    @cached_property
    def items(self) -> tuple[Ints, Ints]:
        """How many queries and how many gallery items each identity has, (identities,) each."""
        queries, gallery = (
            weigh(codes, np.ones(len(codes)), self.identities).astype(np.int64)
            for codes in (self.query_codes, self.gallery_codes)
        )
        return queries, gallery

    def listed(self, rows: slice, first: int, width: int) -> tuple[Ints, Ints]:
        """Row and item, in the tile, of all pairs of one identity among some queries and `width` items from `first`."""
        begin, end = (np.clip(bound[rows] - first, 0, width) for bound in self.range)
        count = end - begin
        row = np.repeat(np.arange(len(count)), count)
        return row, begin[row] + np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)

    def block(self, rows: Ints) -> BlockMates:
        """The mates of some queries."""
        first, last = (bound[rows] for bound in self.range)
        count = last - first
        row = np.repeat(np.arange(len(rows)), count)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        place = first[row] + slot
        return BlockMates(row=row, place=place, keep=place != self.self_place[rows][row], slot=slot)


@dataclass(frozen=True, eq=False)
class BlockMates:
    """Where the mates of a block of queries stand in the gallery.

    Attributes:
        row: (P,) row in the block of each pair of one identity.
        place: (P,) place in the gallery.
        keep: (P,) false where the pair is an item with itself.
        slot: (P,) running number of the pair within its query.
    """

    row: Ints
    place: Ints
    keep: Mask
    slot: Ints

    @property
    def width(self) -> int:
        """The most pairs of one identity that a query has, at least 1."""
        return max(1, int(self.slot.max(initial=-1)) + 1)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Listed pairs, each once: (P,) row of the query and (P,) row of the gallery item."""

    query: Ints
    item: Ints

    def __len__(self) -> int:
        return len(self.query)

    @classmethod
    def of_equal(cls, queries: Ints, gallery: Ints) -> Pairs:
        """All pairs with the same value in `queries` (Q,) and `gallery` (G,).

        Example:
            >>> pairs = Pairs.of_equal(np.array([7, 3]), np.array([3, 7, 3]))
            >>> pairs.query.tolist(), pairs.item.tolist()
            ([0, 1, 1], [1, 0, 2])
        """
        order = np.argsort(gallery, kind="stable")
        first = np.searchsorted(gallery, queries, side="left", sorter=order)
        count = np.searchsorted(gallery, queries, side="right", sorter=order) - first
        query = np.repeat(np.arange(len(queries)), count)
        slot = np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
        return cls(query=query, item=order[np.repeat(first, count) + slot])

    @classmethod
    def of_lists(cls, lists: list[Ints]) -> Pairs:
        """Pairs of query 0, 1, … with each item of its list."""
        query = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        item = np.concatenate([np.zeros(0, np.int64), *lists]).astype(np.int64)
        return cls(query=query, item=item)

    def subset(self, keep: Mask) -> Pairs:
        """The pairs where `keep` (P,) is true."""
        return Pairs(query=self.query[keep], item=self.item[keep])
