"""Snapshots of a gallery with a space in an application's collection in Qdrant, the ledger on SQLite.

New vectors lie in the ledger, and are searched by an index of their own: a collection beside the application's where
the server can keep one, else files beside the ledger. Whatever a newer space answers is compared with the application's
point first: one that is gone, or has another vector by now, is not answered by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.payload import meets, prefilter
from samespace.gallery.index.adopted.qdrant_store import FEW, QdrantStore, points_of
from samespace.gallery.index.adopted.store import Asked
from samespace.gallery.index.adopted.sync import Lister
from samespace.gallery.index.base import Advance, Coverage, Snapshot, Source, best_of_each
from samespace.gallery.index.exact import better_of, no_neighbours
from samespace.gallery.index.found import Found, Key, Neighbours
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.qdrant.source import QdrantSource
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.progress import silent

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_MORE = 8
_TRIES = 100


class AdoptedQdrantSource:
    """See `base.Source`; safe to use from several threads.

    `folder`: where index files of new vectors go, where the server keeps no collection of them. `place`, `key` and
    `few`: see `QdrantStore`.
    """

    def __init__(
        self, ledger: Ledger, folder: Path, place: str | QdrantClient, *, key: str | None = None, few: int = FEW
    ) -> None:
        self.ledger, self.adopted = ledger, QdrantStore(ledger, place, key=key, few=few)
        points, newer = self.adopted.collection.points, _NewerSpaces(ledger)
        # a folder of the client has no index, and is slow to write to
        kept = points.writable and not points.in_folder
        self._newer: Source = QdrantSource(newer, points.client) if kept else LocalSource(newer, folder)
        self._lister = Lister(ledger, self.adopted)

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[AdoptedQdrantSnapshot]:
        """The gallery now, and the application's points as they are during the search; see `base.Source`."""
        for _ in range(_TRIES):
            with self._newer.snapshot() as newer, self.ledger.read() as reader:
                state = reader.state()
                # another process may have written between the two
                if newer.state.revision == state.revision:
                    yield AdoptedQdrantSnapshot(self.adopted, newer, Asked(reader, state, where))
                    return
        raise GalleryError(f"{self.ledger.location} changes faster than a search can read it; try again")

    def maintain(self, advance: Advance = silent) -> None:
        """List what the application has changed, unless that was just done, and index new vectors."""
        self._lister.list_now_and_then()
        state = self.ledger.state()
        own = self.adopted.adopted.generation
        if any(not kept.retired for one, kept in state.spaces.items() if one != own):
            self._newer.maintain(advance)
        elif isinstance(self._newer, QdrantSource) and self._newer.points.mark() is not None:
            # the new vectors were handed over
            self._newer.points.drop()

    def coverage(self) -> Coverage:
        """See `base.Source`."""
        covered, own = self._newer.coverage(), self.adopted.adopted.generation
        with self.ledger.read() as reader:
            if own in reader.state().servable:
                covered[own] = {"indexed": reader.stored(own), "lag": 0, "kind": "qdrant (the collection's own)"}
        return dict(sorted(covered.items()))

    def damaged(self) -> dict[int, list[str]]:
        """See `base.Source`."""
        return self._newer.damaged()

    def close(self) -> None:
        """Close the connection; the ledger stays open."""
        self._newer.close()
        self.adopted.close()


class AdoptedQdrantSnapshot:
    """See `base.Snapshot`."""

    def __init__(self, store: QdrantStore, newer: Snapshot, asked: Asked) -> None:
        self._store, self._newer, self._asked = store, newer, asked
        self._own, self.state = store.adopted.generation, asked.state
        self._current: Ints | None = None

    @cached_property
    def allowed(self) -> Ints | None:
        """See `base.Snapshot`, of listed items."""
        where = self._asked.where
        if not where:
            return None
        pages = self._store.collection.all(prefilter(self._store.adopted, where))
        points = [one for page in pages for one in page if meets(one.payload, self._store.adopted, where)]
        items = self._store.judged(self._asked, points).items
        return np.unique(items[items > 0])

    def generations(self) -> list[int]:
        """See `base.Snapshot`; the application may have added a point at any time, so its own space is always asked."""
        own = [self._own] if self._own in self.state.servable else []
        return sorted({*self._newer.generations(), *own})

    def best(self, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
        """See `base.Snapshot`."""
        return best_of_each(self, asked, k, key, exact=exact)

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `base.Snapshot`."""
        if generation == self._own and not exact:
            return self._store.top(self._asked, queries, k, allowed=allowed, exact=False)
        if generation == self._own:
            found, self._current = self._store.all_exact(self._asked, queries, k)
            return found
        if not exact:
            return self._checked(generation, queries, k, allowed)
        if self._current is None:
            nothing = np.empty((0, self.state.spaces[self._own].space.dim), dtype=np.float32)
            self._current = self._store.all_exact(self._asked, nothing, k)[1]
        return self._newer.top(generation, queries, k, allowed=self._current, exact=True)

    def ids(self, items: Ints) -> list[str]:
        """See `base.Snapshot`."""
        return self._asked.ids(items)

    def _checked(self, generation: int, queries: Vectors, k: int, allowed: Ints | None) -> list[Neighbours]:
        """The nearest whose points are there with the vector that the ledger knows."""
        more = _MORE
        while True:
            found = self._newer.top(generation, queries, k + more, allowed=allowed, exact=False)
            items = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(one.items for one in found)]))
            points = self._store.collection.some(list(points_of(self._asked.reader, items).values()))
            judged = self._store.judged(self._asked, points)
            current = judged.items[judged.current]
            kept = [_among(one, current) for one in found]
            pairs = zip(found, kept, strict=True)
            if all(len(right.items) >= k or len(one.items) < k + more for one, right in pairs):
                return better_of(no_neighbours(len(queries)), kept, k)
            more *= 4


class _NewerSpaces(Ledger):
    """The ledger for an index of the vectors that it has itself: the application's space is as if it were sealed."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger.engine)
        self._query = ledger._query

    @contextmanager
    def read(self) -> Iterator[LedgerReader]:
        """A transaction that reads the ledger as of its start."""
        with self.engine.reading() as session:
            yield _NewerReader(self.engine, session, self._query)


class _NewerReader(LedgerReader):
    def state(self, known: State | None = None) -> State:
        """Everything but the items; the application's space is retired."""
        state = super().state(known)
        spaces = {
            g: replace(one, retired=one.retired or self.engine.written(g) is None) for g, one in state.spaces.items()
        }
        return replace(state, spaces=spaces)


def _among(one: Neighbours, items: Ints) -> Neighbours:
    keep = np.isin(one.items, items)
    return Neighbours(one.items[keep], one.raw[keep])
