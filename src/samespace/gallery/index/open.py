"""Which index answers searches for which store: `INDEXES`, the one table of vector indexes.

The ledger remembers the address of an index, or of an application's collection that it serves, but a file is no reason
to connect to anything: whoever opens the gallery names the address as well. Keys of servers are never stored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from samespace.errors import GalleryError, InputError
from samespace.gallery.index.base import QDRANT_FOLDER, QDRANT_KEY, Source
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.ledger import Ledger

INDEX = "index"
NAMED_VARIABLE = "SAMESPACE_INDEX"

_ADDRESS = re.compile(r"([a-z]+)://[A-Za-z0-9.\-\[\]:_]+(/[A-Za-z0-9._~/\-]*)?")
_OF_STORES = ("file", "postgresql", "postgres")


@dataclass(frozen=True)
class Index:
    """A vector index; its module is imported only where it is used.

    Attributes:
        open: makes the source of snapshots from the ledger, the index's address and the server's key.
        check: refuses an address, before a gallery is made that would need it, by a GalleryError where nothing answers
            there and by an InputError where it is no address.
    """

    open: Callable[[Ledger, str, str | None], Source]
    check: Callable[[str, str | None], None] = lambda address, key: None


def _local(ledger: Ledger, location: str, key: str | None) -> Source:
    from samespace.gallery.index.local.source import LocalSource

    return LocalSource(ledger, Path(location) / INDEX)


def _pgvector(ledger: Ledger, location: str, key: str | None) -> Source:
    if ledger.engine.adopted is not None:
        from samespace.gallery.index.adopted.postgres import AdoptedSource

        return AdoptedSource(ledger)
    from samespace.gallery.index.pgvector.source import PgvectorSource

    return PgvectorSource(ledger)


def _qdrant(ledger: Ledger, address: str, key: str | None) -> Source:
    from samespace.gallery.index.qdrant.source import QdrantSource

    return QdrantSource(ledger, address, api_key=key)


def _check_qdrant(address: str, key: str | None) -> None:
    from samespace.gallery.index.qdrant.points import Points

    # asking for the version is what the constructor does
    Points(address, "samespace", "", api_key=key, timeout=30).close()


INDEXES: dict[str, Index] = {
    "file": Index(_local),
    "postgresql": Index(_pgvector),
    "postgres": Index(_pgvector),
    "http": Index(_qdrant, _check_qdrant),
    "https": Index(_qdrant, _check_qdrant),
}
"""By the scheme of the address that a gallery was given for its index, or else of its own location."""


def open_source_of(ledger: Ledger, index: str | None = None, key: str | None = None) -> Source:
    """The source of snapshots for a ledger: by where it is, or on the server of its index or of the adopted collection.

    `index`: the address of that server, by default that of the environment variable SAMESPACE_INDEX; `key`: what it
    asks for, by default QDRANT_API_KEY.

    Raises:
        GalleryError: its index or collection is on a server that was not named, or the address was altered.
        InputError: an index was named, and the gallery has none.
    """
    adopted = ledger.engine.adopted
    if isinstance(adopted, AdoptedCollection):
        return _adopted_collection(ledger, adopted, index, key)
    made_with = ledger.state().settings.get("index")
    if made_with is None:
        if index is not None:
            raise InputError(f"{ledger.location} was made without an index on a server; open it without one")
        scheme, marker, _ = ledger.location.partition("://")
        return INDEXES[scheme if marker and scheme in INDEXES else "file"].open(ledger, ledger.location, None)
    if not isinstance(made_with, str) or not _is_address(made_with):
        raise GalleryError(
            f"{ledger.location}: its index is at no address ({made_with!r:.80}); the database was altered"
        )
    named = index or os.environ.get(NAMED_VARIABLE)
    if not named:
        raise GalleryError(
            f"{ledger.location} was made with an index at {made_with}; if that is right, name it: set "
            f"{NAMED_VARIABLE}={made_with}, which workers in other processes see as well, or give index to Gallery.open"
        )
    _require_address(named)
    return INDEXES[named.partition("://")[0]].open(ledger, named, key)


def _adopted_collection(ledger: Ledger, adopted: AdoptedCollection, index: str | None, key: str | None) -> Source:
    named = index or os.environ.get(NAMED_VARIABLE)
    if not named:
        raise GalleryError(
            f"{ledger.location} serves the collection {adopted.collection} at {adopted.address}; if that is right, "
            f"name it: set {NAMED_VARIABLE}={adopted.address}, which workers in other processes see as well, or give "
            "index to Gallery.open"
        )
    if not named.startswith(QDRANT_FOLDER):
        _require_address(named)
    from samespace.gallery.index.adopted.qdrant import AdoptedQdrantSource

    return AdoptedQdrantSource(ledger, Path(ledger.location) / INDEX, named, key=key)


def require_index(address: str, key: str | None = None) -> None:
    """Refuse an index that does not answer, before a gallery is made that would need it.

    Raises:
        GalleryError: it cannot be reached, or is too old.
        InputError: no address of an index.
    """
    _require_address(address)
    INDEXES[address.partition("://")[0]].check(address, key)


def _is_address(text: str) -> bool:
    """Whether it is the address of an index on a server of its own, beside the ledger."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and found[1] in INDEXES and found[1] not in _OF_STORES


def _require_address(address: str) -> None:
    if _is_address(address):
        return
    shown = re.sub(r"//[^/@]*@", "//…@", address)
    raise InputError(
        f"'{shown}' is no address of a Qdrant server; write http://HOST:6333 or https://HOST, and put a key into the "
        f"environment variable {QDRANT_KEY}"
    )
