"""Handing the column back: the new vectors go into the application's table, and take the place of the old ones there.

Nothing is lost on the way. The new vectors are copied into a column of their own, in batches, beside the application's
traffic; then its indexes are built anew; then, in one short transaction, the names change hands. The old vectors stay
in the table until its owner drops them. Killed before that transaction the same call carries on, and a rollback is
still possible; after it there is no way back by the gallery.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.postgres import PostgresStore
from samespace.gallery.index.adopted.store import AdoptedStore
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.index.pgvector.hnsw import MOST_DIMS, create, operator
from samespace.gallery.ledger.adopted import AdoptedTable, quoted, superseded
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.seal import (
    UNUSED_SECONDS,
    Sealed,
    end_upgrades,
    require_complete,
    require_switched,
    require_unused,
)
from samespace.progress import Advance, silent
from samespace.space import Space
from samespace.typed import plain

_BATCH = 1000
_COMING = "adopted release"
_DROPPED = "adopted indexes dropped"
_INDEXES = """SELECT c.relname, quote_ident(n.nspname), m.amname, o.opcname,
array_to_string(c.reloptions, ', '), x.indpred IS NOT NULL, pg_get_indexdef(c.oid)
FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_am m ON m.oid = c.relam JOIN pg_opclass o ON o.oid = x.indclass[0]
JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
WHERE x.indrelid = ?::regclass AND a.attname = ? AND x.indisvalid ORDER BY c.relname"""
_READERS = """SELECT DISTINCT r.ev_class::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
JOIN pg_class c ON c.oid = r.ev_class JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.refobjid = ?::regclass AND a.attname = ? AND c.relnamespace <> current_schema()::regnamespace ORDER BY 1"""


@dataclass(frozen=True)
class _Index:
    """An index on the old column, and the one that takes its place: the statements that make them.

    `dropped`: the old one goes first.
    """

    name: str
    schema: str
    build: str
    old: str
    dropped: bool = False

    @property
    def quoted(self) -> str:
        """The name of the old one as SQL."""
        return f"{self.schema}.{quoted(self.name)}"

    @property
    def drop(self) -> str:
        """The statement that drops the old one."""
        return f"DROP INDEX CONCURRENTLY IF EXISTS {self.quoted}"


@dataclass(frozen=True)
class Release:
    """What a release does, in the terms of the table's owner.

    Attributes:
        table: the adopted one.
        generation: of the space whose vectors go into it.
        dim: of these.
        indexes: to be built on them.
        required: whether the column may hold no NULL.
    """

    table: AdoptedTable
    generation: int
    dim: int
    indexes: tuple[_Index, ...]
    required: bool

    @property
    def kept(self) -> str:
        """The name of the old column afterwards."""
        return f"{self.table.vector}_old"

    @property
    def add(self) -> str:
        """The statement that makes the new column."""
        return f"ALTER TABLE {self.table.quoted} ADD COLUMN {quoted(self.table.coming)} {self.table.kind}({self.dim})"

    @property
    def swap(self) -> list[str]:
        """The statements by which the names change hands."""
        table, old, new = self.table.quoted, quoted(self.table.vector), quoted(self.table.coming)
        required = [f"ALTER TABLE {table} ALTER COLUMN {new} SET NOT NULL"] if self.required else []
        return [
            *required,
            f"ALTER TABLE {table} RENAME COLUMN {old} TO {quoted(self.kept)}",
            f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}",
            *([f"ALTER TABLE {table} ALTER COLUMN {quoted(self.kept)} DROP NOT NULL"] if self.required else []),
            *(f"ALTER INDEX {i.quoted} RENAME TO {quoted(i.name + '_old')}" for i in self.indexes if not i.dropped),
            *(f"ALTER INDEX {i.schema}.{quoted(i.name + '_new')} RENAME TO {quoted(i.name)}" for i in self.indexes),
        ]

    def lines(self) -> list[str]:
        """All of it as SQL to read, with what is done by hand afterwards."""
        table, new = self.table.quoted, quoted(self.table.coming)
        return [
            f"{self.add};",
            *self._about_indexes(),
            f"UPDATE {table} SET {new} = ...;  -- {_BATCH:,} rows at a time, each in its own transaction",
            *(f"{index.build};" for index in self.indexes),
            f"BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;",
            *(f"{statement};" for statement in self.swap),
            "COMMIT;",
            f"-- yours, when nothing reads the old vectors: ALTER TABLE {table} DROP COLUMN {quoted(self.kept)};",
        ]

    def _about_indexes(self) -> list[str]:
        dropped = [index for index in self.indexes if index.dropped]
        if not dropped and self.indexes:
            names = ", ".join(quoted(index.name) for index in self.indexes)
            return [
                f"-- the next puts each row into {names} once more, which takes most of the time; drop_index=True "
                "drops it first: until the new one is there vector queries of yours look at every row"
            ]
        return [
            *(f"{index.drop};" for index in dropped),
            *(f"-- should you give up before the names change: {index.old};" for index in dropped),
        ]


def plan_release(store: AdoptedStore, *, drop_index: bool = False) -> Release:
    """What handing over the column would do; nothing is changed.

    `drop_index`: the old column's indexes are dropped before rows are copied, not kept beside.

    Raises:
        GalleryError: no upgrade is under way, items lack the new vector, this user may not alter the table, or
            something else reads the column or has the name of one to come.
    """
    assert isinstance(store, PostgresStore)
    table, where = store.table, f"{store.ledger.location}: {store.name}"
    with store.ledger.read() as reader:
        state = reader.state()
        _require_upgraded(reader, state, table, where)
        owner, user = reader.session.all(
            "SELECT pg_has_role(relowner, 'USAGE'), current_user FROM pg_class WHERE oid = ?::regclass", [table.quoted]
        )[0]
        if not owner:
            raise GalleryError(f"{where}: only its owner may alter it, not {user}; seal as its owner, nothing was done")
        if views := [row[0] for row in reader.session.all(_READERS, [table.quoted, table.vector])]:
            raise GalleryError(
                f"{where}: the column '{table.vector}' is in use by {', '.join(views)}, which would go on with the old "
                "vectors; drop what reads it first and make it again afterwards, nothing was done"
            )
        columns = dict(
            reader.session.all(
                "SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = ?::regclass AND attnum > 0 "
                "AND NOT attisdropped",
                [table.quoted],
            )
        )
        kept = state.spaces[state.query]
        indexes = _indexes(reader, table, kept.space, operator(kept)[1].removeprefix("vector_").removesuffix("_ops"))
        earlier = [_Index(**one) for one in json.loads(reader.meta(_DROPPED) or "[]")]
        gone = {index.name for index in earlier}
        indexes = (*(replace(i, dropped=drop_index) for i in indexes if i.name not in gone), *earlier)
        release = Release(table, state.query, kept.space.dim, indexes, bool(columns[table.vector]))
        ours = reader.meta(_COMING) == table.coming
        taken = (
            release.kept if release.kept in columns else table.coming if table.coming in columns and not ours else ""
        )
        if taken:
            raise GalleryError(f"{where} has a column '{taken}' already; rename or drop it first, nothing was done")
    return release


def indexes_to_make(reader: LedgerReader) -> list[str]:
    """SQL of the indexes on the old vectors that a seal dropped before it was cut off."""
    return [one["old"] for one in json.loads(reader.meta(_DROPPED) or "[]")]


def hand_over(
    store: AdoptedStore,
    *,
    unused_for: float = UNUSED_SECONDS,
    end_grace: bool = False,
    drop_index: bool = False,
    expect: int | None = None,
    advance: Advance = silent,
) -> Sealed:
    """Do it; see the module.

    `drop_index`: as of `plan_release`. `advance`: called with how many more vectors are copied. The rest: as of `seal`.

    Raises:
        GalleryError: as `plan_release`; rows changed meanwhile and need new vectors first; another seal is under way.
    """
    assert isinstance(store, PostgresStore)
    with _alone(store):
        sync(store.ledger, store)
        release = plan_release(store, drop_index=drop_index)
        if not end_grace:
            with store.ledger.read() as reader:
                require_unused(reader, reader.state(), unused_for)
        _prepare(store, release, advance)
        with store.ledger.write() as writer:
            # copying takes long, and the same seal may have been sent twice
            require_step(writer, expect)
            sealed = _swapped(writer, release)
        with store.ledger.read() as reader:
            reader.state()
        return sealed


@contextmanager
def _alone(store: PostgresStore) -> Iterator[None]:
    """Keep other seals of the gallery out, in whatever process, until the block ends.

    Raises:
        GalleryError: one is under way.
    """
    with store.engine.outside_transaction() as session:
        # as a number of spaces begins at 1, no index that is being built has the same lock
        if not session.all("SELECT pg_try_advisory_lock(hashtext(?), 0)", [store.engine.address.schema])[0][0]:
            raise GalleryError(
                f"{store.ledger.location}: another seal of this gallery is under way; nothing was done, look at the "
                "status once it has ended"
            )
        yield


def _prepare(store: PostgresStore, release: Release, advance: Advance) -> None:
    """Make the new column, with its vectors and indexes, beside the application's traffic."""
    with store.ledger.write() as writer:
        if writer.meta(_COMING) != release.table.coming:
            writer.session.run(release.add)
            writer.put_meta(_COMING, release.table.coming)
        if dropped := [index for index in release.indexes if index.dropped]:
            # remembered first: killed here, the same call still knows what is to be built
            writer.put_meta(_DROPPED, json.dumps([asdict(index) for index in dropped]))
    with store.engine.outside_transaction() as session:
        for index in dropped:
            session.run(index.drop)
    _copy(store, release.generation, advance)
    with store.engine.outside_transaction() as session:
        for index in release.indexes:
            name = f"{index.schema}.{quoted(index.name + '_new')}"
            session.run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            create(session, index.build, name, release.table.quoted, release.dim)


