"""`LedgerWriter`: what can be written to a ledger in one transaction, whole or not at all."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from samespace.gallery.ledger.state import Claim, Completed, Ints, Link, NewItem, Upgrade, UpgradeState, Vectors
from samespace.gallery.ledger.transactions.queue import WorkQueue
from samespace.gallery.ledger.transactions.reader import ROWS_DELETED, UNENDED
from samespace.gallery.ledger.transactions.transaction import Engine, Session
from samespace.gallery.serving import has_vector_sql
from samespace.metrics.calibration import Calibration
from samespace.space import Score, Space


class LedgerWriter(WorkQueue):
    """One transaction on a ledger that writes. Reads in it see its own writes.

    A change that a search could notice takes a new revision, so that searchers know what to read again.
    """

    def __init__(self, engine: Engine, session: Session) -> None:
        super().__init__(engine, session)
        self._revision: int | None = None

    def add_space(self, space: Space, model: str | None, score: Score = "cosine") -> int:
        """Store a space that the gallery does not have, searched by `score`; its generation."""
        generation = self._count("SELECT COALESCE(MAX(rank), 0) + 1 FROM space")
        description = space.to_dict()
        if score != "cosine":
            description["score"] = score
        self.session.run(
            "INSERT INTO space VALUES (?, ?, ?, ?, 0, ?)",
            [generation, space.id, json.dumps(description), model, time.time()],
        )
        for statement in self.engine.vector_table(generation, space.dim):
            self.session.run(statement)
        self._configured()
        return generation

    def forget_space(self, generation: int) -> None:
        """Remove a space that was planned and never used, with its plan."""
        for statement in self.engine.drop_vectors(generation):
            self.session.run(statement)
        self.clear_work(generation)
        for table in ("canary", "filled"):
            self.session.run(f"DELETE FROM {table} WHERE space = ?", [generation])
        self.session.run("DELETE FROM space WHERE rank = ?", [generation])
        self.session.run("DELETE FROM upgrade WHERE new = ?", [generation])
        for table in ("link", "calibration"):
            self.session.run(f"DELETE FROM {table} WHERE query = ? OR gallery = ?", [generation, generation])
        of_it = [f"fusion {generation} %", f"fusion % {generation} %"]
        self.session.run("DELETE FROM meta WHERE key LIKE ? OR key LIKE ?", of_it)
        of_it = [f"longest {generation}", f"served {generation}"]
        self.session.run("DELETE FROM meta WHERE key = ? OR key = ?", of_it)
        self._configured()

    def set_model(self, generation: int, model: str | None) -> None:
        """Remember where the model of a space lies."""
        self.session.run("UPDATE space SET model = ? WHERE rank = ?", [model, generation])
        self._configured()

    def retire(self, generation: int) -> None:
        """Serve a space no more, for good."""
        self.session.run("UPDATE space SET retired = 1 WHERE rank = ?", [generation])
        self.clear_work(generation)
        self._configured()

    def set_query(self, generation: int) -> None:
        """Let queries use a space: the one row that an upgrade and a rollback change for searches."""
        self.session.run("UPDATE clock SET query = ?", [generation])
        self._configured()

    def put_link(self, link: Link) -> None:
        """Allow a pair of spaces to be compared, in the place of an earlier link of the pair."""
        self.session.run("DELETE FROM link WHERE query = ? AND gallery = ?", [link.query, link.gallery])
        text = None if link.certificate is None else json.dumps(dict(link.certificate))
        self.session.run(
            "INSERT INTO link VALUES (?, ?, ?, ?, ?)", [link.query, link.gallery, link.dims, text, time.time()]
        )
        self._configured()

    def drop_link(self, query: int, gallery: int) -> None:
        """Allow a pair of spaces no longer."""
        self.session.run("DELETE FROM link WHERE query = ? AND gallery = ?", [query, gallery])
        self._configured()

    def put_calibration(self, query: int, gallery: int, calibration: Calibration, source: str) -> None:
        """Store a calibration of a pair of generations; it counts from now on, the earlier ones are kept."""
        self.session.run(
            "INSERT INTO calibration (query, gallery, value, source, added) VALUES (?, ?, ?, ?, ?)",
            [query, gallery, json.dumps(calibration.to_dict()), source, time.time()],
        )
        self._configured()

    def put_fused_calibration(self, query: int, gallery: int, alpha: float, calibration: Calibration) -> None:
        """Store a calibration of queries fused with share `alpha` of the new one, in the place of an earlier one."""
        self.put_meta(f"fusion {query} {gallery} {alpha!r}", json.dumps(calibration.to_dict()))

    def put_canaries(self, generation: int, items: Ints, vectors: Vectors) -> None:
        """Store vectors that stand for the model of a space, in the place of earlier ones."""
        self.session.run("DELETE FROM canary WHERE space = ?", [generation])
        data = np.ascontiguousarray(vectors, dtype="<f4")
        self.session.insert(
            "canary", [(generation, item, row.tobytes()) for item, row in zip(items.tolist(), data, strict=True)]
        )

    def put_meta(self, key: str, value: str) -> None:
        """Store a value of the gallery as a whole."""
        self.put_mark(key, value)
        self._configured()

    def put_mark(self, key: str, value: str) -> None:
        """Store what an index keeps in mind beside its files; no search notices, so the revision stays."""
        self.session.run("DELETE FROM meta WHERE key = ?", [key])
        self.session.run("INSERT INTO meta VALUES (?, ?)", [key, value])

    def add_upgrade(self, old: int, new: int, *, order: str, plan: Mapping[str, Any]) -> int:
        """Store a planned upgrade; its number."""
        number = self._count("SELECT COALESCE(MAX(no), 0) + 1 FROM upgrade")
        self.session.run(
            "INSERT INTO upgrade VALUES (?, ?, ?, 'planned', 0, ?, ?, NULL, NULL)",
            [number, old, new, order, json.dumps(dict(plan))],
        )
        self._configured()
        return number

    def set_upgrade(
        self,
        upgrade: Upgrade,
        *,
        state: UpgradeState | None = None,
        paused: bool | None = None,
        order: str | None = None,
        plan: Mapping[str, Any] | None = None,
    ) -> None:
        """Change the given parts of an upgrade; times follow from the state."""
        new_state = state or upgrade.state
        started, ended = upgrade.started, upgrade.ended
        if new_state == "open" and upgrade.state != "open":
            started, ended = time.time(), None
        if new_state in ("sealed", "rolled-back") and upgrade.state != new_state:
            ended = time.time()
        self.session.run(
            "UPDATE upgrade SET state = ?, paused = ?, ordering = ?, plan = ?, started = ?, ended = ? WHERE no = ?",
            [
                new_state,
                int(upgrade.paused if paused is None else paused),
                order or upgrade.order,
                json.dumps(dict(upgrade.plan if plan is None else plan)),
                started,
                ended,
                upgrade.number,
            ],
        )
        self._configured()

    def add_items(self, items: Sequence[NewItem]) -> Ints:
        """Store items whose ids the ledger does not have; their numbers, in order."""
        first = self._take("next_item", len(items))
        revision = self._tick()
        self.session.insert(
            "item",
            [
                (first + place, item.id, item.content, item.label, _text(item.metadata), 0, revision)
                for place, item in enumerate(items)
            ],
        )
        return np.arange(first, first + len(items), dtype=np.int64)

    def change_items(self, numbers: Ints, items: Sequence[NewItem]) -> None:
        """Give stored items, removed ones included, new content; the vectors of their old content go.

        Work on them starts anew: what is being embedded of the old content will not be taken.
        """
        self._forget(numbers)
        revision = self._tick()
        self.session.many(
            "UPDATE item SET content = ?, label = ?, metadata = ?, deleted = 0, epoch = ? WHERE no = ?",
            [
                (item.content, item.label, _text(item.metadata), revision, number)
                for number, item in zip(numbers.tolist(), items, strict=True)
            ],
        )

    def describe_items(self, numbers: Ints, items: Sequence[NewItem]) -> None:
        """Give stored items a new label and metadata; content and vectors stay."""
        revision = self._tick()
        self.session.many(
            "UPDATE item SET label = ?, metadata = ?, epoch = ? WHERE no = ?",
            [
                (item.label, _text(item.metadata), revision, number)
                for number, item in zip(numbers.tolist(), items, strict=True)
            ],
        )

    def remove_items(self, numbers: Ints) -> None:
        """Mark items as removed and delete their vectors, work and traffic; a late backfill cannot bring them back."""
        self._forget(numbers)
        revision = self._tick()
        self.run_listed("UPDATE item SET deleted = 1, epoch = ? WHERE no IN (LISTED)", numbers, [revision])
        self.run_listed("DELETE FROM traffic WHERE item IN (LISTED)", numbers)

    def put_vectors(
        self, generation: int, items: Ints, contents: Sequence[str], vectors: Vectors, *, fresh: bool = False
    ) -> None:
        """Store the vectors of items that have none in this space, and remove them from its work list.

        `items`: (N,) numbers. `vectors`: (N, D) float32. `fresh`: all items were added or changed in this very
        transaction, so that nothing else knows of them.
        """
        if not len(items):
            return
        first = self._take("next_vector", len(items))
        numbers = np.arange(first, first + len(items), dtype=np.int64)
        if (table := self.engine.written(generation)) != f"vector_{generation}":
            # of a vector whose row the application has changed since
            self.run_listed(f"DELETE FROM {table} WHERE item IN (LISTED)", items)
        self.session.insert_vectors(generation, numbers, items, contents, vectors)
        self._note_longest(generation, vectors)
        revision = self._tick()
        if fresh:
            return
        self.session.insert("filled", [(generation, revision, first)], "ON CONFLICT (space, revision) DO NOTHING")
        self.strike(generation, items)

    def drop_superseded(self, generation: int, by: int, limit: int, *, after: int = 0) -> list[int]:
        """Delete up to `limit` vectors of a space whose items have one in a later space.

        `limit`: most rows to delete. `after`: number of the row to go on behind, so that a caller with many batches
        reads each row once.

        Returns:
            Numbers of the rows that went, ascending.
        """
        rows = self.session.all(
            f"SELECT no FROM vector_{generation} v WHERE no > ? AND {has_vector_sql([by], 'v.item')} "
            "ORDER BY no LIMIT ?",
            [after, limit],
        )
        numbers = [row[0] for row in rows]
        if numbers:
            self.session.run(
                f"DELETE FROM {self.engine.written(generation)} AS v WHERE no BETWEEN ? AND ? "
                f"AND {has_vector_sql([by], 'v.item')}",
                [numbers[0], numbers[-1]],
            )
            # killed before it ends, a seal leaves this behind, and no row number that was kept before counts
            if self.rows_deleted() != UNENDED:
                self.put_mark(ROWS_DELETED, str(UNENDED))
        return numbers

    def note_rows_deleted(self) -> None:
        """Let row numbers count that are read from now on: `drop_superseded`, which changes no item, has ended."""
        self.put_meta(ROWS_DELETED, str(self._tick()))

    def complete(self, generation: int, claims: Sequence[Claim], vectors: Vectors, *, owner: str | None) -> Completed:
        """Store what was embedded, item by item only if it still holds.

        A vector is taken if the item is there, has the content it had when it was claimed, and nobody else has claimed
        it since; `owner` None needs no claim.
        """
        numbers = [claim.item for claim in claims]
        known = self.items(numbers)
        held = set(numbers) if owner is None else self._held(generation, owner, numbers)
        having = self.with_vector(generation, numbers)
        counts = {"stored": 0, "present": 0, "changed": 0, "gone": 0, "lost": 0}
        taken, free, over = [], [], []
        for place, claim in enumerate(claims):
            item = known.get(claim.item)
            outcome = "stored"
            if item is None or item.deleted:
                outcome = "gone"
            elif item.content != claim.content:
                outcome = "changed"
                free.append(claim.item)
            elif claim.item in having:
                outcome = "present"
            elif claim.item not in held:
                outcome = "lost"
            counts[outcome] += 1
            if outcome == "stored":
                taken.append(place)
            elif outcome in ("gone", "present") and claim.item in held:
                # left on the list it would be waited for without end
                over.append(claim.item)
        self.put_vectors(
            generation,
            np.array([numbers[place] for place in taken], dtype=np.int64),
            [claims[place].content for place in taken],
            vectors[taken],
        )
        if owner is not None:
            self.release(generation, owner, free)
        if over:
            self.strike(generation, over)
        return Completed(**counts)

    def note(self, action: str, **detail: Any) -> None:
        """Append to the audit trail; who did it is the user of this process."""
        self.session.run(
            "INSERT INTO audit (at, actor, action, detail) VALUES (?, ?, ?, ?)",
            [time.time(), _user(), action, json.dumps(detail)],
        )

    def _note_longest(self, generation: int, vectors: Vectors) -> None:
        """Keep the greatest length of a space's vectors where it bounds the error of a store's inner products."""
        if self._description(generation).get("score") != "ip":
            return
        longest = float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max()))
        known = self.meta(f"longest {generation}")
        if known is None or longest > float(known):
            self.put_meta(f"longest {generation}", repr(longest))

    def _forget(self, numbers: Ints) -> None:
        generations = [row[0] for row in self.session.all("SELECT rank FROM space WHERE retired = 0")]
        for generation in generations:
            if table := self.engine.written(generation):
                self.run_listed(f"DELETE FROM {table} WHERE item IN (LISTED)", numbers)
            self.strike(generation, numbers)
        self.run_listed("DELETE FROM canary WHERE item IN (LISTED)", numbers)

    def _take(self, counter: str, count: int) -> int:
        """Numbers that no row has had and none will have again."""
        first = self._count(f"SELECT {counter} FROM clock")
        self.session.run(f"UPDATE clock SET {counter} = ?", [first + count])
        return first

    def _tick(self) -> int:
        """The revision of this transaction."""
        if self._revision is None:
            self.session.run("UPDATE clock SET epoch = epoch + 1")
            self._revision = self.revision()
        return self._revision

    def _configured(self) -> None:
        self.session.run("UPDATE clock SET config = ?", [self._tick()])


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _text(metadata: Mapping[str, Any]) -> str:
    return json.dumps(dict(metadata)) if metadata else "{}"
