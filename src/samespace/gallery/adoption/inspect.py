"""Looking at an application's PostgreSQL table before a gallery adopts it: refused in one line, or its facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from samespace.errors import GalleryError, InputError, suggest
from samespace.gallery.ingest.checks import NORM_SLACK
from samespace.gallery.ledger.adopted import AdoptedTable, quoted
from samespace.gallery.ledger.postgres.engine import PostgresEngine
from samespace.gallery.ledger.transactions.transaction import Session
from samespace.space import Score

_KINDS = {"v": "a view", "m": "a materialised view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
_KEYS = ("text", "varchar", "bpchar", "int2", "int4", "int8", "uuid")
_NORMS = {"vector": "vector_norm", "halfvec": "l2_norm"}


@dataclass(frozen=True)
class Columns:
    """The columns that a user names: ids, vectors, perhaps labels, and what searches may filter on."""

    id: str
    vector: str
    label: str | None = None
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspected:
    """A table that a gallery can adopt.

    Attributes:
        table: the table, its columns under their names in the database.
        rows: with a vector.
        without: rows that have none.
        dim: of the vectors.
        normalized: whether all of them have unit length.
        score: what searches go by where the user does not say: the order of the table's index.
    """

    table: AdoptedTable
    rows: int
    without: int
    dim: int
    normalized: bool
    score: Score


def inspect(engine: PostgresEngine, name: str, columns: Columns) -> Inspected:
    """Look at a table; nothing is changed.

    Raises:
        InputError: it is no table, it or its columns cannot be taken as asked, or hold what a gallery cannot serve.
        GalleryError: this user has not the rights, or the server cannot be reached.
    """
    with engine.reading() as session:
        # names mean what they mean to the user, and functions of pgvector are found wherever it was installed
        session.run("SET LOCAL search_path TO DEFAULT")
        extension = session.all(
            "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
            "WHERE e.extname = 'vector'"
        )
        oid, schema, table = _found(session, engine.location, name)
        where = f"{engine.location}: the table {schema}.{table}"
        _require_rights(session, engine, oid, where)
        if extension:
            session.run(f"SET LOCAL search_path TO {extension[0][0]}")
        kinds: dict[str, str] = dict(session.all(_COLUMNS, [oid]))
        for column in (columns.id, columns.vector, columns.label, *columns.metadata):
            if column is not None and column not in kinds:
                raise InputError(f"{where} has no column '{column}'; {suggest(column, kinds)}")
        kind = kinds[columns.vector]
        if kind not in _NORMS:
            legal = ", ".join(one for one, other in kinds.items() if other in _NORMS) or "none"
            raise InputError(f"{where}: the column '{columns.vector}' is of type {kind}; columns of vectors: {legal}")
        _require_key(session, oid, f"{quoted(schema)}.{quoted(table)}", columns.id, kinds, where)
        adopted = AdoptedTable(schema, table, columns.id, columns.vector, kind, columns.label, columns.metadata)  # type: ignore[arg-type]
        return _measured(session, adopted, where)


_COLUMNS = """SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = ? AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_TABLES = """SELECT c.oid::bigint, n.nspname, c.relname, c.relkind::text FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ? AND """
_UNIQUE = """SELECT 1 FROM pg_index x JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
WHERE x.indrelid = ? AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indnkeyatts = 1
AND x.indpred IS NULL AND a.attname = ?"""


def _found(session: Session, location: str, name: str) -> tuple[int, str, str]:
    """A table by its name, as a user writes it: `products`, `shop.products`, with or without double quotes."""
    for schema, table in _readings(name):
        rows = (
            session.all(_TABLES + "pg_table_is_visible(c.oid)", [table])
            if schema is None
            else session.all(_TABLES + "n.nspname = ?", [table, schema])
        )
        if rows:
            oid, schema, table, kind = rows[0]
            if kind not in "rp":
                what = _KINDS.get(kind, "no table")
                raise InputError(
                    f"{location}: {schema}.{table} is {what}, and a gallery adopts tables; name the table that has the "
                    "vectors"
                )
            return oid, schema, table
    held = session.all(
        "SELECT DISTINCT n.nspname || '.' || c.relname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid "
        "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE t.typname IN ('vector', 'halfvec') AND c.relkind IN ('r', 'p') ORDER BY 1 LIMIT 10"
    )
    names = ", ".join(row[0] for row in held) or "none"
    raise InputError(f"{location} has no table '{name}'; tables with vectors: {names}")


