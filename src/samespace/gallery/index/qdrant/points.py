"""A gallery's collection in Qdrant: made, written, asked and marked with what it covers."""

from __future__ import annotations

import json
import os
import re
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import GalleryError, InputError, SamespaceError
from samespace.gallery.index.base import QDRANT_FOLDER, QDRANT_KEY
from samespace.gallery.index.qdrant.wire import MISSING, Mark, Near, answered, condition, q, revision_of
from samespace.gallery.ledger.state import Ints, Vectors

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_MARK = 0
_OLDEST = (1, 18)
_PAGE = 1000
# in-process collections are plain arrays, which threads must not change under each other
_TURNS = threading.RLock()


class CollectionLost(Exception):
    """The collection is not there; whoever asked must do without it."""


class Points:
    """The collection, made and refused as by `QdrantSource`; whatever the client raises becomes a one-line error.

    `written`: whether more than reading is wanted, which old servers cannot do.
    """

    def __init__(
        self,
        place: str | QdrantClient,
        collection: str,
        gallery: str,
        *,
        api_key: str | None,
        timeout: int,
        written: bool = True,
    ) -> None:
        self.collection, self.gallery = collection, gallery
        self._client, self._owned = _connect(place, api_key, timeout)
        options = self._client.init_options
        self.in_folder = options["path"] is not None
        self.local = options["location"] == ":memory:" or self.in_folder
        shown = str(options["url"] or options["path"] or options["host"] or options["location"])
        self.address = re.sub(r"//[^/@]*@", "//", shown)
        self._names: set[str] = set()
        if written and not self.writable:
            raise GalleryError(
                f"Qdrant at {self.address} is version {self._version()}; conditional writes and vectors added to a "
                f"collection need {_OLDEST[0]}.{_OLDEST[1]} or newer"
            )

    def mark(self) -> Mark | None:
        """The mark; None where there is no collection, or nothing in it.

        Raises:
            GalleryError: the server does not answer, or the collection indexes another gallery.
        """
        try:
            with self.requests() as client:
                points = client.retrieve(self.collection, ids=[_MARK], with_payload=True)
        except CollectionLost:
            return None
        payload = points[0].payload if points else None
        if not payload:
            return None
        mark = Mark(str(payload["gallery"]), str(payload["generation"]), int(payload["mark"]))
        if mark.gallery != self.gallery:
            raise GalleryError(
                f"the collection '{self.collection}' at {self.address} indexes another gallery ({mark.gallery}); "
                "give this one another collection name"
            )
        return mark

    def ready(self, params: Mapping[str, q.VectorParams]) -> Mark:
        """Make the collection and the named vectors that it lacks; its mark."""
        with self.requests() as client:
            if not client.collection_exists(self.collection):
                self._create(client, params)
            mark = self.mark()
            if mark is None:
                self._first_mark(client)
                mark = self.mark()
            if set(params) - self._names:
                present = client.get_collection(self.collection).config.params.vectors
                self._names = set(present) if isinstance(present, dict) else set()
            for name in sorted(set(params) - self._names):
                # repeated by two writers at once it is done once: the server takes the same request as done
                dense = q.DenseVectorConfig(size=params[name].size, distance=params[name].distance)
                client.create_vector_name(self.collection, name, q.DenseVectorNameConfig(dense=dense), wait=True)
                self._names.add(name)
        if mark is None:
            raise CollectionLost
        return mark

    def forget(self, names: Sequence[str]) -> None:
        """Delete the named vectors of spaces that will not serve again."""
        with self.requests() as client:
            for name in self._names & set(names):
                client.delete_vector_name(self.collection, name, wait=True)
                self._names.discard(name)

    def write(self, points: Sequence[q.PointStruct]) -> None:
        """Write points that are newer than what the collection holds of them; when this returns, they are searched.

        A point is written whole: the store moves a changed point to another segment anyway, and the vectors of an
        item that changed go in the same step.
        """
        operations: list[q.UpdateOperation] = []
        for revision, group in groupby(sorted(points, key=revision_of), key=revision_of):
            older = q.Filter(must=[q.FieldCondition(key="epoch", range=q.Range(lt=revision))])
            newer = q.PointsList(points=list(group), update_filter=older)
            operations.append(q.UpsertOperation(upsert=newer))
        if not operations:
            return
        with self.requests() as client:
            done = client.batch_update_points(
                self.collection, operations, wait=True, ordering=q.WriteOrdering.STRONG
            )  # fmt: skip
        if any(result.status != q.UpdateStatus.COMPLETED for result in done):
            raise GalleryError(f"Qdrant at {self.address} did not finish writing in time; nothing is lost, try again")

    def set_mark(self, generation: str, revision: int) -> None:
        """Say that everything up to a revision is written; nothing happens to a later mark or another generation."""
        earlier = q.Filter(
            must=[
                q.FieldCondition(key="generation", match=q.MatchValue(value=generation)),
                q.FieldCondition(key="mark", range=q.Range(lt=revision)),
            ]
        )
        with self.requests() as client:
            client.upsert(
                self.collection,
                [self._mark_point(generation, revision)],
                wait=True,
                ordering=q.WriteOrdering.STRONG,
                update_filter=earlier,
                update_mode=q.UpdateMode.UPDATE_ONLY,
            )

    def near(
        self, name: str, queries: Vectors, limit: int, *, lacking: Sequence[str], items: Ints | None, exact: bool
    ) -> list[Near]:
        """For each query, (Q, D) float32, the `limit` points that are nearest, `items` only where given.

        Only points count that are without any of the `lacking` named vectors: that a point is served by a space is
        asked of the vectors it has, never of a stored generation, which every rollback would have to rewrite.
        """
        params = None
        if not self.local:
            # a share of the points that is small fragments the graph; ACORN walks on through points left out
            params = q.SearchParams(exact=exact, hnsw_ef=max(128, 2 * limit), acorn=q.AcornSearchParams(enable=True))
        chosen = condition(lacking=lacking, items=items)
        requests = [
            q.QueryRequest(
                query=query.tolist(), using=name, filter=chosen, params=params, limit=limit, with_payload=["rows"]
            )
            for query in queries
        ]
        with self.requests() as client:
            answers = client.query_batch_points(self.collection, requests)
        return [answered(name, answer.points, limit) for answer in answers]

    def touched(self, revision: int) -> Ints:
        """Items whose point is newer than a revision."""
        newer = q.Filter(must=[q.FieldCondition(key="epoch", range=q.Range(gt=revision))])
        items: list[int] = []
        offset: Any = None
        with self.requests() as client:
            while True:
                page, offset = client.scroll(
                    self.collection, newer, limit=_PAGE, offset=offset, with_payload=False, with_vectors=False
                )
                items += [int(point.id) for point in page]
                if offset is None:
                    return np.array(sorted(items), dtype=np.int64)

    def count(self, name: str, *, lacking: Sequence[str] = (), without: Ints | None = None) -> int:
        """How many points have a vector of this name, none of the lacking ones, and are not `without`."""
        chosen = condition(having=name, lacking=lacking, without=without)
        with self.requests() as client:
            return client.count(self.collection, chosen, exact=True).count

    def drop(self) -> None:
        """Delete the collection."""
        self._names.clear()
        with self.requests() as client:
            client.delete_collection(self.collection)

    def close(self) -> None:
        """Close the connection, unless it was handed in."""
        if self._owned:
            self._client.close()

    def _create(self, client: QdrantClient, params: Mapping[str, q.VectorParams]) -> None:
        try:
            client.create_collection(self.collection, vectors_config=dict(params))
        except Exception:
            if not client.collection_exists(self.collection):  # another writer may have come first
                raise
        if not self.local:
            client.create_payload_index(self.collection, "epoch", q.PayloadSchemaType.INTEGER, wait=True)
        self._names = set()

    def _first_mark(self, client: QdrantClient) -> None:
        if client.count(self.collection, exact=True).count:
            raise GalleryError(
                f"the collection '{self.collection}' at {self.address} holds points of something else; "
                "give this gallery another collection name"
            )
        point = self._mark_point(uuid.uuid4().hex, -1)
        client.upsert(self.collection, [point], wait=True, update_mode=q.UpdateMode.INSERT_ONLY)

    def _mark_point(self, generation: str, revision: int) -> q.PointStruct:
        payload = {"gallery": self.gallery, "generation": generation, "mark": revision}
        return q.PointStruct(id=_MARK, vector={}, payload=payload)

    @cached_property
    def writable(self) -> bool:
        """Whether it can be written to as `QdrantSource` does."""
        return self.local or tuple(int(part) for part in self._version().split("-")[0].split(".")[:2]) >= _OLDEST

    @property
    def client(self) -> QdrantClient:
        """The connection, for another collection at the same place."""
        return self._client

    def _version(self) -> str:
        with self.requests() as client:
            return client.info().version

    @contextmanager
    def requests(self) -> Iterator[QdrantClient]:
        """The client, for requests whose errors become one line. Raises CollectionLost: there is no collection."""
        from qdrant_client.http.exceptions import ResponseHandlingException

        with _TURNS if self.local else nullcontext():
            try:
                yield self._client
            except (SamespaceError, CollectionLost):
                raise
            except ResponseHandlingException as error:
                raise GalleryError(
                    f"Qdrant at {self.address} cannot be reached ({_line(error.source)}); start it or correct the "
                    "address, the gallery itself is unharmed"
                ) from error
            except Exception as error:  # what else a client raises depends on its transport
                if self._missing():
                    self._names.clear()
                    raise CollectionLost from error
                raise GalleryError(
                    f"Qdrant at {self.address} refused a request ({_line(error)}); the gallery itself is unharmed"
                ) from error

    def _missing(self) -> bool:
        try:
            return not self._client.collection_exists(self.collection)
        except Exception:  # it answers nothing at all, so nothing is known
            return False


