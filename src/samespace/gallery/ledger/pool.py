"""Open database connections: as many as transactions are open at once, a few of them kept for the next ones."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from samespace.errors import GalleryError

if TYPE_CHECKING:
    import sqlite3

    import psycopg

C = TypeVar("C", bound="sqlite3.Connection | psycopg.Connection[Any]")


class Unreachable(GalleryError):
    """The server of a gallery does not answer: what was acknowledged is kept, and the same may be tried again."""


class Pool(Generic[C]):
    """Connections to one database; safe to use from many threads, and in a process forked from this one.

    `reusable`: whether a connection is open and outside any transaction. `keep`: how many unused connections stay open;
    the longest unused ones are closed first.
    """

    def __init__(self, connect: Callable[[], C], reusable: Callable[[C], bool], *, keep: int) -> None:
        self._connect, self._reusable, self._keep = connect, reusable, keep
        self._idle: list[C] = []
        self._opened: set[C] = set()
        self._abandoned: list[C] = []
        self._guard = threading.Lock()
        _POOLS.add(self)

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._opened)

    def take(self) -> C:
        """An open connection, outside any transaction."""
        with self._guard:
            if self._idle:
                return self._idle.pop()
        return self.new()

    def new(self) -> C:
        """A connection that nobody has used before."""
        connection = self._connect()
        with self._guard:
            self._opened.add(connection)
        return connection

    def give(self, connection: C) -> None:
        """Take a connection back, and keep it for the next transaction if it can be used again."""
        with self._guard:
            if connection not in self._opened:
                return
            if self._reusable(connection):
                self._idle.append(connection)
                if len(self._idle) <= self._keep:
                    return
                connection = self._idle.pop(0)
            self._opened.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close every connection, those in use by other threads too."""
        with self._guard:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
            self._idle.clear()

    def before_fork(self) -> None:
        """Close unused connections: with SQLite the child would take its parent's file locks for its own."""
        self._guard.acquire()
        for connection in self._idle:
            self._opened.discard(connection)
            connection.close()
        self._idle.clear()

    def after_fork(self, *, child: bool) -> None:
        """Go on; connections in use by other threads of the parent are neither used nor closed in the child."""
        if child:
            self._abandoned += self._opened
            self._opened = set()
        self._guard.release()


class OneChange:
    """Refuses a change within a change of the same thread, which would wait for itself until the database gives up."""

    def __init__(self) -> None:
        self._local = threading.local()

    @contextmanager
    def begun(self, location: str) -> Iterator[None]:
        """While this thread writes. Raises GalleryError: it is writing already."""
        if getattr(self._local, "writing", False):
            raise GalleryError(f"{location}: a change was begun within another of the same thread; end that one first")
        self._local.writing = True
        try:
            yield
        finally:
            self._local.writing = False


_POOLS: weakref.WeakSet[Pool[Any]] = weakref.WeakSet()
_FORKING: list[Pool[Any]] = []


def _before() -> None:
    _FORKING[:] = list(_POOLS)
    for pool in _FORKING:
        pool.before_fork()


def _after(child: bool) -> None:
    for pool in _FORKING:
        pool.after_fork(child=child)
    _FORKING.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=lambda: _after(child=False), after_in_child=lambda: _after(child=True)
    )
