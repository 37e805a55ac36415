"""`Moment`: a gallery as its ledger had it at one revision, with the vectors that searches look at.

A moment never changes; the next one follows it and takes over all that still holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from samespace.gallery.index.exact import Bools, Part
from samespace.gallery.index.hnsw import Graph, load_graph
from samespace.gallery.index.segments import Manifest, Segment, SegmentFolder, joined, most_rows
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Ints, State
from samespace.gallery.serving import Generations, serving_generations
from samespace.space import Space

_PAGE = 4_096
_FEW = 2_000
_SPILL = 65_536
_SAMPLE = 32


@dataclass(frozen=True, eq=False)
class Holding:
    """Vectors of one space at hand.

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

    def but(self, names: Collection[str]) -> Holding:
        """Without these segments."""
        return replace(self, segments=tuple(segment for segment in self.segments if segment.name not in names))


@dataclass(frozen=True, eq=False)
class Moment:
    """A gallery at one revision.

    Attributes:
        state: everything but the items.
        tables: for each servable generation the vector row number of each item, by item number; 0 where it has none.
        serving: by item number the generation that serves it; 0 where none does.
        held: for each servable generation the vectors at hand.
        valid: for each of their segments which rows are current.
        parts: for each of their segments which rows are served.
    """

    state: State
    tables: Mapping[int, Ints]
    serving: Generations
    held: Mapping[int, Holding]
    valid: Mapping[int, tuple[Bools, ...]]
    parts: Mapping[int, tuple[Part, ...]]
    _masks: dict[int, Bools] = field(default_factory=dict)

    def live(self, generation: int) -> int:
        """How many items a space serves."""
        return sum(part.live for part in self.parts[generation])

    def graph_mask(self, generation: int) -> Bools:
        """Which rows of the approximate index of a space are served."""
        graph = self.held[generation].graph
        assert graph is not None
        if generation not in self._masks:
            current = _current(self.tables[generation], graph.numbers, graph.items)
            current[current] = self.serving[graph.items[current]] == generation
            self._masks[generation] = current
        return self._masks[generation]


Coverage = tuple[list[Bools], Ints]
ShelfOf = Callable[[Space], SegmentFolder | None]


def following(base: Moment | None, reader: LedgerReader, state: State, shelf_of: ShelfOf, *, spill: bool) -> Moment:
    """The moment that a view shows.

    Args:
        base: an earlier moment, what still holds is taken over.
        reader: of the ledger.
        state: as the view has it.
        shelf_of: where index files of a space lie, if anywhere.
        spill: write rows to index files where they are too many for memory.
    """
    count = reader.next_numbers()[0]
    changed = np.empty(0, dtype=np.int64) if base is None else reader.items_since(base.state.revision)[0]
    tables, held, valid = {}, {}, {}
    for generation in state.servable:
        table = tables[generation] = _table(base, reader, generation, changed, count)
        space = state.spaces[generation].space
        old = None if base is None else base.held.get(generation)
        hold = _Hold(reader, generation, space, shelf_of(space), table)
        held[generation], valid[generation] = hold.held(old, _unmoved(base, generation, table, changed), spill=spill)
    newest = serving_generations(tables, state.servable, count)
    parts = {
        generation: tuple(
            Part.of(segment, mask & (newest[np.minimum(segment.items, count - 1)] == generation))
            for segment, mask in zip(held[generation].all(), valid[generation], strict=True)
        )
        for generation in state.servable
    }
    return Moment(state, tables, newest, held, valid, parts)


def _table(base: Moment | None, reader: LedgerReader, generation: int, changed: Ints, count: int) -> Ints:
    known = None if base is None else base.tables.get(generation)
    table = np.zeros(count, dtype=np.int64)
    since = -1
    if known is not None and base is not None:
        if not len(changed) and len(known) == count:
            return known
        table[: len(known)] = known
        table[changed] = 0
        since = base.state.revision
    items, numbers = reader.row_numbers(generation, since)
    table[items] = numbers
    return table


