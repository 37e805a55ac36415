"""Requests that wait for the same work at the same time are worked on together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from samespace.serve.limits import Pool

A = TypeVar("A")
B = TypeVar("B")
Work = Callable[[Sequence[A]], Sequence[B | Exception]]


@dataclass(eq=False)
class _Waiting(Generic[A, B]):
    given: A
    size: int
    work: Work[A, B]
    answer: asyncio.Future[B]


class Batches(Generic[A, B]):
    """Batches of waiting requests, of one event loop.

    The first request of a key begins at once. What comes while it is worked on is put together, up to `most` in size,
    and begins when that has ended: nobody waits for a batch to fill.

    Args:
        pool: whose threads do the work, and whose places bound how many requests wait.
        at_once: batches worked on at once, each of another key.
        most: size of a batch, beyond which the rest goes into the next one.
    """

    def __init__(self, pool: Pool, *, at_once: int, most: int) -> None:
        self._pool, self._at_once, self._most = pool, at_once, most
        self._waiting: dict[Hashable, list[_Waiting[A, B]]] = {}
        self._busy = set[Hashable]()

    async def run(self, key: Hashable, given: A, work: Work[A, B], *, size: int) -> B:
        """The answer to one request out of a batch of those with its key.

        Args:
            key: requests that share it may be worked on by one call of `work`.
            given: what the request has of its own.
            work: gives for each of several an answer, or the error to raise for it.
            size: of what was given, in the unit of `most`.

        Raises:
            HTTPException: 429, all places are taken.
        """
        with self._pool.place():
            one = _Waiting(given, size, work, asyncio.get_running_loop().create_future())
            self._waiting.setdefault(key, []).append(one)
            self._begin()
            answer: B = await one.answer
            return answer

    def _begin(self) -> None:
        for key in [one for one in self._waiting if one not in self._busy]:
            if len(self._busy) >= self._at_once:
                return
            if batch := self._taken(key):
                self._busy.add(key)
                work = partial(batch[0].work, [one.given for one in batch])
                asyncio.wrap_future(self._pool.submit(work)).add_done_callback(partial(self._end, key, batch))

    def _taken(self, key: Hashable) -> list[_Waiting[A, B]]:
        """The next batch of a key; those whose request was given up are left out."""
        waiting = [one for one in self._waiting.pop(key) if not one.answer.done()]
        size = count = 0
        while count < len(waiting) and (not count or size + waiting[count].size <= self._most):
            size += waiting[count].size
            count += 1
        if waiting[count:]:
            self._waiting[key] = waiting[count:]
        return waiting[:count]

    def _end(self, key: Hashable, batch: list[_Waiting[A, B]], done: asyncio.Future[Sequence[B | Exception]]) -> None:
        self._busy.discard(key)
        self._begin()
        for place, one in enumerate(batch):
            if one.answer.done():
                continue
            if done.cancelled():
                one.answer.cancel()
                continue
            answer = done.exception() or done.result()[place]
            if isinstance(answer, BaseException):
                one.answer.set_exception(answer)
            else:
                one.answer.set_result(answer)
