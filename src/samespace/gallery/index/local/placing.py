"""Which rows of segments the ledger still has, and which of them serve: looked up anew, or from what changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.gallery.index.exact import Bools, Part
from samespace.gallery.index.segments import Segment
from samespace.gallery.index.served import RowNumbers, ServedRows
from samespace.gallery.ledger.state import Ints


@dataclass(frozen=True, eq=False)
class Placed:
    """A segment and which of its rows count.

    Attributes:
        segment: with its rows.
        current: (N,) rows that the ledger still has, each item in one segment only.
        part: those of them that serve their item.
    """

    segment: Segment
    current: Bools
    part: Part

    @classmethod
    def of(cls, segment: Segment, current: Bools, served: ServedRows, generation: int) -> Placed:
        """A segment of a space with its current rows."""
        serving = served.serving_of(np.minimum(segment.items, served.count - 1)) == generation
        return cls(segment, current, Part.of(segment, current & serving))


def current_rows(rows: RowNumbers, numbers: Ints, items: Ints) -> Bools:
    """Which rows, by number, are the ones that the ledger has for their items."""
    return np.asarray((numbers > 0) & (rows.of(items) == numbers))


def place_anew(segments: Iterable[Segment], served: ServedRows, generation: int) -> tuple[list[Placed], Ints]:
    """Segments of a space with the rows that count, and the items whose row is in none of them."""
    rows = served.rows[generation]
    everything = RowNumbers.whole(rows.all())
    covered = np.zeros(rows.count, dtype=np.bool_)
    placed = []
    for segment in segments:
        current = current_rows(everything, segment.numbers, segment.items)
        items = segment.items[current]
        if covered[items].any():
            current[current] = ~covered[items]
            items = segment.items[current]
        covered[items] = True
        placed.append(Placed.of(segment, current, served, generation))
    return placed, np.flatnonzero((everything.base > 0) & ~covered)


@dataclass(frozen=True, eq=False)
class Change:
    """What became of the rows of one space between two revisions.

    Attributes:
        gone: rows that were replaced or removed, ascending.
        numbers: (C,) rows of the items that changed, as they are now, ascending.
        items: (C,) whose they are.
        come: (C,) whether the row is new.
        serve: (C,) whether it serves its item.
    """

    gone: Ints
    numbers: Ints
    items: Ints
    come: Bools
    serve: Bools

    @classmethod
    def between(cls, before: RowNumbers, served: ServedRows, generation: int) -> Change:
        """From rows as they were to what was read."""
        items = served.changed
        old, new = before.of(items), served.rows[generation].of(items)
        serve = served.serving_of(items) == generation
        order = np.flatnonzero(new > 0)
        order = order[np.argsort(new[order], kind="stable")]
        gone = np.sort(old[(old > 0) & (old != new)])
        return cls(gone, new[order], items[order], (old != new)[order], serve[order])

    def in_mask(self, mask: Bools, numbers: Ints) -> Bools:
        """A mask of the rows that serve among some, by ascending number, after the change."""
        left, (which, places) = located(numbers, self.gone)[1], located(numbers, self.numbers)
        if len(left) or len(places):
            mask = mask.copy()
            mask[left] = False
            mask[places] = self.serve[which]
        return mask


def place_after(known: Sequence[Placed], change: Change) -> tuple[list[Placed], Ints]:
    """The same segments after a change, and the items whose new row is in none of them."""
    lacking = change.come.copy()
    placed = []
    for one in known:
        left, (which, places) = (
            located(one.segment.numbers, change.gone)[1],
            located(one.segment.numbers, change.numbers),
        )
        if not len(left) and not len(places):
            placed.append(one)
            continue
        current, alive = one.current.copy(), one.part.alive().copy()
        current[left] = alive[left] = False
        arrived = lacking[which]
        current[places[arrived]] = True
        lacking[which[arrived]] = False
        alive[places] = current[places] & change.serve[which]
        placed.append(Placed(one.segment, current, Part.of(one.segment, alive)))
    return placed, change.items[lacking]


def located(numbers: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Which of some wanted numbers are among others, both ascending, and their places there."""
    if not len(wanted) or not len(numbers) or wanted[-1] < numbers[0] or wanted[0] > numbers[-1]:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    first, last = np.searchsorted(wanted, [numbers[0], numbers[-1] + 1]).tolist()
    some = wanted[first:last].astype(numbers.dtype)
    places = np.searchsorted(numbers, some)
    hit = np.flatnonzero(numbers[places] == some)
    return hit + first, places[hit]
