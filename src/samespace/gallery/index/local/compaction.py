"""Compaction of a local index: rows from memory to files, served rows apart from others, few segments, fresh graphs."""

from __future__ import annotations

import errno
import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.base import Advance
from samespace.gallery.index.exact import Part
from samespace.gallery.index.local.graph_files import graph_whole, save_graph
from samespace.gallery.index.local.hnsw import Graph, available, few_rows, grown, lacked
from samespace.gallery.index.local.loading import SpaceVectors
from samespace.gallery.index.local.served_files import is_due, save_served
from samespace.gallery.index.local.state import LatestState, LocalState
from samespace.gallery.index.manifest import graph_entries, with_served
from samespace.gallery.index.segments import Segment, SegmentFolder, joined, most_rows

FLUSH = 8_192

_DEAD, _LIVE = 0.05, 0.92
_GONE = 0.3
_SMALL = 16_384
_TOGETHER = 4
_LAG = 0.05
_CHECKED_AT_ONCE = 256 * 2**20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of the segments of a space.

    Attributes:
        kept: segments that stay.
        made: for each new segment the rows that it takes over.
        fresh: segments that stay in memory.
    """

    kept: tuple[Segment, ...]
    made: tuple[tuple[Part, ...], ...]
    fresh: tuple[Segment, ...]


def plan(state: LocalState, generation: int, *, scanned: bool) -> Plan:
    """Which segments to write anew.

    Where searches scan, a segment of which between 5 and 92 % is served is split into the rows that are and the rows
    that are not: the scan then passes over the latter at no cost, and they stay on disk, so that a rollback needs no
    rebuilding. Where searches walk graphs it stays whole, as splitting would write every vector several times in a
    backfill. Fresh rows become a segment when they are many, and small segments of one kind are joined.
    """
    vectors, listed = state.vectors[generation], len(state.vectors[generation].segments)
    flush = sum(int(np.count_nonzero(mask)) for _, mask in state.rows(generation)[listed:]) >= FLUSH
    kept: list[Segment] = []
    loose: dict[bool, list[Part]] = {True: [], False: []}
    small: dict[bool, list[Part]] = {True: [], False: []}
    for place, (segment, mask) in enumerate(state.rows(generation)[: None if flush else listed]):
        served, current = state.parts[generation][place], Part.of(segment, mask)
        share = served.live / max(1, current.live)
        if place >= listed or (scanned and _DEAD <= share <= _LIVE) or current.live < (1 - _GONE) * len(segment):
            loose[True].append(served)
            loose[False].append(Part.of(segment, mask & ~served.alive()))
        elif current.live < _SMALL:
            small[share > _LIVE].append(current)
        else:
            kept.append(segment)
    made: list[tuple[Part, ...]] = []
    for kind in (True, False):
        parts = [part for part in loose[kind] if part.live]
        # a few small segments cost nothing; joining them each time would write the same rows again and again
        if len(small[kind]) + sum(part.live < _SMALL for part in parts) >= _TOGETHER:
            parts += small[kind]
        else:
            kept += [part.segment for part in small[kind]]
        made += _grouped(parts, most_rows(state.gallery.spaces[generation].space.dim))
    return Plan(tuple(kept), tuple(made), () if flush else vectors.fresh)


def _grouped(parts: Sequence[Part], most: int) -> list[tuple[Part, ...]]:
    """Neighbours in row numbers together, so that a group is no larger than a segment may be."""
    groups: list[list[Part]] = []
    for part in sorted(parts, key=lambda part: int(part.segment.numbers[np.argmax(part.alive())])):
        if groups and sum(other.live for other in groups[-1]) + part.live <= most:
            groups[-1].append(part)
        else:
            groups.append([part])
    return [tuple(group) for group in groups]


class Compaction:
    """One round of compaction; rounds on one index must take turns.

    `graph_from`: from how many live rows on a space gets an approximate index. `advance`: called while an approximate
    index is built; see `base.Source`.
    """

    def __init__(self, latest: LatestState, graph_from: int, advance: Advance) -> None:
        self.latest, self.graph_from, self.advance = latest, graph_from, advance

    def run(self) -> None:
        """Bring every servable space up to date, and remove the files of retired ones.

        Raises:
            GalleryError: files cannot be written, for instance because the disk is full.
        """
        self.latest.catch_up()
        gallery = self.latest.now().gallery
        for stored in gallery.spaces.values():
            if stored.retired and (folder := self.latest.segment_folder(stored)) is not None:
                shutil.rmtree(folder.path, ignore_errors=True)
        for generation in gallery.servable:
            folder = self.latest.segment_folder(gallery.spaces[generation])
            try:
                if folder is not None:
                    self._drop_damaged(generation, folder)
                self._rewrite(generation, folder)
                if folder is not None:
                    self._save_served(generation, folder)
                self._build_graph(generation, folder)
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    place = error.filename2 or error.filename or self.latest.folder
                    step = "make room" if error.errno in _FULL else "move away what is there"
                    raise GalleryError(
                        f"index files cannot be written: {place} ({error.strerror}); searches answer as before, only "
                        f"slower; {step} and maintain again"
                    ) from None

    def _drop_damaged(self, generation: int, folder: SegmentFolder) -> None:
        """Drop files of which a byte is not what was written; each is looked at once, 256 MiB in one round."""
        state = self.latest.known
        if state is None or generation not in state.vectors:
            return
        vectors, read = state.vectors[generation], 0
        entries = {str(entry["name"]): entry for entry in vectors.manifest.segments}
        damaged = set()
        # by chance, so that commands that end after one round look at all files in the long run
        for segment in random.sample(vectors.segments, len(vectors.segments)):
            if segment.name in folder.sound or read >= _CHECKED_AT_ONCE:
                continue
            read += segment.values.nbytes
            if not folder.whole(segment, entries[segment.name]):
                damaged.add(segment.name)
        for graph in graph_entries(vectors.manifest.graph) if vectors.graph else ():
            if str(graph["name"]) not in folder.sound and read < _CHECKED_AT_ONCE:
                damaged |= set() if graph_whole(folder, graph) else {str(graph["name"])}
        if damaged:
            self.latest.drop(generation, damaged)

    def _rewrite(self, generation: int, folder: SegmentFolder | None) -> None:
        """Write segments as planned."""
        with nullcontext() if folder is None else folder.locked():
            base = self.latest.known
            with self.latest.ledger.read() as reader:
                # nothing may be spilled to files here, as that would wait for the lock
                state = self.latest.following(base, reader)
            if generation not in state.vectors:
                return
            scanned = not (available() and state.large(generation, self.graph_from))
            vectors, planned = state.vectors[generation], plan(state, generation, scanned=scanned)
            as_written = len(vectors.entries()) == len(vectors.manifest.segments)
            if not planned.made and as_written and not (folder is not None and folder.damaged()):
                return
            written = _carry_out(planned, vectors, folder)
        self.latest.use(generation, written)

    def _save_served(self, generation: int, folder: SegmentFolder) -> None:
        """Write the row numbers of a space's items where many have changed since they were written."""
        state = self.latest.known
        if state is None or generation not in state.vectors or state.served.count < FLUSH:
            return
        most = int(max(FLUSH, _LAG * state.served.count))
        # while a seal is under way rows go without a word
        sealing = any(upgrade.state == "sealing" for upgrade in state.gallery.upgrades)
        with self.latest.ledger.read() as reader:
            if sealing or not is_due(folder, reader, generation, most):
                return
        with folder.locked(), self.latest.ledger.read() as reader:
            # nothing may be spilled to files here, as that would wait for the lock
            state = self.latest.following(self.latest.known, reader)
            if generation in state.served.rows and is_due(folder, reader, generation, most):
                save_served(folder, self.latest.ledger, state.served, generation, reader.next_numbers()[1])

    def _build_graph(self, generation: int, folder: SegmentFolder | None) -> None:
        """Build or extend the approximate index of a space that is large enough for one."""
        state = self.latest.now()
        if generation not in state.vectors or not available() or not state.large(generation, self.graph_from):
            return
        old, rows, stored = state.vectors[generation].graph, state.rows(generation), state.stored(generation)
        if old is not None:
            lag = lacked(old, rows)
            gone = len(old.numbers) + lag - stored
            if lag < max(FLUSH // 8, _LAG * stored) and gone < _GONE * len(old.numbers):
                self._build_served(state, old, generation, folder)
                return
            old = None if gone >= _GONE * len(old.numbers) else old
        # the lock is not held while the graph is built, which may take minutes
        graph = grown(old, rows, state.gallery.spaces[generation].space.dim, self._told(state, generation))
        self._put(state, generation, folder, graph)

    def _build_served(self, state: LocalState, graph: Graph, generation: int, folder: SegmentFolder | None) -> None:
        """Build a graph of the rows that serve where the others are more: to walk past these would cost too much.

        The graph of all rows stays, for a rollback. Where it lacks rows that serve again, or none do, it is dropped.
        """
        walk, live = state.walk(generation), state.live(generation)
        used = graph if walk is None else walk.places.graph
        if live >= few_rows(self.graph_from) and 2 * live < len(used.numbers):
            rows = [(part.segment, part.alive()) for part in state.parts[generation] if part.live]
            dim, told = state.gallery.spaces[generation].space.dim, self._told(state, generation)
            self._put(state, generation, folder, replace(graph, served=grown(None, rows, dim, told)))
        elif graph.served is not None and (used is graph or not live):
            self._put(state, generation, folder, replace(graph, served=None))

    def _told(self, state: LocalState, generation: int) -> Callable[[int, int, int], None]:
        space = state.gallery.spaces[generation].space

        def told(more: int, done: int, total: int) -> None:
            self.advance(more, f"building the index of {space.name or space.id}: {done:,} of {total:,} vectors")

        return told

    def _put(self, state: LocalState, generation: int, folder: SegmentFolder | None, graph: Graph) -> None:
        """Let searches use a graph; what of it is not in files is written, unless another process came first."""
        vectors = state.vectors[generation]
        if folder is not None:
            with folder.locked():
                manifest, entry, served = folder.read(), vectors.manifest.graph, None
                if manifest.graph != entry:
                    return
                made = graph.served
                if made is not None:
                    made, served = save_graph(folder, made)
                if not graph.name or entry is None:
                    graph, entry = save_graph(folder, graph)
                graph = replace(graph, served=made)
                folder.write(manifest.segments, with_served(entry, served), items=manifest.items)
        self.latest.use(generation, replace(vectors, graph=graph))


def _carry_out(planned: Plan, vectors: SpaceVectors, folder: SegmentFolder | None) -> SpaceVectors:
    """The vectors of a space after a plan; segments are written where there is a folder, which must be locked."""
    segments = list(planned.kept)
    names = {segment.name for segment in segments}
    entries = [entry for entry in vectors.entries() if entry["name"] in names]
    for group in planned.made:
        rows = [part.rows() for part in group]
        if folder is None:
            segments.append(joined(rows))
        else:
            segment, entry = folder.save(*rows)
            segments.append(segment)
            entries.append(entry)
    manifest = vectors.manifest if folder is None else vectors.write_manifest(folder, entries)
    return replace(vectors, segments=tuple(segments), fresh=planned.fresh, manifest=manifest)
