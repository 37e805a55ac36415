"""Work on blocks by several threads, in the blocks' order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def threads() -> int:
    """How many threads to use: the cores this process may run on, or OMP_NUM_THREADS where that says less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(ValueError):
        return max(1, min(cores, int(os.environ.get("OMP_NUM_THREADS", cores))))
    return cores


def in_order(
    work: Callable[[Given], Made], items: Iterable[Given], pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Made]:
    """The work on each item, given back in their order, on at most `ahead` items at once; items are read here."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
