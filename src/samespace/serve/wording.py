"""What a gallery's messages name, as requests and the fields of their bodies."""

from __future__ import annotations

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
    """How to say things to whoever sent a request for a gallery; `samespace.Client` has the methods of `Gallery`."""
    gallery = request.path_params.get("gallery")
    if gallery is None or request.headers.get(WORDS) == "python":
        return lambda text: text
    return partial(as_requests, gallery=gallery)


def _field(name: str, value: str) -> str:
    field = f'"{_FIELDS.get(name, name)}"'
    return field if value in ("…", "") else f"{field}: {'true' if value == 'True' else value}"
