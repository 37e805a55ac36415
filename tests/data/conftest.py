"""Small files in the true formats."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MAGIC = struct.pack("<I", 0xCED7230A)
Record = tuple[int, float | Sequence[float], bytes]


def encoded(value: int = 0, kind: str = "PNG", size: tuple[int, int] = (8, 8)) -> bytes:
    """A noisy picture, width and height in `size`."""
    noise = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, kind)
    return file.getvalue()


def pixels(image: bytes) -> np.ndarray:
    """(3, H, W) uint8 of an encoded picture."""
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB")).transpose(2, 0, 1)


def payload_of(key: int, label: float | Sequence[float], image: bytes) -> bytes:
    """The payload of an image record: head, labels, image."""
    if isinstance(label, (int, float)):
        return struct.pack("<IfQQ", 0, label, key, 0) + image
    return struct.pack("<IfQQ", len(label), 0, key, 0) + struct.pack(f"<{len(label)}f", *label) + image


def framed(payload: bytes) -> bytes:
    """A record: cut at every aligned magic number, each part with a head and padding."""
    cuts = [at for at in range(0, len(payload) // 4 * 4, 4) if payload[at : at + 4] == MAGIC]
    starts, stops = [0, *(at + 4 for at in cuts)], [*cuts, len(payload)]
    out = b""
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        flag = 0 if not cuts else 1 if number == 0 else 3 if number == len(cuts) else 2
        part = payload[start:stop]
        out += MAGIC + struct.pack("<I", flag << 29 | len(part)) + part + b"\0" * (-len(part) % 4)
    return out


def write_records(path: Path, records: Sequence[Record], *, index: bool = True) -> dict[int, int]:
    """Write a .rec and, unless told otherwise, its .idx; returns where each key begins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    offsets, data = {}, b""
    for key, label, image in records:
        offsets[key] = len(data)
        data += framed(payload_of(key, label, image))
    path.write_bytes(data)
    if index:
        path.with_suffix(".idx").write_text("".join(f"{key}\t{offset}\n" for key, offset in offsets.items()))
    return offsets


@pytest.fixture
def write_recordio() -> Callable[..., dict[int, int]]:
    """Writes records (key, label or labels, image bytes) to a .rec and .idx."""
    return write_records


@pytest.fixture
def write_faces() -> Callable[..., list[bytes]]:
    """Writes a face set as published: record 0 with the ranges, images, one record per identity, property."""

    def write(folder: Path, counts: Sequence[int] = (2, 3), *, kind: str = "JPEG", index: bool = True) -> list[bytes]:
        images = [encoded(number, kind) for number in range(sum(counts))]
        labels = np.repeat(np.arange(len(counts)), counts).tolist()
        after = 1 + len(images)
        ends = np.cumsum([1, *counts]).tolist()
        records: list[Record] = [(0, (after, after + len(counts)), b"")]
        records += [(1 + n, (label, 0.0), image) for n, (label, image) in enumerate(zip(labels, images, strict=True))]
        records += [(after + n, (ends[n], ends[n + 1]), b"") for n in range(len(counts))]
        write_records(folder / "train.rec", records, index=index)
        (folder / "property").write_text(f"{len(counts)},8,8")
        return images

    return write


@pytest.fixture
def picture() -> Callable[..., bytes]:
    """An encoded picture: number of the noise, kind, size."""
    return encoded


@pytest.fixture
def decoded() -> Callable[[bytes], np.ndarray]:
    """Pixels of an encoded picture, (3, H, W)."""
    return pixels


@pytest.fixture
def frame() -> Callable[[bytes], bytes]:
    """A payload as a record."""
    return framed
