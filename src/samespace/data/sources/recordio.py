"""Face sets in RecordIO, as MS1Mv3 is published: `train.rec`, `train.idx` and `property`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.decoding.fit import Size
from samespace.data.decoding.pixels import TAIL
from samespace.data.listing import Listing
from samespace.data.sources.records import BLOCK, RecordFile, read_index
from samespace.errors import InputError

EXACT = 2**24  # whole numbers from here on collide as float32
SAMPLES = 1000
Ints = npt.NDArray[np.int64]


def record_listing(path: str | Path) -> Listing:
    """The images of a RecordIO file.

    The class of an image is the first label of its record, its id the key of the record. Where record 0 holds no
    image but two numbers, the first is one above the last key of an image, and the records from there on, which hold
    the ranges of the identities, are passed over; otherwise every record is an image. Without an `.idx` the `.rec` is
    read through once, and keys count the records from 0. A `property` file (`classes,height,width`) gives the size
    of the images.

    Args:
        path: the `.rec`, or the folder of a `train.rec` or of a single `.rec`.

    Raises:
        InputError: no such file, no image in it, an unusable index, or labels beyond `property`.
    """
    rec = _rec(Path(path))
    file = RecordFile(rec)
    bad: list[tuple[str, str]] = []
    keys, offsets, early = _places(file)
    if early is not None:
        bad.append((f"after record {len(keys) - 1}", early))
    heads = file.heads(offsets)
    images, lacking = _images(file, keys, offsets)
    bad += lacking
    empty = (heads.stop == heads.start) & (heads.start >= 0)
    sound = images & ~empty
    for row in np.flatnonzero(images & empty).tolist():
        bad.append((f"record {keys[row]}", "holds no image"))
    for row, reason in heads.bad.items():
        if images[row]:
            sound[row] = False
            bad.append((f"record {keys[row]}", reason))
    odd = sound & ~(np.isfinite(heads.label) & (heads.label == np.floor(heads.label)) & (np.abs(heads.label) < EXACT))
    bad += [(f"record {keys[row]}", f"label {heads.label[row]:g} is no whole number below 2^24")
            for row in np.flatnonzero(odd).tolist()]  # fmt: skip
    rows = np.flatnonzero(sound & ~odd)
    if not len(rows):
        raise InputError(f"{rec} holds no image" + (f"; {bad[0][0]}: {bad[0][1]}" if bad else ""))
    classes = heads.label[rows].astype(np.int64)
    keys, offsets, start, stop = keys[rows], offsets[rows], heads.start[rows], heads.stop[rows]
    return Listing(
        name=str(path),
        ids=keys.astype(f"U{max(len(str(keys.min())), len(str(keys.max())))}"),
        classes=classes,
        read=partial(_read, file, offsets, start, stop),
        facts=partial(_facts, file, keys, offsets, classes),
        bad=tuple(bad),
        doubtful=_doubtful(file, start, stop),
        item="record",
        size=_property(rec.with_name("property"), int(classes.max()), rec),
    )


def _rec(path: Path) -> Path:
    if not path.is_dir():
        return path
    files = [path / "train.rec"] if (path / "train.rec").is_file() else sorted(path.glob("*.rec"))
    if len(files) != 1:
        what = f"holds {len(files)} .rec files; name one of them" if files else "holds no .rec file"
        raise InputError(f"{path} {what}; expected train.rec, with train.idx beside it")
    return files[0]


def _places(file: RecordFile) -> tuple[Ints, Ints, str | None]:
    """Keys and offsets, and why records may be missing at the end."""
    index = file.path.with_suffix(".idx")
    if index.is_file():
        return *read_index(index), None
    offsets, early = file.scan()
    if not len(offsets):
        raise InputError(f"{file.path} is not RecordIO: {early}")
    return np.arange(len(offsets), dtype=np.int64), offsets, early


def _images(file: RecordFile, keys: Ints, offsets: Ints) -> tuple[npt.NDArray[np.bool_], list[tuple[str, str]]]:
    """Which records are images, by what record 0 says if it says something, and what it says that is not there."""
    everything = np.ones(len(keys), dtype=np.bool_)
    first = np.flatnonzero(keys == 0)
    if not len(first):
        return everything, []
    try:
        labels, image = file.unpacked(int(offsets[first[0]]))
    except InputError:
        return everything, []
    if image or len(labels) < 2:
        return everything, []
    if not labels[0] >= 1:
        raise InputError(f"record 0 of {file.path} gives {labels[0]:g} as the first key after the images")
    end = int(labels[0])
    among = (keys >= 1) & (keys < end)
    missing = end - 1 - int(among.sum())
    return among, [(str(file.path), f"{missing} of the {end - 1} images are in no record")] if missing else []


def _read(file: RecordFile, offsets: Ints, start: Ints, stop: Ints, row: int) -> bytes:
    if start[row] < 0:
        return file.unpacked(int(offsets[row]))[1]
    return file.cut(int(start[row]), int(stop[row]))


def _facts(file: RecordFile, keys: Ints, offsets: Ints, classes: Ints, rows: Ints) -> Iterator[bytes]:
    """Size of the file, keys, places and labels, and the bytes of evenly spread records; no times, so that a copy fits.

    A record changed in place, without changing its length, goes unseen unless it is among the spread ones.
    """
    yield str(file.size).encode()
    for values in (keys, offsets, classes):
        yield np.ascontiguousarray(values[rows]).astype("<i8").tobytes()
    for row in rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLES).astype(np.int64))]:
        yield file.payload(int(offsets[row]))


def _doubtful(file: RecordFile, start: Ints, stop: Ints) -> Ints:
    """Numbers of the images that are not seen at once to be a JPEG or PNG with its end in place."""
    fine = np.zeros(len(start), dtype=np.bool_)
    for begin in range(0, len(start), BLOCK // 4):
        block = slice(begin, begin + BLOCK // 4)
        head = file.bytes[np.maximum(start[block, None] + np.arange(4), 0).clip(max=file.size - 1)]
        tail = file.bytes[np.maximum(stop[block, None] - TAIL + np.arange(TAIL), 0)]
        jpeg = (head[:, :2] == [0xFF, 0xD8]).all(axis=1)
        png = (head == list(b"\x89PNG")).all(axis=1)
        fine[block] = (jpeg & _contains(tail, b"\xff\xd9")) | (png & _contains(tail, b"IEND"))
    return np.flatnonzero(~fine | (start < 0) | (stop - start < TAIL))


def _contains(rows: npt.NDArray[np.uint8], wanted: bytes) -> npt.NDArray[np.bool_]:
    width = rows.shape[1] - len(wanted) + 1
    hits = np.ones((len(rows), width), dtype=np.bool_)
    for step, value in enumerate(wanted):
        hits &= rows[:, step : step + width] == value
    return np.asarray(hits.any(axis=1), dtype=np.bool_)


def _property(path: Path, largest: int, rec: Path) -> Size | None:
    if not path.is_file():
        return None
    fields = text.read(path, "classes,height,width").strip().split(",")
    if len(fields) != 3 or not all(field.strip().isdecimal() and int(field) > 0 for field in fields):
        raise InputError(f"{path} holds {','.join(fields)[:60]!r}; expected classes,height,width")
    classes, height, width = map(int, fields)
    if largest >= classes:
        raise InputError(f"labels in {rec} go up to {largest}, but {path} gives {classes} classes, 0 to {classes - 1}")
    return height, width