def _current(table: Ints, numbers: Ints, items: Ints) -> Bools:
    """Which rows are the ones that the ledger has for their items."""
    inside = items < len(table)
    return np.asarray(inside & (table[np.where(inside, items, 0)] == numbers))


def covered_by(segments: Iterable[Segment], table: Ints) -> Coverage:
    """Which rows of each segment are current, each item in one segment only; and items that none of them has."""
    covered = np.zeros(len(table), dtype=np.bool_)
    masks = []
    for segment in segments:
        valid = _current(table, segment.numbers, segment.items)
        items = segment.items[valid]
        if covered[items].any():
            valid[valid] = ~covered[items]
            items = segment.items[valid]
        covered[items] = True
        masks.append(valid)
    return masks, np.flatnonzero((table > 0) & ~covered)


def _unmoved(base: Moment | None, generation: int, table: Ints, changed: Ints) -> Coverage | None:
    """What is known without a look at every row, because since `base` rows only came in."""
    if base is None or generation not in base.valid:
        return None
    before = np.zeros(len(changed), dtype=np.int64)
    old = changed < len(base.tables[generation])
    before[old] = base.tables[generation][changed[old]]
    now = table[changed]
    if ((before > 0) & (before != now)).any():
        return None
    return list(base.valid[generation]), changed[(now > 0) & (before == 0)]


