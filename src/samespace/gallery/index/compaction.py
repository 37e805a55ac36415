"""Upkeep of local indexes: rows from memory to files, live rows apart from dead ones, few segments, fresh graphs."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.base import News
from samespace.gallery.index.exact import Bools
from samespace.gallery.index.hnsw import available, grown, lacked, save_graph
from samespace.gallery.index.moment import Holding, Moment, following, listed_entries
from samespace.gallery.index.segments import Segment, SegmentFolder, joined, most_rows

if TYPE_CHECKING:
    from samespace.gallery.index.local import LocalSource

FLUSH = 8_192

_DEAD, _LIVE = 0.05, 0.92
_GONE = 0.3
_SMALL = 16_384
_TOGETHER = 4
_LAG = 0.05
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True, eq=False)
class _Piece:
    """Rows of a segment that a new segment takes over."""

    segment: Segment
    mask: Bools

    def __len__(self) -> int:
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of the segments of a space.

    Attributes:
        kept: segments that stay.
        made: for each new segment the rows that it takes over.
        fresh: segments that stay in memory.
    """

    kept: tuple[Segment, ...]
    made: tuple[tuple[_Piece, ...], ...]
    fresh: tuple[Segment, ...]


def plan(moment: Moment, generation: int) -> Plan:
    """Which segments to write anew.

    A segment of which between 5 and 92 % is served is split into the rows that are and the rows that are not: the scan
    then passes over the latter at no cost, and they stay on disk, so that a rollback needs no rebuilding. Fresh rows
    become a segment when they are many, and small segments of one kind are joined.
    """
    holding, valid, parts = moment.held[generation], moment.valid[generation], moment.parts[generation]
    listed = len(holding.segments)
    fresh = [_Piece(segment, mask) for segment, mask in zip(holding.fresh, valid[listed:], strict=True)]
    flush = sum(map(len, fresh)) >= FLUSH
    kept: list[Segment] = []
    loose: dict[bool, list[_Piece]] = {True: [], False: []}
    small: dict[bool, list[_Piece]] = {True: [], False: []}
    for place, segment in enumerate(holding.all()):
        if place >= listed and not flush:
            break
        mask, alive = valid[place], parts[place].alive()
        current = int(np.count_nonzero(mask))
        share = parts[place].live / max(1, current)
        if place >= listed or _DEAD <= share <= _LIVE or current < (1 - _GONE) * len(segment):
            loose[True].append(_Piece(segment, alive))
            loose[False].append(_Piece(segment, mask & ~alive))
        elif current < _SMALL:
            small[share > _LIVE].append(_Piece(segment, mask))
        else:
            kept.append(segment)
    made: list[tuple[_Piece, ...]] = []
    for kind in (True, False):
        pieces = [piece for piece in loose[kind] if len(piece)]
        # a few small segments cost nothing; joining them each time would write the same rows again and again
        if len(small[kind]) + sum(len(piece) < _SMALL for piece in pieces) >= _TOGETHER:
            pieces += small[kind]
        else:
            kept += [piece.segment for piece in small[kind]]
        made += _grouped(pieces, most_rows(moment.state.spaces[generation].space.dim))
    return Plan(tuple(kept), tuple(made), () if flush else holding.fresh)


def _grouped(pieces: Sequence[_Piece], most: int) -> list[tuple[_Piece, ...]]:
    """Neighbours in row numbers together, so that a group is no larger than a segment may be."""
    groups: list[list[_Piece]] = []
    for piece in sorted(pieces, key=lambda piece: int(piece.segment.numbers[np.argmax(piece.mask)])):
        if groups and sum(map(len, groups[-1])) + len(piece) <= most:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [tuple(group) for group in groups]


