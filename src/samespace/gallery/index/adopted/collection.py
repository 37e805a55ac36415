"""Reading an application's collection in Qdrant: points with their vectors, some, near ones, or all."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.payload import text_at
from samespace.gallery.index.qdrant.points import CollectionLost, Points
from samespace.gallery.index.qdrant.wire import q
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.state import Vectors

_PAGE = 1000


@dataclass(frozen=True, eq=False)
class Point:
    """A point with a vector.

    Attributes:
        id: of the point, as text.
        name: what the payload has as the item's id; None where it has none, or ids are those of the points.
        vector: (D,) float32, as Qdrant keeps it.
        payload: as much of it as the gallery asks for.
    """

    id: str
    name: str | None
    vector: Vectors
    payload: Mapping[str, Any]

    @property
    def content(self) -> str:
        """Stands for the vector, as the content of its item."""
        return "point:" + hashlib.sha256(self.vector.astype("<f4").tobytes()).hexdigest()[:32]


def point_id(text: str) -> int | str:
    """A point's id as Qdrant takes it: a whole number or a UUID."""
    return int(text) if text.isdecimal() else text


class Collection:
    """The collection; only points that have a vector of the adopted name are told.

    Raises:
        GalleryError: from every method, where the server cannot be reached or the collection is gone.
    """

    def __init__(self, adopted: AdoptedCollection, points: Points) -> None:
        self.adopted, self.points = adopted, points
        keys = [adopted.key, adopted.label, *adopted.metadata]
        self._payload: Any = [key for key in keys if key is not None] or False
        self._vectors: Any = [adopted.vector] if adopted.vector else True

    def all(self, where: Sequence[q.Condition] = ()) -> Iterator[list[Point]]:
        """Every point that Qdrant's conditions let through, some hundred at a time, in the order of their ids."""
        offset: Any = None
        while True:
            with self._requests() as client:
                page, offset = client.scroll(
                    self.adopted.collection, q.Filter(must=list(where)) if where else None, limit=_PAGE,
                    offset=offset, with_payload=self._payload, with_vectors=self._vectors,
                )  # fmt: skip
            yield self._points(page)
            if offset is None:
                return

    def some(self, ids: Sequence[str]) -> list[Point]:
        """Points by their ids, those that are there."""
        found: list[Point] = []
        for start in range(0, len(ids), _PAGE):
            some = [point_id(text) for text in ids[start : start + _PAGE]]
            with self._requests() as client:
                page = client.retrieve(
                    self.adopted.collection, some, with_payload=self._payload, with_vectors=self._vectors
                )
            found += self._points(page)
        return found

    def near(
        self, queries: Vectors, limit: int, where: Sequence[q.Condition] = (), among: Sequence[str] | None = None
    ) -> list[list[Point]]:
        """For each query, (Q, D), the `limit` points nearest by the collection's index, `among` some where given."""
        must = [*where, *([] if among is None else [q.HasIdCondition(has_id=[point_id(one) for one in among])])]
        params = None if self.points.local else q.SearchParams(hnsw_ef=max(128, 2 * limit))
        requests = [
            q.QueryRequest(
                query=query.tolist(), using=self.adopted.vector or None, filter=q.Filter(must=must) if must else None,
                params=params, limit=limit, with_payload=self._payload, with_vector=self._vectors,
            )
            for query in queries
        ]  # fmt: skip
        with self._requests() as client:
            answers = client.query_batch_points(self.adopted.collection, requests)
        return [self._points(answer.points) for answer in answers]

    def _points(self, points: Sequence[Any]) -> list[Point]:
        found = []
        for point in points:
            held = point.vector.get(self.adopted.vector) if isinstance(point.vector, dict) else point.vector
            if held is not None:
                payload = point.payload or {}
                name = text_at(payload, self.adopted.key)
                found.append(Point(str(point.id), name, np.asarray(held, dtype=np.float32), payload))
        return found

    @contextmanager
    def _requests(self) -> Iterator[Any]:
        try:
            with self.points.requests() as client:
                yield client
        except CollectionLost:
            raise GalleryError(
                f"Qdrant at {self.points.address} has no collection '{self.adopted.collection}' now; the gallery "
                "serves its vectors and cannot do without it"
            ) from None
