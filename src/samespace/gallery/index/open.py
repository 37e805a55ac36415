"""Which index answers searches for which store: `INDEXES`, the one table of vector indexes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samespace.gallery.index.base import Source
from samespace.gallery.ledger.ledger import Ledger

INDEX = "index"


@dataclass(frozen=True)
class Index:
    """A vector index; its module is imported only where it is used.

    Attributes:
        open: makes the source of snapshots from the ledger and the index's address.
        check: refuses an address, before a gallery is made that would need it, by a GalleryError where nothing answers
            there and by an InputError where it is no address.
    """

    open: Callable[[Ledger, str], Source]
    check: Callable[[str], None] = lambda address: None


def _local(ledger: Ledger, location: str) -> Source:
    if ledger.engine.adopted is not None:
        from samespace.gallery.index.adopted.qdrant import AdoptedQdrantSource

        return AdoptedQdrantSource(ledger, Path(location) / INDEX)
    from samespace.gallery.index.local import LocalSource

    return LocalSource(ledger, Path(location) / INDEX)


def _pgvector(ledger: Ledger, location: str) -> Source:
    if ledger.engine.adopted is not None:
        from samespace.gallery.index.adopted.postgres import AdoptedSource

        return AdoptedSource(ledger)
    from samespace.gallery.index.pgvector import PgvectorSource

    return PgvectorSource(ledger)


def _qdrant(ledger: Ledger, address: str) -> Source:
    from samespace.gallery.index.qdrant import QdrantSource

    return QdrantSource(ledger, address)


def _check_qdrant(address: str) -> None:
    from samespace.gallery.index.qdrant_points import Points

    # asking for the version is what the constructor does
    Points(address, "samespace", "", api_key=None, timeout=30).close()


INDEXES: dict[str, Index] = {
    "file": Index(_local),
    "postgresql": Index(_pgvector),
    "postgres": Index(_pgvector),
    "http": Index(_qdrant, _check_qdrant),
    "https": Index(_qdrant, _check_qdrant),
}
"""By the scheme of the address that a gallery was given for its index, or else of its own location."""


def open_source_of(ledger: Ledger) -> Source:
    """The source of snapshots for a ledger, by the index it was made with, or else by where the ledger is."""
    index = ledger.state().settings.get("index")
    if index is not None:
        return _of_address(str(index)).open(ledger, str(index))
    scheme, marker, _ = ledger.location.partition("://")
    return INDEXES[scheme if marker and scheme in INDEXES else "file"].open(ledger, ledger.location)


def require_index(address: str) -> None:
    """Refuse an index that does not answer, before a gallery is made that would need it.

    Raises:
        GalleryError: it cannot be reached, or is too old.
        InputError: no address of an index.
    """
    _of_address(address).check(address)


def _of_address(address: str) -> Index:
    # what has no scheme of the table is refused by Qdrant's own check
    return INDEXES.get(address.partition("://")[0], INDEXES["http"])
