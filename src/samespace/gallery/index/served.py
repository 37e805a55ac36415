"""Which vector row each item has in each space, as of one revision; the next revision's is made from what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.ledger.state import Ints, State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.serving import Generations, serving_generations

_APART = 8_192
"""So many changes are kept beside the numbers that all revisions share, before they are made anew."""


@dataclass(frozen=True, eq=False)
class RowNumbers:
    """The vector row of each item in one space, by item number; 0 where it has none.

    Attributes:
        base: (B,) rows of the first items, as of an earlier revision; never changed.
        items: (C,) items of which that is no longer so, ascending.
        numbers: (C,) their rows.
        count: how many item numbers were given.
    """

    base: Ints
    items: Ints
    numbers: Ints
    count: int

    @classmethod
    def whole(cls, rows: Ints) -> RowNumbers:
        """Of all items, by number."""
        none = np.empty(0, dtype=np.int64)
        return cls(narrow(rows), none, none, len(rows))

    def of(self, items: Ints) -> Ints:
        """The rows of some items, (len(items),)."""
        if not len(self.items) and self.count == len(self.base) and (not len(items) or items.max() < self.count):
            return self.base[items].astype(np.int64)
        rows = np.zeros(len(items), dtype=np.int64)
        known = items < len(self.base)
        rows[known] = self.base[items[known]]
        if len(self.items):
            place = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
            changed = self.items[place] == items
            rows[changed] = self.numbers[place[changed]]
        return rows

    def all(self) -> Ints:
        """The rows of all items, by number, (count,)."""
        if not len(self.items) and self.count == len(self.base):
            return self.base
        kind = np.int64 if len(self.numbers) and self.numbers.max() > np.iinfo(np.int32).max else self.base.dtype
        rows: Ints = np.zeros(self.count, dtype=kind)
        rows[: len(self.base)] = self.base
        rows[self.items] = self.numbers
        return rows

    def after(self, items: Ints, numbers: Ints, count: int) -> RowNumbers:
        """The same but for some items, ascending, whose rows are these; `count` item numbers are given now."""
        place = np.minimum(np.searchsorted(items, self.items), max(0, len(items) - 1))
        kept = items[place] != self.items if len(items) else np.ones(len(self.items), dtype=np.bool_)
        merged = np.concatenate([self.items[kept], items])
        order = np.argsort(merged, kind="stable")
        rows = np.concatenate([self.numbers[kept], numbers])[order]
        changed = RowNumbers(self.base, merged[order], rows, count)
        return changed if len(order) <= _APART else RowNumbers.whole(changed.all())


def narrow(numbers: Ints) -> Ints:
    """Whole numbers as int32 where they fit, else as int64."""
    limits = np.iinfo(np.int32)
    fits = not numbers.size or (limits.min <= numbers.min() and numbers.max() < limits.max)
    return numbers.astype(np.int32 if fits else np.int64, copy=False)


Known: TypeAlias = Mapping[int, tuple[int, RowNumbers]]
"""For generations the rows of their items, and the revision that they are of."""


@dataclass(frozen=True, eq=False)
class ServedRows:
    """Which vector each item has in each servable space, and which space serves it, as of one revision.

    Attributes:
        revision: of the ledger.
        rows: for each servable generation the vector row of each item.
        changed: items that changed since the newest reading that this one was made from, ascending.
        count: how many item numbers were given.
    """

    revision: int
    rows: dict[int, RowNumbers]
    changed: Ints
    count: int

    @classmethod
    def read(cls, reader: LedgerReader, state: State, known: Known) -> ServedRows:
        """Read them from the ledger, of spaces that are `known` only as far as items changed since."""
        count, deleted = reader.next_numbers()[0], reader.rows_deleted()
        changed: dict[int, Ints] = {}
        rows = {}
        for generation in state.servable:
            since, before = known.get(generation, (-1, None))
            if before is None or since < deleted:
                rows[generation] = every_row(reader, generation)
                continue
            if since not in changed:
                changed[since] = reader.items_since(since)[0]
                _require_below(count, changed[since])
            rows[generation] = rows_after(reader, generation, since, before, changed[since])
        return cls(state.revision, rows, changed[max(changed)] if changed else np.empty(0, dtype=np.int64), count)

    def known(self) -> Known:
        """The rows for a later reading to begin with."""
        return {generation: (self.revision, rows) for generation, rows in self.rows.items()}

    @cached_property
    def serving(self) -> Generations:
        """The generation that serves each item, by item number; 0 where none does."""
        rows = {generation: rows.all() for generation, rows in self.rows.items()}
        return serving_generations(rows, list(rows), self.count)

    def serving_of(self, items: Ints) -> Generations:
        """The generation that serves each of some items; 0 where none does."""
        rows = {generation: rows.of(items) for generation, rows in self.rows.items()}
        return serving_generations(rows, list(rows), len(items))


def every_row(reader: LedgerReader, generation: int) -> RowNumbers:
    """The rows of a space's items, all of them read from the ledger."""
    count = reader.next_numbers()[0]
    items, numbers = reader.row_numbers(generation)
    _require_below(count, items)
    rows: Ints = np.zeros(count, dtype=np.int64)
    rows[items] = numbers
    return RowNumbers.whole(rows)


def rows_after(reader: LedgerReader, generation: int, since: int, before: RowNumbers, changed: Ints) -> RowNumbers:
    """The rows of a space's items from those `before`, as of revision `since`, and the items that changed since."""
    count = reader.next_numbers()[0]
    if not len(changed) and before.count == count:
        return before
    items, numbers = reader.row_numbers(generation, since)
    _require_below(count, items)
    rows = np.zeros(len(changed), dtype=np.int64)
    rows[np.searchsorted(changed, items)] = numbers
    return before.after(changed, rows, count)


def _require_below(count: int, items: Ints) -> None:
    if len(items) and not 0 <= int(items.min()) <= int(items.max()) < count:
        raise GalleryError(
            f"the gallery's database names items between {items.min()} and {items.max()}, but has given numbers below "
            f"{count} only: it is damaged or was altered; restore it from a backup"
        )
