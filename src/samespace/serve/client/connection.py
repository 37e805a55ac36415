"""Asking a service, and the errors that its refusals stand for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec

from samespace import errors
from samespace.errors import GalleryError, InputError, SamespaceError
from samespace.serve.wording import WORDS

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Connection:
    """One gallery of a service, over HTTP; safe to use from several threads. Arguments and errors as of `Client`.

    `path`: of the gallery, which stands before what is asked of it.
    """

    def __init__(
        self, address: str, gallery: str, *, key: str | None, timeout: float, transport: httpx.BaseTransport | None
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise InputError("samespace.Client needs httpx: pip install 'samespace[serve]'") from None
        if not address.startswith(("http://", "https://")):
            raise InputError(f"the address of a service is http://HOST:PORT or https://HOST, got {address!r}")
        if not gallery:
            raise InputError("name the gallery of the service; GET /v1 lists them")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise InputError("a key of the service is one line of plain letters and digits, as 'serve key add' gave it")
        headers = {WORDS: "python"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
        self._unreachable = httpx.TransportError
        self.path = f"/v1/{quote(gallery, safe='')}"
        self._timeout = timeout
        try:
            self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InputError(f"no service can be asked at {address!r} with this key: {error}") from None

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def ask(self, method: str, path: str, kind: type[T], body: Any = None, *, whole: bool = False) -> T:
        """Ask the service; where it has too much to do and has begun nothing, again after the time it names.

        Raises:
            SamespaceError: what the service refused, or that it cannot be reached.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        end = time.monotonic() + self._timeout
        while True:
            try:
                place = path if whole else self.path + path
                answer = self._http.request(method, place, content=content, headers=headers)
            except self._unreachable as error:
                raise GalleryError(f"the service at {self._http.base_url} cannot be reached: {error}") from None
            wait = float(answer.headers.get("retry-after", 1))
            if answer.status_code != 429 or time.monotonic() + wait > end:
                break
            time.sleep(wait)
        if answer.status_code >= 400:
            raise refusal(answer.status_code, answer.content)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise GalleryError(f"what answers at {self._http.base_url} is no service of samespace: {error}") from None


class Missing(InputError):
    """What a path names is not there."""


def refusal(status: int, content: bytes) -> SamespaceError:
    """The error that an answer stands for."""
    try:
        value = msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return GalleryError(f"the service answered with status {status}")
    named = getattr(errors, str(value.get("error")), None)
    detail = str(value.get("detail", f"status {status}"))
    if isinstance(named, type) and issubclass(named, SamespaceError):
        return named(detail)
    if status == 404:
        return Missing(detail)
    if status in (429, 503, 504) or status >= 500:
        return GalleryError(f"{detail} (request {value.get('request_id')})")
    return InputError(detail)
