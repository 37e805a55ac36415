"""An application's collection in Qdrant as the vectors of a space: searched and scanned there, by its own index."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samespace.gallery.index.adopted.collection import Collection, Point, point_id
from samespace.gallery.index.adopted.payload import meets, prefilter
from samespace.gallery.index.adopted.store import Asked, Differences, SeenRow
from samespace.gallery.index.exact import Bools, better_of, nearest_in, no_neighbours
from samespace.gallery.index.found import Neighbours
from samespace.gallery.index.qdrant.points import Points
from samespace.gallery.index.qdrant.wire import q
from samespace.gallery.index.segments import Segment, compared
from samespace.gallery.ledger.adopted import UNKNOWN_CHECKSUM
from samespace.gallery.ledger.adopted_collection import AdoptedCollection
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.sqlite.engine import SqliteEngine
from samespace.gallery.ledger.state import Ints, Rows, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.serving import newer
from samespace.space import Space

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

FEW = 10_000

_AT_ONCE = 10_000
_MOST_WALKED = 4_096
_SLACK = 16
_LISTED_SECONDS = 10.0


@dataclass(frozen=True)
class Known:
    """What the ledger has of a point: number and content of its item, and whether that is removed."""

    number: int
    id: str
    content: str
    deleted: bool

    def is_current(self, point: Point) -> bool:
        """Whether the ledger has the point with the vector that it has now."""
        return not self.deleted and self.content == point.content


@dataclass(frozen=True, eq=False)
class _Rest:
    """Items that no newer space serves, some seconds old at most, and the share of them."""

    at: float
    config: int
    items: Ints
    share: float


@dataclass(frozen=True, eq=False)
class Judged:
    """Points that a search met.

    Attributes:
        items: (N,) number of each; negative where the ledger has not listed it.
        current: (N,) whether the ledger has it with its present vector.
        own: (N,) whether its vector in the collection answers for it: no newer space has one of the same content.
    """

    items: Ints
    current: Bools
    own: Bools


class QdrantStore:
    """See `store.AdoptedStore`.

    `place`: the address as the caller names it, for the ledger's own is no reason to connect; or a client, which is
    left open. `key`: what the server asks for, by default QDRANT_API_KEY. `few`: up to so many items that no newer
    space serves are looked for among themselves only.
    """

    def __init__(self, ledger: Ledger, place: str | QdrantClient, *, key: str | None = None, few: int = FEW) -> None:
        assert isinstance(ledger.engine, SqliteEngine)
        self.ledger, self.engine, self.few = ledger, ledger.engine, few
        # a folder of Qdrant's client can be opened once
        other = self.engine.elsewhere
        if isinstance(place, str) and isinstance(other, QdrantStore):
            place = other.points.client
        self.points: Points = Points(place, self.adopted.collection, "", api_key=key, timeout=60, written=False)
        self._rest: _Rest | None = None
        self.engine.elsewhere = other or self

    def close(self) -> None:
        """Close the connection, unless it is another's."""
        if self.engine.elsewhere is self:
            self.engine.elsewhere = None
        self.points.close()

    @property
    def adopted(self) -> AdoptedCollection:
        """The application's collection."""
        assert self.engine.adopted is not None
        return self.engine.adopted

    @property
    def collection(self) -> Collection:
        """It, to be read."""
        return Collection(self.adopted, self.points)

    @property
    def name(self) -> str:
        """See `store.AdoptedStore`."""
        return self.adopted.collection

    def scan(self) -> Iterator[Differences]:
        """See `store.AdoptedStore`: every point is read, and its vector compared by content."""
        with self.ledger.read() as reader:
            first = reader.next_numbers()[0]
        seen = np.zeros(first, dtype=bool)
        for points in self.collection.all():
            with self.ledger.read() as reader:
                known = known_of(reader, points)
                names = names_of(reader, [point for point in points if point.id not in known])
            listed = [(point, known[point.id]) for point in points if point.id in known]
            seen[[one.number for _, one in listed if one.number < first]] = True
            added = tuple(
                SeenRow(names[point.id], point.content, mark=point.id) for point in points if point.id in names
            )
            changed = tuple(
                SeenRow(one.id, point.content, one.number, point.id)
                for point, one in listed
                if not one.is_current(point)
            )
            if added or changed:
                yield Differences(added, changed)
        yield from self._gone(seen)

    def note(self, writer: LedgerWriter, rows: Sequence[SeenRow], numbers: Ints) -> None:
        """See `store.AdoptedStore`."""
        fresh = [(number, row.mark) for row, number in zip(rows, numbers.tolist(), strict=True) if row.number is None]
        writer.session.insert("adopted", fresh)

    def get(self, reader: LedgerReader, items: Ints) -> Rows:
        """See `store.AdoptedStore`."""
        points = points_of(reader, items)
        found = {point.id: point for point in self.collection.some(list(points.values()))}
        held = [(item, found[point]) for item, point in sorted(points.items()) if point in found]
        numbers = np.array([item for item, _ in held], dtype=np.int64)
        dim = self._dim(reader)
        values = np.array([point.vector for _, point in held], dtype=np.float32).reshape(len(held), dim)
        unknown = np.full(len(held), UNKNOWN_CHECKSUM, dtype=np.int64)
        return Rows(numbers, numbers, values, unknown, tuple(point.content for _, point in held))

    def put(self, generation: int, items: Ints) -> int:
        """See `store.AdoptedStore`; the vectors get the name that `coming_name` gives."""
        with self.ledger.read() as reader:
            name = coming_name(self.adopted, reader.state().spaces[generation].space)
            rows, contents = reader.rows_of(generation, items), reader.items(items)
            points = points_of(reader, items)
        coming = Collection(replace(self.adopted, vector=name), self.points)
        now, there = ({one.id: one for one in held.some(list(points.values()))} for held in (self.collection, coming))
        made = {
            item: value
            for item, value in zip(rows.items.tolist(), rows.values, strict=True)
            if points[item] in now and contents[item].content == now[points[item]].content
        }
        sent = [
            q.PointVectors(id=point_id(points[item]), vector={name: value.tolist()})
            for item, value in made.items()
            if points[item] not in there or there[points[item]].vector.tobytes() != value.tobytes()
        ]
        if sent:
            with self.points.requests() as client:
                client.update_vectors(self.adopted.collection, sent, wait=True)
        kept = {one.id: one.content for one in coming.some([points[item] for item in made])}
        listed = [(item, contents[item].content, kept[points[item]]) for item in made if points[item] in kept]
        with self.ledger.write() as writer:
            writer.session.many("INSERT OR REPLACE INTO coming VALUES (?, ?, ?)", listed)
        return len(sent)

    def top(self, asked: Asked, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `store.AdoptedStore`; conditions are judged by the points' payloads, so `allowed` is not needed."""
        return self.all_exact(asked, queries, k)[0] if exact else self._near(asked, queries, k)

    def all_exact(self, asked: Asked, queries: Vectors, k: int) -> tuple[list[Neighbours], Ints]:
        """The nearest by looking at every point that meets the conditions, and the items that are as the ledger says.

        The whole collection comes here, so this is slow where it is large, and right whatever happens meanwhile.
        """
        best, current = no_neighbours(len(queries)), [np.empty(0, dtype=np.int64)]
        for page in self.collection.all(prefilter(self.adopted, asked.where)):
            points = [point for point in page if meets(point.payload, self.adopted, asked.where)]
            judged = self.judged(asked, points)
            current.append(judged.items[judged.current])
            vectors = [point.vector for point, own in zip(points, judged.own, strict=True) if own]
            best = better_of(best, self._nearest(asked, judged.items[judged.own], vectors, queries, k), k)
        return best, np.unique(np.concatenate(current))

    def judged(self, asked: Asked, points: Sequence[Point]) -> Judged:
        """What a search makes of points, by the ledger as of its start."""
        known = known_of(asked.reader, points)
        fresh = [point for point in points if point.id not in known and point.id not in asked.unlisted]
        for point, name in names_of(asked.reader, fresh, asked.names.values()).items():
            asked.names[asked.number(point)] = name
        numbers = (known[one.id].number if one.id in known else asked.unlisted[one.id] for one in points)
        items = np.fromiter(numbers, dtype=np.int64, count=len(points))
        current = np.array([one.id in known and known[one.id].is_current(one) for one in points], dtype=bool)
        served: set[int] = set()
        for generation in newer(self.adopted.generation, asked.state.servable):
            served |= asked.reader.with_vector(generation, items[current])
        superseded = np.isin(items, np.array(sorted(served), dtype=np.int64))
        return Judged(items, current, ~(current & superseded))

    def _near(self, asked: Asked, queries: Vectors, k: int) -> list[Neighbours]:
        """By the collection's index: the nearest points, and where newer spaces serve most, all that they do not."""
        where, rest, met = prefilter(self.adopted, asked.where), self._unserved(asked), dict[int, Vectors]()
        if len(where) < len(asked.where):
            return self.all_exact(asked, queries, k)[0]
        limit, most = k + _SLACK, max(_MOST_WALKED, 2 * k)
        if rest is not None:
            wanted = math.ceil(1.5 * k / max(rest.share, 1e-9)) + _SLACK
            patient = len(rest.items) > self.few and wanted <= most
            # those that are left are looked for among themselves; points added or changed since are met on the way
            limit, most = (wanted, most) if patient else (4 * limit, 0)
        waiting = self._walk(asked, queries, k, limit, most, met)
        if len(waiting) and rest is None:
            return self.all_exact(asked, queries, k)[0]
        points = list(points_of(asked.reader, rest.items).values()) if len(waiting) and rest is not None else []
        for start in range(0, len(points), _AT_ONCE):
            some = points[start : start + _AT_ONCE]
            for answer in self.collection.near(queries[waiting], k + _SLACK, where, some):
                self._meet(asked, answer, met)
        return self._nearest(asked, np.array(list(met), dtype=np.int64), list(met.values()), queries, k)

    def _walk(self, asked: Asked, queries: Vectors, k: int, limit: int, most: int, met: dict[int, Vectors]) -> Ints:
        """Meet the nearest points, ever more up to a limit; the queries that have too few of them even so."""
        waiting, where = np.arange(len(queries)), prefilter(self.adopted, asked.where)
        while len(waiting):
            answers = self.collection.near(queries[waiting], limit, where)
            kept = [self._meet(asked, answer, met) for answer in answers]
            short = [few < k and len(one) == limit for few, one in zip(kept, answers, strict=True)]
            waiting, limit = waiting[np.array(short, dtype=bool)] if most else waiting, 4 * limit
            if limit > most:
                break
        return waiting

    def _meet(self, asked: Asked, points: Sequence[Point], met: dict[int, Vectors]) -> int:
        """Keep the points that answer by their vector here; how many."""
        some = [point for point in points if meets(point.payload, self.adopted, asked.where)]
        judged = self.judged(asked, some)
        own = [(item, one) for item, one, own in zip(judged.items.tolist(), some, judged.own, strict=True) if own]
        met.update((item, point.vector) for item, point in own)
        return len(own)

    def _unserved(self, asked: Asked) -> _Rest | None:
        """The listed items that no newer space serves; None where there is no newer space."""
        above = newer(self.adopted.generation, asked.state.servable)
        if not above:
            return None
        known = self._rest
        if known is None or known.config != asked.state.config or time.monotonic() - known.at > _LISTED_SECONDS:
            items = asked.reader.unserved(above)
            known = _Rest(time.monotonic(), asked.state.config, items, len(items) / max(1, asked.reader.live()))
            self._rest = known
        return known

    def _nearest(
        self, asked: Asked, items: Ints, vectors: Sequence[Vectors], queries: Vectors, k: int
    ) -> list[Neighbours]:
        kept, unused = asked.state.spaces[self.adopted.generation], np.zeros(len(items), dtype=np.int64)
        values = np.array(vectors, dtype=np.float32).reshape(len(items), kept.space.dim)
        rows = Segment(unused, items, unused, compared(values, kept.space, kept.score), score=kept.score)
        return nearest_in([rows], queries, k)

    def _gone(self, seen: Bools) -> Iterator[Differences]:
        """Listed items whose point was not seen; asked for once more, for points may come while a scan goes on."""
        with self.ledger.read() as reader:
            live = [row[0] for row in reader.session.all("SELECT no FROM item WHERE deleted = 0 ORDER BY no")]
        missing = np.array([number for number in live if number < len(seen) and not seen[number]], dtype=np.int64)
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            with self.ledger.read() as reader:
                there = self.get(reader, some).items
            gone = np.setdiff1d(some, there)
            if len(gone):
                yield Differences(gone=tuple(gone.tolist()))

    def _dim(self, reader: LedgerReader) -> int:
        return reader.state().spaces[self.adopted.generation].space.dim


def coming_name(adopted: AdoptedCollection, space: Space) -> str:
    """What a release calls the vectors of a space in the collection."""
    return f"{adopted.vector}-{space.id}"


def known_of(reader: LedgerReader, points: Sequence[Point]) -> dict[str, Known]:
    """What the ledger has of points, by the points' ids."""
    rows = reader.all_listed(
        "SELECT a.point, i.no, i.id, i.content, i.deleted FROM adopted a JOIN item i ON i.no = a.item "
        "WHERE a.point IN (LISTED)",
        [point.id for point in points],
    )
    return {point: Known(number, name, content, bool(gone)) for point, number, name, content, gone in rows}


def names_of(reader: LedgerReader, points: Sequence[Point], taken: Iterable[str] = ()) -> dict[str, str]:
    """Ids of the items that points not listed yet are; a point whose payload has none of its own goes by its own id."""
    known = {*reader.find([point.name for point in points if point.name is not None]), *taken}
    names: dict[str, str] = {}
    for point in points:
        name = point.id if point.name is None or point.name in known else point.name
        known.add(name)
        names[point.id] = name
    return names


def points_of(reader: LedgerReader, items: Ints) -> dict[int, str]:
    """Ids of the points of items, by number."""
    return dict(reader.all_listed("SELECT item, point FROM adopted WHERE item IN (LISTED)", items))
