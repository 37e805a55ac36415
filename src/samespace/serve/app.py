"""The ASGI application of a `Service`, and the server that runs it."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

import jinja2
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from samespace.errors import InputError, SamespaceError
from samespace.serve.connections import hurried
from samespace.serve.endpoints import items, search, steps, web_page
from samespace.serve.requests import JsonLines, Requests, on_http_error, on_invalid, on_samespace_error, problem
from samespace.serve.service import Service, routes
from samespace.serve.wire import reply

_CONNECTIONS = 1000
_BACKLOG = 2048
_PAGE = jinja2.Template(
    """<!doctype html><html lang="en"><meta charset="utf-8"><title>samespace</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{font:16px/1.5 system-ui;max-width:52rem;margin:2rem auto;padding:0 1rem}code{font-size:.9em}
pre{overflow:auto}</style><h1>samespace {{ api.info.version }}</h1>
<p>All of it for programs: <a href="openapi.json">openapi.json</a>. Keys go in
<code>Authorization: Bearer KEY</code>.</p>
{% for path, methods in api.paths.items() %}{% for method, one in methods.items() %}
<h2><code>{{ method | upper }} {{ path }}</code></h2><p>{{ one.summary }}{% if one.tags %}; scope {{ one.tags[0] }}
{%- endif %}.
{{ one.description }}</p>{% if one.requestBody %}<details><summary>body</summary><pre>
{%- set name = one.requestBody.content["application/json"].schema["$ref"].split("/")[-1] -%}
{{ api.components.schemas[name] | tojson(indent=2) }}</pre></details>{% endif %}{% endfor %}{% endfor %}</html>""",
    autoescape=True,
)
_PROBLEM = {
    "description": "A problem as RFC 9457 has it, in one line",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["title", "status", "detail", "request_id"],
                "properties": {
                    "type": {"type": "string"},
                    "title": {"type": "string"},
                    "status": {"type": "integer"},
                    "detail": {"type": "string"},
                    "request_id": {"type": "string"},
                    "error": {"type": "string", "description": "the SamespaceError that it is"},
                },
            }
        }
    },
}
_general = routes("read", prefix="")


def make_app(service: Service, *, hosts: Collection[str] | None = None, warm: bool = False) -> FastAPI:
    """The application; it closes the service at its end.

    `hosts`: the only names by which it may be addressed; None for any. `warm`: answer nothing before it has warmed up,
    where others answer meanwhile.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.warm_up())
        if warm:
            await asyncio.wait([warming])
        try:
            yield
        finally:
            await asyncio.wait([warming])
            await asyncio.to_thread(service.close)

    app = FastAPI(
        title="samespace",
        version=version("samespace"),
        description="Search across model versions, upgrade without re-embedding, backfill gradually, roll back.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses={"4XX": _PROBLEM, "5XX": _PROBLEM},
    )
    app.state.service = service
    for router in (search.router, items.reads, items.writes, steps.reads, steps.admin, _general, web_page.router):
        app.include_router(router)
    app.add_api_route("/healthz", health, summary="Whether the process answers")
    app.add_api_route("/readyz", ready, summary="Whether it has warmed up")
    app.add_api_route("/docs", described, include_in_schema=False)
    app.add_exception_handler(SamespaceError, on_samespace_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_middleware(Requests, metrics=service.metrics, limits=service.limits, hosts=hosts)
    return app


async def health() -> dict[str, bool]:
    """True."""
    return {"alive": True}


async def ready(request: Request) -> Response:
    """200 once models and vectors are in memory, 503 before and while it stops."""
    if request.app.state.service.ready:
        return reply({"ready": True})
    return problem(503, "not ready yet", request.scope["samespace.id"])


async def described(request: Request) -> HTMLResponse:
    """The OpenAPI for people; it loads nothing from elsewhere."""
    return HTMLResponse(_PAGE.render(api=request.app.openapi()))


@_general.get("/v1", summary="The galleries of this service, its models, its limits, and the scope of the key")
async def galleries(request: Request) -> Response:
    """Galleries by the names that addresses give them; without keys the scope is admin."""
    service: Service = request.app.state.service
    spaces = await service.pool.run(lambda: {name: gallery.space for name, gallery in service.galleries.items()})
    return reply(
        {
            "galleries": spaces,
            "models": list(service.encoders.named),
            "limits": service.limits,
            "scope": request.scope.get("samespace.scope", "admin"),
        }
    )


@_general.get("/metrics", summary="For Prometheus", response_class=Response)
async def metrics(request: Request) -> Response:
    """Of all workers together: latency by space and mode, queries by space, served shares, lags, time of changes."""
    service: Service = request.app.state.service
    text = await service.pool.run(lambda: service.metrics.text(service.galleries))
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        InputError: nobody can listen there.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
        # connections inherit it: an answer's body would wait 40 ms for the client's word that it has the head
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise InputError(f"cannot listen at {host}, port {port}: {error.strerror or error}") from None
    return listening


def require_tls(certificate: Path, private_key: Path) -> None:
    """Refuse TLS files that cannot be used, by an InputError."""
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, private_key, password="")
    except (OSError, ValueError) as error:
        raise InputError(f"{certificate} and {private_key} are no certificate and its key in PEM: {error}") from None


def log_as_json() -> None:
    """Let the log of the service go to standard error, a JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("samespace.serve", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


class _Server(uvicorn.Server):
    """Takes one connection at a time, so that processes which listen together get about as many each."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # asyncio takes as many at once as may wait, and has told the kernel that this is one
        for listening in sockets or ():
            listening.listen(_BACKLOG)


def answer(
    service: Service,
    listening: socket.socket,
    *,
    hosts: Collection[str] | None = None,
    tls: tuple[Path, Path] | None = None,
    warm: bool = False,
) -> None:
    """Answer until SIGTERM or Ctrl-C; requests under way are finished, jobs end after the batch in hand.

    `tls`: certificate and private key. `hosts` and `warm` as of `make_app`.
    """
    config = uvicorn.Config(
        make_app(service, hosts=hosts, warm=warm),
        backlog=1,
        http=hurried(service.limits.deadline),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=int(service.limits.deadline) + 1,
        ssl_certfile=None if tls is None else tls[0],
        ssl_keyfile=None if tls is None else tls[1],
    )
    _Server(config).run(sockets=[listening])
