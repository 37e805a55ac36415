"""`WorkList`: the items without a vector of a space as an order, written once, and the ranges of it that are left.

The table `work` gives each item a place. What is left are the ranges in `work_range`: free ones, and claims with an
owner and a lease. Whatever happens to an item changes the range it lies in, never its row; items outside all ranges are
done, or in `work_failed` with a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from samespace.gallery.ledger.state import Ints
from samespace.gallery.ledger.transactions.reader import LedgerReader

_LONGEST = 1000
_MOST = 2**31
_AT_ONCE = 20_000
_RANGES = "SELECT first, last, owner, lease, tries FROM work_range"


@dataclass(frozen=True)
class Range:
    """Places of an order that are left to do, first to last, claimed together so many times and now by `owner`."""

    first: int
    last: int
    owner: str | None = None
    lease: float | None = None
    tries: int = 0

    def __len__(self) -> int:
        """How many places it has."""
        return self.last - self.first + 1

    def of(self, places: Ints) -> Ints:
        """Those of these places, ascending, that lie in it."""
        start, stop = np.searchsorted(places, [self.first, self.last + 1])
        return places[start:stop]

    def split(self, places: Ints, terms: Range | None) -> Iterator[Range]:
        """The same with some of its places on other terms, or without them; the rest stays as it is."""
        at = self.first
        for first, last in runs(places):
            if at < first:
                yield replace(self, first=at, last=first - 1)
            if terms is not None:
                yield replace(terms, first=first, last=last)
            at = last + 1
        if at <= self.last:
            yield replace(self, first=at)


class WorkList(LedgerReader):
    """What a transaction can do with work lists as a whole, and with single items of them."""

    def put_work(self, generation: int, items: Ints, priorities: Sequence[float]) -> None:
        """Make these items the work list of a space, the highest priority first, equal ones by number.

        Items that were listed before and are not given come last; claims and failures stay what they are.
        """
        # a claim that is being written may divide a range, and its parts are seen only afterwards
        self._ranges(generation, lock=self.engine.lock)
        ranges = self._ranges(generation)
        failed = self._failed_items(generation)
        given = items[np.lexsort([items, -np.asarray(priorities, dtype=np.float64)])]
        before = np.array([item for _, item in self._in_order(generation, [(0, 2**62)])], dtype=np.int64)
        left = before[np.isin(before, self.listed(generation)) & ~np.isin(before, given)]
        order = np.concatenate([given, left])
        # 0: on no terms yet; n: those of a range that was claimed before
        terms, held = np.zeros(len(order), dtype=np.int64), [one for one in ranges if one.owner or one.tries]
        rank = np.argsort(order)
        for number, one in enumerate(held, 1):
            own = [item for _, item in self._in_order(generation, [(one.first, one.last)])]
            terms[rank[np.searchsorted(order, own, sorter=rank)]] = number
        terms[np.isin(order, failed)] = -1
        self.clear_work(generation, failures=False)
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE].tolist()
            self.session.insert("work", [(generation, start + place, item) for place, item in enumerate(part, 1)])
        if self.engine.dialect == "postgres":
            # until the server finds the time, it takes the list for a short one and reads all of it for each item
            self.session.run("ANALYZE work")
        new, longest = list[Range](), _longest(len(order))
        for number, first, last in _equal(terms):
            if number >= 0:
                one = Range(0, 0) if number == 0 else held[number - 1]
                new += _cut(replace(one, first=first + 1, last=last + 1), longest)
        self._rewrite(generation, [], new)

    def append_work(self, generation: int, items: Sequence[int] | Ints) -> None:
        """Put items that are not listed on the work list of a space: where they were before, new ones at the end."""
        failed = set(self._failed_items(generation).tolist())
        places = {item: place for place, item in self._places(generation, items)}
        known = np.array(sorted(place for item, place in places.items() if item not in failed), dtype=np.int64)
        covered = [one.of(known) for one in self._holding(generation, known)]
        again = np.setdiff1d(known, np.concatenate([known[:0], *covered]))
        new = [item for item in dict.fromkeys(map(int, items)) if item not in places]
        last = self.session.all("SELECT COALESCE(MAX(place), 0) FROM work WHERE space = ?", [generation])[0][0]
        rows = [(generation, last + place, item) for place, item in enumerate(new, 1)]
        self.session.insert("work", rows)
        longest = _longest(last + len(new))
        ranges = [part for first, end in runs(again) for part in _cut(Range(first, end), longest)]
        # single items that come one after the other grow one range, not as many as they are
        ends = [one for one in self._holding(generation, np.array([last])) if new and _untouched(one, len(new))]
        first = ends[0].first if ends else last + 1
        ranges += _cut(Range(first, last + len(new)), longest if not ends else _LONGEST) if new else []
        self._rewrite(generation, ends, ranges)

    def strike(self, generation: int, items: Sequence[int] | Ints) -> None:
        """Take items off the work list of a space; a list that is done is deleted."""
        if not self.session.all("SELECT 1 FROM work WHERE space = ? LIMIT 1", [generation]):
            return
        self._change(generation, self._placed(generation, items), lambda one: None)
        self.run_listed("DELETE FROM work_failed WHERE space = ? AND item IN (LISTED)", items, [generation])
        if not any(self.session.all(f"SELECT 1 FROM {table} WHERE space = ? LIMIT 1", [generation])
                   for table in ("work_range", "work_failed")):  # fmt: skip
            self.clear_work(generation)

    def clear_work(self, generation: int, *, failures: bool = True) -> None:
        """Delete the work list of a space."""
        for table in ("work", "work_range", *(["work_failed"] if failures else [])):
            self.session.run(f"DELETE FROM {table} WHERE space = ?", [generation])

    def _ranges(self, generation: int, where: str = "", values: Sequence[object] = (), lock: str = "") -> list[Range]:
        """Ranges that are left, in order."""
        order = "" if "ORDER BY" in where else "ORDER BY first"
        sql = f"{_RANGES} WHERE space = ? {where} {order} {lock}"
        return self._as_ranges(self.session.all(sql, [generation, *values]))

    def _as_ranges(self, rows: Sequence[tuple[Any, ...]]) -> list[Range]:
        """Rows of `_RANGES`. Raises GalleryError: one is no range that a gallery writes."""
        with self._as_written("a work list"):
            ranges = [Range(*row) for row in rows]
            for one in ranges:
                if not (0 < one.first <= one.last < one.first + _MOST and one.tries >= 0):
                    raise ValueError(f"places {one.first} to {one.last}, tried {one.tries} times")
        return ranges

    def _holding(self, generation: int, places: Ints, *, wait: bool = True) -> list[Range]:
        """The ranges that have any of these places, locked; without `wait` only those that nobody else has locked."""
        if not len(places):
            return []
        lock = self.engine.lock if wait else self.engine.skip_locked
        sql = f"{_RANGES} WHERE space = ? AND first IN (LISTED) ORDER BY first"
        while True:
            near = self._ranges(generation, "AND last >= ? AND first <= ?", [int(places[0]), int(places[-1])])
            held = [one for one in near if len(one.of(places))]
            if not lock:
                return held
            locked = self._as_ranges(self.all_listed(f"{sql} {lock}", [one.first for one in held], [generation]))
            # what another transaction divided meanwhile is looked for again
            if locked == held or not wait:
                return [one for one in locked if one in held]

    def _change(
        self,
        generation: int,
        places: Ints,
        to: Callable[[Range], Range | None],
        *,
        of: Callable[[Range], bool] = lambda one: True,
    ) -> Ints:
        """Give places on other terms, or take them off (None), in the ranges that `of` holds for; which these were."""
        old = [one for one in self._holding(generation, places) if of(one)]
        self._rewrite(generation, old, [part for one in old for part in one.split(one.of(places), to(one))])
        return np.concatenate([places[:0], *(one.of(places) for one in old)])

    def _rewrite(self, generation: int, old: Sequence[Range], new: Iterable[Range]) -> None:
        self.run_listed(
            "DELETE FROM work_range WHERE space = ? AND first IN (LISTED)", [one.first for one in old], [generation]
        )
        self.session.insert("work_range", [(generation, *astuple(one)) for one in _joined(new)])

    def _places(self, generation: int, items: Sequence[int] | Ints) -> list[tuple[int, int]]:
        """Places and items of those that a work list has a place for."""
        sql = "SELECT place, item FROM work WHERE space = ? AND item IN (LISTED)"
        return [(row[0], row[1]) for row in self.all_listed(sql, items, [generation])]

    def _placed(self, generation: int, items: Sequence[int] | Ints) -> Ints:
        """The places of items, ascending."""
        return np.array(sorted(place for place, _ in self._places(generation, items)), dtype=np.int64)

    def _in_order(self, generation: int, stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Places and items from first to last places, in order."""
        sql = "SELECT place, item FROM work WHERE space = ? AND place BETWEEN ? AND ? ORDER BY place"
        return [(row[0], row[1]) for one in stretches for row in self.session.all(sql, [generation, *one])]

    def _failed_items(self, generation: int) -> Ints:
        rows = self.session.all("SELECT item FROM work_failed WHERE space = ? ORDER BY item", [generation])
        return np.array([row[0] for row in rows], dtype=np.int64)


