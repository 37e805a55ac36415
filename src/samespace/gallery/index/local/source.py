"""`LocalSource`: search on index files beside the ledger, or in memory; the ledger alone decides what is true."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from samespace.gallery.index.base import Advance, Coverage, ids_of
from samespace.gallery.index.exact import Bools, DamagedFile
from samespace.gallery.index.found import Found, Key, Neighbours
from samespace.gallery.index.local.compaction import Compaction
from samespace.gallery.index.local.graph_files import graph_whole, last_row
from samespace.gallery.index.local.hnsw import available, few_rows, lacked
from samespace.gallery.index.local.served_files import forget_served, is_wrong
from samespace.gallery.index.local.state import LatestState, LocalState
from samespace.gallery.index.local.together import SpaceSearch, nearest_of_all
from samespace.gallery.index.manifest import MANIFEST, graph_entries
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.progress import silent

GRAPH_FROM = 50_000
LEAST_SHARE = 0.2
"""Below this share of served rows in a graph every served row is looked at: walking past the others costs more."""

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
        self._distrusted = set[int]()
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
            while self._distrusted:
                forget_served(self.ledger, self._distrusted.pop())
                self._latest.forget()
            Compaction(self._latest, self.graph_from, advance).run()

    def coverage(self) -> Coverage:
        """See `base.Source`.

        Rows of a space that is too small for an approximate index are all scanned, from files or from memory, and so
        are covered; so are those of any space where FAISS is not installed.
        """
        if self._latest.known is None and self._latest.folder is not None:
            return self._listed()
        self._latest.catch_up()
        state = self.state()
        return {generation: self._covered(state, generation) for generation in state.vectors}

    def _listed(self) -> Coverage:
        """The same before anything was searched: by counts and the last row of each graph, without a look at others."""
        covered: Coverage = {}
        with self.ledger.read() as reader:
            state, items = reader.state(), reader.live()
            for generation in state.servable:
                total, folder = reader.stored(generation), self._latest.segment_folder(state.spaces[generation])
                large = max(total, items) >= self.graph_from and total >= few_rows(self.graph_from)
                if not large or folder is None or not available():
                    covered[generation] = {"indexed": total, "lag": 0, "kind": "exact"}
                    continue
                last = last_row(folder, folder.read().graph)
                lag = total if last is None else reader.rows_beyond(generation, last)
                covered[generation] = {"indexed": total - lag, "lag": lag, "kind": "exact" if last is None else "hnsw"}
        return covered

    def _covered(self, state: LocalState, generation: int) -> dict[str, int | str]:
        total, graph = state.stored(generation), state.vectors[generation].graph
        if not state.large(generation, self.graph_from) or not available():
            return {"indexed": total, "lag": 0, "kind": "exact"}
        if graph is None:
            return {"indexed": 0, "lag": total, "kind": "exact"}
        lag = lacked(graph, state.rows(generation))
        return {"indexed": total - lag, "lag": lag, "kind": "hnsw"}

    def damaged(self) -> dict[int, list[str]]:
        """See `base.Source`; reads every index file."""
        self._latest.catch_up()
        state = self.state()
        found = {generation: self._damaged(state, generation) for generation in state.vectors}
        return {generation: names for generation, names in found.items() if names}

    def _damaged(self, state: LocalState, generation: int) -> list[str]:
        vectors, folder = state.vectors[generation], self._latest.segment_folder(state.gallery.spaces[generation])
        if folder is None:
            return []
        loaded = {segment.name: segment for segment in vectors.segments}
        entries = {str(entry["name"]): entry for entry in vectors.manifest.segments}
        if folder.damaged():
            return [MANIFEST]
        names = [name for name, entry in entries.items() if name not in loaded or not folder.whole(loaded[name], entry)]
        for graph in graph_entries(vectors.manifest.graph) if available() else ():
            if vectors.graph is None or not graph_whole(folder, graph):
                names.append(str(graph.get("name")))
        # while a seal is under way rows go that no item tells of
        sealing = any(upgrade.state == "sealing" for upgrade in state.gallery.upgrades)
        with self.ledger.read() as reader:
            if not sealing and is_wrong(folder, reader, generation):
                self._distrusted.add(generation)
                names.append(str(vectors.manifest.items))
        return names

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
        found = replace(self, allowed=allowed).best({generation: queries}, k, lambda _, raw: raw, exact=exact)
        ends = np.searchsorted(found.query, np.arange(len(queries) + 1)).tolist()
        return [Neighbours(found.items[start:end], found.raw[start:end]) for start, end in pairwise(ends)]

    def best(self, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
        """See `base.Snapshot`."""
        mask = None
        if self.allowed is not None:
            mask = np.zeros(self.contents.served.count, dtype=np.bool_)
            mask[self.allowed] = True
        spaces = [self._space(generation, queries, mask) for generation, queries in asked.items()]
        least = max(self.graph_from, 20 * k)
        if exact or sum(one.live for one in spaces) < least:
            return nearest_of_all(spaces, k, key, exact=True)
        return nearest_of_all([self._walked(one, mask) for one in spaces], k, key, exact=False)

    def _space(self, generation: int, queries: Vectors, allowed: Bools | None) -> SpaceSearch:
        parts = self.contents.parts.get(generation, ())
        if cut := [part.segment.name for part in parts if part.live and part.segment.cut_short()]:
            raise DamagedFile(cut)
        if allowed is not None:
            parts = tuple(part.restricted(allowed) for part in parts)
        return SpaceSearch(generation, queries, parts, None)

    def _walked(self, one: SpaceSearch, allowed: Bools | None) -> SpaceSearch:
        """The search by way of the graph, where there is one with enough rows that may be found."""
        walk = self.contents.walk(one.generation) if one.live else None
        if walk is None or walk.places.graph.cut_short():
            return one
        walk = walk if allowed is None else walk.restricted(allowed)
        few = walk.live < max(few_rows(self.graph_from), LEAST_SHARE * len(walk.mask))
        return one if few else replace(one, walk=walk)

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        with self.ledger.read() as reader:
            return ids_of(reader, items)
