"""Connections to a SQLite file: as many as transactions are open at once, few of them kept for the next ones."""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable

_IDLE = 4


class Pool:
    """Connections to one file; safe to use from many threads, and in a process forked from this one.

    Args:
        connect: opens a connection.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._idle: list[sqlite3.Connection] = []
        self._opened: set[sqlite3.Connection] = set()
        self._abandoned: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        _POOLS.add(self)

    def __len__(self) -> int:
        """How many connections are open."""
        return len(self._opened)

    def take(self) -> sqlite3.Connection:
        """An open connection, outside any transaction."""
        with self._guard:
            if self._idle:
                return self._idle.pop()
        connection = self._connect()
        with self._guard:
            self._opened.add(connection)
        return connection

    def give(self, connection: sqlite3.Connection) -> None:
        """Keep a connection for the next transaction, or close it where there are enough."""
        with self._guard:
            if connection not in self._opened:
                return
            if len(self._idle) < _IDLE and not connection.in_transaction:
                self._idle.append(connection)
                return
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
        """Close what is idle: SQLite would take the parent's locks for the child's."""
        self._guard.acquire()
        for connection in self._idle:
            self._opened.discard(connection)
            connection.close()
        self._idle.clear()

    def after_fork(self, *, child: bool) -> None:
        """Go on; what another thread of the parent was using is neither used nor closed in the child."""
        if child:
            self._abandoned += self._opened
            self._opened = set()
        self._guard.release()


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()
_FORKING: list[Pool] = []


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
