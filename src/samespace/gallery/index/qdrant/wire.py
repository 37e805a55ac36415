"""What a gallery's collection in Qdrant holds: one point per item with one named vector per space, and one mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError
from samespace.gallery.ledger.state import Ints
from samespace.space import Score, Space

MISSING = "Qdrant needs the optional client; run: pip install 'samespace[qdrant]'"

try:
    from qdrant_client import models
except ImportError:
    raise InputError(MISSING) from None

q = models


@dataclass(frozen=True)
class Mark:
    """What a collection says about itself.

    Attributes:
        gallery: id of the gallery that it indexes.
        generation: drawn when the collection was made, so that the mark of a lost one is not set on its successor.
        revision: every item change up to this one is in the collection; -1 where nothing is sure.
    """

    gallery: str
    generation: str
    revision: int


@dataclass(frozen=True, eq=False)
class Near:
    """What the collection answers to one query, best first.

    Attributes:
        items: (n,) item numbers.
        rows: (n,) number of the ledger's row that each vector was copied from.
        checksums: (n,) of that row.
        last: score of the last one, as Qdrant tells it; float32 arithmetic, so good for choosing candidates only.
        complete: whether no further point meets the conditions.
    """

    items: Ints
    rows: Ints
    checksums: Ints
    last: float
    complete: bool


def vector_name(space_id: str) -> str:
    """Name of a space's vectors in the collection."""
    return f"space-{space_id}"


def vector_params(space: Space, score: Score) -> q.VectorParams:
    """How the collection compares the vectors of a space.

    Cosines are dot products of unit rows: under its own cosine Qdrant would normalise, and so change, what it stores.
    """
    return q.VectorParams(size=space.dim, distance=q.Distance.EUCLID if score == "l2" else q.Distance.DOT)


def item_point(
    item: int, revision: int, content: str, vectors: Mapping[str, tuple[int, int, list[float]]]
) -> q.PointStruct:
    """An item as the collection should hold it.

    `vectors` hold by vector name the number of the ledger's row, its checksum and the vector as it is compared. A
    removed item has none: its point stays as a gravestone, so that a slow writer cannot bring the item back.
    """
    return q.PointStruct(
        id=item,
        vector={name: values for name, (_, _, values) in vectors.items()},
        payload={
            "epoch": revision,
            "content": content,
            "rows": {name: [row, checksum] for name, (row, checksum, _) in vectors.items()},
        },
    )


def revision_of(point: q.PointStruct) -> int:
    """Revision of the last change of a point's item."""
    return int((point.payload or {})["epoch"])


def condition(
    *, having: str | None = None, lacking: Sequence[str] = (), items: Ints | None = None, without: Ints | None = None
) -> q.Filter | None:
    """Points with one named vector and none of others, among some items or all but some; None where all will do."""
    must: list[q.Condition] = []
    if having is not None:
        must.append(q.HasVectorCondition(has_vector=having))
    if items is not None:
        must.append(q.HasIdCondition(has_id=items.tolist()))
    must_not: list[q.Condition] = [q.HasVectorCondition(has_vector=name) for name in lacking]
    if without is not None and len(without):
        must_not.append(q.HasIdCondition(has_id=without.tolist()))
    return q.Filter(must=must or None, must_not=must_not or None) if must or must_not else None


def answered(name: str, points: Sequence[q.ScoredPoint], limit: int) -> Near:
    """What the client returned for a query on the vectors of a name, of which `limit` were asked for."""
    copied = [((point.payload or {}).get("rows") or {}).get(name, (0, 0)) for point in points]
    return Near(
        items=np.array([int(point.id) for point in points], dtype=np.int64),
        rows=np.array([row for row, _ in copied], dtype=np.int64),
        checksums=np.array([checksum for _, checksum in copied], dtype=np.int64),
        last=points[-1].score if points else -np.inf,
        complete=len(points) < limit,
    )
