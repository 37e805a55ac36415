"""Vectors in an `.npz`, read in batches from within the archive."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.files import UNREADABLE, read_npz
from samespace.space import Space
from samespace.vectors.columns import Columns, Names
from samespace.vectors.files import file_stamp
from samespace.vectors.source import ROWS, Batch, Source, float_of
from samespace.vectors.tables import items_of, require_finite

_ROLES = {"ids": "id", "labels": "label", "templates": "template"}
_METADATA = "metadata_"
_BLOCK = 2**22
_NAME_LENGTHS = 26  # where a zip archive says how long a member's name and the field after it are


def npz_source(path: Path, names: Names, *, metadata: bool) -> Source:
    """The vectors of an `.npz` with `vectors` and optional `ids`, `labels`, `templates`, `space`, `metadata_NAME`.

    Raises:
        InputError: the file cannot be read, has no `vectors`, or arrays of unlike lengths.
    """
    import pyarrow

    _, held = read_npz(path, (), "an .npz with 'vectors'")
    if "vectors" not in held:
        raise InputError(f"{path} holds no array 'vectors' (it holds {', '.join(held) or 'nothing'})")
    arrays, _ = read_npz(path, [name for name in held if name != "vectors"], "an .npz with 'vectors'")
    try:
        with zipfile.ZipFile(path) as archive, archive.open("vectors.npy") as file:
            shape, dtype = _header(file)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as .npz ({str(error).splitlines()[0]})") from None
    if len(shape) != 2 or 0 in shape or dtype.kind != "f":
        raise InputError(f"{path}: vectors should be floats of shape (items, dims), got {dtype} of {shape}")
    count, dim = shape
    columns, table = {}, {}
    for name, array in arrays.items():
        if (role := _ROLES.get(name)) is not None:
            columns[role] = role
            table[role] = array
        elif metadata and name.startswith(_METADATA):
            table[name.removeprefix(_METADATA)] = array
    if odd := [name for name, array in table.items() if array.shape != (count,)]:
        raise InputError(f"{path}: {odd[0]}s should be one per vector ({count}), got shape {table[odd[0]].shape}")
    rest = tuple(name for name in table if name not in columns)
    roles = Columns("", columns.get("id"), columns.get("label"), columns.get("template"), rest)
    items = pyarrow.table({name: pyarrow.array(array) for name, array in table.items()}) if table else None
    kind = float_of(dtype)

    def batches(start: int) -> Iterator[Batch]:
        with zipfile.ZipFile(path) as archive, archive.open("vectors.npy") as file:
            _header(file)
            row_bytes = dim * dtype.itemsize
            for row in range(0, count, ROWS):
                rows = min(ROWS, count - row)
                raw = file.read(rows * row_bytes)
                if row + rows <= start:
                    continue
                with np.errstate(over="ignore"):
                    vectors: Any = np.frombuffer(raw, dtype=dtype).reshape(rows, dim).astype(kind, copy=False)
                first = max(start, row)
                vectors = vectors[first - row :]
                require_finite(vectors, str(path), first)
                if items is None:
                    yield Batch(vectors, pyarrow.table({"row": pyarrow.array(np.arange(first, row + rows))}))
                else:
                    piece = items.slice(first, len(vectors)).combine_chunks()
                    yield Batch(vectors, items_of(piece, roles, str(path), first, metadata=metadata))

    return Source(str(path), dim, kind, count, roles, file_stamp(path), batches, npz_space(arrays, path))


def mapped_array(path: Path, name: str) -> npt.NDArray[Any] | None:
    """An array of an `.npz` as a memory map, its checksum compared; None where it is compressed or no plain array.

    Raises:
        InputError: the archive is damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            about = archive.getinfo(f"{name}.npy")
            shape, dtype = _header(file)
            if about.compress_type != zipfile.ZIP_STORED or dtype.hasobject or 0 in shape:
                return None
            start = file.tell()
            # read to the end, where the checksum is compared
            while file.read(_BLOCK):
                pass
        with path.open("rb") as whole:
            whole.seek(about.header_offset + _NAME_LENGTHS)
            beside = sum(struct.unpack("<HH", whole.read(4)))
    except ValueError:
        return None
    except (*UNREADABLE, struct.error) as error:
        raise InputError(f"{path} cannot be read as .npz: it is damaged or cut short") from error
    offset = about.header_offset + _NAME_LENGTHS + 4 + beside + start
    return np.memmap(path, dtype=dtype, mode="r", shape=shape, offset=offset)


def npz_space(arrays: dict[str, Any], path: Path) -> Space | None:
    """The space that the array `space`, a text of JSON, declares.

    Raises:
        InputError: it was altered.
    """
    if "space" not in arrays:
        return None
    try:
        return Space.from_dict(json.loads(str(arrays["space"])), f"{path}, array 'space'")
    except json.JSONDecodeError:
        raise InputError(f"{path}: the array 'space' is not valid JSON") from None


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if fortran:
        raise ValueError("its vectors stand column by column; save them in C order")
    return shape, dtype
