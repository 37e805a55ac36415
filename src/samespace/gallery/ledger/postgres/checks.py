"""What a schema holds, before a gallery is made there, and what the server says of one that is there."""

from __future__ import annotations

from collections.abc import Iterator

from samespace.errors import InputError
from samespace.gallery.ledger.postgres.address import Address
from samespace.gallery.ledger.postgres.session import PostgresSession
from samespace.gallery.ledger.postgres.watch import WatchedConnection

_RELATIONS = "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s"
_FOREIGN = (
    "SELECT 'trigger', t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n "
    "ON n.oid = c.relnamespace WHERE n.nspname = ? AND NOT t.tgisinternal "
    "UNION ALL SELECT 'rule', r.rulename FROM pg_rules r WHERE r.schemaname = ? "
    "UNION ALL SELECT 'view', c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "
    "n.nspname = ? AND c.relkind IN ('v', 'm') AND c.relname !~ '^(described|adopted_rows|vector_[0-9]+)$' ORDER BY 2"
)


def relations(connection: WatchedConnection, schema: str) -> set[str]:
    """Names of all tables, views and indexes of a schema."""
    return {row[0] for row in connection.execute(_RELATIONS, [schema])}


def require_empty(connection: WatchedConnection, address: Address) -> None:
    """Refuse a schema for a new gallery that holds anything. Raises InputError: it holds a gallery, or other things."""
    there = relations(connection, address.schema)
    if "clock" in there:
        raise InputError(
            f"{address.shown} holds a gallery already; name another schema with ?schema=NAME, or add to it; what "
            "was adopted is brought up to date by sync"
        )
    if there:
        raise InputError(
            f"{address.shown}: the schema '{address.schema}' holds other things; name another with ?schema=NAME"
        )


def findings(session: PostgresSession, schema: str) -> Iterator[str]:
    """What can damage or has damaged the data in a schema, as far as the server tells, a line each."""
    for setting in ("fsync", "full_page_writes"):
        if session.all("SELECT current_setting(?)", [setting]) == [("off",)]:
            yield f"the server runs with {setting} = off; a power cut can damage the gallery; switch it on"
    failures = session.all(
        "SELECT COALESCE(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()"
    )
    if failures and failures[0][0]:
        yield f"the server counted {failures[0][0]} damaged pages; restore the database from a backup"
    for kind, name in session.all(_FOREIGN, [schema] * 3):
        yield f"the {kind} {name!r} is none of the gallery's, and can change what is read or written"
    for (name,) in session.all(
        "SELECT c.relname FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND NOT x.indisvalid ORDER BY 1",
        [schema],
    ):
        yield f"the index {name} was left half-built; it is not used, and the next maintenance builds it anew"
