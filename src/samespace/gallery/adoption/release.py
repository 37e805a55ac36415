"""Handing the column back: the new vectors go into the application's table, and take the place of the old ones there.

Nothing is lost on the way. The new vectors are copied into a column of their own, in batches, beside the application's
traffic; then its indexes are built anew; then, in one short transaction, the names change hands. The old vectors stay
in the table until its owner drops them. Killed before that transaction the same call carries on, and a rollback is
still possible; after it there is no way back by the gallery.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.adoption.release_plan import BATCH, COMING, DROPPED, Release, plan_release, require_upgraded
from samespace.gallery.index.adopted.postgres import PostgresStore
from samespace.gallery.index.adopted.store import AdoptedStore
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.index.pgvector.hnsw import create
from samespace.gallery.ledger.adopted import quoted
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.seal import UNUSED_SECONDS, Sealed, end_upgrades, require_unused
from samespace.progress import Advance, silent
from samespace.typed import plain


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
        if writer.meta(COMING) != release.table.coming:
            writer.session.run(release.add)
            writer.put_meta(COMING, release.table.coming)
        if dropped := [index for index in release.indexes if index.dropped]:
            # remembered first: killed here, the same call still knows what is to be built
            writer.put_meta(DROPPED, json.dumps([asdict(index) for index in dropped]))
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
            sql = f"SELECT item FROM side_{generation} WHERE item > ? ORDER BY item LIMIT {BATCH}"
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
    require_upgraded(writer, state, table, where)
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
        require_upgraded(writer, state, table, where, among=moved)
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
    run("DELETE FROM meta WHERE key IN (?, ?)", [COMING, DROPPED])
    writer.note("sealed", table=f"{table.schema}.{table.table}", column=table.vector, kept=release.kept)
    return end_upgrades(writer, state)


def _numbers(reader: LedgerReader, sql: str) -> list[int | None]:
    return [row[0] for row in reader.session.all(sql)]
