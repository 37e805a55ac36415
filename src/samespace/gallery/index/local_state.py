"""`LocalState`: what a local search looks at, as of one revision of the ledger, and how the next revision's is made.

A state never changes; the next one takes over all that still holds.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from samespace.gallery.index.base import ServedRows
from samespace.gallery.index.exact import Bools, Part
from samespace.gallery.index.graph_files import load_graph
from samespace.gallery.index.hnsw import Graph
from samespace.gallery.index.segments import Manifest, Segment, SegmentFolder, joined, most_rows, read_segments
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Ints, State, StoredSpace

_SPILL = 65_536
_SAMPLE = 32


@dataclass(frozen=True, eq=False)
class SpaceVectors:
    """Vectors of one space, in memory or mapped from files.

    Attributes:
        segments: those that the manifest lists.
        fresh: rows that no listed segment has, in memory.
        graph: the approximate index, if there is one.
        manifest: as it was read.
    """

    segments: tuple[Segment, ...] = ()
    fresh: tuple[Segment, ...] = ()
    graph: Graph | None = None
    manifest: Manifest = field(default_factory=Manifest)

    def all(self) -> tuple[Segment, ...]:
        """Every segment."""
        return self.segments + self.fresh

    def without(self, names: Collection[str]) -> SpaceVectors:
        """The same but for the files of these names."""
        segments = tuple(segment for segment in self.segments if segment.name not in names)
        graph = None if self.graph is not None and self.graph.name in names else self.graph
        return replace(self, segments=segments, graph=graph)

    def entries(self) -> list[dict[str, object]]:
        """The manifest's entries of the segments that could be read."""
        names = {segment.name for segment in self.segments}
        return [entry for entry in self.manifest.segments if entry.get("name") in names]

    def write_manifest(self, folder: SegmentFolder, entries: Sequence[dict[str, object]]) -> Manifest:
        """Let these segments count from now on, with the present graph; the folder must be locked."""
        return folder.write(entries, self.manifest.graph if self.graph else None)


@dataclass(frozen=True, eq=False)
class LocalState:
    """A gallery as of one revision.

    Attributes:
        gallery: spaces, permissions, calibrations.
        served: which row of which space serves each item.
        vectors: of each servable generation.
        current: for each segment of these the rows that the ledger still has.
        parts: for each segment of these the rows that serve an item.
    """

    gallery: State
    served: ServedRows
    vectors: Mapping[int, SpaceVectors]
    current: Mapping[int, tuple[Bools, ...]]
    parts: Mapping[int, tuple[Part, ...]]
    _graph_masks: dict[int, Bools] = field(default_factory=dict)

    def live(self, generation: int) -> int:
        """How many items a space serves."""
        return sum(part.live for part in self.parts[generation])

    def stored(self, generation: int) -> int:
        """How many items have a current vector in a space."""
        return sum(int(np.count_nonzero(mask)) for mask in self.current[generation])

    def rows(self, generation: int) -> list[tuple[Segment, Bools]]:
        """Segments of a space with their current rows."""
        return list(zip(self.vectors[generation].all(), self.current[generation], strict=True))

    def graph_mask(self, generation: int) -> Bools:
        """Which rows of the approximate index of a space serve an item."""
        graph = self.vectors[generation].graph
        assert graph is not None
        if generation not in self._graph_masks:
            mask = _current(self.served.rows[generation], graph.numbers, graph.items)
            mask[mask] = self.served.serving[graph.items[mask]] == generation
            self._graph_masks[generation] = mask
        return self._graph_masks[generation]


_Masks = tuple[list[Bools], Ints]
"""For each segment its current rows; and the items whose row is in none of them."""


def _current(rows: Ints, numbers: Ints, items: Ints) -> Bools:
    """Which rows are the ones that the ledger has for their items."""
    inside = items < len(rows)
    return np.asarray(inside & (rows[np.where(inside, items, 0)] == numbers))


def _masks(segments: Iterable[Segment], rows: Ints) -> _Masks:
    """Which rows of each segment are current, each item in one segment only; and the items that none of them has."""
    covered = np.zeros(len(rows), dtype=np.bool_)
    masks = []
    for segment in segments:
        mask = _current(rows, segment.numbers, segment.items)
        items = segment.items[mask]
        if covered[items].any():
            mask[mask] = ~covered[items]
            items = segment.items[mask]
        covered[items] = True
        masks.append(mask)
    return masks, np.flatnonzero((rows > 0) & ~covered)


