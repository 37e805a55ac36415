"""Adopting a collection of Qdrant: looked at first, then its points listed in a ledger, not one vector copied."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError, suggest
from samespace.gallery.adoption.adopted import Adopted, GivenSpace, fitting_space, given_space
from samespace.gallery.index.adopted.collection import Collection
from samespace.gallery.index.adopted.qdrant_store import QdrantStore
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.index.qdrant.points import Points
from samespace.gallery.ingest.checks import NORM_SLACK
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.sqlite.file import require_empty
from samespace.gallery.models import absolute
from samespace.progress import Advance, silent
from samespace.scoring.score import SCORE_NAMES
from samespace.space import Score

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_SCORES: dict[str, Score] = {"Cosine": "cosine", "Dot": "ip", "Euclid": "l2"}


@dataclass(frozen=True)
class Keys:
    """What a user names in a collection: the vector, keys of the payload with ids, labels, what searches filter on."""

    vector: str | None = None
    id: str | None = None
    label: str | None = None
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Inspected:
    """A collection that a gallery can adopt; `without`: points that have no vector of that name."""

    collection: AdoptedCollection
    without: int
    dim: int
    normalized: bool
    score: Score


def adopt_collection(
    address: str | QdrantClient,
    collection: str,
    ledger: str | Path,
    keys: Keys,
    *,
    space: GivenSpace | None = None,
    model: str | Path | None = None,
    images: str | None = None,
    score: Score | None = None,
    advance: Advance = silent,
) -> Adopted:
    """Make a gallery of the vectors in a collection of an application, where they are.

    Args:
        address: `http(s)://…` of the server, whose key is in QDRANT_API_KEY, or `qdrant:FOLDER` of its client;
            or a client, which is left open.
        collection: its name.
        ledger: a folder for the ledger, new or empty; it is the gallery's location from then on.
        keys: the vectors, ids, labels, metadata.
        space: of the vectors, or the name and revision of their model; the model's own by default.
        model: its folder or name, to be remembered.
        images: the items' images, to be remembered.
        score: what searches go by; the collection's distance by default.
        advance: called with how many more points are listed.

    Raises:
        InputError: the collection cannot be adopted as asked; nothing was made.
        SpaceError: the vectors cannot be of that space; nothing was made.
        GalleryError: the server cannot be reached, or refuses to answer; nothing was made.
    """
    require_empty(Path(ledger))
    given, folder = given_space(space, model)
    points = Points(address, collection, "", api_key=None, timeout=60, written=False)
    try:
        where = f"{points.address}: the collection {collection}"
        found = _inspect(points, _located(address, points), collection, keys, where)
    finally:
        points.close()
    chosen = fitting_space(given, found.dim, normalized=found.normalized, where=where)
    if score is not None and score != found.score and not found.normalized:
        raise InputError(
            f"{where} is searched by {SCORE_NAMES[found.score]}, so a gallery of it cannot go by {SCORE_NAMES[score]}"
        )
    settings = {"scale": "logistic", "images": None if images is None else absolute(images), "index": None}
    made = Ledger.create(
        ledger, chosen, model=absolute(folder), settings=settings, adopted=found.collection, score=score or found.score
    )
    try:
        store = QdrantStore(made, address)
        try:
            done = sync(made, store, advance=advance)
        finally:
            store.close()
        return Adopted(
            made.location, made.location, collection, chosen, done.added, found.without, "HNSW", made.engine.size()
        )
    finally:
        made.close()


def _located(address: str | QdrantClient, points: Points) -> str:
    """The address to remember."""
    if not isinstance(address, str):
        return points.address
    scheme, colon, folder = address.partition("qdrant:")
    return f"{colon}{Path(folder).absolute()}" if colon and not scheme else points.address


def _inspect(points: Points, address: str, name: str, keys: Keys, where: str) -> _Inspected:
    with points.requests() as client:
        held = [one.name for one in client.get_collections().collections]
        if not client.collection_exists(name):
            raise InputError(f"{points.address} has no collection '{name}'; {suggest(name, held)}")
        params: Any = client.get_collection(name).config.params
        count = client.count(name, exact=True).count
    vector, config = _vector(params, keys.vector, where)
    adopted = AdoptedCollection(address, name, vector, keys.id, keys.label, keys.metadata)
    distance = config.distance.value
    if distance not in _SCORES:
        raise InputError(f"{where} compares vectors by {distance}; a gallery can by {', '.join(_SCORES)}")
    measured = _measured(Collection(adopted, points), where, cosine=distance == "Cosine")
    score: Score = "cosine" if measured.normalized else _SCORES[distance]
    return _Inspected(adopted, max(0, count - measured.rows), config.size, measured.normalized, score)


def _vector(params: Any, named: str | None, where: str) -> tuple[str, Any]:
    """The name and configuration of the vectors to adopt; the name is empty where a point has one without a name."""
    sparse, dense = params.sparse_vectors or {}, params.vectors or {}
    if not isinstance(dense, dict):
        dense = {"": dense}
    names = ", ".join(repr(name) for name in dense if name) or "none with a name"
    if named in sparse:
        raise InputError(f"{where}: the vectors '{named}' are sparse; a gallery serves dense ones: {names}")
    if named is None and len(dense) != 1:
        what = "several vectors a point" if dense else "no dense vectors"
        raise InputError(f"{where} has {what}; say which with vector=…: {names}")
    chosen = next(iter(dense)) if named is None else named
    if chosen not in dense:
        raise InputError(f"{where} has no vectors '{chosen}'; it has: {names}")
    if dense[chosen].multivector_config is not None:
        called = f"the vectors '{chosen}'" if chosen else "its vectors"
        raise InputError(f"{where}: {called} are several a point (multivectors); a gallery serves one a point")
    return chosen, dense[chosen]


@dataclass(frozen=True)
class _Measured:
    rows: int
    normalized: bool


def _measured(collection: Collection, where: str, *, cosine: bool) -> _Measured:
    """All vectors and ids looked at once. Raises InputError: none, a bad one, or ids that are lacking or not unique."""
    key, names = collection.adopted.key, Counter[str]()
    found = _Measured(0, normalized=True)
    for points in collection.all():
        for point in points:
            length = float(np.linalg.norm(point.vector.astype(np.float64)))
            if not np.isfinite(length):
                raise InputError(f"{where}: the vector of point {point.id} holds NaN or infinity")
            if cosine and length == 0:
                raise InputError(f"{where}: the vector of point {point.id} is zero and has no direction")
            found = replace(found, normalized=found.normalized and abs(length - 1) <= NORM_SLACK)
            if key is not None and point.name is None:
                raise InputError(
                    f"{where}: point {point.id} has no id at '{key}' of its payload, a text or number; name another "
                    "key, or none to go by the points' own ids"
                )
            names.update([point.name] if point.name is not None else ())
        found = replace(found, rows=found.rows + len(points))
    if not found.rows:
        raise InputError(f"{where} has no such vector yet; there is nothing to adopt")
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise InputError(f"{where}: the id '{twice}' at '{key}' of the payload is of {names[twice]} points, not one")
    return found
