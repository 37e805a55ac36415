"""`Service`: the galleries, models and jobs of one process, and how a request reaches its gallery."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Depends, HTTPException, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from samespace.errors import InputError, SamespaceError
from samespace.gallery import Answer, Gallery
from samespace.gallery.wording import Say, reworded_result
from samespace.names import one_line
from samespace.serve.backfills.jobs import Jobs
from samespace.serve.batches import Batches
from samespace.serve.encoders import Encoders
from samespace.serve.keys import KeyRing, Scope
from samespace.serve.limits import Limits, Pool
from samespace.serve.metrics import Metrics
from samespace.serve.pictures import Pictures
from samespace.serve.wire import Vectors, parsed, reply
from samespace.serve.wording import words_for
from samespace.space import Space
from samespace.vectors import VectorSet

LOG = logging.getLogger("samespace.serve")
T = TypeVar("T")
_SEARCHED_AT_ONCE = 2**17  # numbers of the queries of one search: 128 queries of 1,024 dimensions


class Service:
    """What one process serves.

    Args:
        galleries: by the name that addresses give them; closed with the service.
        encoders: models at hand.
        keys: who may do what; None lets everybody do everything.
        limits: of requests.
    """

    def __init__(
        self,
        galleries: Mapping[str, Gallery],
        *,
        encoders: Encoders | None = None,
        keys: KeyRing | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.galleries = dict(galleries)
        self.encoders = encoders or Encoders({})
        self.keys = keys
        self.limits = limits or Limits()
        self.pool = Pool(self.limits.threads, self.limits.waiting)
        at_once = min(self.limits.threads, max(2, os.cpu_count() or 1))
        self.searches: Batches[Vectors, Answer] = Batches(self.pool, at_once=at_once, most=_SEARCHED_AT_ONCE)
        self.jobs = Jobs(self.galleries, self.encoders.place)
        self.pictures = Pictures()
        self.metrics = Metrics()
        self.ready = False

    async def warm_up(self) -> None:
        """Load models and bring each gallery's vectors into memory, so that the first request is as fast as others."""
        for name, gallery in self.galleries.items():
            await asyncio.to_thread(self._warm, name, gallery)
        self.jobs.watch()
        self.ready = True
        LOG.info("ready", extra={"galleries": list(self.galleries)})

    def close(self) -> None:
        """End jobs at a safe point, then requests, then close the galleries."""
        self.ready = False
        self.jobs.close()
        self.pool.close()
        for gallery in self.galleries.values():
            gallery.close()

    def require(self, request: Request, scope: Scope) -> None:
        """Refuse a request whose key does not allow a scope.

        Raises:
            HTTPException: 401 without a valid key, 403 where its scope is too small, 503 where keys cannot be read.
        """
        if self.keys is None:
            return
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        try:
            key = self.keys.find(text.strip()) if kind.lower() == "bearer" else None
        except InputError as error:
            LOG.error("keys cannot be read", extra={"why": one_line(str(error))})
            raise HTTPException(503, "the service cannot read its keys; tell those who run it") from None
        if key is None:
            raise HTTPException(
                401, "send a valid key: 'Authorization: Bearer KEY'", {"WWW-Authenticate": 'Bearer realm="samespace"'}
            )
        request.scope["samespace.key"], request.scope["samespace.scope"] = key.name, key.scope
        if not key.allows(scope):
            raise HTTPException(403, f"the key '{key.name}' has the scope {key.scope}; this needs {scope}")

    def _warm(self, name: str, gallery: Gallery) -> None:
        state = gallery.state
        remembered = {one: kept for one, kept in state.spaces.items() if kept.model is not None}
        for space_id, drift in gallery.canary_drift(self.encoders.images_by_space(remembered)).items():
            self.metrics.drift(name, space_id, drift)
        space = gallery.space
        links = [state.links.get((state.query, generation)) for generation in state.servable]
        fused = [state.spaces[link.gallery].space for link in links if link is not None and link.share is not None]
        try:
            gallery.search(_any(space), old_queries=_any(fused[-1]) if fused else None, k=1, count=False)
        except SamespaceError as error:
            LOG.warning("a first search was refused", extra={"gallery": name, "why": one_line(str(error))})


def _any(space: Space) -> VectorSet:
    """A query of a space, whatever it finds."""
    query = np.ones((1, space.dim), dtype=np.float32) / np.sqrt(space.dim, dtype=np.float32)
    return VectorSet.from_arrays(query, ids=["warm-up"], space=space)


@dataclass(frozen=True)
class Place:
    """Where a request goes: the service, and a gallery with its name."""

    service: Service
    name: str
    gallery: Gallery
    say: Say

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function that blocks in one of the service's threads."""
        return await self.service.pool.run(function)

    async def change(self, operation: str, function: Callable[[], T]) -> T:
        """The same for a function that changes the gallery; how long it takes is measured under this name."""

        def measured() -> T:
            with self.service.metrics.committing(self.name, operation):
                return function()

        return await self.run(measured)

    def reply(self, value: Any, status: int = 200) -> Response:
        """An answer as JSON; the sentences in it name what the sender can ask for."""
        return reply(reworded_result(value, self.say), status)


async def _place(gallery: str, request: Request) -> Place:
    service: Service = request.app.state.service
    if gallery not in service.galleries:
        raise HTTPException(404, f"there is no gallery '{gallery}'; legal: {', '.join(service.galleries)}")
    return Place(service, gallery, service.galleries[gallery], words_for(request))


At = Annotated[Place, Depends(_place)]
"""A handler's parameter: the gallery that the path names."""
_BEARER = HTTPBearer(auto_error=False, description="A key made by 'samespace serve key add'.")


async def no_body(request: Request) -> None:
    """What a handler depends on that reads no body, so that none is passed over.

    Raises:
        InputError: there is one.
    """
    if (await request.body()).strip() not in (b"", b"{}"):
        raise InputError("this request has no body and no options: send none")


class JsonRequest(Request):
    """A request whose body is read by `wire.parsed`."""

    async def json(self) -> Any:
        """The body's value. Raises HTTPException: 400, it has none."""
        try:
            return parsed(await self.body())
        except InputError as error:
            raise HTTPException(400, str(error)) from None


def routes(scope: Scope, prefix: str = "/v1/{gallery}") -> APIRouter:
    """A router whose requests need a scope; the key is looked at before the body is read."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Any]:
            handle = super().get_route_handler()

            async def guarded(request: Request) -> Response:
                request.app.state.service.require(request, scope)
                return await handle(JsonRequest(request.scope, request.receive))

            return guarded

    async def documented(key: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)]) -> None:
        """Names the key in the OpenAPI; `Guarded` has looked at it."""

    return APIRouter(prefix=prefix, route_class=Guarded, dependencies=[Depends(documented)], tags=[scope])
