"""Around every request: its id, its deadline, its line in the log, and errors as problem+json without a traceback."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samespace.errors import GalleryError, SpaceError
from samespace.names import one_line
from samespace.serve.limits import Limits
from samespace.serve.metrics import Metrics
from samespace.serve.wording import words_for

LOG = logging.getLogger("samespace.serve")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# a route's pattern would pass over a line break at the end
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STANDARD = frozenset(vars(logging.makeLogRecord({})))


def problem(
    status: int, detail: str, request_id: str, *, error: str | None = None, headers: dict[str, str] | None = None
) -> Response:
    """A problem as RFC 9457 has it; `error` names the SamespaceError that it is."""
    value = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": one_line(detail),
        "request_id": request_id,
        **({} if error is None else {"error": error}),
    }
    return Response(json.dumps(value), status, headers, "application/problem+json")


async def on_samespace_error(request: Request, error: Exception) -> Response:
    """An error that a user can cause: 400 for input, 409 where spaces or the gallery's state do not allow it."""
    status = 409 if isinstance(error, (SpaceError, GalleryError)) else 400
    detail = words_for(request)(str(error))
    return problem(status, detail, request.scope["samespace.id"], error=type(error).__name__)


async def on_invalid(request: Request, error: Exception) -> Response:
    """A request that does not fit its description: the first fault in one line."""
    assert isinstance(error, RequestValidationError)
    faults: Sequence[Any] = error.errors()
    if faults[0]["loc"] == ("body",) and isinstance(
        faults[0]["input"], bytes
    ):  # left unread, for it is not said to be JSON
        detail = "send the body as JSON, with the header 'Content-Type: application/json'"
        return problem(415, detail, request.scope["samespace.id"])
    if faults[0]["type"] == "json_invalid":
        why, at = faults[0]["ctx"]["error"], faults[0]["loc"][-1]
        detail = f"the body is not valid JSON: {why}, at character {at + 1}"
        return problem(422, detail, request.scope["samespace.id"], error="InputError")
    faults = _one_form(faults)
    place = ".".join(str(part) for part in faults[0]["loc"])
    more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return problem(422, f"{place}: {faults[0]['msg']}{more}", request.scope["samespace.id"], error="InputError")


