"""Images to vectors: in memory, or into a folder that survives a kill and carries on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samespace.data import Batch, ImageSource, sequential, subset
from samespace.errors import InputError
from samespace.files import locked, read_json, swap_folder, write_json
from samespace.models.devices import pick_device
from samespace.models.image_model import ImageModel
from samespace.progress import Advance, silent
from samespace.vectors import VectorSet

__all__ = ["as_vector_set", "embed", "embed_rows", "embed_to", "left_out", "pick_device", "vectors_to"]

_BATCHES_BETWEEN_MARKS = 16
_COPIED_ROWS = 65_536
LEFT_OUT = "left_out.json"
Told = Callable[[ImageSource, Batch], None]


def embed_rows(
    embedder: ImageModel,
    source: ImageSource,
    *,
    start: int = 0,
    stop: int | None = None,
    batch_size: int = 256,
    advance: Advance = silent,
    told: Told | None = None,
) -> npt.NDArray[np.float32]:
    """Vectors of the images `start … stop - 1` of a source, (stop - start, D) float32, in row order.

    Deterministic: evaluation mode, no augmentation. An image that cannot be read, where the source skips such, has
    the vector of its stand-in (`samespace.data.readable`); `told` is called with each batch that holds one.
    """
    stop = len(source) if stop is None else stop
    vectors = np.empty((stop - start, embedder.embedding_dim), dtype=np.float32)
    for batch, part in _embedded(embedder, source, batch_size, start, stop):
        vectors[batch.asked - start] = part
        if told is not None and batch.unreadable:
            told(source, batch)
        advance(len(part))
    return vectors


def first_images(source: ImageSource, count: int) -> Tensor:
    """The first images of a source that can be read, up to `count`, (B, C, H, W) uint8."""
    batch = next(sequential(source, count, stop=min(count, len(source))))
    return batch.images


def _embedded(
    embedder: ImageModel, source: ImageSource, batch_size: int, start: int, stop: int
) -> Iterator[tuple[Batch, npt.NDArray[np.float32]]]:
    """Batches in order and their vectors; each batch is handed to the device before the one before it is read back."""
    device = torch.device(getattr(embedder, "device", None) or "cpu")
    before: tuple[Batch, Callable[[], npt.NDArray[np.float32]]] | None = None
    for batch in sequential(source, batch_size, start=start, stop=stop, pin_memory=device.type == "cuda"):
        now = batch, _read_back(embedder.embed(batch.images.to(device, non_blocking=True)))
        if before is not None:
            yield before[0], before[1]()
        before = now
    if before is not None:
        yield before[0], before[1]()


def _read_back(vectors: Tensor) -> Callable[[], npt.NDArray[np.float32]]:
    """Start to copy vectors to the CPU; the function returned waits for them."""
    if vectors.device.type != "cuda":
        return vectors.cpu().numpy
    host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
    host.copy_(vectors, non_blocking=True)
    copied: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(vectors.device))

    def finished() -> npt.NDArray[np.float32]:
        copied.synchronize()
        return host.numpy()

    return finished


def as_vector_set(embedder: ImageModel, source: ImageSource, vectors: npt.NDArray[np.float32]) -> VectorSet:
    """Vectors of a whole source with its ids, class names as labels, and the embedder's space.

    Where the source names no images, the ids are its row numbers and the set says that it has none.
    """
    labels = np.asarray(source.classes)[source.labels]
    result = VectorSet.from_arrays(vectors, labels=labels, ids=source.ids, space=embedder.space, name=source.name)
    return replace(result, has_ids=bool(getattr(source, "named", True)))


def embed(embedder: ImageModel, source: ImageSource, *, batch_size: int = 256, advance: Advance = silent) -> VectorSet:
    """Embed a source in memory; images that cannot be read are left out where the source skips such."""
    missing: dict[int, str] = {}

    def told(_: ImageSource, batch: Batch) -> None:
        missing.update(batch.unreadable.values())

    vectors = embed_rows(embedder, source, batch_size=batch_size, advance=advance, told=told)
    if missing:
        rows = _others(len(source), missing)
        source, vectors = subset(source, rows), vectors[rows]
    return as_vector_set(embedder, source, vectors)


def embed_to(
    embedder: ImageModel,
    source: ImageSource,
    folder: str | Path,
    *,
    batch_size: int = 256,
    advance: Advance = silent,
    stand_ins: bool = False,
) -> VectorSet:
    """Embed a source into a vector set on disk.

    Vectors go to `FOLDER.partial` batch by batch; a later call with the same model and images carries on where it
    was cut off, and the folder appears under its own name only when whole. A folder that already holds the vectors
    of this model for these images is left as it is. A second process with the same folder waits for the first.

    Images that cannot be read, where the source skips such, are left out, and `left_out` names them; with `stand_ins`
    they have the vector of another image of their class, so that every row of the source has one.

    Raises:
        InputError: `folder` holds something else.
    """
    missing: dict[int, str] = {}

    def batches(start: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        for batch, part in _embedded(embedder, source, batch_size, start, len(source)):
            missing.update(batch.unreadable.values())
            yield batch.asked, part

    def finish(vectors: npt.NDArray[np.float32]) -> VectorSet:
        if not missing or stand_ins:
            return as_vector_set(embedder, source, vectors)
        partial, rows = Path(folder).with_name(Path(folder).name + ".partial"), _others(len(source), missing)
        write_json(partial / LEFT_OUT, {str(source.ids[row]): reason for row, reason in sorted(missing.items())})
        _keep_rows(partial / "vectors.npy", rows)
        return as_vector_set(embedder, subset(source, rows), np.load(partial / "vectors.npy", mmap_mode="r"))

    shape = len(source), embedder.embedding_dim
    return vectors_to(folder, job_of(embedder, source), shape, batches, finish, advance, missing)


def job_of(embedder: ImageModel, source: ImageSource) -> dict[str, object]:
    """What tells the vectors of these images by this model from others."""
    job: dict[str, object] = {"space": embedder.space.id, "source": source.fingerprint(), "count": len(source)}
    return job if embedder.space.precision == "fp32" else {**job, "precision": embedder.space.precision}


VectorBatches = Callable[[int], Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]]
"""From a row on, rows in ascending order and their vectors."""


def vectors_to(
    folder: str | Path,
    job: dict[str, object],
    shape: tuple[int, int],
    batches: VectorBatches,
    finish: Callable[[npt.NDArray[np.float32]], VectorSet],
    advance: Advance = silent,
    missing: dict[int, str] | None = None,
) -> VectorSet:
    """Write vectors into a vector set on disk as they are made, and carry on after a kill; see `embed_to`.

    Args:
        folder: of the set.
        job: what tells these vectors from others: the space, the items.
        shape: (N, D) of all vectors.
        batches: makes them.
        finish: gives the set of all vectors, with its items.
        advance: called with the number of items done.
        missing: reason by row of what cannot be read, which `batches` fills; kept with the progress.

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
        _write_into(partial, job, shape, batches, finish, advance, {} if missing is None else missing)
        swap_folder(partial, folder)
        return VectorSet.load(folder)


