"""The tables of a ledger on SQLite and on PostgreSQL: a file format, so columns never change their meaning.

In the columns `rank` is a space's generation and `epoch` a revision. Each space has a table `vector_<generation>`, and
its description names its score where that is not the cosine. How an older ledger gets these tables is in `migrations`.
"""

from __future__ import annotations

FORMAT = "samespace.gallery/5"
"""What a ledger says that it is: the number is that of its tables, which rises with every change to them."""

SQLITE_FILLED = """
CREATE TABLE filled (space INTEGER NOT NULL, revision INTEGER NOT NULL, first INTEGER NOT NULL,
    PRIMARY KEY (space, revision)) WITHOUT ROWID;
CREATE INDEX item_deleted ON item (no) WHERE deleted = 1
"""
"""Revisions that gave stored items vectors: the number of the first of these rows. No row of `item` changes with them,
as those of a backfill lie all over that table."""

POSTGRES_FILLED = """
CREATE TABLE filled (space BIGINT NOT NULL, revision BIGINT NOT NULL, first BIGINT NOT NULL,
    PRIMARY KEY (space, revision));
CREATE INDEX item_deleted ON item (no) WHERE deleted = 1
"""

SQLITE_WORK = """
CREATE TABLE work (space INTEGER NOT NULL, place INTEGER NOT NULL, item INTEGER NOT NULL,
    PRIMARY KEY (space, place)) WITHOUT ROWID;
CREATE INDEX work_item ON work (space, item);
CREATE TABLE work_range (space INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, owner TEXT,
    lease REAL, tries INTEGER NOT NULL, PRIMARY KEY (space, first)) WITHOUT ROWID;
CREATE TABLE work_failed (space INTEGER NOT NULL, item INTEGER NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (space, item)) WITHOUT ROWID
"""
"""Work lists: an order of items, the ranges of it that are left, and what failed. See `work_list`."""

POSTGRES_WORK = """
CREATE TABLE work (space BIGINT NOT NULL, place BIGINT NOT NULL, item BIGINT NOT NULL,
    PRIMARY KEY (space, place));
CREATE INDEX work_item ON work (space, item);
CREATE TABLE work_range (space BIGINT NOT NULL, first BIGINT NOT NULL, last BIGINT NOT NULL, owner TEXT,
    lease DOUBLE PRECISION, tries BIGINT NOT NULL, PRIMARY KEY (space, first));
CREATE TABLE work_failed (space BIGINT NOT NULL, item BIGINT NOT NULL, error TEXT NOT NULL,
    PRIMARY KEY (space, item))
"""

AUDIT_ACTION = "CREATE INDEX audit_action ON audit (action)"
"""Steps are counted by it. Ledgers of this format were made without, and are read and written the same by versions that
do not know it."""

SQLITE = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE clock (id INTEGER PRIMARY KEY CHECK (id = 1), epoch INTEGER NOT NULL, config INTEGER NOT NULL,
    query INTEGER NOT NULL, next_item INTEGER NOT NULL, next_vector INTEGER NOT NULL);
CREATE TABLE space (rank INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, description TEXT NOT NULL, model TEXT,
    retired INTEGER NOT NULL, added REAL NOT NULL);
CREATE TABLE link (query INTEGER NOT NULL, gallery INTEGER NOT NULL, dims INTEGER NOT NULL, certificate TEXT,
    added REAL NOT NULL, PRIMARY KEY (query, gallery));
CREATE TABLE calibration (no INTEGER PRIMARY KEY AUTOINCREMENT, query INTEGER NOT NULL, gallery INTEGER NOT NULL,
    value TEXT NOT NULL, source TEXT NOT NULL, added REAL NOT NULL);
CREATE TABLE item (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, content TEXT NOT NULL, label TEXT,
    metadata TEXT, deleted INTEGER NOT NULL, epoch INTEGER NOT NULL);
CREATE INDEX item_epoch ON item (epoch);
CREATE TABLE traffic (item INTEGER PRIMARY KEY, hits INTEGER NOT NULL);
CREATE TABLE upgrade (no INTEGER PRIMARY KEY, old INTEGER NOT NULL, new INTEGER NOT NULL, state TEXT NOT NULL,
    paused INTEGER NOT NULL, ordering TEXT NOT NULL, plan TEXT NOT NULL, started REAL, ended REAL);
CREATE TABLE canary (space INTEGER NOT NULL, item INTEGER NOT NULL, value BLOB NOT NULL, PRIMARY KEY (space, item));
CREATE TABLE worker (owner TEXT PRIMARY KEY, space INTEGER NOT NULL, started REAL NOT NULL, seen REAL NOT NULL,
    done INTEGER NOT NULL, failed INTEGER NOT NULL, note TEXT NOT NULL);
CREATE TABLE audit (no INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, actor TEXT NOT NULL,
    action TEXT NOT NULL, detail TEXT NOT NULL);
{AUDIT_ACTION};
{SQLITE_FILLED};
{SQLITE_WORK}"""

POSTGRES = f"""
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
CREATE TABLE upgrade (no BIGINT PRIMARY KEY, old BIGINT NOT NULL, new BIGINT NOT NULL, state TEXT NOT NULL,
    paused BIGINT NOT NULL, ordering TEXT NOT NULL, plan TEXT NOT NULL, started DOUBLE PRECISION,
    ended DOUBLE PRECISION);
CREATE TABLE canary (space BIGINT NOT NULL, item BIGINT NOT NULL, value BYTEA NOT NULL, PRIMARY KEY (space, item));
CREATE TABLE worker (owner TEXT PRIMARY KEY, space BIGINT NOT NULL, started DOUBLE PRECISION NOT NULL,
    seen DOUBLE PRECISION NOT NULL, done BIGINT NOT NULL, failed BIGINT NOT NULL, note TEXT NOT NULL);
CREATE TABLE audit (no BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at DOUBLE PRECISION NOT NULL,
    actor TEXT NOT NULL, action TEXT NOT NULL, detail TEXT NOT NULL);
{AUDIT_ACTION};
{POSTGRES_FILLED};
{POSTGRES_WORK}"""


_ON_PAGE = 1_900  # longer rows do not fit on a page of 8 KiB


def sqlite_vectors(generation: int) -> list[str]:
    """Statements that make the table of a space's vectors, stored as little-endian float32 with their CRC-32."""
    return [
        f"CREATE TABLE vector_{generation} (no INTEGER PRIMARY KEY, item INTEGER NOT NULL UNIQUE, "
        "content TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL)"
    ]


def postgres_vectors(generation: int, dim: int) -> list[str]:
    """The same on PostgreSQL, with a column of pgvector."""
    table = (
        f"CREATE TABLE vector_{generation} (no BIGINT PRIMARY KEY, item BIGINT NOT NULL UNIQUE, "
        f"content TEXT NOT NULL, crc BIGINT NOT NULL, value vector({dim}) NOT NULL)"
    )
    # kept beside the row: scans would otherwise look up every vector in a second table
    beside = f"ALTER TABLE vector_{generation} ALTER COLUMN value SET STORAGE PLAIN"
    return [table, beside] if dim <= _ON_PAGE else [table]
