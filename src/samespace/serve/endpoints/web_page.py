"""The page at `/`: one HTML file with its style and scripts, which speak to the service as any program does."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

router = APIRouter(include_in_schema=False)
_FOLDER = Path(__file__).parents[1] / "page"
_REPORT = Path(__file__).parents[2] / "report" / "style.css"
_KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class _Page:
    """The files of the page by name, plain and gzipped; `edition` changes with any of them."""

    files: dict[str, bytes]
    zipped: dict[str, bytes]
    edition: str


@router.get("/")
async def page(request: Request) -> Response:
    """The page; it holds no data and needs no key, its requests do. Browsers ask each time whether it is the same."""
    tag = f'"{_page().edition}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag, "Cache-Control": "no-cache"})
    return _file("index.html", request, {"ETag": tag, "Cache-Control": "no-cache"})


@router.get("/page/{edition}/{name}")
async def part(edition: str, name: str, request: Request) -> Response:
    """A part of the page, which browsers keep for good: a page of another edition names others."""
    if name not in _page().files:
        raise HTTPException(404, f"the page has no part '{name}'")
    kept = edition == _page().edition
    return _file(name, request, {"Cache-Control": "public, max-age=31536000, immutable" if kept else "no-cache"})


def _file(name: str, request: Request, headers: dict[str, str]) -> Response:
    """A file of the page, gzipped where the browser takes that."""
    headers |= {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Vary": "Accept-Encoding"}
    content = _page().files[name]
    if "gzip" in request.headers.get("accept-encoding", ""):
        content = _page().zipped[name]
        headers["Content-Encoding"] = "gzip"
    return Response(content, media_type=f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8", headers=headers)


@cache
def _page() -> _Page:
    """Read once; its style begins with that of the reports."""
    files = {one.name: one.read_bytes() for one in sorted(_FOLDER.iterdir()) if one.name.rpartition(".")[2] in _KINDS}
    files["page.css"] = _REPORT.read_bytes() + files["page.css"]
    edition = hashlib.sha256(repr(files).encode()).hexdigest()[:12]
    files["index.html"] = files["index.html"].replace(b'"page/', f'"page/{edition}/'.encode())
    return _Page(files, {name: gzip.compress(content, mtime=0) for name, content in files.items()}, edition)
