"""The page at `/`: one HTML file with its style and scripts, which speak to the service as any program does."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Response

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parent / "page"
_REPORT = Path(__file__).parents[1] / "report" / "style.css"
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@router.get("/")
async def page() -> Response:
    """The page; it holds no data and needs no key, its requests do."""
    return _file("index.html")


@router.get("/page/{name}")
async def part(name: str) -> Response:
    """A part of the page."""
    if name not in _files():
        raise HTTPException(404, f"the page has no part '{name}'")
    return _file(name)


def _file(name: str) -> Response:
    """A file of the page. Browsers ask again each time, so that page and service are of one version."""
    kind = _KINDS[name.rpartition(".")[2]]
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache", "Referrer-Policy": "no-referrer"}
    return Response(_files()[name], media_type=f"{kind}; charset=utf-8", headers=headers)


@cache
def _files() -> dict[str, bytes]:
    """The files of the page by name; it has the look of the reports."""
    found = [one for one in _FOLDER.iterdir() if one.name.rpartition(".")[2] in _KINDS]
    return {one.name: one.read_bytes() for one in found} | {"report.css": _REPORT.read_bytes()}