def _copy(store: PostgresStore, generation: int, advance: Advance) -> None:
    last = 0
    while True:
        with store.ledger.read() as reader:
            sql = f"SELECT item FROM side_{generation} WHERE item > ? ORDER BY item LIMIT {_BATCH}"
            items = np.array([row[0] for row in reader.session.all(sql, [last])], dtype=np.int64)
        if not len(items):
            return
        advance(store.put(generation, items))
        last = int(items[-1])


def _locked(writer: LedgerWriter, state: State, release: Release) -> list[int | None]:
    """Lock the table, every row with a vector having its new one in the new column; items of rows written to it here.

    What reads every vector comes before the lock. The ledger has one writer at a time, so that until the end only the
    application can change anything, and its rows tell by their version.
    """
    table, run = release.table, writer.session.run
    new, old = quoted(table.coming), quoted(table.vector)
    side, value = f"side_{release.generation} w", f"w.value::{table.kind}"
    where = f"{writer.engine.location}: {table.schema}.{table.table}"
    _require_upgraded(writer, state, table, where)
    run(f"UPDATE item i SET content = {table.content(value)} FROM {side} WHERE w.item = i.no")
    late = _numbers(
        writer,
        f"SELECT a.item FROM {side} JOIN adopted a ON a.item = w.item JOIN {table.quoted} t "
        f"ON t.{quoted(table.key)} = a.key WHERE t.{old} IS NOT NULL AND t.{new} IS DISTINCT FROM {value}",
    )
    run(f"LOCK TABLE {table.quoted} IN ACCESS EXCLUSIVE MODE")
    moved = _numbers(
        writer,
        "SELECT a.item FROM adopted_rows v LEFT JOIN adopted a ON a.key = v.key "
        "WHERE a.key IS NULL OR v.version <> a.version",
    )
    if moved:
        _require_upgraded(writer, state, table, where, among=moved)
    late += moved
    if late:
        run(
            f"UPDATE {table.quoted} t SET {new} = w.value FROM {side} JOIN adopted a ON a.item = w.item "
            f"WHERE t.{quoted(table.key)} = a.key AND t.{old} IS NOT NULL AND a.item = ANY(?) "
            f"AND t.{new} IS DISTINCT FROM {value}",
            [late],
        )
    if not release.required:
        run(f"UPDATE {table.quoted} SET {new} = NULL WHERE {old} IS NULL AND {new} IS NOT NULL")
    return late


