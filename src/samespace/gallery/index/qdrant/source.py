"""Search through Qdrant: a derived collection finds candidates, the ledger alone says what is true.

The collection may be stale, incomplete or lost. Every answer of it is checked against the ledger at the snapshot's
revision and scored from the ledger's vectors; rows that it does not cover are searched exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.base import Advance, Coverage
from samespace.gallery.index.qdrant.points import CollectionLost, Points
from samespace.gallery.index.qdrant.search import QdrantSnapshot
from samespace.gallery.index.qdrant.wire import item_point, q, revision_of, vector_name, vector_params
from samespace.gallery.index.segments import compared
from samespace.gallery.index.served import ServedRows
from samespace.gallery.ledger.changes import changes
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.progress import silent

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_FLOATS = 2**19
_POINTS = 256


class QdrantSource:
    """Snapshots of a gallery whose vectors are indexed by Qdrant, beside either ledger.

    Needs Qdrant 1.18 or newer and the extra `qdrant`. Several sources, in several processes, may share a collection.
    Nothing is sent anywhere but to the given address.

    Args:
        ledger: the truth.
        place: `http(s)://…` of a server, `":memory:"` for trials, or a `QdrantClient`, which is left open.
        collection: name of the collection; by default one named after the gallery's id.
        api_key: for a server that asks for one.
        timeout: seconds to wait for an answer of the server.
        scan_below: up to so many candidates are read from the ledger and compared one by one instead.

    Raises:
        InputError: the extra is not installed, or `place` is no address.
        GalleryError: the server cannot be reached or is too old.
    """

    def __init__(
        self,
        ledger: Ledger,
        place: str | QdrantClient,
        *,
        collection: str | None = None,
        api_key: str | None = None,
        timeout: int = 30,
        scan_below: int = 1000,
    ) -> None:
        self.ledger, self.scan_below = ledger, scan_below
        with ledger.read() as reader:
            gallery = reader.meta("gallery") or ""
        self.points = Points(place, collection or f"samespace-{gallery}", gallery, api_key=api_key, timeout=timeout)
        self._guard, self._writing = threading.Lock(), threading.Lock()
        self._state: State | None = None
        self._served: ServedRows | None = None
        # a collection that was out of sight may have lost points, so the first `maintain` counts them
        self._doubted, self._wrong = True, False

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[QdrantSnapshot]:
        """The gallery now; see `base.Source`. Raises GalleryError: the server cannot be reached."""
        # the mark is read before the ledger, so that the ledger's revision includes all that the mark vouches for
        mark = self.points.mark()
        with ExitStack() as stack:
            with self._guard:
                reader = stack.enter_context(self.ledger.read())
                self._state = state = reader.state(self._state)
                self._served = served = self._read_served(reader, state)
            covered = np.zeros(served.count, dtype=bool)
            if mark is not None and mark.revision <= state.revision:
                covered[:] = True
                covered[reader.items_since(mark.revision)[0]] = False
            allowed = reader.select(where) if where else None
            yield QdrantSnapshot(reader, state, allowed, served, covered, self.points, self.scan_below, self._doubt)

    def _read_served(self, reader: LedgerReader, state: State) -> ServedRows:
        before = self._served
        known = {} if before is None or before.revision > state.revision else before.known()
        return ServedRows.read(reader, state, known)

    def maintain(self, advance: Advance = silent) -> None:
        """Write what changed to the collection, and make it anew if it has lost or altered anything.

        Raises:
            GalleryError: the server cannot be reached, or does not keep what is written.
        """
        with self._writing:
            for _ in range(3):
                try:
                    if self._wrong:
                        self.points.drop()
                        self._wrong = False
                    self._sync(advance)
                    if not self._doubted or self._whole():
                        self._doubted = False
                        return
                    self.points.drop()
                except CollectionLost:
                    continue
        raise GalleryError(
            f"Qdrant at {self.points.address} does not keep the collection '{self.points.collection}'; "
            "see whether its disk is full or something deletes it"
        )

    def rebuild(self) -> None:
        """Make the collection anew, for instance after the ledger was restored from a backup."""
        self._wrong = True
        self.maintain()

    def coverage(self) -> Coverage:
        """See `base.Source`; points are counted in the collection, so lost ones show as lag."""
        mark = self.points.mark()
        with self.ledger.read() as reader:
            state = reader.state()
            changed = reader.items_since(-1 if mark is None else mark.revision)[0]
            rows = {generation: reader.row_numbers(generation)[0] for generation in state.servable}
        covered: Coverage = {}
        for generation, items in rows.items():
            lag = int(np.isin(items, changed).sum())
            if lag < len(items):
                present = self._count(vector_name(state.spaces[generation].space.id))
                lag = max(lag, len(items) - present)
            covered[generation] = {"indexed": len(items) - lag, "lag": lag, "kind": "qdrant"}
        return covered

    def damaged(self) -> dict[int, list[str]]:
        """See `base.Source`; the server keeps its own files."""
        return {}

    def close(self) -> None:
        """Close the connection, unless the client was handed in; the ledger stays open."""
        self.points.close()

    def _doubt(self, wrong: bool) -> None:
        """Let the next `maintain` count the points, or make the collection anew where it is proven wrong."""
        self._doubted, self._wrong = True, self._wrong or wrong

    def _count(self, name: str) -> int:
        try:
            return self.points.count(name)
        except CollectionLost:
            return 0

    def _sync(self, advance: Advance) -> None:
        state = self.ledger.state()
        mark = self.points.ready(_params(state))
        if mark.revision > state.revision:  # of a ledger that was set back since
            self._wrong = True
            raise CollectionLost
        target, marked, cursor = state.revision, mark.revision, (mark.revision + 1, 0)
        with self.ledger.read() as reader:
            done, changed = 0, len(reader.items_since(mark.revision)[0])
        while cursor[0] <= target:
            with self.ledger.read() as reader:
                state = reader.state(state)
                points, ended = _changed(reader, state, cursor)
            self.points.ready(_params(state))
            self.points.write(points)
            done += len(points)
            note = f"writing the collection '{self.points.collection}': {done:,} of {max(done, changed):,} items"
            advance(sum(len(cast("dict[str, Any]", point.vector)) for point in points), note)
            cursor = (state.revision + 1, 0) if ended else (revision_of(points[-1]), int(points[-1].id))
            if cursor[0] - 1 > marked:
                marked = cursor[0] - 1
                self.points.set_mark(mark.generation, marked)
        self.points.forget([vector_name(kept.space.id) for kept in state.spaces.values() if kept.retired])

    def _whole(self) -> bool:
        """Whether as many points have each vector as the ledger has rows; true where changes keep it from telling."""
        mark = self.points.mark()
        with self.ledger.read() as reader:
            state = reader.state()
            rows = {
                kept.space.id: int(
                    reader.session.all(
                        f"SELECT COUNT(*) FROM vector_{generation} v JOIN item i ON i.no = v.item WHERE i.deleted = 0"
                    )[0][0]
                )
                for generation, kept in state.spaces.items()
                if not kept.retired
            }
        if mark is None:
            return False
        if mark.revision != state.revision or len(self.points.touched(state.revision)):
            return True
        short = any(self.points.count(vector_name(space)) < count for space, count in rows.items() if count)
        return not short or len(self.points.touched(state.revision)) > 0


def _params(state: State) -> dict[str, q.VectorParams]:
    return {
        vector_name(kept.space.id): vector_params(kept.space, kept.score)
        for kept in state.spaces.values()
        if not kept.retired
    }


def _changed(reader: LedgerReader, state: State, after: tuple[int, int]) -> tuple[list[q.PointStruct], bool]:
    """The next items by (revision, number) as points, and whether there are no more; as many as a request may carry."""
    floats = sum(params.size for params in _params(state).values())
    limit = max(1, min(_POINTS, _FLOATS // max(1, floats)))
    changed = changes(reader, after, limit)
    live = [row[0] for row in changed if not row[3]]
    vectors: dict[int, dict[str, tuple[int, int, list[float]]]] = {}
    for generation, kept in state.spaces.items():
        if kept.retired:
            continue
        rows = reader.rows_of(generation, live)
        values = compared(rows.values, kept.space, kept.score).tolist()
        for item, number, checksum, value in zip(
            rows.items.tolist(), rows.numbers.tolist(), rows.checksums.tolist(), values, strict=True
        ):
            vectors.setdefault(item, {})[vector_name(kept.space.id)] = (number, checksum, value)
    points = [item_point(no, revision, content, vectors.get(no, {})) for no, revision, content, _ in changed]
    return points, not changed
