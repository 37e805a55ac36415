"""HTTP connections that may not be held open by sending or taking bytes slowly."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD_SECONDS = 10.0


def hurried(deadline: float) -> type[H11Protocol]:
    """Connections on which each request's line and headers arrive within ten seconds, or the deadline if less.

    The same holds for what follows an answer: a rest of the body that nobody reads, and the bytes of an answer that
    the other side does not take. While a request is worked on its own deadline holds.
    """
    seconds = min(_HEAD_SECONDS, deadline)

    class Hurried(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            if self._waiting is not None:
                self._waiting.cancel()

        def _wait(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
            self._waiting = self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

    return Hurried
