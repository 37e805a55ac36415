"""An application's own statements, timed beside what a gallery of its table does."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from samespace.gallery import Gallery
from samespace.vectors import VectorSet

APPLICATION = "SELECT sku FROM products ORDER BY embedding <=> %s::vector LIMIT 10"


def query_times(sql: psycopg.Connection, opened: Callable[[], Gallery], queries: VectorSet, k: int) -> str:
    """The application's queries in turns, alone and with searches of the gallery by another process; a line."""
    texts = [row[0] for row in sql.execute("SELECT embedding::text FROM products LIMIT 5").fetchall()]
    times: dict[bool, list[float]] = {True: [], False: []}
    child = os.fork()
    if not child:
        gallery = opened()
        while True:
            os.kill(os.getpid(), signal.SIGSTOP)
            gallery.search(queries, k=k, count=False)
    for turn in range(40):
        busy = bool(turn % 2)
        for text in texts:
            if busy:
                os.kill(child, signal.SIGCONT)
            began = time.monotonic()
            sql.execute(APPLICATION, [text]).fetchall()
            times[busy].append(time.monotonic() - began)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    alone, beside = (1000 * statistics.median(times[busy]) for busy in (False, True))
    return (
        f"| one query of the application, median of {len(times[True])} | {alone:.2f} ms alone, {beside:.2f} ms "
        f"with the gallery's searches beside it, {beside / alone - 1:+.0%} |"
    )


@contextmanager
def longest_wait(address: str, key: str) -> Iterator[list[float]]:
    """Let another process read a row by its key again and again; afterwards the list has the longest time of one."""
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        sql = psycopg.connect(address, autocommit=True)
        longest = 0.0
        signal.signal(signal.SIGTERM, lambda *_: (os.write(theirs, str(longest).encode()), os._exit(0)))
        while True:
            began = time.monotonic()
            sql.execute("SELECT price FROM products WHERE sku = %s", [key]).fetchall()
            longest = max(longest, time.monotonic() - began)
            time.sleep(0.01)
    os.close(theirs)
    result: list[float] = []
    try:
        yield result
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
        with os.fdopen(ours) as told:
            result.append(float(told.read() or "nan"))
