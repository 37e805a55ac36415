"""Handing a collection back: the new vectors become named vectors of the application's own points.

Nothing is lost on the way, and nothing that the application reads changes: its vectors stay under their name until its
operator drops them, and it asks by the new name when it is ready. Killed at any moment the same call carries on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.qdrant_store import QdrantStore, coming_name
from samespace.gallery.index.adopted.store import AdoptedStore
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.index.qdrant.wire import q
from samespace.gallery.ledger.adopted_collection import COMING, AdoptedCollection
from samespace.gallery.ledger.schema import sqlite_vectors
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade.seal import (
    UNUSED_SECONDS,
    Sealed,
    end_upgrades,
    require_complete,
    require_switched,
    require_unused,
)
from samespace.progress import Advance, silent
from samespace.typed import plain

_BATCH = 1000
_DISTANCES = {"ip": q.Distance.DOT, "l2": q.Distance.EUCLID, "cosine": q.Distance.COSINE}


@dataclass(frozen=True)
class CollectionRelease:
    """What a release does, in the terms of Qdrant.

    Attributes:
        adopted: the collection, and the name of the old vectors.
        name: of the new ones.
        generation: of their space.
        size: their dimensions.
        distance: that Qdrant compares them by.
        there: whether an earlier call has made them already.
    """

    adopted: AdoptedCollection
    name: str
    generation: int
    size: int
    distance: q.Distance
    there: bool

    def lines(self) -> list[str]:
        """All of it as calls to read, with what is done by hand afterwards."""
        collection, old = f"/collections/{self.adopted.collection}", self.adopted.vector
        made = json.dumps({"dense": {"size": self.size, "distance": self.distance.value}})
        return [
            f"PUT {collection}/vectors/{self.name} {made}",
            f'PUT {collection}/points/vectors {{"points": [...]}}  # {_BATCH:,} points at a time',
            f'# yours: search and write with "{self.name}" in the place of "{old}"',
            f"# yours, when nothing reads the old vectors: DELETE {collection}/vectors/{old}",
        ]


def plan_release(store: AdoptedStore) -> CollectionRelease:
    """What handing over the vectors would do; nothing is changed.

    Raises:
        GalleryError: no upgrade is under way, items lack the new vector, the collection cannot take a second vector a
            point, or it has other vectors of that name.
    """
    assert isinstance(store, QdrantStore)
    adopted, where = store.adopted, f"{store.ledger.location}: {store.name}"
    with store.ledger.read() as reader:
        state = reader.state()
        _require_upgraded(reader, state, where)
    if not adopted.vector:
        raise GalleryError(
            f"{where}: its vectors have no name, and Qdrant adds others only beside named ones; nothing was done, the "
            "gallery goes on as it is"
        )
    if not store.points.writable:
        raise GalleryError(f"{where}: the server adds no vectors to a collection before Qdrant 1.18; nothing was done")
    kept = state.spaces[state.query]
    with store.points.requests() as client:
        present: Any = client.get_collection(adopted.collection).config.params.vectors
    name = coming_name(adopted, kept.space)
    # among unit vectors all orders are the same, so the application keeps the one that it knows
    distance = present[adopted.vector].distance if kept.space.normalized else _DISTANCES[kept.score]
    if name in present and (present[name].size, present[name].distance) != (kept.space.dim, distance):
        raise GalleryError(f"{where} has other vectors '{name}' already; drop them first, nothing was done")
    return CollectionRelease(adopted, name, state.query, kept.space.dim, distance, name in present)


def hand_over(
    store: AdoptedStore,
    *,
    unused_for: float = UNUSED_SECONDS,
    end_grace: bool = False,
    advance: Advance = silent,
) -> Sealed:
    """Do it; see the module. `advance` is called with how many more vectors are copied, the rest is as of `seal`.

    Raises:
        GalleryError: as `plan_release`; or points changed meanwhile and need new vectors first.
    """
    assert isinstance(store, QdrantStore)
    ledger = store.ledger
    sync(ledger, store)
    release = plan_release(store)
    if not end_grace:
        with ledger.read() as reader:
            require_unused(reader, reader.state(), unused_for)
    if not release.there:
        dense = q.DenseVectorConfig(size=release.size, distance=release.distance)
        with store.points.requests() as client:
            client.create_vector_name(store.name, release.name, q.DenseVectorNameConfig(dense=dense), wait=True)
    with ledger.write() as writer:
        writer.session.run(COMING)
    last = 0
    while True:
        with ledger.read() as reader:
            items = reader.rows_after(release.generation, last, _BATCH)
        if not len(items.numbers):
            break
        advance(store.put(release.generation, items.items))
        last = int(items.numbers[-1])
    # what the application did meanwhile is on the work list now, and has lost its new vector
    sync(ledger, store)
    with ledger.write() as writer:
        sealed = _handed(writer, release, f"{ledger.location}: {store.name}")
    with ledger.read() as reader:
        reader.state()
    return sealed


def _handed(writer: LedgerWriter, release: CollectionRelease, where: str) -> Sealed:
    """Let the ledger follow, in one transaction."""
    state, run = writer.state(), writer.session.run
    _require_upgraded(writer, state, where)
    missing = writer.session.all(
        "SELECT COUNT(*) FROM item i LEFT JOIN coming c ON c.item = i.no AND c.made = i.content "
        "WHERE i.deleted = 0 AND c.item IS NULL"
    )[0][0]
    if missing:
        raise GalleryError(f"{where}: {missing:,} points changed meanwhile; seal again, nothing is lost")
    run("UPDATE item SET content = (SELECT content FROM coming WHERE item = no) WHERE deleted = 0")
    after = replace(release.adopted, vector=release.name, generation=release.generation)
    run(f"DROP VIEW vector_{release.adopted.generation}")
    run(f"DROP TABLE vector_{release.generation}")
    for statement in [*sqlite_vectors(release.adopted.generation), after.view(), "DROP TABLE coming"]:
        run(statement)
    writer.put_meta("adopted", json.dumps(plain(after)))
    writer.note("sealed", collection=after.collection, vector=after.vector, kept=release.adopted.vector)
    return end_upgrades(writer, state)


def _require_upgraded(reader: LedgerReader, state: State, where: str) -> None:
    require_switched(state, where)
    require_complete(state, where, len(reader.unserved([state.query])), "points")