def _one_form(faults: Sequence[Any]) -> Sequence[Any]:
    """Where the first value fits none of several forms, what it lacks of the one that it comes nearest to."""
    first = faults[0]["loc"]
    form = next((place for place, part in enumerate(first) if "[" in str(part)), None)
    if form is None:
        return faults
    alternatives = [one for one in faults if one["loc"][:form] == first[:form]]
    nearest = max(alternatives, key=lambda one: len(one["loc"]))
    told = {**nearest, "loc": (*first[:form], *nearest["loc"][form + 1 :])}
    return [told, *(one for one in faults if one not in alternatives)]


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework refuses, such as an unknown path, and what handlers refuse by status."""
    assert isinstance(error, HTTPException)
    name = "InputError" if error.status_code == 400 else None
    headers, detail = dict(error.headers or {}), str(error.detail)
    if detail == HTTPStatus(error.status_code).phrase and error.status_code in (404, 405):
        legal = _methods(request)
        detail = f"there is nothing at {request.scope['path']}; /docs lists all requests"
        if legal:
            headers["Allow"] = ", ".join(legal)
            detail = f"{request.scope['path']} takes {' and '.join(legal)}, got {request.scope['samespace.method']}"
    return problem(error.status_code, detail, request.scope["samespace.id"], error=name, headers=headers)


def _methods(request: Request) -> list[str]:
    """What a path may be asked by, whatever the request was."""
    asked = {method: {**request.scope, "method": method} for method in ("DELETE", "GET", "PATCH", "POST", "PUT")}
    found = [
        method for method, scope in asked.items()
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes)
    ]  # fmt: skip
    return sorted([*found, "HEAD"] if "GET" in found else found)


class Requests:
    """ASGI middleware, innermost but for the handlers of known errors.

    Args:
        app: what answers.
        metrics: where requests are counted.
        limits: of the bytes of a request, and of the time in which it has to be read and answered.
        hosts: the only names that a request may address the service by; None for any. A service without keys takes
            its own alone, so that no page of the web can reach it by a name that leads here.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, limits: Limits, hosts: Collection[str] | None = None) -> None:
        self.app, self._metrics, self._limits, self._hosts = app, metrics, limits, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        # whoever answers sees a GET; the head of its answer is what HEAD asks for
        method = scope["method"]
        scope = {**scope, "method": "GET" if method == "HEAD" else method, "samespace.method": method}
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        name = scope["samespace.id"] = given if _ID.fullmatch(given) else secrets.token_hex(8)
        status, read, began = 0, 0, time.perf_counter()

        async def receiving() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limits.body:
                raise HTTPException(413, self._too_long())
            return message

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update({"x-request-id": name, "x-content-type-options": "nosniff"})
            if method == "HEAD" and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        refused = self._refusal(scope["path"], headers, name)
        with self._metrics.in_flight.track_inprogress():
            if refused is not None:
                await refused(scope, receive, sending)
            else:
                failed = await self._answer(scope, receiving, sending)
                if failed is not None and not status:
                    await failed(scope, receive, sending)
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.request(method if route != "unmatched" else "any", route, status)
        LOG.info(
            "request",
            extra={
                "id": name,
                "method": method,
                "path": scope["path"],
                "status": status,
                "ms": round(1000 * (time.perf_counter() - began), 2),
                "key": scope.get("samespace.key"),
            },
        )

    def _refusal(self, path: str, headers: Headers, name: str) -> Response | None:
        """What is refused before anything is read."""
        if self._hosts is not None and not self._own(headers):
            return problem(403, "without --keys the service answers to its own address only", name)
        if _CONTROL.search(path):
            return problem(400, "the path of the address holds a control character", name, error="InputError")
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers and "content-length" in headers:
            detail = "Content-Length and Transfer-Encoding exclude each other"
            return problem(400, detail, name, error="InputError", headers={"Connection": "close"})
        if not length.isdecimal() or len(length) > 18 or int(length) > self._limits.body:
            return problem(413, self._too_long(), name)
        if headers.get("content-encoding", "identity").lower() != "identity":
            return problem(415, "send the body without Content-Encoding", name)
        return None

    def _own(self, headers: Headers) -> bool:
        """Whether a request names the service by one of its own names, and comes from no page of another place."""
        address = headers.get("host", "").lower()
        origin = headers.get("origin")
        foreign = origin is not None and origin.lower().partition("://")[2] != address
        return not foreign and self._hosts is not None and re.sub(r":\d*$", "", address) in self._hosts

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Response | None:
        """Let the app answer; what to say where it did not."""
        name = scope["samespace.id"]
        try:
            async with asyncio.timeout(self._limits.deadline) as limit:
                await self.app(scope, receive, send)
        except TimeoutError:
            if limit.expired():
                within = f"not answered within {self._limits.deadline:g} s"
                still = "a change that had begun is still carried out, so look at the status before you send it again"
                return problem(504, f"{within}; {still}", name)
            return self._unexpected(name)
        except Exception:
            return self._unexpected(name)
        return None

    def _too_long(self) -> str:
        return f"a request may have {self._limits.body:,} bytes; send several, or start the service with --max-body"

    def _unexpected(self, name: str) -> Response:
        LOG.exception("unexpected error", extra={"id": name})
        return problem(500, f"a fault of samespace; the service's log has more under {name}", name)


class JsonLines(logging.Formatter):
    """Log records as JSON, one a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record: time, level, message and what was given with it."""
        given = {key: value for key, value in vars(record).items() if key not in _STANDARD and value is not None}
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **{key: value for key, value in given.items() if key not in ("taskName", "color_message")},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
