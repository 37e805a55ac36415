"""Applications that keep vectors in a store of their own, for one contract of all stores: what they do, and a gallery.

An application writes by plain means of its store, never by samespace. `World` knows what a search should find.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from samespace.gallery import Gallery, Limits
from samespace.gallery.index.base import QDRANT_FOLDER, Source
from samespace.gallery.ledger.state import Link
from samespace.space import Space
from samespace.vectors import VectorSet

from ..made import HONEST, as_rows, made_calibration, made_vectors, prefix

OLD = Space.declared("shop", 16, "1", normalized=True)
NEW = Space.declared("shop", 24, "2", normalized=True)
_NAMES = itertools.count()


class Application(Protocol):
    """What an application does to its rows, each an id, a vector, a colour as label, and a price.

    `handing`: a part of what is shown before a release; empty where the store allows none.
    """

    handing: str

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """Insert rows, or give rows that are there another vector."""

    def delete(self, ids: Iterable[str]) -> None:
        """Delete rows."""

    def read(self) -> dict[str, list[float]]:
        """Vectors by id, as the application reads them."""

    def follow(self) -> None:
        """What its operator does after a release."""

    def adopt(self) -> Gallery:
        """A gallery of the vectors, by their operator; approximate searches walk the store's index."""


def colour(name: str) -> str:
    """The label of a row, by its id."""
    return ("red", "blue", "green")[int(name.rpartition("-")[2]) % 3]


def price(name: str) -> int:
    """The price of a row, by its id."""
    return int(name.rpartition("-")[2])


class PostgresApplication:
    """A table with a name and columns that need quoting, and an HNSW index, in PostgreSQL."""

    handing = "RENAME"

    def __init__(self, address: str, *, index: bool = True) -> None:
        import psycopg

        self.number = next(_NAMES)
        self.address = f"{address}&schema=ledger_{self.number}"
        self.table = f'Shop "{self.number}"'
        self.quoted = '"' + self.table.replace('"', '""') + '"'
        self.connection = psycopg.connect(address, autocommit=True)
        self.connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        self.run(
            f'CREATE TABLE {self.quoted} ("Article" text PRIMARY KEY, "an embedding" vector({OLD.dim}), colour text, '
            "price int)"
        )
        if index:
            self.run(f'CREATE INDEX ON {self.quoted} USING hnsw ("an embedding" vector_cosine_ops)')

    def run(self, sql: str, values: Any = None) -> Any:
        """Execute a statement as the application."""
        return self.connection.execute(sql.encode(), values)

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """See `Application`."""
        with self.connection.cursor() as cursor:
            cursor.executemany(
                f'INSERT INTO {self.quoted} ("Article", "an embedding", colour, price) VALUES (%s, %s, %s, %s) '
                'ON CONFLICT ("Article") DO UPDATE SET "an embedding" = excluded."an embedding"'.encode(),
                [(name, str(vector.tolist()), colour(name), price(name)) for name, vector in rows.items()],
            )

    def delete(self, ids: Iterable[str]) -> None:
        """See `Application`."""
        self.run(f'DELETE FROM {self.quoted} WHERE "Article" = ANY(%s)', [list(ids)])

    def read(self) -> dict[str, list[float]]:
        """See `Application`."""
        rows = self.run(f'SELECT "Article", "an embedding"::real[] FROM {self.quoted}')
        return {name: np.asarray(vector, dtype=np.float32).tolist() for name, vector in rows}

    def follow(self) -> None:
        """See `Application`: nothing, the column has kept its name."""

    def adopt(self) -> Gallery:
        """See `Application`."""
        from samespace.gallery.adoption.adopt import adopt_table
        from samespace.gallery.adoption.inspect import Columns

        columns = Columns("Article", "an embedding", "colour", ("price",))
        adopt_table(self.address, self.table, columns, space=("shop", "1"))
        return self.open()

    def open(self) -> Gallery:
        """The gallery once more, as another process opens it; small ones walk the index, too."""
        from samespace.gallery.index.adopted.postgres import AdoptedSource
        from samespace.gallery.ledger.ledger import Ledger

        ledger = Ledger.open(self.address)
        source: Source = AdoptedSource(ledger, exact_rows=20)
        return Gallery(ledger, source)

    def close(self) -> None:
        """Let go of the server."""
        self.connection.close()


