"""Loading the vectors of one space: from memory, from index files, and what is missing from the ledger."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from samespace.gallery.index.exact import Bools
from samespace.gallery.index.local.graph_files import load_graph
from samespace.gallery.index.local.hnsw import Graph
from samespace.gallery.index.local.placing import Change, Placed, current_rows, place_after, place_anew
from samespace.gallery.index.manifest import Manifest, graph_entries
from samespace.gallery.index.segments import (
    Segment,
    SegmentFolder,
    joined,
    most_rows,
    read_segments,
)
from samespace.gallery.index.served import ServedRows
from samespace.gallery.ledger.state import Ints, StoredSpace
from samespace.gallery.ledger.transactions.reader import LedgerReader

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
        graph = self.graph
        if graph is not None and graph.served is not None and graph.served.name in names:
            graph = replace(graph, served=None)
        return replace(self, segments=segments, graph=None if graph is None or graph.name in names else graph)

    def newer_graph(self) -> list[str]:
        """Names of the approximate index that the manifest lists, where another one is loaded; empty otherwise."""
        listed = [str(entry.get("name")) for entry in graph_entries(self.manifest.graph)]
        return [] if self.graph is not None and [one.name for one in self.graph.both()] == listed else listed

    def entries(self) -> list[dict[str, object]]:
        """The manifest's entries of the segments that could be read."""
        names = {segment.name for segment in self.segments}
        return [entry for entry in self.manifest.segments if entry.get("name") in names]

    def write_manifest(self, folder: SegmentFolder, entries: Sequence[dict[str, object]]) -> Manifest:
        """Let these segments count from now on, with the present graph; the folder must be locked."""
        return folder.write(entries, self.manifest.graph if self.graph else None, items=self.manifest.items)


class Loader:
    """Loads the vectors of one space as of the revision of a reader; `served`: which rows its items have then."""

    def __init__(
        self, reader: LedgerReader, kept: StoredSpace, folder: SegmentFolder | None, served: ServedRows
    ) -> None:
        self.reader, self.kept, self.folder, self.served = reader, kept, folder, served
        self.rows = served.rows[kept.generation]

    def load(
        self, old: SpaceVectors | None, known: tuple[Sequence[Placed], Change] | None, *, spill: bool
    ) -> tuple[SpaceVectors, tuple[Placed, ...]]:
        """Every current row of the space, and which rows of each segment count.

        `old`: what was loaded for an earlier revision. `known`: which of its rows counted then, and what changed since.
        `spill`: write rows to index files where they are too many for memory.
        """
        vectors = self._opened(old)
        same = known and [one.segment for one in known[0]] == list(vectors.all())
        placed, missing = place_after(*known) if known and same else self._placed(vectors)
        if spill and self.folder is not None and len(missing) > _SPILL:
            vectors = self._spilled(self.folder, vectors)
            placed, missing = self._placed(vectors)
        for pages in self._read(missing):
            segment = joined(pages)
            vectors = replace(vectors, fresh=(*vectors.fresh, segment))
            placed.append(self._place(segment, current_rows(self.rows, segment.numbers, segment.items)))
        return self._settled(vectors, placed)

    def _placed(self, vectors: SpaceVectors) -> tuple[list[Placed], Ints]:
        return place_anew(vectors.all(), self.served, self.kept.generation)

    def _place(self, segment: Segment, current: Bools) -> Placed:
        return Placed.of(segment, current, self.served, self.kept.generation)

    def _opened(self, old: SpaceVectors | None) -> SpaceVectors:
        """What was loaded before, or what the manifest lists now where it has changed."""
        if self.folder is None or (old is not None and self.folder.stamp() == old.manifest.stamp):
            return old or SpaceVectors()
        manifest = self.folder.read()
        known = {segment.name: segment for segment in old.segments} if old else {}
        loaded = [known.get(entry.get("name", "")) or self.folder.load(entry) for entry in manifest.segments]
        segments = tuple(segment for segment in loaded if segment is not None)
        # a search does not wait for an index that others have built since: see LatestState.catch_up
        graph = old.graph if old and manifest.graph else load_graph(self.folder, manifest.graph)
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
            places = np.flatnonzero(current_rows(self.rows, segment.numbers, segment.items))
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
                missing = self._placed(vectors)[1]
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

    def _settled(self, vectors: SpaceVectors, placed: Sequence[Placed]) -> tuple[SpaceVectors, tuple[Placed, ...]]:
        """Fresh segments without current rows dropped, and small ones joined so that they stay few."""
        listed = len(vectors.segments)
        fresh: list[Placed] = []
        most = most_rows(self.kept.space.dim)
        for one in placed[listed:]:
            if not one.current.any():
                continue
            fresh.append(one)
            while len(fresh) > 1 and len(fresh[-2].segment) < 2 * len(fresh[-1].segment):
                if len(fresh[-2].segment) + len(fresh[-1].segment) > most:
                    break
                pair = joined([one.segment.take(one.current) for one in fresh[-2:]])
                fresh[-2:] = [self._place(pair, np.ones(len(pair), dtype=np.bool_))]
        settled = replace(vectors, fresh=tuple(one.segment for one in fresh))
        return settled, (*placed[:listed], *fresh)