class Compaction:
    """One round of upkeep of a source; rounds of one source take turns."""

    def __init__(self, source: LocalSource, advance: News) -> None:
        self.source, self.advance = source, advance

    def run(self) -> None:
        """Bring every servable space up to date, and remove the files of retired ones."""
        moment = self.source.moment()
        for stored in moment.state.spaces.values():
            if stored.retired and (segment_folder := self.source.segment_folder(stored.space)) is not None:
                shutil.rmtree(segment_folder.folder, ignore_errors=True)
        for generation in moment.state.servable:
            segment_folder = self.source.segment_folder(moment.state.spaces[generation].space)
            try:
                self._weed(generation, segment_folder)
                self._segments(generation, segment_folder)
                self._graph(generation, segment_folder)
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    raise GalleryError(
                        f"index files cannot be written to {self.source.folder} ({error.strerror}); searches answer as "
                        "before, only slower; make room and maintain again"
                    ) from None

    def _weed(self, generation: int, segment_folder: SegmentFolder | None) -> None:
        """Drop segments of which a byte is not what was written; each is looked at once."""
        latest = self.source.latest
        if segment_folder is None or latest is None or generation not in latest.held:
            return
        entries = {entry["name"]: entry for entry in latest.held[generation].manifest.segments}
        damaged = set()
        for segment in latest.held[generation].segments:
            if segment.name not in segment_folder.sound and not segment_folder.whole(segment, entries[segment.name]):
                damaged.add(segment.name)
        if damaged:
            with segment_folder.locked():
                manifest = segment_folder.read()
                segment_folder.write(
                    [entry for entry in manifest.segments if entry["name"] not in damaged], manifest.graph
                )
            self.source.adopt(generation, latest.held[generation].but(damaged), without=damaged)

    def _segments(self, generation: int, segment_folder: SegmentFolder | None) -> None:
        with nullcontext() if segment_folder is None else segment_folder.locked():
            moment = self._now()
            if generation not in moment.held:
                return
            holding = moment.held[generation]
            todo = plan(moment, generation)
            if not todo.made and len(listed_entries(holding)) == len(holding.manifest.segments):
                return
            new = _carried_out(todo, holding, segment_folder)
        self.source.adopt(generation, new)

    def _graph(self, generation: int, segment_folder: SegmentFolder | None) -> None:
        """Build or extend the approximate index of a space that is large enough for one."""
        moment = self.source.moment()
        if generation not in moment.held or not available():
            return
        old, total = moment.held[generation].graph, sum(map(int, map(np.count_nonzero, moment.valid[generation])))
        rows = list(zip(moment.held[generation].all(), moment.valid[generation], strict=True))
        if total < self.source.graph_from:
            return
        if old is not None:
            lag = lacked(old, moment.held[generation].all(), moment.valid[generation])
            gone = len(old.numbers) + lag - total
            if lag < max(FLUSH, _LAG * total) and gone < _GONE * len(old.numbers):
                return
            old = None if gone >= _GONE * len(old.numbers) else old
        before = moment.held[generation].manifest.graph
        # the lock is not held while the graph is built, which may take minutes
        space = moment.state.spaces[generation].space

        def told(more: int, done: int, rows: int) -> None:
            self.advance(more, f"building the index of {space.name or space.id}: {done:,} of {rows:,} vectors")

        graph = grown(old, rows, space.dim, told)
        if segment_folder is not None:
            with segment_folder.locked():
                manifest = segment_folder.read()
                if manifest.graph != before:
                    return
                graph, entry = save_graph(segment_folder, graph)
                segment_folder.write(manifest.segments, entry)
        self.source.adopt(generation, replace(moment.held[generation], graph=graph))

    def _now(self) -> Moment:
        with self.source.ledger.read() as reader:
            known = self.source.latest
            state = reader.state(None if known is None else known.state)
            return following(known, reader, state, self.source.segment_folder, spill=False)


def _carried_out(todo: Plan, holding: Holding, segment_folder: SegmentFolder | None) -> Holding:
    segments = list(todo.kept)
    names = {segment.name for segment in segments}
    entries = [entry for entry in listed_entries(holding) if entry["name"] in names]
    for group in todo.made:
        parts = [piece.segment.take(piece.mask) for piece in group]
        if segment_folder is None:
            segments.append(joined(parts))
            continue
        segment, entry = segment_folder.save(*parts)
        entries.append(entry)
        segments.append(segment)
    if segment_folder is None:
        return replace(holding, segments=tuple(segments), fresh=todo.fresh)
    manifest = segment_folder.write(entries, holding.manifest.graph if holding.graph else None)
    return replace(holding, segments=tuple(segments), fresh=todo.fresh, manifest=manifest)
