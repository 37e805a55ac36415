"""What handing a column back does, in the terms of the table's owner: looked at first, and told as SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.postgres import PostgresStore
from samespace.gallery.index.adopted.store import AdoptedStore
from samespace.gallery.index.pgvector.hnsw import MOST_DIMS, operator
from samespace.gallery.ledger.adopted import AdoptedTable, quoted, superseded
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.upgrade.seal import require_complete, require_switched
from samespace.space import Space

BATCH = 1000
"""Rows that are copied in one transaction."""
COMING = "adopted release"
"""The key under which the ledger keeps the name of a new column that a release has made."""
DROPPED = "adopted indexes dropped"
"""Likewise, of the indexes that it has dropped."""
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
class ReleasedIndex:
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
    indexes: tuple[ReleasedIndex, ...]
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
            f"UPDATE {table} SET {new} = ...;  -- {BATCH:,} rows at a time, each in its own transaction",
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
        require_upgraded(reader, state, table, where)
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
        earlier = [ReleasedIndex(**one) for one in json.loads(reader.meta(DROPPED) or "[]")]
        gone = {index.name for index in earlier}
        indexes = (*(replace(i, dropped=drop_index) for i in indexes if i.name not in gone), *earlier)
        release = Release(table, state.query, kept.space.dim, indexes, bool(columns[table.vector]))
        ours = reader.meta(COMING) == table.coming
        taken = (
            release.kept if release.kept in columns else table.coming if table.coming in columns and not ours else ""
        )
        if taken:
            raise GalleryError(f"{where} has a column '{taken}' already; rename or drop it first, nothing was done")
    return release


def indexes_to_make(reader: LedgerReader) -> list[str]:
    """SQL of the indexes on the old vectors that a seal dropped before it was cut off."""
    return [one["old"] for one in json.loads(reader.meta(DROPPED) or "[]")]


def require_upgraded(
    reader: LedgerReader, state: State, table: AdoptedTable, where: str, *, among: Sequence[int | None] | None = None
) -> None:
    """Refuse where a row lacks its new vector, or no upgrade is under way.

    `among`: only rows of these items are asked for; None is a row that is no item yet.
    """
    require_switched(state, where)
    lacking = reader.session.all(
        "SELECT COUNT(*) FROM adopted_rows v LEFT JOIN adopted a ON a.key = v.key "
        f"WHERE {'TRUE' if among is None else 'a.item = ANY(?)'} AND NOT {superseded((state.query,))}",
        [] if among is None else [[item for item in among if item is not None]],
    )[0][0]
    lacking += 0 if among is None else sum(item is None for item in among)
    require_complete(state, where, lacking, "rows")


def _indexes(reader: LedgerReader, table: AdoptedTable, space: Space, measure: str) -> tuple[ReleasedIndex, ...]:
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
            ReleasedIndex(
                name,
                schema,
                f"CREATE INDEX CONCURRENTLY {quoted(name + '_new')} ON {table.quoted} USING {method} "
                f"({quoted(table.coming)} {table.kind}_{order}_ops){f' WITH ({options})' if options else ''}",
                old_index,
            )
        )
    return tuple(made)
