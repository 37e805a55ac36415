"""HNSW indexes of pgvector: which there are, and building them beside the traffic."""

from __future__ import annotations

import psycopg

from samespace.gallery.ledger.postgres.engine import PostgresEngine
from samespace.gallery.ledger.state import StoredSpace
from samespace.gallery.ledger.transactions.transaction import Session

MOST_DIMS = 2000
"""More dimensions pgvector does not index."""

_LEAST_MEMORY, _MOST_MEMORY = 64 << 20, 2 << 30
_BYTES_PER_LINK = 400


def operator(kept: StoredSpace) -> tuple[str, str]:
    """The operator that compares vectors of a space, ascending from near to far, and its family of index operators.

    Unit vectors are compared as they are stored, never divided by their length again.
    """
    if kept.score == "l2":
        return "<->", "vector_l2_ops"
    if kept.score == "ip" or kept.space.normalized:
        return "<#>", "vector_ip_ops"
    return "<=>", "vector_cosine_ops"


def indexes(session: Session) -> set[int]:
    """Generations with a complete index, where the extension is new enough to filter while it searches."""
    if session.all("SELECT 1 FROM pg_extension WHERE extname = 'vector' AND extversion < '0.8'"):
        return set()
    return {generation for generation, valid in _validity(session).items() if valid}


def build(engine: PostgresEngine, kept: StoredSpace) -> bool:
    """Build the index of a space beside the traffic; whether that was needed.

    An index that was left half-built goes first. Of several processes one builds, the others pass on.
    """
    generation, dim = kept.generation, kept.space.dim
    table = engine.written(generation)
    if dim > MOST_DIMS or table is None:
        return False
    with engine.outside_transaction() as session:
        turn = [engine.address.schema, generation]
        if not session.all("SELECT pg_try_advisory_lock(hashtext(?), ?::integer)", turn)[0][0]:
            return False
        valid = _validity(session).get(generation)
        if valid:
            return False
        if valid is False:
            session.run(f"DROP INDEX CONCURRENTLY {table}_hnsw")
        sql = f"CREATE INDEX CONCURRENTLY {table}_hnsw ON {table} USING hnsw (value {operator(kept)[1]})"
        create(session, sql, f"{table}_hnsw", table, dim)
        session.run(f"ANALYZE {table} (no, item)")
    return True


def create(session: Session, sql: str, name: str, table: str, dim: int) -> None:
    """Run the statement that makes an index of vectors, with memory for all of it, as far as there is.

    `name`, `table`: of the index and its table, as SQL.
    """
    rows = int(session.all(f"SELECT COUNT(*) FROM {table}")[0][0])
    memory = min(_MOST_MEMORY, max(_LEAST_MEMORY, int(1.2 * rows * (4 * dim + _BYTES_PER_LINK))))
    session.run(f"SET maintenance_work_mem = '{memory >> 10}kB'")
    try:
        session.run(sql)
    except psycopg.errors.DiskFull:
        # workers share that memory through /dev/shm, which containers keep small
        session.run(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        session.run("SET max_parallel_maintenance_workers = 0")
        session.run(sql)


def _validity(session: Session) -> dict[int, bool]:
    """For each generation with an index whether it is complete."""
    rows = session.all(
        "SELECT c.relname, x.indisvalid FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid "
        "JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = current_schema() AND c.relname ~ '^(vector|side)_[0-9]+_hnsw$'"
    )
    return {int(name.split("_")[1]): valid for name, valid in rows}