def _only_added(base: LocalState | None, generation: int, rows: Ints, changed: Ints) -> _Masks | None:
    """The masks without a look at every row, where no row of a space was replaced or removed since `base`."""
    if base is None or generation not in base.current:
        return None
    known = base.served.rows[generation]
    before = np.zeros(len(changed), dtype=np.int64)
    old = changed < len(known)
    before[old] = known[changed[old]]
    now = rows[changed]
    if ((before > 0) & (before != now)).any():
        return None
    return list(base.current[generation]), changed[(now > 0) & (before == 0)]


class _Loader:
    """Loads the vectors of one space: from memory, from index files, and what is missing from the ledger."""

    def __init__(self, reader: LedgerReader, kept: StoredSpace, folder: SegmentFolder | None, rows: Ints) -> None:
        self.reader, self.kept, self.folder, self.rows = reader, kept, folder, rows

    def load(
        self, old: SpaceVectors | None, known: _Masks | None, *, spill: bool
    ) -> tuple[SpaceVectors, tuple[Bools, ...]]:
        """Every current row of the space, and which rows of each segment are current.

        `known`: its masks, where they are known already. `spill`: write rows to index files where they are too many for
        memory.
        """
        vectors = self._opened(old)
        masks, missing = known if known and vectors is old else _masks(vectors.all(), self.rows)
        if spill and self.folder is not None and len(missing) > _SPILL:
            vectors = self._spilled(self.folder, vectors)
            masks, missing = _masks(vectors.all(), self.rows)
        if len(missing):
            fresh = (*vectors.fresh, *map(joined, self._read(missing)))
            vectors = replace(vectors, fresh=fresh)
            masks = masks + [
                _current(self.rows, segment.numbers, segment.items)
                for segment in fresh[len(masks) - len(vectors.segments) :]
            ]
        return self._settled(vectors, masks)

    def _opened(self, old: SpaceVectors | None) -> SpaceVectors:
        """What was loaded before, or what the manifest lists now where it has changed."""
        if self.folder is None or (old is not None and self.folder.stamp() == old.manifest.stamp):
            return old or SpaceVectors()
        manifest = self.folder.read()
        known = {segment.name: segment for segment in old.segments} if old else {}
        loaded = [known.get(entry.get("name", "")) or self.folder.load(entry) for entry in manifest.segments]
        segments = tuple(segment for segment in loaded if segment is not None)
        graph = old.graph if old else None
        if graph is None or manifest.graph is None or graph.name != manifest.graph.get("name"):
            graph = load_graph(self.folder, manifest.graph)
        # a ledger that was restored from a backup may have given a number to another vector since
        if manifest.upto >= self.reader.next_numbers()[1] or not self._as_in_ledger(segments):
            segments, graph = (), None
        if graph is not None and not graph.fits(self.reader.next_numbers()[1]):
            graph = None
        listed = {segment.name for segment in segments}
        kept = tuple(segment for segment in old.all() if segment.name not in listed or not segment.name) if old else ()
        return SpaceVectors(segments, kept, graph, manifest)

    def _as_in_ledger(self, segments: Sequence[Segment]) -> bool:
        """Whether the newest current rows, and some others, have the checksums that the ledger has."""
        numbers, items, checksums = [], [], []
        for segment in segments:
            places = np.flatnonzero(_current(self.rows, segment.numbers, segment.items))
            places = np.unique(np.concatenate([places[-_SAMPLE:], places[:: max(1, len(places) // _SAMPLE)]]))
            numbers.append(segment.numbers[places])
            items.append(segment.items[places])
            checksums.append(segment.checksums[places])
        if not numbers:
            return True
        rows = self.reader.rows_of(self.kept.generation, np.unique(np.concatenate(items)))
        expected = dict(zip(rows.numbers.tolist(), rows.checksums.tolist(), strict=True))
        pairs = zip(np.concatenate(numbers).tolist(), np.concatenate(checksums).tolist(), strict=True)
        return all(expected.get(number) == checksum for number, checksum in pairs)

    def _spilled(self, folder: SegmentFolder, vectors: SpaceVectors) -> SpaceVectors:
        """Rows that are missing, written to index files; in memory where that does not work."""
        try:
            with folder.locked():
                vectors = self._opened(vectors)
                missing = _masks(vectors.all(), self.rows)[1]
                segments, entries = list(vectors.segments), vectors.entries()
                for pages in self._read(missing):
                    segment, entry = folder.save(*pages)
                    segments.append(segment)
                    entries.append(entry)
                manifest = vectors.write_manifest(folder, entries)
                return replace(vectors, segments=tuple(segments), manifest=manifest)
        except OSError:
            return vectors

    def _read(self, missing: Ints) -> Iterator[list[Segment]]:
        """Rows of these items from the ledger, as lists of pages; each list fits one segment."""
        pages: list[Segment] = []
        for page in read_segments(self.reader, self.kept, missing, self.rows):
            pages.append(page)
            if sum(map(len, pages)) >= most_rows(self.kept.space.dim):
                yield pages
                pages = []
        if pages:
            yield pages

    def _settled(self, vectors: SpaceVectors, masks: list[Bools]) -> tuple[SpaceVectors, tuple[Bools, ...]]:
        """Fresh segments without current rows dropped, and small ones joined so that they stay few."""
        listed = len(vectors.segments)
        fresh: list[tuple[Segment, Bools]] = []
        most = most_rows(self.kept.space.dim)
        for segment, mask in zip(vectors.fresh, masks[listed:], strict=True):
            if not mask.any():
                continue
            fresh.append((segment, mask))
            while len(fresh) > 1 and len(fresh[-2][0]) < 2 * len(fresh[-1][0]):
                if len(fresh[-2][0]) + len(fresh[-1][0]) > most:
                    break
                pair = joined([part.take(chosen) for part, chosen in fresh[-2:]])
                fresh[-2:] = [(pair, np.ones(len(pair), dtype=np.bool_))]
        settled = replace(vectors, fresh=tuple(segment for segment, _ in fresh))
        return settled, (*masks[:listed], *(mask for _, mask in fresh))


class LatestState:
    """The newest state of a local index, kept for the searches to come; safe to use from several threads.

    `folder`: where index files go, one folder per space; None keeps everything in memory.
    """

    def __init__(self, ledger: Ledger, folder: Path | None) -> None:
        self.ledger, self.folder = ledger, folder
        self.known: LocalState | None = None
        self._checked = set[str]()
        self._guard = threading.Lock()
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
            yield state, reader

    def now(self) -> LocalState:
        """The gallery now."""
        with self.read() as (state, _):
            return state

    def following(self, base: LocalState | None, reader: LedgerReader, *, spill: bool = False) -> LocalState:
        """The state at the revision of a reader.

        `base`: an earlier state; what still holds of it is taken over. `spill`: write rows to index files where they
        are too many for memory.
        """
        gallery = reader.state(None if base is None else base.gallery)
        if base is not None and base.gallery.revision > gallery.revision:
            # the ledger was restored from a backup
            base = None
        changed = np.empty(0, dtype=np.int64) if base is None else reader.items_since(base.gallery.revision)[0]
        served = ServedRows.read(reader, gallery, None if base is None else base.served, changed)
        vectors, current, parts = {}, {}, {}
        for generation, rows in served.rows.items():
            kept = gallery.spaces[generation]
            loader = _Loader(reader, kept, self.segment_folder(kept), rows)
            old = None if base is None else base.vectors.get(generation)
            known = _only_added(base, generation, rows, changed)
            vectors[generation], current[generation] = loader.load(old, known, spill=spill)
            parts[generation] = tuple(
                Part.of(segment, mask & (served.serving[np.minimum(segment.items, len(rows) - 1)] == generation))
                for segment, mask in zip(vectors[generation].all(), current[generation], strict=True)
            )
        return LocalState(gallery, served, vectors, current, parts)

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
                current={other: masks for other, masks in self.known.current.items() if other != generation},
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
                graph = manifest.graph if manifest.graph and manifest.graph.get("name") not in names else None
                folder.write([entry for entry in manifest.segments if entry["name"] not in names], graph)
        self.use(generation, known.vectors[generation].without(names), dropped=names)

    def forget(self) -> None:
        """Let go of every segment."""
        with self._guard:
            self.known = None

    def _known_at(self, reader: LedgerReader) -> LocalState | None:
        """The latest state, if it is of the revision that a reader sees."""
        known = self.known
        return known if known is not None and known.gallery.revision == reader.revision() else None