def _connect(place: str | QdrantClient, api_key: str | None, timeout: int) -> tuple[QdrantClient, bool]:
    try:
        from qdrant_client import QdrantClient
    except ImportError:
        raise InputError(MISSING) from None
    if not isinstance(place, str):
        return place, False
    if place == ":memory:":
        return QdrantClient(":memory:"), True
    if place.startswith(QDRANT_FOLDER):
        return _opened(QdrantClient, place), True
    if not place.startswith(("http://", "https://")):
        raise InputError(f"'{place}' is no address of a Qdrant server; write http://HOST:6333 or https://HOST")
    api_key = api_key or os.environ.get(QDRANT_KEY) or None
    # the client's own version check warns from a thread; `Points` refuses instead
    return QdrantClient(url=place, api_key=api_key, timeout=timeout, check_compatibility=False), True


def _opened(client: type[QdrantClient], place: str) -> QdrantClient:
    """A folder of the client's own, which one process at a time can open."""
    folder = place.removeprefix(QDRANT_FOLDER)
    if not (Path(folder) / "meta.json").is_file():
        raise InputError(f"{folder} is no folder of Qdrant's client; write {QDRANT_FOLDER}FOLDER, or http://HOST:6333")
    try:
        return client(path=folder, force_disable_check_same_thread=True)
    except (RuntimeError, ValueError) as error:
        raise GalleryError(f"{place} cannot be opened: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """What a client's error says: of an answer of the server its status and reason, else its text."""
    if (status := getattr(error, "status_code", None)) is not None:
        try:
            told = json.loads(error.content)["status"]["error"]  # type: ignore[attr-defined]
        except (ValueError, KeyError, TypeError):
            told = getattr(error, "reason_phrase", "")
        hint = f"; is {QDRANT_KEY} set, and right?" if status in (401, 403) else ""
        return f"{status} {' '.join(str(told).split())}"[:300].strip() + hint
    return " ".join(str(error).split())[:300] or "no reason given"
