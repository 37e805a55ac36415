"""`WorkQueue`: what workers write, and no search notices: claims, failures, heartbeats, traffic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from samespace.gallery.ledger.state import Claim, Ints, WorkerStatus
from samespace.gallery.ledger.transactions.work_list import Range, WorkList, runs
from samespace.gallery.ledger.transactions.work_reader import DROPPED

_TRIES = 10
_FORGOTTEN = 24 * 3600.0
_BEFORE = "; before: "


@dataclass
class _Taking:
    """A claim while it is put together: at most `count` items, on these terms."""

    count: int
    terms: Range
    claims: list[Claim] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    old: list[Range] = field(default_factory=list)
    new: list[Range] = field(default_factory=list)
    over: bool = False

    @property
    def wanted(self) -> int:
        """How many items are still wanted."""
        return self.count - len(self.claims)


class WorkQueue(WorkList):
    """One transaction that changes only claims, workers and traffic: it takes no revision, and waits for no writer."""

    def retry(self, generation: int) -> int:
        """Put failed items back on the list; how many."""
        failed = self._failed_items(generation)
        self.session.run("DELETE FROM work_failed WHERE space = ?", [generation])
        self.append_work(generation, failed)
        return len(failed)

    def claim(
        self, generation: int, owner: str, count: int, *, now: float, lease: float, among: Sequence[int] | None = None
    ) -> list[Claim]:
        """Claim up to `count` items of the work list, in its order, for `lease` seconds from `now`.

        Items whose lease ran out are claimed again, but not by the worker that holds them, which may be embedding them
        yet. What was claimed together ten times and never completed may be what kills the workers: it is halved, and
        each half claimed alone, until the item that does is alone and counts as failed.

        Times are in seconds since 1970; `among` are the numbers of the only items to claim, at most `count`.
        """
        places = None if among is None else self._placed(generation, among)
        taking = _Taking(count, Range(0, 0, owner, now + lease))
        for free in self._free(generation, owner, now, taking, places):
            for one in free:
                if taking.over or not self._claim_range(generation, taking, one, places):
                    break
        self._rewrite(generation, taking.old, taking.new)
        self._change(generation, np.array(taking.gone, dtype=np.int64), lambda one: None)
        return taking.claims

    def renew(self, generation: int, owner: str, until: float) -> None:
        """Hold the claims of a worker for longer; those that went to others stay there."""
        # rows that another transaction is about to change are passed over: nobody waits for a renewal
        self.session.run(
            "UPDATE work_range SET lease = ? WHERE space = ? AND first IN "
            f"(SELECT first FROM work_range WHERE space = ? AND owner = ? {self.engine.skip_locked})",
            [until, generation, generation, owner],
        )

    def release(self, generation: int, owner: str, items: Sequence[int]) -> None:
        """Give claimed items back unembedded, without counting the try."""
        self._change(
            generation,
            self._placed(generation, items),
            lambda one: replace(one, owner=None, lease=None, tries=one.tries - 1),
            of=lambda one: one.owner == owner,
        )

    def release_owned(self, generation: int, owner: str) -> None:
        """Take back every claim of one worker."""
        self.session.run(
            "UPDATE work_range SET owner = NULL, lease = NULL WHERE space = ? AND owner = ?", [generation, owner]
        )

    def release_others(self, generation: int, owner: str, kept: Sequence[int]) -> None:
        """Take back the claims of one worker but those that it keeps."""
        own = self._ranges(generation, "AND owner = ?", [owner])
        rows = self._in_order(generation, [(one.first, one.last) for one in own])
        self.release(generation, owner, sorted({item for _, item in rows} - set(kept)))

    def release_all(self, generation: int) -> None:
        """Take back every claim on the work list of a space."""
        self.session.run(
            "UPDATE work_range SET owner = NULL, lease = NULL, tries = 0 WHERE space = ? AND owner IS NOT NULL",
            [generation],
        )

    def fail(self, generation: int, owner: str, reasons: Mapping[int, str]) -> None:
        """Mark claimed items as impossible to embed; they stay listed until they are retried or removed."""
        items = dict(self._places(generation, list(reasons)))
        places = np.array(sorted(items), dtype=np.int64)
        failed = self._change(generation, places, lambda one: None, of=lambda one: one.owner == owner)
        self._put_failed(generation, {items[place]: reasons[items[place]] for place in failed.tolist()})

    def drop(self, generation: int, items: Ints) -> None:
        """Mark items as left out of a space; they stay on its work list, with the reason that they had."""
        before = dict(self.session.all("SELECT item, error FROM work_failed WHERE space = ?", [generation]))
        self.append_work(generation, items)
        self._change(generation, self._placed(generation, items), lambda one: None)
        reasons = {item: DROPPED + (_BEFORE + before[item] if item in before else "") for item in items.tolist()}
        self._put_failed(generation, reasons)

    def take_back(self, generation: int) -> None:
        """Undo `drop` for a space: its items wait for a vector again, or have the reason that they had."""
        of_it = "WHERE space = ? AND error LIKE ?"
        before = DROPPED + _BEFORE
        self.session.run(
            f"UPDATE work_failed SET error = SUBSTR(error, {len(before) + 1}) {of_it}", [generation, f"{before}%"]
        )
        waiting = self.dropped(generation)
        self.session.run(f"DELETE FROM work_failed {of_it}", [generation, f"{DROPPED}%"])
        self.append_work(generation, waiting)

    def count_hits(self, hits: Mapping[int, int]) -> None:
        """Add to how often searches returned each item."""
        self.session.insert(
            "traffic", sorted(hits.items()), "ON CONFLICT (item) DO UPDATE SET hits = traffic.hits + excluded.hits"
        )

    def heartbeat(self, worker: WorkerStatus) -> None:
        """Store that a worker is alive and how far it has come; workers silent for a day are forgotten."""
        self.session.run("DELETE FROM worker WHERE seen < ?", [worker.seen - _FORGOTTEN])
        # a worker's threads may say so at the same moment
        self.session.run(
            "INSERT INTO worker VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (owner) DO UPDATE SET space = excluded.space, "
            "seen = excluded.seen, done = excluded.done, failed = excluded.failed, note = excluded.note",
            [worker.owner, worker.generation, worker.started, worker.seen, worker.done, worker.failed, worker.note],
        )

    def end_worker(self, owner: str) -> None:
        """Remove a worker that has ended."""
        self.session.run("DELETE FROM worker WHERE owner = ?", [owner])

    def _free(
        self, generation: int, owner: str, now: float, taking: _Taking, places: Ints | None
    ) -> Iterator[list[Range]]:
        """Ranges that a worker can claim, locked, in order: those with any of these places, or as many as it needs."""
        if places is not None:
            held = self._holding(generation, places, wait=False)
            yield [one for one in held if one.owner is None or ((one.lease or 0.0) < now and one.owner != owner)]
            return
        free = "AND first > ? AND (owner IS NULL OR (lease < ? AND owner <> ?)) ORDER BY first LIMIT ?"
        last, limit = -1, 1
        # ever more at once, so that little is locked that other workers could claim
        while not taking.over:
            some = self._ranges(
                generation, free, [last, now, owner, min(limit, taking.wanted)], self.engine.skip_locked
            )
            if not some:
                return
            yield some
            last, limit = some[-1].first, 2 * limit

    def _claim_range(self, generation: int, taking: _Taking, one: Range, places: Ints | None) -> bool:
        """Claim what is wanted of a free range; False where it is to be claimed alone, and something was before it."""
        if one.tries >= _TRIES:
            if len(one) == 1:
                self._give_up(generation, one)
                return True
            again = replace(one, owner=None, lease=None, tries=_TRIES - 1)
            middle = (one.first + one.last) // 2
            halves = [replace(again, last=middle), replace(again, first=middle + 1)]
            self._rewrite(generation, [one], halves)
            one = halves[0]
        inside = np.arange(one.first, one.last + 1) if places is None else one.of(places)
        doubtful = one.tries >= _TRIES - 1
        if doubtful and len(inside) and taking.claims:
            taking.over = True
            return False
        count = 0
        while taking.wanted and count < len(inside):
            part = inside[count : count + taking.wanted]
            count += len(part)
            listed = self._items_at(generation, runs(part))
            if len(listed) < len(part):
                # places of no item would be waited for without end
                taking.gone += np.setdiff1d(part, [row[0] for row in listed]).tolist()
            for place, item, name, content, deleted in listed:
                if name is None or deleted:
                    taking.gone.append(place)
                else:
                    taking.claims.append(Claim(item, name, content))
        taking.old.append(one)
        taking.new += one.split(inside[:count], replace(taking.terms, tries=one.tries + 1))
        taking.over = taking.wanted == 0 or (doubtful and len(taking.claims) > 0)
        return True

    def _items_at(self, generation: int, stretches: Sequence[tuple[int, int]]) -> list[tuple[Any, ...]]:
        """Place, item, id, content and deleted mark of places from first to last, in order."""
        sql = (
            "SELECT w.place, w.item, i.id, i.content, i.deleted FROM work w LEFT JOIN item i ON i.no = w.item "
            "WHERE w.space = ? AND w.place BETWEEN ? AND ? ORDER BY w.place"
        )
        return [row for one in stretches for row in self.session.all(sql, [generation, *one])]

    def _held(self, generation: int, owner: str, items: Sequence[int]) -> set[int]:
        """Which of these items a worker holds claims on."""
        at = dict(self._places(generation, items))
        places = np.array(sorted(at), dtype=np.int64)
        own = self._ranges(generation, "AND owner = ?", [owner])
        return {at[place] for one in own for place in one.of(places).tolist()}

    def _give_up(self, generation: int, one: Range) -> None:
        ((_, item),) = self._in_order(generation, [(one.first, one.last)])
        self._rewrite(generation, [one], [])
        self._put_failed(generation, {item: f"given up after {one.tries} claims that came to nothing"})

    def _put_failed(self, generation: int, reasons: Mapping[int, str]) -> None:
        self.session.insert(
            "work_failed",
            [(generation, item, reason) for item, reason in sorted(reasons.items())],
            "ON CONFLICT (space, item) DO UPDATE SET error = excluded.error",
        )
