"""The RecordIO container: records one after another in a `.rec`, their places in an `.idx`.

A record is the magic number, a word of three flag bits and 29 length bits, the payload, and padding to four bytes.
A payload that holds the magic number at a multiple of four is cut there into a first, middle and last part, each
with a head of its own, and the number itself is left out. All words are little-endian. The payload of an image
record begins with the number of its labels (0: one label, stored in the head itself), that one label as float32 and
two 64-bit numbers; then come the labels, float32, and the encoded image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.source import repeated
from samespace.errors import InputError
from samespace.files import require_file

MAGIC = 0xCED7230A
HEAD = 8  # bytes of a record before its payload
LABELS = 24  # bytes of a payload before its labels
BLOCK = 1 << 18
WHOLE, FIRST, MIDDLE, LAST = range(4)
Ints = npt.NDArray[np.int64]
_INDEX_LINE = "KEY, a tab and OFFSET, whole numbers"
_INDEX_BYTES = b"0123456789-\t\r\n"
_INDEX = re.compile(r"-?[0-9]{1,18}\t-?[0-9]{1,18}")


@dataclass(frozen=True, eq=False)
class Heads:
    """What stands before the images of some records.

    Attributes:
        label: first label of each, `(N,)` float32.
        start: where the image of each begins in the file, `(N,)` int64; -1 where the payload is in several parts.
        stop: where it ends.
        bad: why a record cannot be used, by number.
    """

    label: npt.NDArray[np.float32]
    start: Ints
    stop: Ints
    bad: dict[int, str]


class RecordFile:
    """A `.rec` file, read through a memory map. Raises InputError: no such file, or an empty one."""

    def __init__(self, path: Path) -> None:
        require_file(path, "a RecordIO file, .rec")
        self.path, self.size = path, path.stat().st_size
        if not self.size:
            raise InputError(f"{path} is empty; expected RecordIO")
        self.bytes: npt.NDArray[np.uint8] = np.memmap(path, dtype=np.uint8, mode="r")
        self._words = self.bytes[: self.size // 4 * 4].view("<u4")

    def cut(self, start: int, stop: int) -> bytes:
        """Bytes of the file. Raises InputError: the file has become shorter since it was opened."""
        if self.path.stat().st_size < self.size:
            raise InputError(f"{self.path} has been changed while it was read")
        return self.bytes[start:stop].tobytes()

    def payload(self, offset: int) -> bytes:
        """The payload of the record that begins at `offset`, its parts joined.

        Raises:
            InputError: there is no whole record; the message is a short reason.
        """
        part, stop = self._part(offset)
        if part in (MIDDLE, LAST):
            raise InputError(f"byte {offset} is in the middle of a record")
        payload = self.cut(offset + HEAD, stop)
        while part not in (WHOLE, LAST):
            offset = -(-stop // 4) * 4
            part, stop = self._part(offset)
            if part not in (MIDDLE, LAST):
                raise InputError(f"a part is missing before byte {offset}")
            payload += MAGIC.to_bytes(4, "little") + self.cut(offset + HEAD, stop)
        return payload

    def scan(self) -> tuple[Ints, str | None]:
        """Where each record begins, found by going from one to the next; and why the search ended early, if it did."""
        offsets: list[int] = []
        offset = 0
        while offset < self.size:
            try:
                part, stop = self._part(offset)
            except InputError as error:
                return np.array(offsets, dtype=np.int64), str(error)
            if part in (WHOLE, FIRST):
                offsets.append(offset)
            offset = -(-stop // 4) * 4
        return np.array(offsets, dtype=np.int64), None

    def heads(self, offsets: Ints) -> Heads:
        """Look at the records that begin at these offsets."""
        label = np.zeros(len(offsets), dtype=np.float32)
        start, stop = np.full(len(offsets), -1, dtype=np.int64), np.full(len(offsets), -1, dtype=np.int64)
        bad: dict[int, str] = {}
        for begin in range(0, len(offsets), BLOCK):
            block = slice(begin, begin + BLOCK)
            label[block], start[block], stop[block], odd = self._plain(offsets[block])
            for row in (np.flatnonzero(odd) + begin).tolist():
                start[row] = stop[row] = -1
                try:
                    labels, _ = self.unpacked(int(offsets[row]))
                    label[row] = labels[0]
                except InputError as error:
                    bad[row] = str(error)
        return Heads(label, start, stop, bad)

    def unpacked(self, offset: int) -> tuple[npt.NDArray[np.float32], bytes]:
        """Labels and encoded image of the record that begins at `offset`.

        Raises:
            InputError: there is no whole record; the message is a short reason.
        """
        payload = self.payload(offset)
        count = int.from_bytes(payload[:4], "little")
        image = LABELS + 4 * count
        if len(payload) < LABELS:
            raise InputError(f"{len(payload)} bytes are too few for a label")
        if len(payload) < image:
            raise InputError(f"{count} labels do not fit into its {len(payload)} bytes")
        labels = payload[LABELS:image] if count else payload[4:8]
        return np.frombuffer(labels, dtype="<f4").astype(np.float32), payload[image:]

    def _plain(self, offsets: Ints) -> tuple[npt.NDArray[np.float32], Ints, Ints, npt.NDArray[np.bool_]]:
        """Label, start and end of the image, for records in one part; and which records are anything else."""
        words, last = self._words, len(self._words) - 1
        if not len(words):
            none = np.full(len(offsets), -1, dtype=np.int64)
            return np.zeros(len(offsets), dtype=np.float32), none, none, np.ones(len(offsets), dtype=np.bool_)
        at = np.clip(offsets // 4, 0, last)
        magic, length, count, one = (words[np.minimum(at + step, last)] for step in range(4))
        several = words[np.minimum(at + (HEAD + LABELS) // 4, last)]
        label = np.where(count > 0, several, one).astype("<u4").view("<f4").astype(np.float32)
        start = offsets + HEAD + LABELS + 4 * count.astype(np.int64)
        stop = offsets + HEAD + length.astype(np.int64)
        plain = (offsets >= 0) & (offsets % 4 == 0) & (magic == MAGIC) & (length >> 29 == WHOLE)
        return label, start, stop, ~(plain & (length >= LABELS) & (start <= stop) & (stop <= self.size))

    def _part(self, offset: int) -> tuple[int, int]:
        """The flag of the part that begins at `offset`, and where its payload ends."""
        if offset < 0 or offset % 4:
            raise InputError(f"byte {offset} cannot be the start of a record")
        if offset >= self.size:
            raise InputError(f"byte {offset} lies past the end of the file, {self.size} bytes")
        if offset + HEAD > self.size:
            raise InputError(f"cut short at byte {self.size}")
        if self._words[offset // 4] != MAGIC:
            raise InputError(f"no record begins at byte {offset} (wrong magic number)")
        word = int(self._words[offset // 4 + 1])
        stop = offset + HEAD + (word & ((1 << 29) - 1))
        if stop > self.size:
            raise InputError(f"cut short: {stop - offset} bytes are due, {self.size - offset} are there")
        if word >> 29 > LAST:
            raise InputError(f"no record begins at byte {offset} (unknown flag {word >> 29})")
        return word >> 29, stop


def read_index(path: Path) -> tuple[Ints, Ints]:
    """Keys and offsets of an `.idx`: one line per record, both numbers parted by a tab.

    Raises:
        InputError: not such a file, no line in it, or a key twice.
    """
    import pyarrow as pa
    from pyarrow import csv

    require_file(path, "the index of a RecordIO file, .idx")
    if path.read_bytes().translate(None, _INDEX_BYTES):
        # the reader below takes more for a number than is written here, such as 0x1f
        return _unusual_index(path)
    try:
        table = csv.read_csv(
            path,
            read_options=csv.ReadOptions(column_names=["key", "offset"], use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(
                column_types={"key": pa.int64(), "offset": pa.int64()}, null_values=[], strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        raise InputError(f"{path} {_fault(path)}") from None
    keys, offsets = (table.column(name).to_numpy().astype(np.int64) for name in ("key", "offset"))
    return _distinct(path, keys, offsets)


def _distinct(path: Path, keys: Ints, offsets: Ints) -> tuple[Ints, Ints]:
    if twice := repeated(keys):
        raise InputError(f"{path} gives key {twice[0]} {twice[1]} times; keys must be unique")
    return keys, offsets


def _unusual_index(path: Path) -> tuple[Ints, Ints]:
    """An index in another encoding than plain ASCII; anything else is refused by its line."""
    found = [tuple(map(int, line.split("\t"))) for _, line in _index_lines(path)]
    keys, offsets = np.array(found, dtype=np.int64).reshape(-1, 2).T
    return _distinct(path, keys, offsets)


def _fault(path: Path) -> str:
    if next(_index_lines(path), None) is None:
        return f"holds no records; expected {_INDEX_LINE}"
    for _ in _index_lines(path):
        pass
    return f"cannot be read; expected {_INDEX_LINE}"


def _index_lines(path: Path) -> Iterator[tuple[int, str]]:
    for number, line in text.lines(path, "the index of a RecordIO file, .idx"):
        if not _INDEX.fullmatch(line):
            raise InputError(f"{path} line {number} is {line[:60]!r}; expected {_INDEX_LINE}")
        yield number, line
