"""Segments: vectors of one space as immutable blocks, on disk as memory-mapped files that are never trusted.

A row of a segment counts only while its row number is the one that the ledger has for the item. Row numbers are never
used again, so a segment that is old, lost or someone else's can cost time but never change an answer. Each row carries
its checksum, which is compared before the row is answered.
"""

from __future__ import annotations

import mmap
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace import files
from samespace.errors import InputError
from samespace.files import locked, read_json, replacing, write_json
from samespace.gallery.index.manifest import MANIFEST, Manifest, graph_entries, well_formed
from samespace.gallery.index.served import RowNumbers, narrow
from samespace.gallery.ledger.state import Ints, Rows, StoredSpace, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.space import Score, Space

FORMAT = "samespace.index/1"

_SEGMENT_BYTES = 128 * 2**20
_SEGMENT_ROWS = 65_536
_SAMPLE = 64
_PAGE = 4_096
_FEW = 2_000
_ENTRY = {"name", "rows", "upto", "crc"}

UNREADABLE = (*files.UNREADABLE, TypeError)
"""What reading an index file raises where it is missing, damaged or foreign."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Vectors of one space, immutable, ascending by row number.

    Attributes:
        numbers: (N,) row numbers of the ledger.
        items: (N,) item numbers.
        checksums: (N,) CRC-32 of each vector as the ledger has it.
        values: (N, D) float32 rows as they are compared, C-contiguous; a memory map where the segment is a file.
        name: of the files; empty for a segment that is in memory only.
        score: what searches go by.
        unit_checksums: (N,) CRC-32 of each row of `values`; None where these are the rows as the ledger has them.
    """

    numbers: Ints
    items: Ints
    checksums: Ints
    values: Vectors
    name: str = ""
    score: Score = "cosine"
    unit_checksums: Ints | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, rows: Rows, space: Space, score: Score = "cosine") -> Segment:
        """A segment in memory of rows of the ledger."""
        values = compared(rows.values, space, score)
        sums = None if _as_stored(space, score) else checksums(values)
        return cls(rows.numbers, rows.items, rows.checksums, values, score=score, unit_checksums=sums)

    @cached_property
    def squares(self) -> npt.NDArray[np.float64]:
        """(N,) squared length of each row."""
        return np.asarray(np.einsum("ij,ij->i", self.values, self.values, dtype=np.float64))

    def take(self, places: Any) -> Segment:
        """Rows by place or mask, in memory."""
        return Segment(
            self.numbers[places], self.items[places], self.checksums[places], self.values[places], score=self.score,
            unit_checksums=None if self.unit_checksums is None else self.unit_checksums[places],
        )  # fmt: skip

    def damaged(self, places: Ints) -> bool:
        """Whether a row, by place, is not what was written."""
        sums = self.checksums if self.unit_checksums is None else self.unit_checksums
        return bool(checksums(self.values[places]).tolist() != sums[places].tolist())

    def cut_short(self) -> bool:
        """Whether the mapped file has lost its end, so that to read there would end the process (SIGBUS)."""
        mapped = getattr(self.values.base, "base", None)
        return bool(isinstance(mapped, mmap.mmap) and mapped.size() < len(mapped))


def _as_stored(space: Space, score: Score) -> bool:
    """Whether rows are compared just as the ledger has them."""
    return space.normalized or score != "cosine"


def compared(values: Vectors, space: Space, score: Score) -> Vectors:
    """Rows as they are compared: at unit length for cosines, see `unit`, else as stored."""
    return unit(values, space) if score == "cosine" else np.ascontiguousarray(values, dtype=np.float32)


