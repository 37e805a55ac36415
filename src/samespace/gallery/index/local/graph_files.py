"""Files of an approximate index: its links are read into memory, its vectors stay in a file that readers share.

What the links say is followed without a look, so every byte of them is checked before they are used. A vector that is
not what was written can only propose a wrong row, which is then scored by the segment's; of the vectors' file its head
is checked at once, the rest by `graph_whole`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from samespace.files import replacing
from samespace.gallery.index.local.hnsw import Graph, available, faiss_module, metric
from samespace.gallery.index.manifest import served_entry
from samespace.gallery.index.segments import UNREADABLE, SegmentFolder

_BLOCK = 2**22


def save_graph(folder: SegmentFolder, graph: Graph) -> tuple[Graph, dict[str, Any]]:
    """Write a graph; itself as a reader sees it, its vectors mapped, and its entry for the manifest."""
    faiss, name = faiss_module(), f"graph-{uuid4().hex[:12]}"
    rows_crc = folder.save_rows(name, np.stack([graph.numbers, graph.items]))
    links, vectors = _links(folder, name), _vectors(folder, name)
    storage = graph.index.storage
    for path, index, flags in ((links, graph.index, faiss.IO_FLAG_SKIP_STORAGE), (vectors, storage, 0)):
        with replacing(path) as temporary:
            try:
                faiss.write_index(index, str(temporary), flags)
            except RuntimeError as error:
                temporary.touch()
                raise OSError(28, "the approximate index could not be written") from error
    size = vectors.stat().st_size
    head = size - storage.ntotal * storage.sa_code_size()
    entry = {
        "name": name,
        "rows": len(graph.numbers),
        "crc": [rows_crc, _checksum(links)],
        "vectors": {"bytes": size, "head": head, "head_crc": _checksum(vectors, head), "crc": _checksum(vectors)},
    }
    folder.sound.add(name)
    index = _assembled(folder, entry)
    return replace(graph, index=index or graph.index, name=name, file=None if index is None else vectors), entry


def load_graph(folder: SegmentFolder, entry: dict[str, Any] | None) -> Graph | None:
    """Open a graph; None where there is none, FAISS is not installed, or it is not what was written."""
    if entry is None or not available():
        return None
    try:
        name, count, (rows_crc, crc) = str(entry["name"]), int(entry["rows"]), entry["crc"]
        rows = folder.load_rows(name, rows_crc)
        # FAISS believes what it reads, lengths included
        if _checksum(_links(folder, name)) != crc:
            return None
        # files of earlier versions hold the vectors beside the links
        apart = "vectors" in entry
        index = _assembled(folder, entry) if apart else faiss_module().read_index(str(_links(folder, name)))
    except (*UNREADABLE, RuntimeError):
        return None
    # links alone, where the manifest lost what it says of the vectors
    if index is None or index.storage is None:
        return None
    if rows.shape != (2, count) or index.ntotal != count or index.d != folder.space.dim or not count:
        return None
    if index.metric_type != metric(folder.score):
        return None
    served = load_graph(folder, served_entry(entry))
    return Graph(index, rows[0], rows[1], name, _vectors(folder, name) if apart else None, served)


def last_row(folder: SegmentFolder, entry: dict[str, Any] | None) -> int | None:
    """The highest row number in a graph, by its files' names and the end of one; None where they are not there."""
    if entry is None:
        return None
    try:
        rows = np.load(folder.path / f"{entry['name']}.rows.npy", mmap_mode="r", allow_pickle=False)
        return int(rows[0, -1]) if _links(folder, str(entry["name"])).is_file() else None
    except UNREADABLE:
        return None


def graph_whole(folder: SegmentFolder, entry: dict[str, Any]) -> bool:
    """Whether every byte of a graph's files is what was written."""
    name = str(entry["name"])
    try:
        whole = _checksum(_links(folder, name)) == entry["crc"][1] and (
            "vectors" not in entry or _checksum(_vectors(folder, name)) == entry["vectors"]["crc"]
        )
    except OSError:
        whole = False
    (folder.sound.add if whole else folder.sound.discard)(name)
    return whole


def _assembled(folder: SegmentFolder, entry: dict[str, Any]) -> Any:
    """The index with its vectors mapped; None where their file is not of the size or with the head that was written."""
    faiss, name, about = faiss_module(), str(entry["name"]), entry["vectors"]
    path = _vectors(folder, name)
    size, head = path.stat().st_size, int(about["head"])
    if size != about["bytes"] or not 0 <= head <= size or _checksum(path, head) != about["head_crc"]:
        return None
    index = faiss.read_index(str(_links(folder, name)))
    # versions before 1.11 cannot map, and read
    storage = faiss.read_index(str(path), getattr(faiss, "IO_FLAG_MMAP_IFC", 0))
    if (storage.ntotal, storage.d) != (index.ntotal, index.d):
        return None
    index.storage, index.own_fields, index.referenced_objects = storage, False, [storage]
    return index


def _links(folder: SegmentFolder, name: str) -> Path:
    return folder.path / f"{name}.faiss"


def _vectors(folder: SegmentFolder, name: str) -> Path:
    return folder.path / f"{name}.vectors.faiss"


def _checksum(path: Path, most: int | None = None) -> int:
    """CRC-32 of a file, or of its first `most` bytes."""
    crc = 0
    for block in _blocks(path, most):
        crc = zlib.crc32(block, crc)
    return crc


def _blocks(path: Path, most: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        if most is not None:
            yield file.read(most)
            return
        while block := file.read(_BLOCK):
            yield block
