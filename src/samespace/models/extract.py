"""Images to vectors: in memory, or into a folder that survives a kill and carries on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace.data import ImageSource, sequential
from samespace.errors import InputError
from samespace.files import locked, swap_folder, write_json
from samespace.models.devices import pick_device
from samespace.models.image_model import ImageModel
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet

__all__ = ["as_vector_set", "done_rows", "embed", "embed_rows", "embed_to", "pick_device", "vectors_to"]

_BATCHES_BETWEEN_MARKS = 16


def embed_rows(
    embedder: ImageModel,
    source: ImageSource,
    *,
    start: int = 0,
    stop: int | None = None,
    batch_size: int = 256,
    advance: Advance = silent,
) -> npt.NDArray[np.float32]:
    """Vectors of the images `start … stop - 1` of a source, (stop - start, D) float32, in row order.

    Deterministic: evaluation mode, no augmentation.
    """
    stop = len(source) if stop is None else stop
    vectors = np.empty((stop - start, embedder.embedding_dim), dtype=np.float32)
    for batch in sequential(source, batch_size, start=start, stop=stop):
        part = embedder.embed(batch.images).cpu().numpy()
        vectors[batch.rows - start] = part
        advance(len(part))
    return vectors


def as_vector_set(embedder: ImageModel, source: ImageSource, vectors: npt.NDArray[np.float32]) -> VectorSet:
    """Vectors of a whole source with its ids, class names as labels, and the embedder's space.

    Where the source names no images, the ids are its row numbers and the set says that it has none.
    """
    labels = np.asarray(source.classes)[source.labels]
    result = VectorSet.from_arrays(vectors, labels=labels, ids=source.ids, space=embedder.space, name=source.name)
    return replace(result, has_ids=bool(getattr(source, "named", True)))


def embed(embedder: ImageModel, source: ImageSource, *, batch_size: int = 256, advance: Advance = silent) -> VectorSet:
    """Embed a source in memory."""
    return as_vector_set(embedder, source, embed_rows(embedder, source, batch_size=batch_size, advance=advance))


def embed_to(
    embedder: ImageModel,
    source: ImageSource,
    folder: str | Path,
    *,
    batch_size: int = 256,
    advance: Advance = silent,
) -> VectorSet:
    """Embed a source into a vector set on disk.

    Vectors go to `FOLDER.partial` batch by batch; a later call with the same model and images carries on where it
    was cut off, and the folder appears under its own name only when whole. A folder that already holds the vectors
    of this model for these images is left as it is. A second process with the same folder waits for the first.

    Raises:
        InputError: `folder` holds something else.
    """

    def batches(start: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        for batch in sequential(source, batch_size, start=start):
            yield batch.rows, embedder.embed(batch.images).cpu().numpy()

    job = {"space": embedder.space.id, "source": source.fingerprint(), "count": len(source)}
    shape = len(source), embedder.embedding_dim
    return vectors_to(folder, job, shape, batches, lambda vectors: as_vector_set(embedder, source, vectors), advance)


VectorBatches = Callable[[int], Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]]
"""From a row on, rows in ascending order and their vectors."""


def vectors_to(
    folder: str | Path,
    job: dict[str, object],
    shape: tuple[int, int],
    batches: VectorBatches,
    finish: Callable[[npt.NDArray[np.float32]], VectorSet],
    advance: Advance = silent,
) -> VectorSet:
    """Write vectors into a vector set on disk as they are made, and carry on after a kill; see `embed_to`.

    Args:
        folder: of the set.
        job: what tells these vectors from others: the space, the items.
        shape: (N, D) of all vectors.
        batches: makes them.
        finish: gives the set of all vectors, with its items.
        advance: called with the number of items done.

    Raises:
        InputError: `folder` holds something else.
    """
    folder = Path(folder)
    if folder.exists():
        return _reuse(folder, job)
    with locked(folder):
        if folder.exists():
            return _reuse(folder, job)
        partial = folder.with_name(folder.name + ".partial")
        _write_into(partial, job, shape, batches, finish, advance)
        swap_folder(partial, folder)
        return VectorSet.load(folder)


def _write_into(
    partial: Path,
    job: dict[str, object],
    shape: tuple[int, int],
    batches: VectorBatches,
    finish: Callable[[npt.NDArray[np.float32]], VectorSet],
    advance: Advance,
) -> None:
    done = done_rows(partial, job)
    if done == 0:
        partial.mkdir(parents=True, exist_ok=True)
        # a mark left by another job must never vouch for the empty vectors that follow
        (partial / "progress.json").unlink(missing_ok=True)
        np.lib.format.open_memmap(partial / "vectors.npy", mode="w+", dtype=np.float32, shape=shape).flush()
    vectors = np.lib.format.open_memmap(partial / "vectors.npy", mode="r+")
    advance(done)
    for index, (rows, values) in enumerate(batches(done)):
        vectors[rows] = values
        advance(len(rows))
        if index % _BATCHES_BETWEEN_MARKS == _BATCHES_BETWEEN_MARKS - 1:
            vectors.flush()
            write_json(partial / "progress.json", {**job, "done": int(rows[-1]) + 1})
    vectors.flush()
    finish(vectors).save_items(partial)
    write_json(partial / "job.json", job)
    (partial / "progress.json").unlink(missing_ok=True)


def done_rows(partial: Path, job: dict[str, object]) -> int:
    """How many rows an interrupted `embed_to` has safely written for this very job."""
    try:
        progress = json.loads((partial / "progress.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return 0
    same = {key: progress.get(key) for key in job} == job
    return int(progress["done"]) if same and (partial / "vectors.npy").is_file() else 0


def _reuse(folder: Path, job: dict[str, object]) -> VectorSet:
    try:
        previous = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        previous = None
    if previous != job:
        raise InputError(
            f"{folder} exists and holds something else than these items by this model; choose another folder"
        )
    return VectorSet.load(folder)