def unit(values: Vectors, space: Space) -> Vectors:
    """Rows at unit length: those of a normalised space as stored, others divided by their length in float64."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    if space.normalized:
        return values
    wide = values.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    return np.asarray(wide / np.where(lengths > 0, lengths, 1.0)[:, None], dtype=np.float32)


def joined(segments: Sequence[Segment]) -> Segment:
    """One segment in memory of the rows of several, ascending by row number."""
    numbers = np.concatenate([segment.numbers for segment in segments])
    order = np.argsort(numbers, kind="stable")
    if (order[1:] > order[:-1]).all():
        order = np.arange(len(order))
        values = np.concatenate([segment.values for segment in segments])
    else:
        values = np.concatenate([segment.values for segment in segments])[order]
    return Segment(
        numbers[order],
        np.concatenate([segment.items for segment in segments])[order],
        np.concatenate([segment.checksums for segment in segments])[order],
        values,
        score=segments[0].score,
        unit_checksums=None if segments[0].unit_checksums is None else _unit_checksums(segments)[order],
    )


def _unit_checksums(segments: Sequence[Segment]) -> Ints:
    return np.concatenate([np.asarray(segment.unit_checksums, dtype=np.int64) for segment in segments])


def read_segments(reader: LedgerReader, kept: StoredSpace, items: Ints, rows: RowNumbers) -> Iterator[Segment]:
    """The vectors of some items from the ledger, in segments of up to 4,096 rows.

    `items`: numbers of items that have a vector of the space. `rows`: of its items.
    """
    generation, space, score = kept.generation, kept.space, kept.score
    if not len(items):
        return
    first = int(rows.of(items).min())
    if len(items) <= _FEW or 2 * len(items) < np.count_nonzero(rows.all() >= first):
        for start in range(0, len(items), _PAGE):
            yield Segment.of(reader.rows_of(generation, items[start : start + _PAGE]), space, score)
        return
    wanted = np.zeros(rows.count, dtype=np.bool_)
    wanted[items] = True
    last = first - 1
    while len((page := reader.rows_after(generation, last, _PAGE)).numbers):
        last = int(page.numbers[-1])
        keep = wanted[page.items]
        if keep.any():
            segment = Segment.of(page, space, score)
            yield segment if keep.all() else segment.take(keep)


def checksum(array: npt.NDArray[Any], before: int = 0) -> int:
    """CRC-32 of the bytes of an array, after those that gave `before`."""
    return zlib.crc32(np.ascontiguousarray(array).data.cast("B"), before)


def checksums(values: Vectors) -> Ints:
    """CRC-32 of each row, (N,)."""
    rows = np.ascontiguousarray(values, dtype="<f4")
    return np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.int64, count=len(rows))


def _unsigned(column: Ints) -> Ints:
    """Checksums as they are compared; in a file of 32 bits a number they are signed."""
    return column.view(np.uint32) if column.dtype == np.int32 else column.astype(np.uint32)


def most_rows(dim: int) -> int:
    """How many rows a segment holds at most: what fits 128 MiB."""
    return max(1024, min(_SEGMENT_ROWS, _SEGMENT_BYTES // (4 * dim)))


class SegmentFolder:
    """The folder of one space's index files.

    `gallery`: id of the gallery; files of another one do not count. `sound`: names of segments of which every byte was
    looked at; what is written or checked here is added. `score`: what searches of the space go by.
    """

    def __init__(
        self, folder: Path, gallery: str, space: Space, sound: set[str] | None = None, *, score: Score = "cosine"
    ) -> None:
        self.path = folder
        self.gallery = gallery
        self.space = space
        self.score = score
        self.sound = set[str]() if sound is None else sound
        self._manifest = folder / MANIFEST

    def stamp(self) -> tuple[int, int, int] | None:
        """Changes whenever the manifest does."""
        try:
            status = self._manifest.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def read(self) -> Manifest:
        """The manifest; an empty one where it is missing, damaged or of another gallery."""
        stamp = self.stamp()
        return self._parsed(stamp) or Manifest(stamp=stamp)

    def damaged(self) -> bool:
        """Whether there is a manifest that cannot be used, so that all files are as good as not there."""
        stamp = self.stamp()
        return stamp is not None and self._parsed(stamp) is None

    def _parsed(self, stamp: tuple[int, int, int] | None) -> Manifest | None:
        try:
            value = read_json(self._manifest, "the manifest of an index")
            whose = (value["format"], value["gallery"], value["space"], value.get("score", "cosine"))
            if whose != (FORMAT, self.gallery, self.space.id, self.score):
                return None
            segments, graph = value["segments"], value["graph"]
            if not all(well_formed(entry, _ENTRY) for entry in segments) or not (graph is None or well_formed(graph)):
                return None
            items = str(value["items"]) if value.get("items") else None
            return Manifest(int(value["upto"]), tuple(segments), graph, stamp, items)
        except (InputError, OSError, KeyError, OverflowError, TypeError, ValueError):
            return None

    def write(
        self, entries: Sequence[dict[str, Any]], graph: dict[str, Any] | None, *, items: str | None = None
    ) -> Manifest:
        """Let these files count from now on, and remove all others; the lock must be held."""
        upto = max((entry["upto"] for entry in entries), default=0)
        values = {"format": FORMAT, "gallery": self.gallery, "space": self.space.id, "upto": upto}
        if self.score != "cosine":
            values["score"] = self.score
        write_json(self._manifest, values | {"segments": list(entries), "graph": graph, "items": items})
        self._sweep({str(entry["name"]) for entry in [*entries, *graph_entries(graph)]} | ({items} if items else set()))
        return Manifest(upto, tuple(entries), graph, self.stamp(), items)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other writers out, of this process and of others."""
        with locked(self._manifest):
            yield

    def save(self, *parts: Segment) -> tuple[Segment, dict[str, Any]]:
        """Write the rows of segments, at least one, as one; itself as a memory map, and its entry for the manifest.

        Its files do not count until the manifest lists the entry; the lock must be held until then.
        """
        numbers = np.concatenate([part.numbers for part in parts])
        if (numbers[1:] < numbers[:-1]).any():
            parts = (joined(parts),)
        columns = ["numbers", "items", "checksums"]
        columns += [] if parts[0].unit_checksums is None else ["unit_checksums"]
        joint = [np.concatenate([getattr(part, column) for part in parts]) for column in columns]
        rows = narrow(np.stack(joint[:2] + [column.astype(np.uint32).view(np.int32) for column in joint[2:]]))
        name = f"segment-{uuid.uuid4().hex[:12]}"
        crc = [self.save_rows(name, rows), self._save_values(name, [part.values for part in parts])]
        entry = {"name": name, "rows": rows.shape[1], "upto": int(rows[0, -1]), "crc": crc}
        mapped = np.load(self.path / f"{name}.vectors.npy", mmap_mode="r", allow_pickle=False)
        self.sound.add(name)
        return self._segment(rows, mapped, name), entry

    def rows_file(self, name: str) -> Path:
        """Where `save_rows` writes."""
        return self.path / f"{name}.rows.npy"

    def save_rows(self, name: str, rows: Ints) -> int:
        """Write row numbers and what belongs to them, such as (columns, N); their checksum."""
        rows = narrow(rows)
        with replacing(self.rows_file(name)) as temporary, temporary.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        return checksum(rows)

    def load_rows(self, name: str, crc: int) -> Ints:
        """What `save_rows` wrote; one of the errors `UNREADABLE` where it is not that."""
        rows: Ints = np.load(self.rows_file(name), allow_pickle=False)
        if rows.dtype not in (np.int32, np.int64) or checksum(rows) != crc:
            raise ValueError(name)
        return rows

    def _save_values(self, name: str, parts: Sequence[Vectors]) -> int:
        """Write vectors one part after another, so that they are never in memory twice; their checksum."""
        crc = 0
        header = {"descr": "<f4", "fortran_order": False, "shape": (sum(map(len, parts)), self.space.dim)}
        with replacing(self.path / f"{name}.vectors.npy") as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                values = np.ascontiguousarray(part, dtype="<f4")
                crc = checksum(values, crc)
                values.tofile(file)
        return crc

    def load(self, entry: dict[str, Any]) -> Segment | None:
        """Map a segment; None where its files are missing, damaged or not what the manifest says.

        A sample of the rows is checked; `whole` checks all.
        """
        try:
            name, count, (rows_crc, _) = str(entry["name"]), int(entry["rows"]), entry["crc"]
            rows = self.load_rows(name, rows_crc)
            values = np.load(self.path / f"{name}.vectors.npy", mmap_mode="r", allow_pickle=False)
        except UNREADABLE:
            return None
        if (
            rows.shape not in ((3, count), (4, count))
            or values.dtype != np.float32
            or values.shape != (count, self.space.dim)
        ):
            return None
        if not values.flags.c_contiguous:
            return None
        segment = self._segment(rows, values, name)
        if len(rows) == 3 and not _as_stored(self.space, self.score):
            # files of earlier versions lack what each unit row is checked by
            sound = self.whole(segment, entry)
            return replace(segment, unit_checksums=checksums(segment.values)) if sound else None
        return None if segment.damaged(np.linspace(0, count - 1, min(_SAMPLE, count)).astype(np.int64)) else segment

    def _segment(self, rows: Ints, values: Vectors, name: str) -> Segment:
        sums = _unsigned(rows[3]) if len(rows) > 3 else None
        return Segment(rows[0], rows[1], _unsigned(rows[2]), values.view(np.ndarray), name, self.score, sums)

    def whole(self, segment: Segment, entry: dict[str, Any]) -> bool:
        """Whether every byte of a segment's vectors is what was written."""
        if segment.cut_short() or checksum(segment.values) != entry["crc"][1]:
            self.sound.discard(segment.name)
            return False
        self.sound.add(segment.name)
        return True

    def _sweep(self, names: set[str]) -> None:
        for file in self.path.iterdir():
            stray = file.name.split(".")[0] not in names and file.name != self._manifest.name
            if stray and not file.name.endswith(".lock"):
                file.unlink(missing_ok=True)
