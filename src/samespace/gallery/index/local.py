"""`LocalSource`: search on index files beside the ledger, or in memory; the ledger alone decides what is true."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.base import Found, News
from samespace.gallery.index.compaction import Compaction
from samespace.gallery.index.exact import Bools, nearest
from samespace.gallery.index.hnsw import LEAST_SHARE, approximate, available, lacked
from samespace.gallery.index.moment import Holding, Moment, following
from samespace.gallery.index.segments import SegmentFolder
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.progress import silent
from samespace.space import Space

GRAPH_FROM = 50_000

_FILTERS = 32


class LocalSource:
    """Snapshots of a ledger, from segments in memory and on disk. Safe to use from several threads and processes.

    Args:
        ledger: the truth.
        folder: where index files go, one folder per space; None keeps everything in memory.
        graph_from: from how many live rows on a space gets an approximate index, where FAISS is installed.
    """

    def __init__(self, ledger: Ledger, folder: Path | None, *, graph_from: int = GRAPH_FROM) -> None:
        self.ledger = ledger
        self.folder = folder
        self.graph_from = graph_from
        self.sound = set[str]()
        self._moment: Moment | None = None
        self._guard = threading.Lock()
        self._tending = threading.Lock()
        self._filters: OrderedDict[tuple[int, tuple[Condition, ...]], Ints] = OrderedDict()
        with ledger.read() as reader:
            self._gallery = reader.meta("gallery") or ""

    @contextmanager
    def snapshot(self) -> Iterator[LocalSnapshot]:
        """The gallery now: every change that was acknowledged before the call is in it, whoever made it."""
        yield LocalSnapshot(self, self.moment())

    def moment(self) -> Moment:
        """The gallery now."""
        with self.ledger.read() as reader:
            return self.present(reader)

    def present(self, reader: LedgerReader) -> Moment:
        """The gallery as a view shows it, or later where another thread has read more since."""
        latest = self._moment
        if latest is not None and latest.state.revision >= reader.revision():
            return latest
        with self._guard:
            latest = self._moment
            state = reader.state(None if latest is None else latest.state)
            if latest is None or latest.state.revision < state.revision:
                latest = self._moment = following(
                    latest, reader, state, self.segment_folder, spill=not self.ledger.read_only
                )
            return latest

    def exactly(self, reader: LedgerReader, known: Moment) -> Moment:
        """The gallery as a view shows it, `known` being no later than that."""
        found = self.present(reader)
        revision = reader.revision()
        if found.state.revision == revision:
            return found
        return following(known, reader, reader.state(known.state), self.segment_folder, spill=False)

    @property
    def latest(self) -> Moment | None:
        """The last moment that was read."""
        return self._moment

    def segment_folder(self, space: Space) -> SegmentFolder | None:
        """Where index files of a space lie."""
        return None if self.folder is None else SegmentFolder(self.folder / space.id, self._gallery, space, self.sound)

    def adopt(self, generation: int, holding: Holding, *, without: Collection[str] = ()) -> None:
        """Let searches use other segments of a space.

        Rows that came in meanwhile are kept, but for segments named in `without`.
        """
        with self._guard, self.ledger.read() as reader:
            latest = self._moment
            if latest is None or generation not in latest.held:
                return
            state = reader.state(latest.state)
            if state.revision < latest.state.revision:
                # another thread is ahead of this view; the manifest tells it about the segments in time
                return
            fresh = (
                [*holding.fresh, *latest.held[generation].all()]
                if self.folder is None
                else latest.held[generation].all()
            )
            kept = tuple(segment for segment in fresh if not segment.name or segment.name not in without)
            held = {**latest.held, generation: replace(holding, fresh=kept)}
            valid = {other: masks for other, masks in latest.valid.items() if other != generation}
            self._moment = following(
                replace(latest, held=held, valid=valid), reader, state, self.segment_folder, spill=False
            )

    def selected(self, reader: LedgerReader, revision: int, where: tuple[Condition, ...]) -> Ints:
        """Items that meet conditions, as of the revision of the view."""
        with self._guard:
            if (revision, where) in self._filters:
                self._filters.move_to_end((revision, where))
                return self._filters[revision, where]
        found = reader.select(where)
        with self._guard:
            self._filters[revision, where] = found
            while len(self._filters) > _FILTERS:
                self._filters.popitem(last=False)
        return found

    def maintain(self, advance: News = silent) -> None:
        """Bring segments and approximate indexes up to date; searches go on meanwhile. A read-only gallery stays as is.

        Args:
            advance: called while an approximate index is built; see `snapshot.Source`.

        Raises:
            GalleryError: the disk is full; searches then go on with what there is, and answer as before.
        """
        if self.ledger.read_only:
            return
        with self._tending:
            Compaction(self, advance).run()

    def coverage(self) -> dict[int, dict[str, int | str]]:
        """Per servable generation, how many rows its index covers (`indexed`), how many it lacks (`lag`), and `kind`.

        Rows of a space that is too small for an approximate index are all scanned, from files or from memory, and so
        are covered; so are those of any space where FAISS is not installed.
        """
        moment = self.moment()
        return {
            generation: self._covered(moment.held[generation], moment.valid[generation]) for generation in moment.held
        }

    def _covered(self, holding: Holding, masks: Sequence[Bools]) -> dict[str, int | str]:
        total = sum(map(int, map(np.count_nonzero, masks)))
        if total < self.graph_from or not available():
            return {"indexed": total, "lag": 0, "kind": "exact"}
        if holding.graph is None:
            return {"indexed": 0, "lag": total, "kind": "exact"}
        lag = lacked(holding.graph, holding.all(), masks)
        return {"indexed": total - lag, "lag": lag, "kind": "hnsw"}

    def close(self) -> None:
        """Let go of every segment."""
        with self._guard:
            self._moment = None
            self._filters.clear()


class LocalSnapshot:
    """A gallery at one moment.

    Conditions are evaluated in the ledger, which only knows the present: `allowed` brings the snapshot up to date, so
    call it before anything else.
    """

    def __init__(self, source: LocalSource, moment: Moment) -> None:
        self._source = source
        self._moment = moment
        self._looked_at = False

    @property
    def state(self) -> State:
        """Spaces, leaves, calibrations."""
        self._looked_at = True
        return self._moment.state

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        self._looked_at = True
        return [generation for generation in self._moment.parts if self._moment.live(generation)]

    def allowed(self, where: Sequence[Condition]) -> Ints:
        """Numbers of the items that meet every condition, ascending, as of this moment.

        Raises:
            GalleryError: the gallery has changed since the snapshot was looked at.
        """
        with self._source.ledger.read() as reader:
            revision = reader.revision()
            if revision != self._moment.state.revision:
                if self._looked_at:
                    raise GalleryError("the gallery changed before the filter was read; take a new snapshot")
                self._moment = self._source.exactly(reader, self._moment)
            self._looked_at = True
            return self._source.selected(reader, revision, tuple(where))

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Found]:
        """Per query, the `k` items with the highest cosine among those that this generation serves, with ties.

        Args:
            generation: of the space.
            queries: (Q, D) float32 unit vectors of the space's dimension.
            k: at least 1.
            allowed: item numbers to choose from; all where None.
            exact: look at every vector; otherwise an approximate index may be used where there is one.
        """
        self._looked_at = True
        moment = self._moment
        parts = moment.parts.get(generation, ())
        mask = None
        if allowed is not None:
            mask = np.zeros(len(moment.serving), dtype=np.bool_)
            mask[allowed] = True
            parts = tuple(part.restricted(mask) for part in parts)
        graph = moment.held[generation].graph if parts else None
        if graph is not None and not exact:
            known = moment.graph_mask(generation)
            known = known if mask is None else known & mask[np.minimum(graph.items, len(mask) - 1)]
            live = int(np.count_nonzero(known))
            if live >= max(self._source.graph_from, LEAST_SHARE * len(known), 20 * k):
                found = approximate(graph, parts, queries, k, known)
                if found is not None:
                    return found
        return nearest(parts, queries, k)

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number; they never change, so the ledger is asked for the few that are needed."""
        with self._source.ledger.read() as reader:
            known = reader.items(items)
        return [known[number].id for number in items.tolist()]
