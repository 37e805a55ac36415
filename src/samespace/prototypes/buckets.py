"""Classes of one size, taken through all steps of a computation while they are in the cache, by all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from samespace.prototypes import rows as work_space
from samespace.prototypes.rows import Vectors, class_counts, take
from samespace.threads import in_order

DIRECT_LIMIT = 2048
"""Largest class that shares a bucket, and that elimination is fast enough for."""

CACHE_BYTES = 8 * 2**20
"""Feature rows and similarities of a bucket on a CPU: more would leave the caches, less costs more calls."""

_ALONE = threading.Lock()


class Bucket(NamedTuple):
    """Samples of classes of one size, class after class.

    Attributes:
        rows: where they lie; a slice is read without a copy.
        classes: (n,) int64.
        size: m, samples in each class.
    """

    rows: slice | Tensor
    classes: Tensor
    size: int

    def on(self, device: torch.device) -> Bucket:
        """The same on another device."""
        rows = self.rows if isinstance(self.rows, slice) else self.rows.to(device)
        return Bucket(rows, self.classes.to(device), self.size)

    def take(self, vectors: Vectors) -> Tensor:
        """Their rows (n, m, D) float32, of vectors on the bucket's device."""
        block = take(vectors, self.rows)
        return block.view(-1, self.size, block.shape[1])


def buckets(labels: Tensor, num_classes: int, dim: int) -> Iterator[Bucket]:
    """All samples by the size of their class, ascending; as many classes in one as fit the cache or the work space.

    Exact sizes need no padding, and N samples hold at most sqrt(2N) distinct sizes. A class above `DIRECT_LIMIT` is
    alone.
    """
    counts = class_counts(labels, num_classes)
    by_size = counts.sort(stable=True).indices
    starts = (counts.cumsum(0) - counts)[by_size]
    sizes, classes = (found.tolist() for found in torch.unique_consecutive(counts[by_size], return_counts=True))
    in_place = bool((labels[1:] >= labels[:-1]).all())
    order = None if in_place else labels.int().sort(stable=True).indices
    # on the host, so that between here and the last bucket nothing is asked of a device
    begins = starts.cpu()
    most = CACHE_BYTES if labels.device.type == "cpu" else work_space.BLOCK_BYTES
    done = 0
    for size, count in zip(sizes, classes, strict=True):
        part, done = range(done, done + count), done + count
        if size == 0:
            continue
        step = 1 if size > DIRECT_LIMIT else max(1, most // (4 * size * dim + 24 * size**2))
        for first in part[::step]:
            last = min(first + step, done)
            begin, end = int(begins[first]), int(begins[last - 1]) + size
            if in_place and end - begin == (last - first) * size:
                yield Bucket(slice(begin, end), by_size[first:last], size)
            else:
                positions = (starts[first:last, None] + torch.arange(size, device=labels.device)).flatten()
                yield Bucket(positions if order is None else order[positions], by_size[first:last], size)


def each_bucket(work: Callable[[Bucket], None], labels: Tensor, num_classes: int, dim: int) -> None:
    """Do the work, without gradients or autocast, on each of `buckets`; on a CPU by as many threads as torch has.

    A thread takes a bucket through all its steps, so a core keeps it in its own cache and no step waits for another
    core's part. What comes out does not depend on the number of threads.
    """
    # each thread has modes of its own; a tensor made in inference mode can be written in that mode alone
    inference = torch.is_inference_mode_enabled()

    def in_full_precision(bucket: Bucket) -> None:
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast(labels.device.type, enabled=False):
            work(bucket)

    count = torch.get_num_threads()
    found = buckets(labels, num_classes, dim)
    for small, group in groupby(found, lambda bucket: bucket.size <= DIRECT_LIMIT):
        if small and count > 1 and labels.device.type == "cpu":
            with _steps_on_one_thread(), ThreadPoolExecutor(count) as pool:
                for _ in in_order(in_full_precision, group, pool, ahead=count):
                    pass
        else:
            for bucket in group:
                in_full_precision(bucket)


@contextmanager
def _steps_on_one_thread() -> Iterator[None]:
    """Threads that start within do each of torch's operations alone."""
    # torch's setting is one for the process: another caller would take the 1 for what to put back
    with _ALONE:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