def _swapped(writer: LedgerWriter, release: Release) -> Sealed:
    """Let the names change hands, and the ledger follow, in one transaction."""
    table, generation, run = release.table, release.generation, writer.session.run
    state = writer.state()
    late = _locked(writer, state, release)
    for other in state.spaces:
        run(f"DROP VIEW vector_{other}")
    run("DROP VIEW described, adopted_rows")
    for statement in release.swap:
        run(statement)
    after = replace(table, generation=generation)
    for statement in after.views():
        run(statement)
    run(f"TRUNCATE side_{generation}")
    for other, kept in state.spaces.items():
        for statement in after.vectors(other, kept.space.dim):
            # side tables that are there stay
            run(statement.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    if late:
        sql = "UPDATE adopted a SET version = r.version FROM adopted_rows r WHERE r.key = a.key AND a.item = ANY(?)"
        run(sql, [late])
    writer.put_meta("adopted", json.dumps(plain(after)))
    run("DELETE FROM meta WHERE key IN (?, ?)", [_COMING, _DROPPED])
    writer.note("sealed", table=f"{table.schema}.{table.table}", column=table.vector, kept=release.kept)
    return end_upgrades(writer, state)


def _numbers(reader: LedgerReader, sql: str) -> list[int | None]:
    return [row[0] for row in reader.session.all(sql)]


def _require_upgraded(
    reader: LedgerReader, state: State, table: AdoptedTable, where: str, *, among: Sequence[int | None] | None = None
) -> None:
    """`among`: only rows of these items are asked for; None is a row that is no item yet."""
    require_switched(state, where)
    lacking = reader.session.all(
        "SELECT COUNT(*) FROM adopted_rows v LEFT JOIN adopted a ON a.key = v.key "
        f"WHERE {'TRUE' if among is None else 'a.item = ANY(?)'} AND NOT {superseded((state.query,))}",
        [] if among is None else [[item for item in among if item is not None]],
    )[0][0]
    lacking += 0 if among is None else sum(item is None for item in among)
    require_complete(state, where, lacking, "rows")


def _indexes(reader: LedgerReader, table: AdoptedTable, space: Space, measure: str) -> tuple[_Index, ...]:
    """The indexes on the old column that can be built on the new one, by the order that its space is searched in."""
    made = []
    for name, schema, method, opclass, options, partial, old_index in reader.session.all(
        _INDEXES, [table.quoted, table.vector]
    ):
        old = opclass.removeprefix(f"{table.kind}_").removesuffix("_ops")
        most = MOST_DIMS * (1 if table.kind == "vector" else 2)
        if method not in ("hnsw", "ivfflat") or partial or space.dim > most:
            continue
        order = old if space.normalized else measure
        made.append(
            _Index(
                name,
                schema,
                f"CREATE INDEX CONCURRENTLY {quoted(name + '_new')} ON {table.quoted} USING {method} "
                f"({quoted(table.coming)} {table.kind}_{order}_ops){f' WITH ({options})' if options else ''}",
                old_index,
            )
        )
    return tuple(made)
