"""A service in this process, and requests to it without a network."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

httpx = pytest.importorskip("httpx", reason="httpx is not installed: pip install 'samespace[serve]'")
pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'samespace[serve]'")
pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install 'samespace[serve]'")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed: pip install 'samespace[serve]'")

from samespace import Client  # noqa: E402
from samespace.serve.app import make_app  # noqa: E402
from samespace.serve.limits import Limits  # noqa: E402
from samespace.serve.requests import JsonLines  # noqa: E402
from samespace.serve.service import Service  # noqa: E402
from samespace.space import Space  # noqa: E402
from samespace.vectors import VectorSet  # noqa: E402

__all__ = ["NEW", "OLD", "InProcess", "JsonLines", "Limits", "Running", "Service", "made"]
OLD = Space(weights="01" * 32, preprocessing="none", dim=8, normalized=True, name="v1")
NEW = Space(weights="02" * 32, preprocessing="none", dim=8, normalized=True, name="v2")


def made(count: int, space: Space = OLD, *, noise: float = 0.0, first: int = 0) -> VectorSet:
    """Unit vectors of items `item-N` in five classes, the same for every space but for some noise."""
    centres = 2 * np.random.default_rng(4).normal(size=(5, space.dim))
    rows = np.arange(first, first + count)
    values = centres[rows % 5] + np.random.default_rng(5).normal(size=(first + count, space.dim))[first:]
    values = values + noise * np.random.default_rng(6).normal(size=values.shape)
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    ids, labels = [f"item-{row}" for row in rows], [f"c{row % 5}" for row in rows]
    return VectorSet.from_arrays(unit, ids=ids, labels=labels, space=space)


class InProcess(httpx.BaseTransport):
    """Brings requests of a client to an application that runs in a thread's event loop."""

    def __init__(self, app: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._app = httpx.ASGITransport(app)
        self.app = app
        self._life = app.router.lifespan_context(app)
        self.wait(self._life.__aenter__())

    def handle_request(self, request: Any) -> Any:
        return self.wait(self._handled(request))

    def end(self) -> None:
        self.wait(self._life.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _handled(self, request: Any) -> Any:
        # the body goes in one piece, so it has a length
        headers = [(key, value) for key, value in request.headers.raw if key.lower() != b"transfer-encoding"]
        asked = httpx.Request(request.method, request.url, headers=headers, content=request.read())
        answer = await self._app.handle_async_request(asked)
        return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

    def wait(self, coroutine: Any, seconds: float = 60) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)


class Running:
    """A service under test: `http` speaks to it as any program would, `client` as `samespace.Client` does."""

    def __init__(self, service: Service, **options: Any) -> None:
        self.service = service
        self.transport = InProcess(make_app(service, **options))
        self.http = httpx.Client(base_url="http://localhost", transport=self.transport)

    def client(self, gallery: str = "shop", key: str | None = None) -> Client:
        return Client("http://localhost", gallery, key=key, transport=self.transport)
