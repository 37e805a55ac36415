"""Makes a gallery as the first release left it: its own statements, and the rows that it wrote.

`ledger.sql` is the dump of a gallery that the first release made on SQLite: 30 items, an upgrade under way, 7 items
re-embedded, claims that hold and one that ran out, failures, one of them left out by a switch, an item removed, one
changed, one new, traffic, canaries.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np

DUMP = Path(__file__).parent / "ledger.sql"

POSTGRES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE clock (id BIGINT PRIMARY KEY CHECK (id = 1), epoch BIGINT NOT NULL, config BIGINT NOT NULL,
    query BIGINT NOT NULL, next_item BIGINT NOT NULL, next_vector BIGINT NOT NULL);
CREATE TABLE space (rank BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE, description TEXT NOT NULL, model TEXT,
    retired BIGINT NOT NULL, added DOUBLE PRECISION NOT NULL);
CREATE TABLE link (query BIGINT NOT NULL, gallery BIGINT NOT NULL, dims BIGINT NOT NULL, certificate TEXT,
    added DOUBLE PRECISION NOT NULL, PRIMARY KEY (query, gallery));
CREATE TABLE calibration (no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, query BIGINT NOT NULL,
    gallery BIGINT NOT NULL, value TEXT NOT NULL, source TEXT NOT NULL, added DOUBLE PRECISION NOT NULL);
CREATE TABLE item (no BIGINT PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT NOT NULL, label TEXT,
    metadata JSONB, deleted BIGINT NOT NULL, epoch BIGINT NOT NULL);
CREATE INDEX item_epoch ON item (epoch);
CREATE TABLE traffic (item BIGINT PRIMARY KEY, hits BIGINT NOT NULL);
CREATE TABLE work (space BIGINT NOT NULL, item BIGINT NOT NULL, priority DOUBLE PRECISION NOT NULL, owner TEXT,
    lease DOUBLE PRECISION, tries BIGINT NOT NULL, error TEXT, PRIMARY KEY (space, item));
CREATE INDEX work_order ON work (space, priority DESC, item) WHERE error IS NULL AND owner IS NULL;
CREATE INDEX work_lease ON work (space, lease) WHERE owner IS NOT NULL;
CREATE TABLE upgrade (no BIGINT PRIMARY KEY, old BIGINT NOT NULL, new BIGINT NOT NULL, state TEXT NOT NULL,
    paused BIGINT NOT NULL, ordering TEXT NOT NULL, plan TEXT NOT NULL, started DOUBLE PRECISION,
    ended DOUBLE PRECISION);
CREATE TABLE canary (space BIGINT NOT NULL, item BIGINT NOT NULL, value BYTEA NOT NULL, PRIMARY KEY (space, item));
CREATE TABLE worker (owner TEXT PRIMARY KEY, space BIGINT NOT NULL, started DOUBLE PRECISION NOT NULL,
    seen DOUBLE PRECISION NOT NULL, done BIGINT NOT NULL, failed BIGINT NOT NULL, note TEXT NOT NULL);
CREATE TABLE audit (no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at DOUBLE PRECISION NOT NULL,
    actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL);
CREATE TABLE vector_1 (no BIGINT PRIMARY KEY, item BIGINT NOT NULL UNIQUE, content TEXT NOT NULL, crc BIGINT NOT NULL,
    value vector(4) NOT NULL);
CREATE TABLE vector_2 (no BIGINT PRIMARY KEY, item BIGINT NOT NULL UNIQUE, content TEXT NOT NULL, crc BIGINT NOT NULL,
    value vector(6) NOT NULL)
"""
_TABLES = (
    "meta", "clock", "space", "link", "calibration", "item", "traffic", "work", "upgrade", "canary", "worker", "audit",
    "vector_1", "vector_2",
)  # fmt: skip


def as_first_release(place: str, number: int = 1) -> None:
    """Make the gallery in a folder or in a schema of PostgreSQL, or make it anew; `number` is that of its format."""
    if "://" in place:
        _on_postgres(place, number)
        return
    folder = Path(place)
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("gallery.db*"):
        file.unlink()
    with sqlite3.connect(folder / "gallery.db") as connection:
        connection.executescript("PRAGMA page_size = 16384; PRAGMA journal_mode = WAL;")
        connection.executescript(DUMP.read_text("utf-8"))
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", [f"samespace.gallery/{number}"])
    connection.close()


def _on_postgres(place: str, number: int) -> None:
    import psycopg

    address, _, schema = place.partition("&schema=")
    source = sqlite3.connect(":memory:")
    source.executescript(DUMP.read_text("utf-8"))
    source.execute("UPDATE meta SET value = ? WHERE key = 'format'", [f"samespace.gallery/{number}"])
    with psycopg.connect(address) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector SCHEMA public")
        connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}".encode())
        connection.execute(f"SET search_path TO {schema}, public".encode())
        connection.execute(POSTGRES.encode())
        for table in _TABLES:
            for row in source.execute(f"SELECT * FROM {table}").fetchall():
                if table.startswith("vector_"):
                    row = (*row[:-1], str(np.frombuffer(row[-1], "<f4").tolist()))
                marks = ", ".join(["%s"] * len(row))
                connection.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE VALUES ({marks})".encode(), row)
        for table in ("calibration", "audit"):
            connection.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'no'), 99)".encode())
    source.close()