def _readings(name: str) -> list[tuple[str | None, str]]:
    readings: list[tuple[str | None, str]] = [(None, name), (None, _bare(name))]
    schema, dot, table = name.partition(".")
    if dot:
        readings.append((_bare(schema), _bare(table)))
    return readings + [(None if s is None else s.lower(), t.lower()) for s, t in readings]


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if len(name) > 1 and name[0] == name[-1] == '"' else name


def _require_rights(session: Session, engine: PostgresEngine, oid: int, where: str) -> None:
    schema = engine.address.schema
    may_read, hidden, user = session.all(
        "SELECT has_table_privilege(?::oid, 'SELECT'), row_security_active(?::oid), current_user", [oid, oid]
    )[0]
    if not may_read:
        raise GalleryError(f"{where}: the user {user} may not read it; GRANT SELECT ON it, nothing was made")
    if hidden:
        raise GalleryError(
            f"{where}: row security hides rows from the user {user}; adopt it as a user who sees all, nothing was made"
        )
    made = session.all(
        "SELECT (SELECT has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = ?), "
        "has_database_privilege(current_database(), 'CREATE'), current_database()",
        [schema],
    )[0]
    if not (made[1] if made[0] is None else made[0]):
        what = f"make the schema '{schema}'" if made[0] is None else f"make tables in the schema '{schema}'"
        right = f"DATABASE {made[2]}" if made[0] is None else f"SCHEMA {schema}"
        raise GalleryError(
            f"{engine.location}: the user {user} may not {what}, where the ledger goes; GRANT CREATE ON {right}, "
            "nothing was made"
        )


def _require_key(session: Session, oid: int, table: str, key: str, kinds: Mapping[str, str], where: str) -> None:
    kind = kinds[key]
    if kind not in _KEYS:
        raise InputError(f"{where}: the column '{key}' is of type {kind}; ids are text, whole numbers or uuid")
    if session.all(_UNIQUE, [oid, key]):
        return
    twice = session.all(
        f"SELECT {quoted(key)}::text, COUNT(*) FROM {table} WHERE {quoted(key)} IS NOT NULL "
        f"GROUP BY {quoted(key)} HAVING COUNT(*) > 1 ORDER BY 1 LIMIT 1"
    )
    if twice:
        raise InputError(
            f"{where}: the id '{twice[0][0]}' stands in {twice[0][1]} rows of '{key}'; name a column that is unique"
        )
    raise InputError(
        f"{where} has no key on '{key}': nothing keeps an id from standing there twice; name the column of the primary "
        f"key, or run: CREATE UNIQUE INDEX CONCURRENTLY ON {table} ({quoted(key)})"
    )


def _measured(session: Session, table: AdoptedTable, where: str) -> Inspected:
    key, vector = quoted(table.key), quoted(table.vector)
    norm = f"{_NORMS[table.kind]}({vector})"
    rows, without, nameless, least, most, short, long = session.all(
        f"SELECT COUNT({vector}), COUNT(*) - COUNT({vector}), COUNT(*) - COUNT({key}), MIN(vector_dims({vector})), "
        f"MAX(vector_dims({vector})), MIN({norm}), MAX({norm}) FROM {table.quoted}"
    )[0]
    if not rows:
        raise InputError(f"{where} has no vector in '{table.vector}' yet; there is nothing to adopt")
    if nameless:
        raise InputError(
            f"{where}: {nameless:,} rows have no id in '{table.key}'; give them one, or name another column"
        )
    if least != most:
        raise InputError(
            f"{where}: vectors in '{table.vector}' have {least} to {most} dimensions; a space has one number of them"
        )
    if not short > 0:
        name = session.all(f"SELECT {key}::text FROM {table.quoted} WHERE NOT {norm} > 0 LIMIT 1")
        raise InputError(
            f"{where}: the vector of '{name[0][0] if name else '?'}' is zero and has no direction; set it to NULL"
        )
    unit = bool(abs(short - 1) <= NORM_SLACK and abs(long - 1) <= NORM_SLACK)
    return Inspected(table, rows, without, most, unit, "cosine" if unit else _score(session, table))


def _score(session: Session, table: AdoptedTable) -> Score:
    """What the table's index sorts by; cosine where there is none."""
    rows = session.all(
        "SELECT o.opcname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid JOIN pg_am m ON m.oid = c.relam "
        "JOIN pg_opclass o ON o.oid = x.indclass[0] "
        "JOIN pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0] "
        "WHERE x.indrelid = ?::regclass AND a.attname = ? AND m.amname IN ('hnsw', 'ivfflat') ORDER BY m.amname",
        [table.quoted, table.vector],
    )
    measures = {name.removeprefix(f"{table.kind}_").removesuffix("_ops") for (name,) in rows}
    return "cosine" if "cosine" in measures or not measures else "ip" if "ip" in measures else "l2"