def left_out(folder: str | Path) -> tuple[tuple[str, str], ...]:
    """Id and reason of the images that `embed_to` left out of a folder, because they could not be read."""
    file = Path(folder) / LEFT_OUT
    return tuple(read_json(file, "the images left out").items()) if file.exists() else ()


def _write_into(
    partial: Path,
    job: dict[str, object],
    shape: tuple[int, int],
    batches: VectorBatches,
    finish: Callable[[npt.NDArray[np.float32]], VectorSet],
    advance: Advance,
    missing: dict[int, str],
) -> None:
    done, earlier = _progress(partial, job)
    missing.update(earlier)
    if done == 0:
        partial.mkdir(parents=True, exist_ok=True)
        # a mark left by another job must never vouch for the empty vectors that follow
        (partial / "progress.json").unlink(missing_ok=True)
        np.lib.format.open_memmap(partial / "vectors.npy", mode="w+", dtype=np.float32, shape=shape).flush()
    (partial / LEFT_OUT).unlink(missing_ok=True)
    vectors = np.lib.format.open_memmap(partial / "vectors.npy", mode="r+")
    advance(done)
    for index, (rows, values) in enumerate(batches(done)):
        vectors[rows] = values
        advance(len(rows))
        if index % _BATCHES_BETWEEN_MARKS == _BATCHES_BETWEEN_MARKS - 1:
            vectors.flush()
            write_json(partial / "progress.json", {**job, "done": int(rows[-1]) + 1, "missing": missing})
    vectors.flush()
    finish(vectors).save_items(partial)
    write_json(partial / "job.json", job)
    (partial / "progress.json").unlink(missing_ok=True)


def _progress(partial: Path, job: dict[str, object]) -> tuple[int, dict[int, str]]:
    """How many rows an interrupted call has safely written for this very job, and which of them could not be read."""
    try:
        progress = json.loads((partial / "progress.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return 0, {}
    # a job in float32 has no key of its precision, so that all keys are compared
    begun = {key: value for key, value in progress.items() if key not in ("done", "missing")}
    if begun != job or not (partial / "vectors.npy").is_file():
        return 0, {}
    return int(progress["done"]), {int(row): reason for row, reason in progress.get("missing", {}).items()}


def _others(count: int, missing: dict[int, str]) -> npt.NDArray[np.int64]:
    """The rows that are not missing, of which there is one at least."""
    return np.setdiff1d(np.arange(count), list(missing))


def _keep_rows(file: Path, rows: npt.NDArray[np.int64]) -> None:
    """Leave only these rows in a file of vectors."""
    whole = np.load(file, mmap_mode="r")
    shorter = file.with_name("vectors.shorter.npy")
    kept = np.lib.format.open_memmap(shorter, mode="w+", dtype=np.float32, shape=(len(rows), whole.shape[1]))
    for start in range(0, len(rows), _COPIED_ROWS):
        kept[start : start + _COPIED_ROWS] = whole[rows[start : start + _COPIED_ROWS]]
    kept.flush()
    # a call that carries on after a kill must not take the shorter file for the whole
    (file.parent / "progress.json").unlink(missing_ok=True)
    os.replace(shorter, file)


def _reuse(folder: Path, job: dict[str, object]) -> VectorSet:
    try:
        previous = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        previous = None
    was, now = (str((one or {}).get("precision", "fp32")) for one in (previous, job))
    if was != now and {**previous, "precision": now} == {**job, "precision": now}:
        raise InputError(f"{folder} holds these vectors made in {was}; say --precision {was}, or choose another folder")
    if previous != job:
        raise InputError(
            f"{folder} exists and holds something else than these items by this model; choose another folder"
        )
    return VectorSet.load(folder)
