"""Connections to a PostgreSQL server: as many as transactions are open at once, kept for the next ones."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from samespace.gallery.ledger.postgres_address import Address
from samespace.gallery.ledger.postgres_errors import starting

Connection: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"

_IDLE = 8
_RECOVERY_SECONDS = 30.0


class Pool:
    """Connections to one server; safe to use from many threads, and in a process forked from this one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._idle: list[Connection] = []
        self._opened: set[Connection] = set()
        self._guard = threading.Lock()
        self._process = os.getpid()

    def begun(self, begin: bytes) -> Connection:
        """A connection with an open transaction; where the server was restarted, a new one."""
        for kept in (True, False):
            connection = self.take() if kept else self.connect()
            try:
                connection.execute(begin)
                return connection
            except BaseException as error:
                gone = connection.broken
                with suppress(psycopg.Error):
                    connection.rollback()
                self.give(connection)
                if not (kept and gone and isinstance(error, psycopg.OperationalError)):
                    raise
        raise AssertionError

    def take(self) -> Connection:
        """An open connection, outside any transaction."""
        with self._guard:
            if self._process != os.getpid():
                # connections belong to the process that opened them
                self._process, self._idle, self._opened = os.getpid(), [], set()
            if self._idle:
                return self._idle.pop()
        return self.connect()

    def give(self, connection: Connection) -> None:
        """Keep a connection for the next transaction, unless it is of no use any more."""
        with self._guard:
            ready = connection in self._opened and not connection.closed
            if ready and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._idle.append(connection)
                if len(self._idle) <= _IDLE:
                    return
                connection = self._idle.pop(0)
        self.drop(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection."""
        with self._guard:
            self._opened.discard(connection)
        connection.close()

    def connect(self) -> Connection:
        """A new connection; waits for a server that is starting or recovering."""
        limit = time.monotonic() + _RECOVERY_SECONDS
        while True:
            try:
                connection = psycopg.connect(self._address.server, autocommit=True, prepare_threshold=None)
                break
            except psycopg.OperationalError as error:
                if not starting(error) or time.monotonic() > limit:
                    raise
                time.sleep(0.1)
        with self._guard:
            self._opened.add(connection)
        # one width for all whole numbers, so that lists of them stay lists to the planner
        connection.adapters.register_dumper(int, Int8Dumper)
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false), set_config('client_encoding', 'UTF8', false) "
            "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
        )
        return connection

    def close(self) -> None:
        """Close every connection."""
        with self._guard:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
            self._idle.clear()
