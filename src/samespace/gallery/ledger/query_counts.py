"""How many queries came in an earlier space, and when the last: counted where an upgrade grants them grace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.queue import WorkQueue
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter


@dataclass(frozen=True)
class QueryCount:
    """Queries of an earlier space: how many so far, and when the last `seen` came, in seconds since 1970."""

    queries: int
    seen: float


def begin_counting(writer: LedgerWriter) -> None:
    """Make the table of the counts, which only a gallery has that granted grace once."""
    writer.session.run(
        "CREATE TABLE IF NOT EXISTS query_count (space BIGINT PRIMARY KEY, queries BIGINT NOT NULL, "
        "seen DOUBLE PRECISION NOT NULL)"
    )


def add_counts(writer: WorkQueue, counts: Mapping[int, QueryCount]) -> None:
    """Add to the counts of earlier spaces, by generation; no search notices."""
    writer.session.insert(
        "query_count",
        [(generation, one.queries, one.seen) for generation, one in sorted(counts.items())],
        "ON CONFLICT (space) DO UPDATE SET queries = query_count.queries + excluded.queries, "
        "seen = CASE WHEN excluded.seen > query_count.seen THEN excluded.seen ELSE query_count.seen END",
    )


def query_counts(reader: LedgerReader, state: State) -> dict[int, QueryCount]:
    """The counts of all earlier spaces that have grace, by generation."""
    if not state.graced:
        return {}
    rows = reader.session.all("SELECT space, queries, seen FROM query_count ORDER BY space")
    found = {row[0]: QueryCount(row[1], row[2]) for row in rows}
    return {generation: found.get(generation, QueryCount(0, 0.0)) for generation in state.graced}
