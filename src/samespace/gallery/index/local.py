"""`LocalSource`: search on index files beside the ledger, or in memory; the ledger alone decides what is true."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samespace.gallery.index.base import Advance, Coverage, Neighbours, ids_of
from samespace.gallery.index.compaction import Compaction
from samespace.gallery.index.exact import DamagedFile, Part, nearest
from samespace.gallery.index.graph_files import graph_whole
from samespace.gallery.index.hnsw import LEAST_SHARE, approximate, available, lacked
from samespace.gallery.index.local_state import LatestState, LocalState
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.progress import silent

GRAPH_FROM = 50_000

_FILTERS = 32


class LocalSource:
    """Snapshots of a ledger, from segments in memory and on disk. Safe to use from several threads and processes.

    `folder`: where index files go, one folder per space; None keeps everything in memory. `graph_from`: from how many
    live rows on a space gets an approximate index, where FAISS is installed.
    """

    def __init__(self, ledger: Ledger, folder: Path | None, *, graph_from: int = GRAPH_FROM) -> None:
        self.ledger = ledger
        self.graph_from = graph_from
        self._latest = LatestState(ledger, folder)
        self._compacting, self._filtering = threading.Lock(), threading.Lock()
        self._filters: OrderedDict[tuple[int, str], Ints] = OrderedDict()

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[LocalSnapshot]:
        """The gallery now; see `base.Source`. What is damaged is let go of when `DamagedFile` leaves the block."""
        with self._latest.read() as (state, reader):
            allowed = self._select(reader, state.gallery.revision, tuple(where)) if where else None
        try:
            yield LocalSnapshot(self.ledger, state, allowed, self.graph_from)
        except DamagedFile as error:
            for generation, vectors in state.vectors.items():
                if error.names & {segment.name for segment in vectors.segments}:
                    self._latest.drop(generation, error.names)
            raise

    def state(self) -> LocalState:
        """The gallery now, with all vectors that are in memory or mapped."""
        return self._latest.now()

    def maintain(self, advance: Advance = silent) -> None:
        """See `base.Source`; a read-only gallery stays as it is.

        Raises:
            GalleryError: the disk is full; searches then go on with what there is, and answer as before.
        """
        if self.ledger.read_only:
            return
        with self._compacting:
            Compaction(self._latest, self.graph_from, advance).run()

    def coverage(self) -> Coverage:
        """See `base.Source`.

        Rows of a space that is too small for an approximate index are all scanned, from files or from memory, and so
        are covered; so are those of any space where FAISS is not installed.
        """
        state = self.state()
        return {generation: self._covered(state, generation) for generation in state.vectors}

    def _covered(self, state: LocalState, generation: int) -> dict[str, int | str]:
        total, graph = state.stored(generation), state.vectors[generation].graph
        if total < self.graph_from or not available():
            return {"indexed": total, "lag": 0, "kind": "exact"}
        if graph is None:
            return {"indexed": 0, "lag": total, "kind": "exact"}
        lag = lacked(graph, state.rows(generation))
        return {"indexed": total - lag, "lag": lag, "kind": "hnsw"}

    def damaged(self) -> dict[int, list[str]]:
        """See `base.Source`; reads every index file."""
        state, found = self.state(), {}
        for generation, vectors in state.vectors.items():
            folder = self._latest.segment_folder(state.gallery.spaces[generation])
            loaded = {segment.name: segment for segment in vectors.segments}
            found[generation] = [
                name
                for entry in vectors.manifest.segments
                if folder is not None
                and ((name := str(entry["name"])) not in loaded or not folder.whole(loaded[name], entry))
            ]
            graph = vectors.manifest.graph
            if graph is None or folder is None or not available():
                continue
            if vectors.graph is None or not graph_whole(folder, graph):
                found[generation].append(str(graph.get("name")))
        return {generation: names for generation, names in found.items() if names}

    def close(self) -> None:
        """Let go of every segment."""
        self._latest.forget()
        self._filters.clear()

    def _select(self, reader: LedgerReader, revision: int, where: tuple[Condition, ...]) -> Ints:
        """Items that meet conditions, remembered for the searches to come."""
        # 1 and True are equal, and unlike conditions
        key = (revision, repr(where))
        with self._filtering:
            if key in self._filters:
                self._filters.move_to_end(key)
                return self._filters[key]
        allowed = reader.select(where)
        with self._filtering:
            self._filters[key] = allowed
            while len(self._filters) > _FILTERS:
                self._filters.popitem(last=False)
        return allowed


@dataclass(frozen=True, eq=False)
class LocalSnapshot:
    """See `base.Snapshot`; the ledger is asked for ids only, which never change."""

    ledger: Ledger
    contents: LocalState
    allowed: Ints | None
    graph_from: int

    @property
    def state(self) -> State:
        """Spaces, permissions, calibrations."""
        return self.contents.gallery

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        return [generation for generation in self.contents.parts if self.contents.live(generation)]

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """See `base.Snapshot`."""
        contents = self.contents
        parts = contents.parts.get(generation, ())
        if cut := [part.segment.name for part in parts if part.segment.cut_short()]:
            raise DamagedFile(cut)
        mask = None
        if allowed is not None:
            mask = np.zeros(contents.served.count, dtype=np.bool_)
            mask[allowed] = True
            parts = tuple(part.restricted(mask) for part in parts)
        graph = contents.vectors[generation].graph if parts else None
        if graph is not None and not exact:
            rows = contents.graph_mask(generation)
            rows = rows if mask is None else rows & mask[np.minimum(graph.items, len(mask) - 1)]
            live = int(np.count_nonzero(rows))
            if live >= max(self.graph_from, LEAST_SHARE * len(rows), 20 * k):
                neighbours = approximate(graph, parts, queries, k, rows)
                if neighbours is not None:
                    return neighbours
        return _complete(parts, nearest(parts, queries, k), k)

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        with self.ledger.read() as reader:
            return ids_of(reader, items)


def _complete(parts: Sequence[Part], found: list[Neighbours], k: int) -> list[Neighbours]:
    """What was found, unless it is less than there is: a damaged row that is no number hides others."""
    enough = min(k, sum(part.live for part in parts))
    if any(len(one.items) < enough for one in found):
        files = [part.segment for part in parts if part.segment.name]
        if damaged := [segment.name for segment in files if segment.damaged(np.arange(len(segment)))]:
            raise DamagedFile(damaged)
    return found