class QdrantApplication:
    """A collection in process: points by UUIDs with two named vectors, or by whole numbers with one unnamed vector."""

    def __init__(self, folder: Path, *, named: bool = True) -> None:
        from qdrant_client import QdrantClient, models

        self.folder, self.few, self.models = folder, 10_000, models
        self.client = QdrantClient(":memory:")
        self.using = "text" if named else None
        self.handing = f"PUT /collections/shop/vectors/text-{NEW.id}" if named else ""
        params = {
            "text": models.VectorParams(size=OLD.dim, distance=models.Distance.DOT),
            "picture": models.VectorParams(size=3, distance=models.Distance.COSINE),
        }
        lone = models.VectorParams(size=OLD.dim, distance=models.Distance.EUCLID)
        self.client.create_collection("shop", vectors_config=params if named else lone)

    def point(self, name: str) -> str | int:
        """The id of a row's point."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, name)) if self.using else price(name)

    def put(self, rows: Mapping[str, np.ndarray]) -> None:
        """See `Application`; a point that is there gets another vector only."""
        there = self.read()
        fresh = [
            self.models.PointStruct(
                id=self.point(name), vector=self._vector(vector),
                payload={"sku": name, "about": {"colour": colour(name)}, "price": price(name)},
            )
            for name, vector in rows.items() if name not in there
        ]  # fmt: skip
        changed = [
            self.models.PointVectors(id=self.point(name), vector=self._vector(vector))
            for name, vector in rows.items()
            if name in there
        ]
        if fresh:
            self.client.upsert("shop", fresh)
        if changed:
            self.client.update_vectors("shop", changed)

    def delete(self, ids: Iterable[str]) -> None:
        """See `Application`."""
        self.client.delete("shop", [self.point(name) for name in ids])

    def read(self) -> dict[str, list[float]]:
        """See `Application`."""
        points, _ = self.client.scroll("shop", limit=10_000, with_vectors=True)
        return {
            point.payload["sku"]: list(map(float, point.vector[self.using] if self.using else point.vector))
            for point in points
        }

    def follow(self) -> None:
        """See `Application`."""
        self.using = f"text-{NEW.id}"

    def adopt(self) -> Gallery:
        """See `Application`."""
        from samespace.gallery.adoption.collection import Keys, adopt_collection

        keys = Keys(self.using, "sku", "about.colour", ("price",))
        adopt_collection(self.client, "shop", self.folder, keys, space=("shop", "1"))
        return self.open()

    def open(self) -> Gallery:
        """The gallery once more."""
        from samespace.gallery.index.adopted.qdrant import AdoptedQdrantSource
        from samespace.gallery.ledger.ledger import Ledger

        ledger = Ledger.open(self.folder)
        source: Source = AdoptedQdrantSource(ledger, self.folder / "index", self.client, few=self.few)
        # an index of a space that is filled is opened apart, and connects nowhere that is not named
        return Gallery(ledger, source, index=f"{QDRANT_FOLDER}{self.folder.parent / 'elsewhere'}")

    def close(self) -> None:
        """Let go of the collection."""
        self.client.close()

    def _vector(self, vector: np.ndarray) -> Any:
        return {self.using: vector.tolist()} if self.using else vector.tolist()


class World:
    """An application with rows, its gallery, and the vectors that a new model gives.

    Attributes:
        rows: old vectors by id, as the application has them.
        made_from: for each id with a new vector in the gallery, the old vector that was there then.
        new: new vectors by id; those of rows to come, too.
    """

    def __init__(self, application: Application, count: int = 160) -> None:
        self.application = application
        values = made_vectors(2 * count, NEW.dim, seed=5)
        names = [f"row-{number:04d}" for number in range(2 * count)]
        self.new = dict(zip(names, values, strict=True))
        self.old = dict(zip(names, prefix(values, OLD.dim), strict=True))
        self.rows = {name: self.old[name] for name in names[:count]}
        self.made_from: dict[str, bytes] = {}
        application.put(self.rows)
        self.gallery = application.adopt()
        self.upgraded = False

    def upgrade(self) -> None:
        """Let queries use the new space, as its certificate and calibrations allow."""
        with self.gallery.ledger.write() as writer:
            assert writer.add_space(NEW, None) == 2
            writer.put_link(Link(2, 1, OLD.dim, {"certificate": 1}))
            for (query, held), (slope, intercept) in HONEST.items():
                if query < 3 and held < 3:
                    writer.put_calibration(query, held, made_calibration(slope, intercept), "test")
            writer.add_upgrade(1, 2, order="random", plan={})
            writer.set_upgrade(writer.state().upgrades[-1], state="open")
            writer.set_query(2)
        self.upgraded = True

    def backfill(self, count: int | None = None) -> int:
        """Re-embed items, all by default; how many were stored."""
        names = list(self.new)
        vectors = VectorSet.from_arrays(np.stack([self.new[name] for name in names]), ids=names, space=NEW)
        before = self.served_by_new()
        done = self.gallery.backfill(vectors=vectors, limits=Limits(items=count, batch_size=40))
        for name in self.served_by_new() - before:
            self.made_from[name] = self.rows[name].tobytes()
        return done.stored

    def served_by_new(self) -> set[str]:
        """Ids of the rows with a new vector, as the ledger tells."""
        with self.gallery.ledger.read() as reader:
            numbers, _ = reader.row_numbers(2)
            return {item.id for item in reader.items(numbers).values()}

    def change(self, names: Iterable[str], seed: int = 9) -> None:
        """Let the application give rows other vectors."""
        names = list(names)
        changed = dict(zip(names, made_vectors(len(names), OLD.dim, seed), strict=True))
        self.rows.update(changed)
        self.application.put(changed)

    def add(self, names: Iterable[str]) -> None:
        """Let the application insert rows."""
        fresh = {name: self.old[name] for name in names}
        self.rows.update(fresh)
        self.application.put(fresh)

    def delete(self, names: Iterable[str]) -> None:
        """Let the application delete rows."""
        names = list(names)
        self.application.delete(names)
        for name in names:
            del self.rows[name]

    def queries(self, count: int = 6) -> VectorSet:
        """Queries of the space that the gallery is queried by."""
        values = made_vectors(count, NEW.dim, seed=77)
        values[0] = self.new["row-0003"]
        if not self.upgraded:
            return VectorSet.from_arrays(prefix(values, OLD.dim), ids=[f"q{n}" for n in range(count)], space=OLD)
        return VectorSet.from_arrays(values, ids=[f"q{n}" for n in range(count)], space=NEW)

    def found(self, *, k: int = 8, exact: bool = True, **options: Any) -> list[list[tuple[Any, ...]]]:
        """What the gallery answers."""
        return as_rows(self.gallery.search(self.queries(), k=k, exact=exact, **options))

    def expected(self, *, k: int = 8, keep: Any = lambda name: True) -> list[list[tuple[Any, ...]]]:
        """What a slow search finds, one row at a time in float64: (id, score, raw, space id)."""
        lists = []
        for query in self.queries().take(np.arange(len(self.queries()))):
            wide = {1: prefix(query[None], OLD.dim)[0] if self.upgraded else query, 2: query}
            rows = []
            for name, vector in self.rows.items():
                if not keep(name):
                    continue
                fresh = self.upgraded and self.made_from.get(name) == vector.tobytes()
                generation, held = (2, self.new[name]) if fresh else (1, vector)
                raw = float((wide[generation].astype(np.float64) * held.astype(np.float64)).sum())
                slope, intercept = HONEST[2 if self.upgraded else 1, generation]
                score = raw * slope + intercept if self.upgraded else None
                rows.append((name, score, raw, (NEW if fresh else OLD).id))
            rows.sort(key=lambda row: (-(row[1] if self.upgraded else row[2]), row[0]))
            lists.append(rows[:k])
        return lists


STORES = ["postgres", "postgres without an index", "qdrant", "qdrant, one unnamed vector, an old server"]


def made_world(request: pytest.FixtureRequest, folder: Path) -> Iterator[World]:
    """An application with 160 rows, adopted, on the kind of store that a fixture was asked for; the ledger's folder."""
    application: PostgresApplication | QdrantApplication
    if request.param.startswith("qdrant"):
        pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
        application = QdrantApplication(folder, named=request.param == "qdrant")
    else:
        server = request.getfixturevalue("server")
        application = PostgresApplication(server.address, index=request.param == "postgres")
    with pytest.MonkeyPatch.context() as patch:
        if request.param.endswith("an old server"):
            from samespace.gallery.index.qdrant.points import Points

            # it keeps no collection of new vectors, and items without one are met on a walk
            patch.setattr(Points, "writable", False)
            application.few = 20  # type: ignore[union-attr]
        made = World(application)
        yield made
        made.gallery.close()
    application.close()
