"""Connections to PostgreSQL that never wait for ever: of a server that is stopped or out of reach nothing comes."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

CONNECT_SECONDS = 10
QUIET_SECONDS = 10.0
STATEMENT_SECONDS = 600
_SPARE_SECONDS = 30.0
_DEFAULTS = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


class WatchedConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that is given up when the server falls silent.

    After each ten seconds without an answer the server is asked for a new connection: one that grants or refuses it is
    at work on a long statement; one that does not answer within `connect_timeout` is stopped, or cut off. Where
    `bounded`, the server ends a statement after ten minutes, and the client half a minute later.
    """

    bounded = True
    asked: str = ""

    def wait(self, gen: Any, *more: Any, **named: Any) -> Any:
        """See `psycopg.Connection.wait`. Raises OperationalError: the server has fallen silent."""
        return super().wait(self._watched(gen), *more, **named)

    def _watched(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        began = quiet_since = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    quiet_since = now
                elif now - quiet_since > QUIET_SECONDS:
                    late = self.bounded and now - began > STATEMENT_SECONDS + _SPARE_SECONDS
                    if late or not answers(self.asked):
                        self.pgconn.finish()
                        raise psycopg.OperationalError(
                            f"connection given up: no answer of the server for {now - quiet_since:.0f} s"
                        )
                    quiet_since = time.monotonic()
                wanted = gen.send(ready)
        except StopIteration as over:
            return over.value


def connected(server: str) -> WatchedConnection:
    """A connection; what the address says of time limits and keepalives counts, else there are some.

    Raises:
        psycopg.Error: the address is wrong, or the server does not answer or refuses.
    """
    given = conninfo_to_dict(server)
    limits: dict[str, Any] = {key: value for key, value in _DEFAULTS.items() if key not in given}
    connection = WatchedConnection.connect(server, autocommit=True, prepare_threshold=None, **limits)
    connection.asked = server
    return connection


def answers(server: str) -> bool:
    """Whether a server says anything at all to someone who asks for a connection."""
    if not server:
        return True
    try:
        psycopg.connect(server, connect_timeout=min(CONNECT_SECONDS, 5)).close()
    except psycopg.errors.ConnectionTimeout:
        return False
    except psycopg.OperationalError as error:
        return "refused" not in str(error) and "No such file" not in str(error)
    return True
