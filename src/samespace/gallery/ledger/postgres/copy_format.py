"""Vectors in the binary form of PostgreSQL's COPY and pgvector: big-endian, a header of four bytes each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from samespace.gallery.ledger.state import Ints, Vectors

_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
_AT_ONCE = 1024


def rows(numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors) -> Iterator[bytes]:
    """The stream that fills a vector table (no, item, content, crc, value), a piece at a time."""
    yield _SIGNATURE
    for start in range(0, len(numbers), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        yield _piece(numbers[part], items[part], contents[part], values[part])
    yield _END


def unpacked(values: Sequence[bytes], dim: int) -> Vectors:
    """Vectors from what the server sends of them, (N, dim) float32. Raises ValueError: one has another dimension."""
    joined = b"".join(values)
    if len(joined) != len(values) * (4 + 4 * dim):
        raise ValueError
    form = np.dtype([("dim", ">i2"), ("unused", ">i2"), ("value", ">f4", (dim,))])
    return np.ascontiguousarray(np.frombuffer(joined, dtype=form)["value"], dtype=np.float32)


def _piece(numbers: Ints, items: Ints, contents: Sequence[str], values: Vectors) -> bytes:
    count, dim = values.shape
    data = np.ascontiguousarray(values, dtype="<f4")
    head = np.empty(count, [("fields", ">i2"), ("a", ">i4"), ("no", ">i8"), ("b", ">i4"), ("item", ">i8")])
    head["fields"], head["a"], head["b"] = 5, 8, 8
    head["no"], head["item"] = numbers, items
    tail = np.empty(
        count,
        [
            ("a", ">i4"), ("crc", ">i8"), ("b", ">i4"), ("dim", ">i2"), ("unused", ">i2"), ("value", ">f4", (dim,)),
        ],
    )  # fmt: skip
    tail["a"], tail["b"], tail["dim"], tail["unused"] = 8, 4 + 4 * dim, dim, 0
    tail["crc"] = [zlib.crc32(row) for row in data]
    tail["value"] = data
    pieces = []
    for before, content, after in zip(head, contents, tail, strict=True):
        text = content.encode()
        pieces += [before.tobytes(), len(text).to_bytes(4, "big"), text, after.tobytes()]
    return b"".join(pieces)