class _Hold:
    """Brings the vectors of one space at hand: from memory, from index files, and what is missing from the ledger."""

    def __init__(
        self, reader: LedgerReader, generation: int, space: Space, segment_folder: SegmentFolder | None, table: Ints
    ) -> None:
        self.view, self.generation, self.space, self.segment_folder, self.table = (
            reader,
            generation,
            space,
            segment_folder,
            table,
        )

    def held(self, old: Holding | None, known: Coverage | None, *, spill: bool) -> tuple[Holding, tuple[Bools, ...]]:
        """All current rows of the space, and which rows of each segment are current.

        Args:
            old: what was at hand before.
            known: which rows of it are current and what it lacks, where that is clear already.
            spill: write rows to index files where they are too many for memory.
        """
        holding = self._opened(old)
        masks, missing = known if known and holding is old else covered_by(holding.all(), self.table)
        if spill and self.segment_folder is not None and len(missing) > _SPILL:
            holding = self._spilled(self.segment_folder, holding)
            masks, missing = covered_by(holding.all(), self.table)
        if len(missing):
            fresh = (*holding.fresh, *map(joined, self._read(missing)))
            holding = replace(holding, fresh=fresh)
            masks = masks + [
                _current(self.table, segment.numbers, segment.items)
                for segment in fresh[len(masks) - len(holding.segments) :]
            ]
        return self._settled(holding, masks)

    def _opened(self, old: Holding | None) -> Holding:
        """What is at hand after a look at the manifest."""
        if self.segment_folder is None or (old is not None and self.segment_folder.stamp() == old.manifest.stamp):
            return old or Holding()
        manifest = self.segment_folder.read()
        known = {segment.name: segment for segment in old.segments} if old else {}
        loaded = [known.get(entry.get("name", "")) or self.segment_folder.load(entry) for entry in manifest.segments]
        segments = tuple(segment for segment in loaded if segment is not None)
        graph = old.graph if old else None
        if graph is None or manifest.graph is None or graph.name != manifest.graph.get("name"):
            graph = load_graph(self.segment_folder, manifest.graph)
        # a ledger that was restored from a backup may have given a number to another vector since
        if manifest.upto >= self.view.next_numbers()[1] or not self._as_in_ledger(segments):
            segments, graph = (), None
        if graph is not None and not graph.fits(self.view.next_numbers()[1]):
            graph = None
        listed = {segment.name for segment in segments}
        kept = tuple(segment for segment in old.all() if segment.name not in listed or not segment.name) if old else ()
        return Holding(segments, kept, graph, manifest)

    def _as_in_ledger(self, segments: Sequence[Segment]) -> bool:
        """Whether the newest current rows, and some others, have the checksums that the ledger has."""
        numbers, items, checksums = [], [], []
        for segment in segments:
            places = np.flatnonzero(_current(self.table, segment.numbers, segment.items))
            places = np.unique(np.concatenate([places[-_SAMPLE:], places[:: max(1, len(places) // _SAMPLE)]]))
            numbers.append(segment.numbers[places])
            items.append(segment.items[places])
            checksums.append(segment.checksums[places])
        if not numbers:
            return True
        rows = self.view.rows_of(self.generation, np.unique(np.concatenate(items)))
        expected = dict(zip(rows.numbers.tolist(), rows.checksums.tolist(), strict=True))
        found = zip(np.concatenate(numbers).tolist(), np.concatenate(checksums).tolist(), strict=True)
        return all(expected.get(number) == checksum for number, checksum in found)

    def _spilled(self, segment_folder: SegmentFolder, holding: Holding) -> Holding:
        """Rows that are missing, written to index files; in memory where that does not work."""
        try:
            with segment_folder.locked():
                holding = self._opened(holding)
                missing = covered_by(holding.all(), self.table)[1]
                segments, entries = list(holding.segments), listed_entries(holding)
                for pages in self._read(missing):
                    segment, entry = segment_folder.save(*pages)
                    segments.append(segment)
                    entries.append(entry)
                manifest = segment_folder.write(entries, holding.manifest.graph if holding.graph else None)
                return replace(holding, segments=tuple(segments), manifest=manifest)
        except OSError:
            return holding

    def _read(self, missing: Ints) -> Iterator[list[Segment]]:
        """Rows of these items from the ledger, as pages of one segment after another."""
        if len(missing) <= _FEW:
            rows = self.view.rows_of(self.generation, missing)
            if len(rows.numbers):
                yield [Segment.of(rows, self.space)]
            return
        wanted = np.zeros(len(self.table), dtype=np.bool_)
        wanted[missing] = True
        pages: list[Segment] = []
        last, most = int(self.table[missing].min()) - 1, most_rows(self.space.dim)
        while len((rows := self.view.rows_after(self.generation, last, _PAGE)).numbers):
            last = int(rows.numbers[-1])
            page = Segment.of(rows, self.space)
            keep = wanted[page.items]
            if keep.any():
                pages.append(page if keep.all() else page.take(keep))
            if sum(map(len, pages)) >= most:
                yield pages
                pages = []
        if pages:
            yield pages

    def _settled(self, holding: Holding, masks: list[Bools]) -> tuple[Holding, tuple[Bools, ...]]:
        """Fresh segments without current rows dropped, and small ones joined so that they stay few."""
        many = len(holding.segments)
        fresh: list[tuple[Segment, Bools]] = []
        most = most_rows(self.space.dim)
        for segment, mask in zip(holding.fresh, masks[many:], strict=True):
            if not mask.any():
                continue
            fresh.append((segment, mask))
            while len(fresh) > 1 and len(fresh[-2][0]) < 2 * len(fresh[-1][0]):
                if len(fresh[-2][0]) + len(fresh[-1][0]) > most:
                    break
                pair = joined([part.take(chosen) for part, chosen in fresh[-2:]])
                fresh[-2:] = [(pair, np.ones(len(pair), dtype=np.bool_))]
        settled = replace(holding, fresh=tuple(segment for segment, _ in fresh))
        return settled, (*masks[:many], *(mask for _, mask in fresh))


def listed_entries(holding: Holding) -> list[dict[str, object]]:
    """Entries of the manifest whose segments are at hand, sound."""
    names = {segment.name for segment in holding.segments}
    return [entry for entry in holding.manifest.segments if entry.get("name") in names]
