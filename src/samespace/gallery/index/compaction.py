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
from samespace.gallery.index.segments import Segment, Shelf, joined, most_rows

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


def plan(moment: Moment, rank: int) -> Plan:
    """Which segments to write anew.

    A segment of which between 5 and 92 % is served is split into the rows that are and the rows that are not: the scan
    then passes over the latter at no cost, and they stay on disk, so that a rollback needs no rebuilding. Fresh rows
    become a segment when they are many, and small segments of one kind are joined.
    """
    holding, valid, parts = moment.held[rank], moment.valid[rank], moment.parts[rank]
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
        made += _grouped(pieces, most_rows(moment.state.spaces[rank].space.dim))
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


class Upkeep:
    """One round of upkeep of a source; rounds of one source take turns."""

    def __init__(self, source: LocalSource, advance: News) -> None:
        self.source, self.advance = source, advance

    def run(self) -> None:
        """Bring every servable space up to date, and remove the files of retired ones."""
        moment = self.source.moment()
        for stored in moment.state.spaces.values():
            if stored.retired and (shelf := self.source.shelf(stored.space)) is not None:
                shutil.rmtree(shelf.folder, ignore_errors=True)
        for rank in moment.state.servable:
            shelf = self.source.shelf(moment.state.spaces[rank].space)
            try:
                self._weed(rank, shelf)
                self._segments(rank, shelf)
                self._graph(rank, shelf)
            except OSError as error:
                if error.errno not in _READ_ONLY:
                    raise GalleryError(
                        f"index files cannot be written to {self.source.folder} ({error.strerror}); searches answer as "
                        "before, only slower; make room and maintain again"
                    ) from None

    def _weed(self, rank: int, shelf: Shelf | None) -> None:
        """Drop segments of which a byte is not what was written; each is looked at once."""
        latest = self.source.latest
        if shelf is None or latest is None or rank not in latest.held:
            return
        entries = {entry["name"]: entry for entry in latest.held[rank].manifest.segments}
        damaged = set()
        for segment in latest.held[rank].segments:
            if segment.name not in shelf.sound and not shelf.whole(segment, entries[segment.name]):
                damaged.add(segment.name)
        if damaged:
            with shelf.locked():
                manifest = shelf.read()
                shelf.write([entry for entry in manifest.segments if entry["name"] not in damaged], manifest.graph)
            self.source.adopt(rank, latest.held[rank].but(damaged), without=damaged)

    def _segments(self, rank: int, shelf: Shelf | None) -> None:
        with nullcontext() if shelf is None else shelf.locked():
            moment = self._now()
            if rank not in moment.held:
                return
            holding = moment.held[rank]
            todo = plan(moment, rank)
            if not todo.made and len(listed_entries(holding)) == len(holding.manifest.segments):
                return
            new = _carried_out(todo, holding, shelf)
        self.source.adopt(rank, new)

    def _graph(self, rank: int, shelf: Shelf | None) -> None:
        """Build or extend the approximate index of a space that is large enough for one."""
        moment = self.source.moment()
        if rank not in moment.held or not available():
            return
        old, total = moment.held[rank].graph, sum(map(int, map(np.count_nonzero, moment.valid[rank])))
        rows = list(zip(moment.held[rank].all(), moment.valid[rank], strict=True))
        if total < self.source.graph_from:
            return
        if old is not None:
            lag = lacked(old, moment.held[rank].all(), moment.valid[rank])
            gone = len(old.numbers) + lag - total
            if lag < max(FLUSH, _LAG * total) and gone < _GONE * len(old.numbers):
                return
            old = None if gone >= _GONE * len(old.numbers) else old
        before = moment.held[rank].manifest.graph
        # the lock is not held while the graph is built, which may take minutes
        space = moment.state.spaces[rank].space

        def told(more: int, done: int, rows: int) -> None:
            self.advance(more, f"building the index of {space.name or space.id}: {done:,} of {rows:,} vectors")

        graph = grown(old, rows, space.dim, told)
        if shelf is not None:
            with shelf.locked():
                manifest = shelf.read()
                if manifest.graph != before:
                    return
                graph, entry = save_graph(shelf, graph)
                shelf.write(manifest.segments, entry)
        self.source.adopt(rank, replace(moment.held[rank], graph=graph))

    def _now(self) -> Moment:
        with self.source.ledger.read() as view:
            known = self.source.latest
            state = view.state(None if known is None else known.state)
            return following(known, view, state, self.source.shelf, spill=False)


def _carried_out(todo: Plan, holding: Holding, shelf: Shelf | None) -> Holding:
    segments = list(todo.kept)
    names = {segment.name for segment in segments}
    entries = [entry for entry in listed_entries(holding) if entry["name"] in names]
    for group in todo.made:
        parts = [piece.segment.take(piece.mask) for piece in group]
        if shelf is None:
            segments.append(joined(parts))
            continue
        segment, entry = shelf.save(*parts)
        entries.append(entry)
        segments.append(segment)
    if shelf is None:
        return replace(holding, segments=tuple(segments), fresh=todo.fresh)
    manifest = shelf.write(entries, holding.manifest.graph if holding.graph else None)
    return replace(holding, segments=tuple(segments), fresh=todo.fresh, manifest=manifest)
