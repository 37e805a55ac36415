"""What one request may ask for, and the threads that work for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import TypeVar

from fastapi import HTTPException

from samespace.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a request may ask for at most.

    Attributes:
        body: bytes of a request.
        batch: queries in one search.
        k: hits for each query.
        items: items added or removed by one request.
        id_length: characters of an item's id.
        metadata: characters of one item's metadata as JSON.
        conditions: conditions and values of one filter.
        pixels: of one image.
        deadline: seconds in which a request has to be read and answered.
        threads: requests worked on at once.
        waiting: requests that wait for a thread; further ones are sent away with 429.
    """

    body: int = 64 * 2**20
    batch: int = 256
    k: int = 1000
    items: int = 10_000
    id_length: int = 1024
    metadata: int = 16_384
    conditions: int = 100
    pixels: int = 50_000_000
    deadline: float = 60.0
    threads: int = 8
    waiting: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise InputError(f"{field.name} should be above 0, got {value}")

    def require(self, name: str, got: int, what: str) -> None:
        """Refuse more of something than the limit of this name."""
        most = getattr(self, name)
        if got > most:
            raise InputError(f"{what}: {got:,} are more than this service takes in one request, {most:,}")


class Pool:
    """A bounded number of threads, and a bounded number of calls that wait for one."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "samespace-serve")
        # all at once: a thread that is started later holds up the event loop until a busy machine lets it begin
        begun = threading.Barrier(threads + 1)
        for _ in range(threads):
            self._threads.submit(begun.wait)
        begun.wait()
        self._places = threading.BoundedSemaphore(threads + waiting)

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function in one of the threads.

        Where the caller is cancelled, a call that has not begun never does; one that has begun ends and keeps its
        place until then.

        Raises:
            HTTPException: 429, all places are taken.
        """
        self._take()
        try:
            future = self.submit(function)
        except BaseException:
            self._places.release()
            raise
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for as long as the block runs.

        Raises:
            HTTPException: 429, all are taken.
        """
        self._take()
        try:
            yield
        finally:
            self._places.release()

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call a function in one of the threads, for a caller that holds a place."""
        return self._threads.submit(function)

    def close(self) -> None:
        """Wait for the calls under way; those that wait are dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _take(self) -> None:
        if not self._places.acquire(blocking=False):
            raise HTTPException(
                429, "the service is working on as many requests as it takes; try again", {"Retry-After": "1"}
            )
