"""`LocalState`: what a local search looks at, as of one revision of the ledger, and how the next revision's is made.

A state never changes; the next one takes over all that still holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from samespace.errors import SamespaceError
from samespace.gallery.index.exact import Bools, Part
from samespace.gallery.index.local.graph_files import load_graph
from samespace.gallery.index.local.hnsw import Graph, few_rows
from samespace.gallery.index.local.loading import Loader, SpaceVectors
from samespace.gallery.index.local.placing import Change, Placed, current_rows
from samespace.gallery.index.local.served_files import load_served
from samespace.gallery.index.local.walk import Places, Walk, placed_rows
from samespace.gallery.index.manifest import graph_entries, with_served
from samespace.gallery.index.segments import Segment, SegmentFolder
from samespace.gallery.index.served import Known, ServedRows
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State, StoredSpace
from samespace.gallery.ledger.transactions.reader import LedgerReader

_LOOK_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class LocalState:
    """A gallery as of one revision.

    Attributes:
        gallery: spaces, permissions, calibrations.
        served: which row of which space serves each item.
        vectors: of each servable generation.
        placed: for each segment of these the rows that count.
    """

    gallery: State
    served: ServedRows
    vectors: Mapping[int, SpaceVectors]
    placed: Mapping[int, tuple[Placed, ...]]
    _graph_masks: dict[Graph, Bools] = field(default_factory=dict)
    _places: dict[Graph, Places] = field(default_factory=dict)
    _walks: dict[int, Walk | None] = field(default_factory=dict)

    def live(self, generation: int) -> int:
        """How many items a space serves."""
        return sum(one.part.live for one in self.placed[generation])

    @cached_property
    def parts(self) -> dict[int, tuple[Part, ...]]:
        """For each segment of a generation the rows that serve an item."""
        return {generation: tuple(one.part for one in placed) for generation, placed in self.placed.items()}

    def stored(self, generation: int) -> int:
        """How many items have a current vector in a space."""
        return sum(int(np.count_nonzero(one.current)) for one in self.placed[generation])

    def large(self, generation: int, graph_from: int) -> bool:
        """Whether a space gets an approximate index: where it has `graph_from` rows, or a fair share of so many."""
        rows = max(self.stored(generation), sum(self.live(one) for one in self.placed))
        return rows >= graph_from and self.stored(generation) >= few_rows(graph_from)

    def rows(self, generation: int) -> list[tuple[Segment, Bools]]:
        """Segments of a space with their current rows."""
        return [(one.segment, one.current) for one in self.placed[generation]]

    def changes(self, served: ServedRows) -> dict[int, Change]:
        """What became of the rows of each space until a later reading."""
        return {one: Change.between(self.served.rows[one], served, one) for one in self.placed}

    def walk(self, generation: int) -> Walk | None:
        """The approximate index of a space over the rows that serve items; None where there is none that has them."""
        if generation not in self._walks:
            graph = self.vectors[generation].graph
            walks = (self._walk(one, generation) for one in (graph.both()[::-1] if graph else ()))
            self._walks[generation] = next((walk for walk in walks if walk is not None), None)
        return self._walks[generation]

    def _walk(self, graph: Graph, generation: int) -> Walk | None:
        parts = self.parts[generation]
        if graph not in self._graph_masks:
            mask = current_rows(self.served.rows[generation], graph.numbers, graph.items)
            mask[mask] = self.served.serving_of(graph.items[mask]) == generation
            self._graph_masks[graph] = mask
        self._places[graph] = placed_rows(graph, parts, self._places.get(graph))
        return Walk.over(self._places[graph], self._graph_masks[graph], parts)


class LatestState:
    """The newest state of a local index, kept for the searches to come; safe to use from several threads.

    `folder`: where index files go, one folder per space; None keeps everything in memory.
    """

    def __init__(self, ledger: Ledger, folder: Path | None) -> None:
        self.ledger, self.folder = ledger, folder
        self.known: LocalState | None = None
        self._checked = set[str]()
        self._guard, self._catching_up = threading.Lock(), threading.Lock()
        self._seen: dict[int, list[str]] = {}
        self._loading: threading.Thread | None = None
        self._look_at = 0.0
        with ledger.read() as reader:
            self._gallery = reader.meta("gallery") or ""

    @contextmanager
    def read(self) -> Iterator[tuple[LocalState, LedgerReader]]:
        """The gallery now, and a reader of the ledger at the same revision."""
        with ExitStack() as stack:
            reader = stack.enter_context(self.ledger.read())
            state = self._known_at(reader)
            if state is None:
                stack.close()
                with self._guard:
                    # opened while no other thread can go ahead, so that it is not behind what is known
                    reader = stack.enter_context(self.ledger.read())
                    state = self._known_at(reader)
                    if state is None:
                        state = self.known = self.following(self.known, reader, spill=not self.ledger.read_only)
                        self._look_at = 0.0
            if time.monotonic() >= self._look_at:
                self._catch_up_later(state)
            yield state, reader

    def now(self) -> LocalState:
        """The gallery now."""
        with self.read() as (state, _):
            return state

    def catch_up(self) -> None:
        """Use the index files that others have written since; searches go on with those from before meanwhile."""
        with self._catching_up:
            for generation in self._behind(self.now()):
                self._reopen(generation)

    def _reopen(self, generation: int) -> None:
        """Look at the manifest of a space again, and load the approximate index that it lists."""
        known = self.known
        if known is None or generation not in known.vectors:
            return
        self.use(generation, known.vectors[generation])
        known = self.known
        # another thread may have followed a rollback since, and not have the space any more
        if known is None or generation not in known.vectors:
            return
        folder = self.segment_folder(known.gallery.spaces[generation])
        if folder is None or not (names := known.vectors[generation].newer_graph()):
            return
        self._seen[generation] = names
        graph = load_graph(folder, known.vectors[generation].manifest.graph)
        with self.ledger.read() as reader:
            fits = graph is not None and graph.fits(reader.next_numbers()[1])
        if fits and (known := self.known) is not None and generation in known.vectors:
            self.use(generation, replace(known.vectors[generation], graph=graph))

    def _behind(self, state: LocalState) -> list[int]:
        """Spaces of which others have written index files that are not used yet, but for those that cannot be."""
        found = []
        for generation, vectors in state.vectors.items():
            folder, names = self.segment_folder(state.gallery.spaces[generation]), vectors.newer_graph()
            if folder is not None and (
                folder.stamp() != vectors.manifest.stamp or (names and names != self._seen.get(generation))
            ):
                found.append(generation)
        return found

    def _catch_up_later(self, state: LocalState) -> None:
        """Catch up in a thread of its own, where there is something to catch up with."""
        self._look_at = time.monotonic() + _LOOK_SECONDS
        if self._behind(state) and (self._loading is None or not self._loading.is_alive()):
            self._loading = threading.Thread(target=self._catch_up_quietly, name="index", daemon=True)
            self._loading.start()

    def _catch_up_quietly(self) -> None:
        # where the gallery was closed meanwhile, or its files cannot be read, searches go on as before
        with suppress(SamespaceError, OSError):
            self.catch_up()

    def following(self, base: LocalState | None, reader: LedgerReader, *, spill: bool = False) -> LocalState:
        """The state at the revision of a reader.

        `base`: an earlier state; what still holds of it is taken over. `spill`: write rows to index files where they
        are too many for memory.
        """
        gallery = reader.state(None if base is None else base.gallery)
        if base is not None and base.gallery.revision > gallery.revision:
            # the ledger was restored from a backup
            base = None
        served = ServedRows.read(reader, gallery, self._rows_before(base, reader, gallery))
        if base is not None and (
            base.gallery.servable != gallery.servable or base.gallery.revision < reader.rows_deleted()
        ):
            base = replace(base, placed={})
        changes = {} if base is None else base.changes(served)
        vectors, placed = {}, {}
        masks: dict[Graph, Bools] = {}
        places: dict[Graph, Places] = {}
        for generation in gallery.servable:
            kept, change = gallery.spaces[generation], changes.get(generation)
            old = None if base is None else base.vectors.get(generation)
            known = None if base is None or change is None else (base.placed[generation], change)
            loader = Loader(reader, kept, self.segment_folder(kept), served)
            vectors[generation], placed[generation] = loader.load(old, known, spill=spill)
            graph = vectors[generation].graph
            if base is not None and change is not None and graph is not None:
                taken = [one for one in graph.both() if one in base._places]
                places |= {one: base._places[one] for one in taken}
                masks |= {one: change.in_mask(base._graph_masks[one], one.numbers) for one in taken}
        return LocalState(gallery, served, vectors, placed, masks, places)

    def _rows_before(self, base: LocalState | None, reader: LedgerReader, gallery: State) -> Known:
        """Rows of items as of an earlier revision: of `base`, else as they lie beside the index files."""
        known = {} if base is None else dict(base.served.known())
        for generation in set(gallery.servable) - set(known):
            folder = self.segment_folder(gallery.spaces[generation])
            found = None if folder is None else load_served(folder, reader, generation)
            if found is not None:
                known[generation] = found
        return known

    def segment_folder(self, kept: StoredSpace) -> SegmentFolder | None:
        """Where index files of a space lie; None where everything is in memory."""
        if self.folder is None:
            return None
        place = self.folder / kept.space.id
        return SegmentFolder(place, self._gallery, kept.space, self._checked, score=kept.score)

    def use(self, generation: int, vectors: SpaceVectors, *, dropped: Collection[str] = ()) -> None:
        """Let searches use other segments, but none `dropped` by name, or another graph; newer rows are kept."""
        with self._guard:
            if self.known is None or generation not in self.known.vectors:
                return
            present = self.known.vectors[generation].all()
            fresh = present if self.folder is not None else (*vectors.fresh, *present)
            kept = tuple(segment for segment in fresh if not segment.name or segment.name not in dropped)
            base = replace(
                self.known,
                vectors={**self.known.vectors, generation: replace(vectors, fresh=kept)},
                placed={other: placed for other, placed in self.known.placed.items() if other != generation},
            )
            with self.ledger.read() as reader:
                self.known = self.following(base, reader)

    def drop(self, generation: int, names: Collection[str]) -> None:
        """Search without files that are damaged, and let the manifest list them no more where it can be written."""
        known = self.known
        if known is None or generation not in known.vectors:
            return
        folder = self.segment_folder(known.gallery.spaces[generation])
        if folder is not None and not self.ledger.read_only:
            with suppress(OSError), folder.locked():
                manifest = folder.read()
                graphs = [entry for entry in graph_entries(manifest.graph) if entry.get("name") not in names]
                graph = None if graphs[:1] != [manifest.graph] else with_served(*graphs)
                entries = [entry for entry in manifest.segments if entry["name"] not in names]
                folder.write(entries, graph, items=manifest.items)
        self.use(generation, known.vectors[generation].without(names), dropped=names)

    def forget(self) -> None:
        """Let go of every segment."""
        if self._loading is not None:
            self._loading.join()
        with self._guard:
            self.known = None

    def _known_at(self, reader: LedgerReader) -> LocalState | None:
        """The latest state, if it is of the revision that a reader sees."""
        known = self.known
        return known if known is not None and known.gallery.revision == reader.revision() else None
