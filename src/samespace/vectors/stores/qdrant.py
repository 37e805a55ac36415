"""Vectors in a collection of Qdrant, on a server or in a folder of its client."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError, suggest
from samespace.vectors.columns import Names
from samespace.vectors.source import Source
from samespace.vectors.tables import table_source

if TYPE_CHECKING:
    import pyarrow

    from samespace.vectors.stored import Advance, Stored

_PAGE = 1000
_LABELS = ("label", "class", "identity", "target", "category")
PAYLOAD = "payload"
"""The column that keeps what else a point's payload holds, as JSON."""


def qdrant_source(address: str, names: Names, *, metadata: bool) -> Source:
    """The vectors of the collection `names.table`, in the order of the points' ids.

    Ids are the payload's `id` where the first point has one, or what `names.id` says; else the points' own. A
    collection of the distance Cosine holds vectors that Qdrant has brought to unit length.

    Raises:
        InputError: it cannot be reached, there is no such collection or none is named, or it has several vectors a
            point and none is named.
    """
    import pyarrow

    _require_store(address)
    with _client(address) as client:
        held = [item.name for item in client.get_collections().collections]
        if names.table is None:
            raise InputError(
                f"{address}: name the collection, by --table or ',table=NAME'; it has {', '.join(held) or 'none'}"
            )
        if names.table not in held:
            raise InputError(f"{address} has no collection '{names.table}'; {suggest(names.table, held)}")
        config = client.get_collection(names.table).config.params.vectors
        dim, using = _dimensions(config, names.vector, f"collection {names.table} of {address}")
        count = client.count(names.table, exact=True).count
        first = client.scroll(names.table, limit=1, with_payload=True)[0]
    payload = dict(first[0].payload or {}) if first else {}
    key = names.id or ("id" if "id" in payload else None)
    label = names.label or next((name for name in _LABELS if name in payload), None)
    if names.id is not None and names.id not in payload:
        raise InputError(f"{address}: no 'id' called '{names.id}' in the payload; {suggest(names.id, payload)}")
    whole = label is not None and isinstance(payload.get(label), int)
    schema = pyarrow.schema(
        [("vector", pyarrow.list_(pyarrow.float32(), dim)), ("id", pyarrow.string())]
        + ([("label", pyarrow.int64() if whole else pyarrow.string())] if label else [])
        + [(PAYLOAD, pyarrow.string())]
    )

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        with _client(address) as client:
            for points in _pages(client, str(names.table), using, start):
                rows = [_row(point, using, key, label) for point in points]
                yield pyarrow.RecordBatch.from_pylist(rows, schema=schema).select(columns)

    usual = Names(vector="vector", id="id", label="label" if label else None, table=names.table)
    where = f"collection {names.table} of {address}"
    return table_source(where, schema, read, usual, count=count, stamp=f"{count} points", metadata=metadata)


def write_collection(stored: Stored, address: str, table: str, advance: Advance) -> None:
    """Create a collection of the distance Dot, whose vectors Qdrant keeps as they are, and fill it.

    A point's id is made from the item's, which its payload holds as `id`, beside the other columns.

    Raises:
        InputError: the collection is there already, or Qdrant cannot be reached.
    """
    from qdrant_client import models

    with _client(address) as client:
        if client.collection_exists(table):
            raise InputError(f"{address} has a collection '{table}' already; choose another name")
        sizes = models.VectorParams(size=stored.dim, distance=models.Distance.DOT)
        client.create_collection(table, vectors_config=sizes)
        try:
            for vectors, items in stored.blocks():
                for start in range(0, len(vectors), _PAGE):
                    rows = items.slice(start, _PAGE).to_pylist()
                    points = [
                        models.PointStruct(id=_point_id(row["id"]), vector=vector, payload=_payload(row))
                        for row, vector in zip(rows, vectors[start : start + _PAGE].tolist(), strict=True)
                    ]
                    client.upsert(table, points, wait=True)
                    advance(len(points))
        except BaseException:
            client.delete_collection(table)
            raise


def _point_id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"samespace:{name}"))


def _payload(row: dict[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name != PAYLOAD}
    return {**rest, **json.loads(row.get(PAYLOAD) or "{}")}


def _row(point: Any, using: str | None, key: str | None, label: str | None) -> dict[str, Any]:
    payload = dict(point.payload or {})
    vector = point.vector.get(using) if isinstance(point.vector, dict) else point.vector
    name = payload.pop(key, None) if key is not None else point.id
    found: dict[str, Any] = {"vector": None if vector is None else np.asarray(vector, dtype=np.float32)}
    found["id"] = None if name is None else str(name)
    if label is not None:
        found["label"] = payload.pop(label, None)
    return {**found, PAYLOAD: json.dumps(payload, default=str, ensure_ascii=False)}


def _pages(client: Any, table: str, using: str | None, start: int) -> Iterator[list[Any]]:
    offset: Any = None
    wanted = [using] if using is not None else True
    while True:
        skip = min(start, _PAGE)
        points, offset = client.scroll(
            table, limit=skip or _PAGE, offset=offset, with_payload=not skip, with_vectors=False if skip else wanted
        )
        if skip:
            start -= len(points)
        elif points:
            yield points
        if offset is None:
            return


def _dimensions(config: Any, named: str | None, where: str) -> tuple[int, str | None]:
    if not isinstance(config, dict):
        return int(config.size), None
    if named is None and len(config) == 1:
        named = next(iter(config))
    if named not in config:
        what = "which vector" if named is None else f"no vector '{named}'"
        raise InputError(f"{where}: {what}; name one with --vector-column: {', '.join(config) or 'it has none'}")
    return int(config[named].size), named


def _require_store(address: str) -> None:
    """Refuse a folder that is none of Qdrant's client, which would make it one where it is opened."""
    folder = Path(address.removeprefix("qdrant:"))
    if address.startswith("qdrant:") and not folder.is_file() and not (folder / "meta.json").is_file():
        missing = "is no folder of Qdrant's client" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {missing}; write qdrant:FOLDER of a folder that it has made, or http://HOST:6333")


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import ApiException, UnexpectedResponse
    except ImportError:
        raise InputError("a Qdrant collection needs its client: pip install 'samespace[qdrant]'") from None

    folder = address.removeprefix("qdrant:") if address.startswith("qdrant:") else None
    if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"{folder} is a file; expected a folder of Qdrant's client")
    try:
        client = QdrantClient(path=folder) if folder is not None else QdrantClient(url=address, timeout=60)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{address} cannot be opened: {str(error).splitlines()[0][:160]}") from None
    try:
        yield client
    except (ApiException, UnexpectedResponse) as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise InputError(f"{address} does not answer as Qdrant does: {line}") from None
    finally:
        client.close()
