"""`WorkQueue`: what workers write, and no search notices: claims, failures, heartbeats, traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samespace.gallery.ledger.reader import DROPPED, LedgerReader, parts_of
from samespace.gallery.ledger.state import Claim, Ints, WorkerStatus

_TRIES = 10
_FORGOTTEN = 24 * 3600.0
_BEFORE = "; before: "


class WorkQueue(LedgerReader):
    """One transaction that changes only claims, workers and traffic: it takes no revision, and waits for no writer."""

    def put_work(self, generation: int, items: Ints, priorities: Sequence[float]) -> None:
        """Put items on the work list of a space, or give them new priorities; claims and failures stay."""
        self.session.insert(
            "work",
            [
                (generation, item, float(value), None, None, 0, None)
                for item, value in zip(items.tolist(), priorities, strict=True)
            ],
            "ON CONFLICT (space, item) DO UPDATE SET priority = excluded.priority",
        )

    def retry(self, generation: int) -> int:
        """Put failed items back on the list; how many."""
        return self.session.run(
            "UPDATE work SET error = NULL, tries = 0, owner = NULL, lease = NULL WHERE space = ? AND error IS NOT NULL",
            [generation],
        )

    def claim(
        self, generation: int, owner: str, count: int, *, now: float, lease: float, among: Sequence[int] | None = None
    ) -> list[Claim]:
        """Claim up to `count` items of the work list, highest priority first, for `lease` seconds from `now`.

        Items whose lease ran out are claimed again, but not by the worker that holds them, which may be embedding them
        yet. An item that was claimed ten times and never completed counts as failed: it may be what kills the workers.

        Times are in seconds since 1970; `among` are the numbers of the only items to claim, at most `count`.
        """
        taken: list[int] = []
        for part in [None] if among is None else parts_of(among):
            while len(taken) < count:
                rows = self._free(generation, owner, now, count - len(taken), part)
                hopeless = [item for item, tries in rows if tries >= _TRIES]
                fresh = [item for item, tries in rows if tries < _TRIES]
                self._give_up(generation, hopeless)
                self.run_listed(
                    "UPDATE work SET owner = ?, lease = ?, tries = tries + 1 WHERE space = ? AND item IN (LISTED)",
                    fresh,
                    [owner, now + lease, generation],
                )
                taken += fresh
                if not hopeless:
                    break
        known = self.items(taken)
        return [Claim(number, known[number].id, known[number].content) for number in taken]

    def renew(self, generation: int, owner: str, items: Sequence[int], until: float) -> None:
        """Hold claims for longer; those that went to others stay there."""
        # rows that another transaction is about to change are passed over: nobody waits for a renewal
        self.run_listed(
            "UPDATE work SET lease = ? WHERE space = ? AND item IN (SELECT item FROM work WHERE space = ? "
            f"AND owner = ? AND item IN (LISTED) {self.engine.skip_locked})",
            items,
            [until, generation, generation, owner],
        )

    def release(self, generation: int, owner: str, items: Sequence[int]) -> None:
        """Give claimed items back unembedded, without counting the try."""
        self.run_listed(
            "UPDATE work SET owner = NULL, lease = NULL, tries = tries - 1 "
            "WHERE space = ? AND owner = ? AND item IN (LISTED)",
            items,
            [generation, owner],
        )

    def release_owned(self, generation: int, owner: str) -> None:
        """Take back every claim of one worker."""
        self.session.run(
            "UPDATE work SET owner = NULL, lease = NULL WHERE space = ? AND owner = ?",
            [generation, owner],
        )

    def release_others(self, generation: int, owner: str, kept: Sequence[int]) -> None:
        """Take back the claims of one worker but those that it keeps."""
        rows = self.session.all("SELECT item FROM work WHERE space = ? AND owner = ?", [generation, owner])
        self.release(generation, owner, sorted({row[0] for row in rows} - set(kept)))

    def release_all(self, generation: int) -> None:
        """Take back every claim on the work list of a space."""
        # by the index on claims: the list may hold a row for every item
        self.session.run(
            "UPDATE work SET owner = NULL, lease = NULL, tries = 0 WHERE space = ? AND owner IS NOT NULL", [generation]
        )

    def fail(self, generation: int, owner: str, reasons: Mapping[int, str]) -> None:
        """Mark claimed items as impossible to embed; they stay listed until they are retried or removed."""
        self.session.many(
            "UPDATE work SET error = ?, owner = NULL, lease = NULL WHERE space = ? AND item = ? AND owner = ?",
            [(reason, generation, item, owner) for item, reason in sorted(reasons.items())],
        )

    def drop(self, generation: int, items: Ints) -> None:
        """Mark items as left out of a space; they stay on its work list, with the reason that they had."""
        listed = set(self.listed(generation).tolist())
        new = np.array([item for item in items.tolist() if item not in listed], dtype=np.int64)
        self.put_work(generation, new, [0.0] * len(new))
        self.run_listed(
            "UPDATE work SET error = ? || COALESCE(? || error, ''), owner = NULL, lease = NULL "
            "WHERE space = ? AND item IN (LISTED)",
            items,
            [DROPPED, _BEFORE, generation],
        )

    def take_back(self, generation: int) -> None:
        """Undo `drop` for a space: its items wait for a vector again, or have the reason that they had."""
        self.session.run(
            f"UPDATE work SET error = NULLIF(SUBSTR(error, {len(DROPPED + _BEFORE) + 1}), '') "
            "WHERE space = ? AND error LIKE ?",
            [generation, f"{DROPPED}%"],
        )

    def count_hits(self, hits: Mapping[int, int]) -> None:
        """Add to how often searches returned each item."""
        self.session.insert(
            "traffic", sorted(hits.items()), "ON CONFLICT (item) DO UPDATE SET hits = traffic.hits + excluded.hits"
        )

    def heartbeat(self, worker: WorkerStatus) -> None:
        """Store that a worker is alive and how far it has come; workers silent for a day are forgotten."""
        self.session.run("DELETE FROM worker WHERE owner = ? OR seen < ?", [worker.owner, worker.seen - _FORGOTTEN])
        self.session.run(
            "INSERT INTO worker VALUES (?, ?, ?, ?, ?, ?, ?)",
            [worker.owner, worker.generation, worker.started, worker.seen, worker.done, worker.failed, worker.note],
        )

    def end_worker(self, owner: str) -> None:
        """Remove a worker that has ended."""
        self.session.run("DELETE FROM worker WHERE owner = ?", [owner])

    def _free(
        self, generation: int, owner: str, now: float, count: int, among: Sequence[int] | None
    ) -> list[tuple[int, int]]:
        """Items that a worker can claim, and how often they were claimed before."""
        if among is not None:
            # a CASE is met by no partial index: with a long list a planner would walk the whole work list in order
            free = "CASE WHEN error IS NOT NULL THEN 0 WHEN owner IS NULL OR (lease < ? AND owner <> ?) THEN 1 END = 1"
            sql = f"SELECT -priority, item, tries FROM work WHERE space = ? AND {free} AND item IN (LISTED)"
            listed = self.all_listed(f"{sql} {self.engine.skip_locked}", among, [generation, now, owner])
            return [(row[1], row[2]) for row in sorted(listed)[:count]]
        tail = f"ORDER BY priority DESC, item LIMIT ? {self.engine.skip_locked}"
        # two questions, one index each: what is nobody's, and what was left by others, of which there is little
        what = "SELECT -priority, item, tries FROM work WHERE space = ? AND error IS NULL AND owner"
        rows = self.session.all(f"{what} IS NULL {tail}", [generation, count])
        rows += self.session.all(
            f"{what} IS NOT NULL AND lease < ? AND owner <> ? {tail}", [generation, now, owner, count]
        )
        return [(row[1], row[2]) for row in sorted(rows)[:count]]

    def _give_up(self, generation: int, items: Sequence[int]) -> None:
        self.session.many(
            "UPDATE work SET error = ?, owner = NULL, lease = NULL WHERE space = ? AND item = ?",
            [(f"given up after {_TRIES} claims that came to nothing", generation, item) for item in items],
        )

    def _owners(self, generation: int, items: Sequence[int]) -> dict[int, str]:
        sql = "SELECT item, owner FROM work WHERE space = ? AND item IN (LISTED)"
        return dict(self.all_listed(sql, items, [generation]))
