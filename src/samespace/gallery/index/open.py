"""Which index answers searches for which store."""

from __future__ import annotations

from pathlib import Path

from samespace.gallery.index.base import Source
from samespace.gallery.ledger.ledger import POSTGRES, Ledger

INDEX = "index"


def open_source_of(ledger: Ledger) -> Source:
    """The source of snapshots for a ledger.

    Index files beside SQLite, pgvector inside PostgreSQL, or the Qdrant server that the gallery was made with.
    """
    with ledger.read() as reader:
        index = reader.state().settings.get("index")
    if index is not None:
        from samespace.gallery.index.qdrant import QdrantSource

        return QdrantSource(ledger, str(index))
    if ledger.location.startswith(POSTGRES):
        from samespace.gallery.index.pgvector import PgvectorSource

        return PgvectorSource(ledger)
    from samespace.gallery.index.local import LocalSource

    return LocalSource(ledger, Path(ledger.location) / INDEX)


def require_index(address: str) -> None:
    """Refuse a Qdrant server that does not answer, before a gallery is made that would need it.

    Raises:
        GalleryError: it cannot be reached, or is too old.
        InputError: no address of a server.
    """
    from samespace.gallery.index.qdrant_points import Points

    # asking for the version is what the constructor does
    Points(address, "samespace", "", api_key=None, timeout=30).close()