def runs(places: Ints) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each row of consecutive ones.

    Example:
        >>> runs(np.array([3, 4, 5, 9]))
        [(3, 5), (9, 9)]
    """
    if not len(places):
        return []
    starts = np.flatnonzero(np.diff(places) != 1) + 1
    bounds = [0, *starts.tolist(), len(places)]
    return [(int(places[start]), int(places[stop - 1])) for start, stop in pairwise(bounds)]


def _equal(values: Ints) -> list[tuple[int, int, int]]:
    """Each row of equal values: the value, the first place, the last one."""
    if not len(values):
        return []
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return [(int(values[start]), start, stop - 1) for start, stop in pairwise(bounds)]


def _longest(count: int) -> int:
    """Of a free range: several workers find one each without waiting, and no list has very many."""
    return max(1, min(_LONGEST, count // 64))


def _cut(one: Range, longest: int) -> list[Range]:
    """A free range in parts; a claim stays one."""
    if one.owner is not None:
        return [one]
    starts = range(one.first, one.last + 1, longest)
    return [replace(one, first=start, last=min(start + longest - 1, one.last)) for start in starts]


def _untouched(one: Range, more: int) -> bool:
    return one.owner is None and not one.tries and len(one) + more <= _LONGEST


def _joined(ranges: Iterable[Range]) -> list[Range]:
    """The same, claims that follow one another on the same terms as one."""
    joined: list[Range] = []
    for one in sorted(ranges, key=lambda one: one.first):
        before = joined[-1] if joined else None
        if before and one.owner and before == replace(one, first=before.first, last=one.first - 1):
            joined[-1] = replace(one, first=before.first)
        else:
            joined.append(one)
    return joined
