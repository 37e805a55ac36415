"""Batches of images, read ahead by threads; which images come when depends on seed, epoch and step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from samespace.data.readable import Unreadable, load_readable
from samespace.data.source import ImageSource
from samespace.errors import InputError
from samespace.threads import in_order

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Batch:
    """Images read together.

    Attributes:
        step: number of the batch within its epoch, or within the rows asked for.
        rows: whose images these are, rows of the source, `(B,)` int64: those asked for, but for stand-ins.
        labels: class of each image, `(B,)` int64.
        images: `(B, C, H, W)` uint8.
        unreadable: images that cannot be read, where the source skips such, by the place in the batch at which
            another stands for them; see `load_readable`.
    """

    step: int
    rows: npt.NDArray[np.int64]
    labels: torch.Tensor
    images: torch.Tensor
    unreadable: Mapping[int, Unreadable] = field(default_factory=dict)

    @property
    def asked(self) -> npt.NDArray[np.int64]:
        """The rows asked for, `(B,)` int64: `rows`, but for stand-ins."""
        asked = self.rows.copy()
        for place, missing in self.unreadable.items():
            asked[place] = missing.row
        return asked


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in `count` images; one batch of all of them where there are fewer than `batch_size`."""
    return max(count // batch_size, 1)


def permutation(count: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of an epoch, from `(seed, epoch)` alone, `(count,)` int64."""
    random = np.random.default_rng(np.random.SeedSequence([seed, epoch]))
    return random.permutation(count).astype(np.int64)


def rank_slice(count: int, rank: int, world_size: int) -> slice:
    """The part of a global batch of `count` that one process takes; the parts are equal and in order.

    Raises:
        InputError: `count` cannot be shared equally, or there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise InputError(f"rank must lie in 0 to {world_size - 1}, got {rank}")
    if count % world_size:
        raise InputError(f"a batch of {count} cannot be shared equally by {world_size} processes")
    share = count // world_size
    return slice(rank * share, (rank + 1) * share)


def batches(
    source: ImageSource,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    prefetch: int = 4,
    workers: int = 2,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Iterate over one epoch of training batches in random order; the incomplete last batch is left out.

    Every process draws the same order and takes its `rank_slice` of each global batch, so the union over the
    processes is what one process would see. Starting at `start_step` yields exactly the batches that remained.

    Args:
        source: labelled images.
        batch_size: images in a global batch, over all processes.
        seed: seed of the order.
        epoch: number of the epoch, also part of the seed.
        start_step: first batch to yield.
        rank: number of this process.
        world_size: number of processes.
        prefetch: batches to read ahead.
        workers: reading threads.
        pin_memory: put images in page-locked memory, for copies to a GPU that do not block.

    Raises:
        InputError: a value out of range, or a batch that the processes cannot share equally.
    """
    _require_counts(batch_size, prefetch, workers)
    if seed < 0 or epoch < 0 or start_step < 0:
        raise InputError(f"seed, epoch and start_step must be 0 or more, got {seed}, {epoch}, {start_step}")
    order = permutation(len(source), seed=seed, epoch=epoch)
    size = min(batch_size, len(source))
    mine = rank_slice(size, rank, world_size)

    def read(step: int) -> Batch:
        return _read(source, step, order[step * size : (step + 1) * size][mine], pin_memory)

    return _ahead(read, range(start_step, steps_per_epoch(len(source), batch_size)), prefetch, workers)


def sequential(
    source: ImageSource,
    batch_size: int,
    *,
    start: int = 0,
    stop: int | None = None,
    prefetch: int = 4,
    workers: int = 2,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Iterate over rows `start` to `stop` (excluded) in order, every row once; the last batch may be smaller.

    Raises:
        InputError: a value out of range.
    """
    _require_counts(batch_size, prefetch, workers)
    end = len(source) if stop is None else stop
    if not 0 <= start <= end <= len(source):
        raise InputError(f"rows {start} to {end} do not lie within the {len(source)} of {source.name}")

    def read(step: int) -> Batch:
        begin = start + step * batch_size
        rows = np.arange(begin, min(begin + batch_size, end), dtype=np.int64)
        return _read(source, step, rows, pin_memory)

    return _ahead(read, range(-(-(end - start) // batch_size)), prefetch, workers)


def _read(source: ImageSource, step: int, rows: npt.NDArray[np.int64], pin_memory: bool) -> Batch:
    import torch

    read = load_readable(source, rows)
    images, labels = read.images, torch.from_numpy(source.labels[read.rows])
    if pin_memory:
        images, labels = images.pin_memory(), labels.pin_memory()
    return Batch(step, read.rows, labels, images, read.unreadable)


def _ahead(read: Callable[[int], Batch], steps: range, prefetch: int, workers: int) -> Iterator[Batch]:
    """Yield `read(step)` in order with up to `prefetch` under way; whatever ends the loop ends the threads."""
    pool = ThreadPoolExecutor(workers, "samespace-loader")
    try:
        yield from in_order(read, steps, pool, prefetch)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _require_counts(batch_size: int, prefetch: int, workers: int) -> None:
    for what, value, least in (("batch_size", batch_size, 1), ("prefetch", prefetch, 0), ("workers", workers, 1)):
        if value < least:
            raise InputError(f"{what} must be at least {least}, got {value}")
