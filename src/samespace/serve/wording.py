"""What a gallery's messages name, as requests and the fields of their bodies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from samespace.gallery.wording import Say, reworded

if TYPE_CHECKING:
    from fastapi import Request

WORDS = "X-Samespace-Words"
"""A header: `python` asks for messages that name methods."""
_ROUTES = {"backfill": "jobs", "begin_behind": "upgrade"}
_FIELDS = {"items": "gallery"}  # what 'calibrate' takes
_IMAGES = "by 'samespace gallery backfill --images SOURCE' where the service runs"


def as_requests(text: str, gallery: str) -> str:
    """A message of the gallery of this name, in the words of HTTP."""

    def call(method: str, given: Mapping[str, str]) -> str:
        if method == "doctor":
            return "'samespace gallery doctor' where the service runs"
        named = ({"behind": "True"} if method == "begin_behind" else {}) | dict(given)
        body = ", ".join(_field(name, value) for name, value in named.items())
        return f"'POST /v1/{gallery}/{_ROUTES.get(method, method)}'" + (f" with {body}" if body else "")

    return reworded(text, call=call, argument=_field)


def words_for(request: Request) -> Say:
    """How to say things to whoever sent a request for a gallery; `samespace.Client` has the methods of `Gallery`.

    Where it lies on the machine of the service is nobody's business: it is called by its name.
    """
    name = str(request.path_params.get("gallery", ""))
    gallery = request.app.state.service.galleries.get(name)
    if gallery is None:
        return lambda text: text
    called = partial(_called, location=gallery.location, name=name)
    if request.headers.get(WORDS) == "python":
        return called
    return lambda text: as_requests(called(text), name)


def _called(text: str, *, location: str, name: str) -> str:
    # no request names a place on the machine of the service
    text = text.replace("images=…", _IMAGES)
    if "/" not in location:
        return text.replace(f"{location}: ", f"{name}: ", 1) if text.startswith(f"{location}: ") else text
    return re.sub(rf"{re.escape(location)}(?![\w/.-])", lambda _: name, text)


def _field(name: str, value: str) -> str:
    field = f'"{_FIELDS.get(name, name)}"'
    return field if value in ("…", "") else f"{field}: {'true' if value == 'True' else value}"
