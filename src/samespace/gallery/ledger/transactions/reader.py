"""`LedgerReader`: what can be read of a ledger in one transaction, all of it as of its start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.state import Ints, Item, Rows, State, Vectors
from samespace.gallery.ledger.transactions.stored_state import (
    json_object,
    stored_calibrations,
    stored_fused_calibrations,
    stored_links,
    stored_spaces,
    stored_upgrades,
)
from samespace.gallery.ledger.transactions.transaction import Engine, Session, column, listing, none, parts_of
from samespace.gallery.ledger.transactions.work_reader import WorkReader
from samespace.gallery.serving import has_vector_sql, served_sql
from samespace.text import Scalar

ROWS_DELETED = "rows deleted"
"""The key under which the gallery keeps `rows_deleted`."""
UNENDED = 2**62
"""A revision that none reaches: rows are being deleted, batch by batch."""

_MOST_UNUSED = 2**24
_PAGE = 50_000
_STEPS = "('upgrade', 'upgrade behind', 'switch', 'pause', 'resume', 'rollback', 'seal', 'sealed')"


class LedgerReader(WorkReader):
    """One transaction on a ledger that reads; every method sees the ledger as of its start.

    `query`: generation to take for the one that queries use; the ledger's own by default.
    """

    def __init__(self, engine: Engine, session: Session, query: int | None = None) -> None:
        super().__init__(engine, session)
        self._query = query

    def revision(self) -> int:
        """Number of the last change that a search could notice."""
        return int(self._clock("epoch")[0])

    def state(self, known: State | None = None) -> State:
        """Everything but the items; parts of `known` that still hold are taken over."""
        revision, config, query, next_item = self._clock("epoch, config, query, next_item")
        query = self._query or query
        if known is not None and known.config == config:
            return replace(known, revision=revision, query=query)
        self.engine.refresh(self.session)
        self._require_numbers_below(next_item)
        with self._as_written("what is known of its spaces and upgrades"):
            state = State(
                revision=revision,
                config=config,
                query=query,
                spaces=stored_spaces(self),
                links=stored_links(self),
                calibrations=stored_calibrations(self),
                upgrades=stored_upgrades(self),
                settings=json_object(self.meta("settings")),
                fused=stored_fused_calibrations(self),
            )
            mentioned = {query, *(one for upgrade in state.upgrades for one in (upgrade.old, upgrade.new))}
            if unknown := mentioned - state.spaces.keys():
                raise ValueError(f"no space of generation {min(unknown)}")
            if any(upgrade.old >= upgrade.new for upgrade in state.upgrades):
                raise ValueError("an upgrade to an earlier space")
        return state

    def _clock(self, columns: str) -> tuple[int, ...]:
        rows = self.session.all(f"SELECT {columns} FROM clock")
        with self._as_written("its clock"):
            if len(rows) != 1 or not all(type(value) is int and 0 <= value < 2**63 for value in rows[0]):
                raise ValueError(f"{rows[:1]}")
        return rows[0]

    def _require_numbers_below(self, next_item: int) -> None:
        """Items are places in arrays; tables of an application are numbered apart."""
        if self.engine.described != "item":
            return
        sql = "SELECT (SELECT MIN(no) FROM item), (SELECT MAX(no) FROM item)"
        least, most = self.session.all(sql)[0]
        with self._as_written("the numbers of its items"):
            if not 0 < (least or 1) <= (most or 0) + 1 or not (most or 0) < next_item <= (most or 0) + _MOST_UNUSED:
                raise ValueError(f"from {least} to {most}, the next one {next_item}")

    def meta(self, key: str) -> str | None:
        """A value of the gallery as a whole, such as `gallery` (its id) or `format`."""
        rows = self.session.all("SELECT value FROM meta WHERE key = ?", [key])
        return str(rows[0][0]) if rows else None

    def items_since(self, revision: int) -> tuple[Ints, list[str], Ints]:
        """Numbers, ids and deleted marks (0, 1) of the items that changed after `revision`, by number."""
        sql, values = self._moved(revision)
        # sorted here: asked for the order, SQLite walks the whole table rather than the index on revisions
        rows = sorted(self.session.all(f"SELECT no, id, deleted FROM item WHERE no IN ({sql})", values))
        return column(rows, 0), [row[1] for row in rows], column(rows, 2)

    def row_numbers(self, generation: int, since: int = -1) -> tuple[Ints, Ints]:
        """Items and the number of their vector row in a space, for items that changed after a revision."""
        if since >= 0:
            sql, values = self._moved(since)
            rows = self.session.all(f"SELECT item, no FROM vector_{generation} WHERE item IN ({sql})", values)
            return column(rows, 0), column(rows, 1)
        items, numbers = [none()], [none()]
        # a page at a time: rows as Python objects take ten times the memory of the arrays
        page = f"SELECT item, no FROM vector_{generation} WHERE item > ? ORDER BY item LIMIT {_PAGE}"
        last = -1
        while rows := self.session.all(page, [last]):
            items.append(column(rows, 0))
            numbers.append(column(rows, 1))
            last = self._further(last, items[-1])
        return np.concatenate(items), np.concatenate(numbers)

    def rows_deleted(self) -> int:
        """Until which revision vectors went whose items did not change, which `row_numbers` since does not tell."""
        return int(self.meta(ROWS_DELETED) or 0)

    def next_numbers(self) -> tuple[int, int]:
        """Numbers that the next item and the next vector row will have; every number given so far is lower."""
        item, vector = self._clock("next_item, next_vector")
        return item, vector

    def rows_after(self, generation: int, number: int, limit: int) -> Rows:
        """Up to `limit` vector rows of a space with numbers above `number`, ascending."""
        return self._rows(
            generation,
            f"SELECT no, item, crc, content, value FROM vector_{generation} WHERE no > ? ORDER BY no LIMIT ?",
            [number, limit],
        )

    def rows_of(self, generation: int, items: Sequence[int] | Ints) -> Rows:
        """Vector rows of these items in a space, those that have one, by row number."""
        sql = f"SELECT no, item, crc, content, value FROM vector_{generation} WHERE item IN (LISTED)"
        parts = [self._rows(generation, listing(sql, part), part) for part in parts_of(items)]
        if not parts:
            return Rows(none(), none(), np.empty((0, self._dim(generation)), np.float32), none(), ())
        numbers = np.concatenate([part.numbers for part in parts])
        order = np.argsort(numbers)
        contents = [content for part in parts for content in part.contents]
        return Rows(
            numbers[order],
            np.concatenate([part.items for part in parts])[order],
            np.concatenate([part.values for part in parts])[order],
            np.concatenate([part.checksums for part in parts])[order],
            tuple(contents[place] for place in order),
        )

    def find(self, ids: Iterable[str]) -> dict[str, Item]:
        """Items by id, removed ones included; ids that are unknown are left out."""
        return {item.id: item for item in self._items("id", list(ids))}

    def items(self, numbers: Sequence[int] | Ints) -> dict[int, Item]:
        """Items by number."""
        return {item.number: item for item in self._items("no", numbers)}

    def ids(self, numbers: Sequence[int] | Ints) -> dict[int, str]:
        """Ids of items by number."""
        rows = dict(self.all_listed("SELECT no, id FROM item WHERE no IN (LISTED)", numbers))
        with self._as_written("the id of an item"):
            if wrong := [name for name in rows.values() if not isinstance(name, str)]:
                raise TypeError(f"no text: {wrong[0]!r}")
        return rows

    def metadata(self, numbers: Sequence[int] | Ints) -> dict[int, dict[str, Any]]:
        """Metadata of items by number."""
        rows = self.all_listed(f"SELECT no, metadata FROM {self.engine.described} WHERE no IN (LISTED)", numbers)
        # PostgreSQL's driver has read the JSON already
        with self._as_written("the metadata of items"):
            return {number: text if isinstance(text, dict) else json_object(text) for number, text in rows}

    def labels(self) -> tuple[Ints, list[str | None]]:
        """Numbers and labels of all live items, by number."""
        rows = self.session.all(f"SELECT no, label FROM {self.engine.described} WHERE deleted = 0 ORDER BY no")
        return column(rows, 0), [row[1] for row in rows]

    def select(self, where: Sequence[Condition]) -> Ints:
        """Numbers of the live items that meet every condition, ascending."""
        sql, values = self.meets(where)
        table = self.engine.described
        return column(self.session.all(f"SELECT no FROM {table} WHERE deleted = 0 AND {sql} ORDER BY no", values), 0)

    def meets(self, where: Sequence[Condition]) -> tuple[str, list[Any]]:
        """SQL on `label` and `metadata` that is true where every condition is met, with its values."""
        every, values = ["1 = 1"], list[Any]()
        for condition in where:
            options = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            operator = "=" if condition.operator == "in" else condition.operator
            parts = [self.engine.condition(condition.key, operator, some) for some in _alike(options, operator)]
            every.append(f"({' OR '.join(part for part, _ in parts)})")
            values += [value for _, given in parts for value in given]
        return " AND ".join(every), values

    def live(self) -> int:
        """How many items there are."""
        # two counts of an index each: the marks themselves lie all over the table
        return self._count("SELECT COUNT(*) FROM item") - self._count("SELECT COUNT(*) FROM item WHERE deleted = 1")

    def stored(self, generation: int) -> int:
        """How many vectors a space holds."""
        return self._count(f"SELECT COUNT(*) FROM {self.engine.written(generation) or f'vector_{generation}'}")

    def rows_beyond(self, generation: int, number: int) -> int:
        """How many vector rows of a space have higher numbers."""
        return self._count(f"SELECT COUNT(*) FROM vector_{generation} WHERE no > {number}")

    def served(self, generations: Sequence[int]) -> dict[int, int]:
        """How many live items each of the servable spaces (ascending generations) serves."""
        counts = dict[int, int]()
        for generation in reversed(generations):
            newer = sum(counts.values())
            if self.engine.adopted is None and (not newer or not self.lacking_count(generation)):
                counts[generation] = self.stored(generation) - newer
                continue
            counts[generation] = self._count(
                f"SELECT COUNT(*) FROM item i JOIN vector_{generation} v ON v.item = i.no "
                f"WHERE i.deleted = 0 AND {served_sql(generation, generations)}"
            )
        return counts

    def unserved(self, generations: Sequence[int]) -> Ints:
        """Numbers of the live items that have a vector in none of these spaces, ascending."""
        if any(self.lacking_count(generation) == 0 for generation in generations if self.engine.adopted is None):
            return none()
        served = has_vector_sql(generations, "i.no")
        return column(self.session.all(f"SELECT no FROM item i WHERE deleted = 0 AND NOT {served} ORDER BY no"), 0)

    def lacking(self, generation: int, items: Sequence[int] | Ints) -> Ints:
        """Those of these items that are live and have no vector of a space, ascending."""
        without = f"NOT {has_vector_sql([generation], 'i.no')}"
        rows = self.all_listed(f"SELECT no FROM item i WHERE deleted = 0 AND no IN (LISTED) AND {without}", items)
        return np.array(sorted(row[0] for row in rows), dtype=np.int64)

    def lacking_count(self, generation: int) -> int:
        """How many live items have no vector of a space."""
        if self.engine.adopted is None:
            return self.live() - self.stored(generation)
        # an application's rows come and go without the ledger
        return len(self.unserved([generation]))

    def with_vector(self, generation: int, items: Sequence[int] | Ints) -> set[int]:
        """Which of these items have a vector in a space."""
        sql = f"SELECT item FROM vector_{generation} WHERE item IN (LISTED)"
        return {row[0] for row in self.all_listed(sql, items)}

    def orphans(self, generation: int) -> int:
        """How many vectors of a space belong to no live item, or to another content of it."""
        return self._count(
            f"SELECT COUNT(*) FROM vector_{generation} v LEFT JOIN item i ON i.no = v.item "
            "WHERE i.no IS NULL OR i.deleted = 1 OR i.content <> v.content"
        )

    def traffic(self) -> tuple[Ints, Ints]:
        """Items and how often searches returned them."""
        rows = self.session.all("SELECT item, hits FROM traffic ORDER BY item")
        return column(rows, 0), column(rows, 1)

    def canaries(self, generation: int) -> tuple[Ints, Vectors]:
        """Items whose vectors stand for the model of a space, and these vectors."""
        rows = self.session.all("SELECT item, value FROM canary WHERE space = ? ORDER BY item", [generation])
        with self._as_written("the vectors that stand for a model"):
            values = np.frombuffer(b"".join(bytes(row[1]) for row in rows), dtype="<f4").astype(np.float32)
            return column(rows, 0), values.reshape(len(rows), self._dim(generation))

    def audit(self, limit: int = 50) -> list[dict[str, Any]]:
        """The last things that were done to the gallery, newest first."""
        rows = self.session.all("SELECT at, actor, action, detail FROM audit ORDER BY no DESC LIMIT ?", [limit])
        with self._as_written("the audit trail"):
            return [{"at": float(row[0]), "actor": row[1], "action": row[2], **json_object(row[3])} for row in rows]

    def steps_taken(self) -> int:
        """How many steps of upgrades were taken so far; a plan is none, as nothing changes by it."""
        return self._count(f"SELECT COUNT(*) FROM audit WHERE action IN {_STEPS}")

    def batches(self, generation: int, size: int = 4096) -> Iterator[Rows]:
        """All vector rows of a space, `size` at a time, by number."""
        last = 0
        while len((rows := self.rows_after(generation, last, size)).numbers):
            yield rows
            last = self._further(last, rows.numbers)

    def longest(self, generation: int) -> float:
        """No vector of a space is longer; kept for spaces that are searched by inner product, else infinite."""
        return float(self.meta(f"longest {generation}") or "inf")

    def vectors(self, sql: str, values: Sequence[Any], dim: int) -> tuple[list[tuple[Any, ...]], Vectors]:
        """Rows of a query whose last column is a vector, and these vectors, (N, dim) float32."""
        try:
            return self.session.vectors(sql, values, dim)
        except (TypeError, ValueError):
            where = self.engine.location
            raise GalleryError(f"{where}: a stored vector has the wrong length; run gallery.doctor()") from None

    def _moved(self, revision: int) -> tuple[str, list[Any]]:
        """SQL of the numbers of the items that changed after a revision or got vectors since, with its values."""
        filled = self.session.all("SELECT space, MIN(first) FROM filled WHERE revision > ? GROUP BY space", [revision])
        # rows that were handed over to an application since are numbered by it
        tables = [(self.engine.written(space), space, first) for space, first in filled]
        parts = [f"SELECT item FROM {table or f'vector_{space}'} WHERE no >= ?" for table, space, _ in tables]
        values = [revision, *(first if table else 0 for table, _, first in tables)]
        return " UNION ".join(["SELECT no FROM item WHERE epoch > ?", *parts]), values

    def _further(self, last: int, page: Ints) -> int:
        """The last number of a page of rows after `last`. Raises GalleryError: damage led back to earlier ones."""
        with self._as_written("a table in its order"):
            if page[-1] <= last:
                raise ValueError(f"{page[-1]} after {last}")
        return int(page[-1])

    def _count(self, sql: str) -> int:
        rows = self.session.all(sql)
        with self._as_written("a count"):
            return int(rows[0][0])

    def _items(self, column: str, values: Sequence[Any] | Ints) -> Iterator[Item]:
        sql = f"SELECT no, id, content, label, deleted FROM item WHERE {column} IN (LISTED)"
        for number, name, content, label, deleted in self.all_listed(sql, values):
            with self._as_written("an item"):
                if not (isinstance(name, str) and isinstance(content, str) and isinstance(label, str | None)):
                    raise TypeError(f"no text: {(name, content, label)!r}")
            yield Item(number, name, content, label, bool(deleted))

    def _rows(self, generation: int, sql: str, values: Sequence[Any]) -> Rows:
        elsewhere = self.engine.elsewhere
        if elsewhere is not None and self.engine.written(generation) is None:
            return elsewhere.get(self, column(self.session.all(sql, values), 1))
        rows, vectors = self.vectors(sql, values, self._dim(generation))
        return Rows(column(rows, 0), column(rows, 1), vectors, column(rows, 2), tuple(row[3] for row in rows))

    def _dim(self, generation: int) -> int:
        return int(self._description(generation)["dim"])

    def _description(self, generation: int) -> dict[str, Any]:
        rows = self.session.all("SELECT description FROM space WHERE rank = ?", [generation])
        if not rows:
            raise GalleryError(f"{self.engine.location} has no space of generation {generation}")
        with self._as_written("the description of a space"):
            return json_object(rows[0][0])


def _alike(options: Sequence[Scalar], operator: str) -> list[list[Scalar]]:
    """Options that a store compares in one go: of one type, for `=`; whole numbers that float64 holds are integers."""
    groups: dict[Any, list[Scalar]] = {}
    for place, option in enumerate(options):
        if isinstance(option, float) and option.is_integer() and abs(option) < 2**53:
            option = int(option)
        groups.setdefault(type(option) if operator == "=" else place, []).append(option)
    return list(groups.values())
