"""`WorkReader`: what can be read of work lists and of those who work on them; see `work_list`."""

from __future__ import annotations

import numpy as np

from samespace.gallery.ledger.state import Ints, Work, WorkerStatus
from samespace.gallery.ledger.transactions.transaction import Transaction, column

DROPPED = "dropped at the switch"
"""How the reason of an item on a work list begins that a switch left out of the new space."""


class WorkReader(Transaction):
    """One transaction that reads work lists."""

    def work(self, generation: int, now: float) -> Work:
        """How far the work list of a space has come."""
        row = self.session.all(
            "SELECT SUM(last - first + 1), SUM(CASE WHEN owner IS NOT NULL AND lease >= ? THEN last - first + 1 END), "
            "(SELECT COUNT(*) FROM work_failed WHERE space = ?) FROM work_range WHERE space = ?",
            [now, generation, generation],
        )[0]
        with self._as_written("a work list"):
            return Work(*(int(value or 0) for value in row))

    def listed(self, generation: int) -> Ints:
        """Numbers of the items on the work list of a space, failed ones included, ascending."""
        failed = self.session.all("SELECT item FROM work_failed WHERE space = ?", [generation])
        return np.sort(np.concatenate([self.open_work(generation), column(failed, 0)]))

    def open_work(self, generation: int) -> Ints:
        """Numbers of the items on the work list of a space that did not fail, in its order."""
        sql = (
            "SELECT w.item FROM work_range r CROSS JOIN work w WHERE r.space = ? AND w.space = r.space "
            "AND w.place BETWEEN r.first AND r.last ORDER BY r.first, w.place"
        )
        return column(self.session.all(sql, [generation]), 0)

    def owners(self, generation: int) -> list[str]:
        """Workers that hold claims on the work list of a space."""
        sql = "SELECT DISTINCT owner FROM work_range WHERE space = ? AND owner IS NOT NULL ORDER BY owner"
        owners = [row[0] for row in self.session.all(sql, [generation])]
        with self._as_written("a work list"):
            if not all(isinstance(owner, str) for owner in owners):
                raise ValueError("an owner that is no text")
        return owners

    def failures(self, generation: int, limit: int) -> list[tuple[str, str]]:
        """Ids and reasons of items that could not be embedded for a space."""
        rows = self.session.all(
            "SELECT i.id, w.error FROM work_failed w JOIN item i ON i.no = w.item WHERE w.space = ? "
            "ORDER BY i.no LIMIT ?",
            [generation, limit],
        )
        return [(row[0], row[1]) for row in rows]

    def dropped(self, generation: int) -> Ints:
        """Numbers of the items that a switch has left out of a space and that have no vector of it since, ascending."""
        sql = "SELECT item FROM work_failed WHERE space = ? AND error LIKE ? ORDER BY item"
        return column(self.session.all(sql, [generation, f"{DROPPED}%"]), 0)

    def failed(self, generation: int) -> int:
        """How many items of the work list of a space could not be embedded."""
        return self.work(generation, 0.0).failed

    def workers(self, seen_after: float) -> list[WorkerStatus]:
        """Workers whose last heartbeat came after a time, seconds since 1970."""
        rows = self.session.all(
            "SELECT owner, space, started, seen, done, failed, note FROM worker WHERE seen > ? ORDER BY owner",
            [seen_after],
        )
        return [WorkerStatus(*row) for row in rows]
