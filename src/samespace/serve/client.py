"""`Client`: a gallery behind a service, with the methods of `Gallery` and its errors."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import msgspec
import numpy as np

from samespace import errors
from samespace.errors import GalleryError, InputError, SamespaceError
from samespace.gallery import (
    Added,
    Answer,
    BehindSwitch,
    CanaryCurve,
    Limits,
    Plan,
    Quality,
    Sealed,
    Status,
    StoredItem,
    Switched,
)
from samespace.gallery.ledger.filters import Where, conditions
from samespace.gallery.ledger.state import Upgrade
from samespace.gallery.search.search import Merge
from samespace.metrics.calibration import Calibration, Scale
from samespace.serve.job import Job
from samespace.serve.wording import WORDS
from samespace.space import Score, Space, undeclared
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    import httpx

    from samespace.evaluate.certificate import Certificate

T = TypeVar("T")
Images = Mapping[str, "Path | bytes"]
"""Image files, or their bytes, by item id."""
_ROWS = 1000


class Client:
    """A gallery of a service that `samespace serve` runs.

    Methods are those of `samespace.Gallery` and give the same results; what the service refuses is raised as the error
    that the gallery raised there. Safe to use from several threads.

    Args:
        address: of the service, such as `http://127.0.0.1:8000`.
        gallery: its name there.
        key: made by `samespace serve key add`, where the service asks for one.
        timeout: seconds to wait for an answer, and for a service that has too much to do.
        transport: how to reach it, as httpx has it; over the network by default.

    Raises:
        InputError: httpx is not installed.
    """

    def __init__(
        self,
        address: str,
        gallery: str,
        *,
        key: str | None = None,
        timeout: float = 120.0,
        transport: httpx.BaseTransport | None = None,
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
        self._path = f"/v1/{quote(gallery, safe='')}"
        self._timeout = timeout
        try:
            self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise InputError(f"no service can be asked at {address!r} with this key: {error}") from None

    def __enter__(self) -> Client:
        """The client itself; `with` closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Let go of connections; the gallery stays open."""
        self._http.close()

    @property
    def space(self) -> Space:
        """The space that queries use now."""
        known = self._ask("GET", "/v1", dict[str, Any], whole=True)["galleries"]
        name = next((one for one in known if f"/v1/{quote(one, safe='')}" == self._path), None)
        if name is None:
            raise InputError(f"the service has no such gallery; it has {', '.join(known)}")
        return Space.from_dict(known[name])

    def __len__(self) -> int:
        """How many items there are."""
        return self.status().items

    def search(
        self,
        queries: VectorSet,
        *,
        k: int = 10,
        where: Where = None,
        min_score: float | None = None,
        max_fmr: float | None = None,
        merge: Merge = "calibrated",
        scale: Scale | None = None,
        exact: bool = False,
        count: bool = True,
        fuse: float | None = None,
        old_queries: VectorSet | None = None,
    ) -> Answer:
        """Find the best items for each query; see `Gallery.search`."""
        old = None if old_queries is None else _wire(old_queries)
        options: dict[str, Any] = {
            "min_score": min_score, "max_fmr": max_fmr, "merge": merge, "scale": scale, "exact": exact,
            "count": count, "fuse": fuse, "old_queries": old, "k": k, "where": _where(where),
        }  # fmt: skip
        return self._ask("POST", "/search", Answer, {"queries": _wire(queries), **options})

    def search_images(self, images: Sequence[Path | bytes], *, k: int = 10, where: Where = None) -> Answer:
        """Find the best items for each image file, embedded by the service."""
        body = {"images": [_file(image) for image in images], "k": k, "where": _where(where)}
        return self._ask("POST", "/search", Answer, body)

    def search_texts(self, texts: Sequence[str], *, k: int = 10, where: Where = None) -> Answer:
        """Find the best items for each text, embedded by the service."""
        return self._ask("POST", "/search", Answer, {"texts": list(texts), "k": k, "where": _where(where)})

    def add(
        self,
        vectors: VectorSet,
        *,
        also: Sequence[VectorSet] = (),
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        update: bool = False,
    ) -> Added:
        """Add items by their vectors, a thousand at a time; see `Gallery.add`. The same call again carries on."""
        if not vectors.has_ids:
            raise InputError(f"{vectors.name} has no ids; items of a gallery need names")
        for given in also:
            if set(given.ids.tolist()) != set(vectors.ids.tolist()):
                raise InputError(f"{given.name} and {vectors.name} hold unlike items")
        if foreign := set(metadata or {}) - set(vectors.ids.tolist()):
            raise InputError(f"metadata names the item '{min(foreign)}', which {vectors.name} lacks")
        done = Added()
        for start in range(0, len(vectors), _ROWS):
            ids = vectors.ids[start : start + _ROWS]
            body = {
                "vectors": _wire(vectors.subset(np.arange(start, start + len(ids)))),
                "also": [_wire(given.subset(given.rows_of(ids))) for given in also],
                "metadata": {name: dict((metadata or {})[name]) for name in ids.tolist() if name in (metadata or {})},
                "update": update,
            }
            done += self._ask("POST", "/items", Added, body)
        return done

    def add_images(
        self,
        images: Images,
        *,
        labels: Mapping[str, str] | None = None,
        metadata: Mapping[str, Mapping[str, Any]] | None = None,
        update: bool = False,
    ) -> Added:
        """Add items by image files, embedded by the models that the service has at hand; all in one request."""
        items = [
            {"id": name, "image": _file(image), **({} if labels is None else {"label": labels.get(name)})}
            for name, image in images.items()
        ]
        body = {"images": items, "metadata": metadata, "update": update}
        return self._ask("POST", "/items", Added, body)

    def get(self, name: str) -> StoredItem | None:
        """What the gallery knows of an item; None where it has none of this id."""
        try:
            return self._ask("GET", f"/items/{quote(name, safe='')}", StoredItem)
        except _Missing:
            return None

    def remove(self, ids: Sequence[str]) -> int:
        """Remove items, all of them or none; how many."""
        return self._ask("POST", "/remove", dict[str, int], {"ids": list(ids)})["removed"]

    def plan(
        self,
        model: str | Space,
        certificates: Sequence[Certificate] = (),
        *,
        order: str | None = None,
        accept_uncertified: bool = False,
        behind: bool = False,
        score: Score | None = None,
    ) -> Plan:
        """Work out an upgrade; see `Gallery.plan`. A model is named as the service was started with it."""
        body = {**_upgrade(model, certificates), "order": order, "accept_uncertified": accept_uncertified}
        return self._ask("POST", "/plan", Plan, {**body, "behind": behind, "score": score})

    def calibrate(
        self,
        queries: VectorSet,
        gallery: VectorSet,
        *,
        certificate: Certificate | None = None,
        fuse: float | None = None,
        old_queries: VectorSet | None = None,
    ) -> Calibration:
        """Learn how scores of a pair of spaces relate to matches; see `Gallery.calibrate`."""
        body = {
            "queries": _wire(queries),
            "gallery": _wire(gallery),
            "certificate": None if certificate is None else certificate.to_dict(),
            "fuse": fuse,
            "old_queries": None if old_queries is None else _wire(old_queries),
        }
        return self._ask("POST", "/calibrate", Calibration, body)

    def upgrade(
        self,
        model: str | Space | None = None,
        certificates: Sequence[Certificate] = (),
        *,
        order: str | None = None,
        accept_uncertified: bool = False,
        grace: bool = False,
        expect: int | None = None,
    ) -> Switched:
        """Let queries use the new space from now on; see `Gallery.upgrade`."""
        body = {**_upgrade(model, certificates), "order": order, "accept_uncertified": accept_uncertified}
        return self._ask("POST", "/upgrade", Switched, {**body, "grace": grace, "expect": expect})

    def begin_behind(
        self,
        model: str | Space | None = None,
        *,
        order: str | None = None,
        score: Score | None = None,
        grace: bool = False,
        expect: int | None = None,
    ) -> Plan:
        """Begin an upgrade to a model that need not be compatible; see `Gallery.begin_behind`."""
        body = {**_upgrade(model, ()), "behind": True, "order": order, "score": score, "grace": grace, "expect": expect}
        return self._ask("POST", "/upgrade", Plan, body)

    def switch(
        self,
        *,
        share: float | None = None,
        accept_worse: bool = False,
        grace: bool = False,
        expect: int | None = None,
    ) -> BehindSwitch:
        """Let queries use the space that was filled behind; see `Gallery.switch`."""
        body = {"share": share, "accept_worse": accept_worse, "grace": grace, "expect": expect}
        return self._ask("POST", "/switch", BehindSwitch, body)

    def quality(self) -> Quality:
        """How well the new side of a behind upgrade searches; see `Gallery.quality`."""
        return self._ask("POST", "/quality", Quality)

    def backfill(
        self,
        *,
        order: str | None = None,
        vectors: VectorSet | None = None,
        limits: Limits | None = None,
        epsilon: float | None = None,
        retry: bool = False,
    ) -> Job:
        """Start a backfill in the service, see `Gallery.backfill`; `job` watches it, `stop` stops it."""
        chosen = limits or Limits()
        given = {name: getattr(chosen, name) for name in ("batch_size", "items", "seconds", "rate", "p95")}
        held = None if vectors is None else _wire(vectors)
        body = {**given, "order": order, "vectors": held, "epsilon": epsilon, "retry": retry}
        return self._ask("POST", "/jobs", Job, body)

    def jobs(self) -> tuple[Job, ...]:
        """The backfills of the gallery, newest first."""
        return self._ask("GET", "/jobs", tuple[Job, ...])

    def job(self, name: str) -> Job:
        """How far a backfill is, or what it did."""
        return self._ask("GET", f"/jobs/{quote(name, safe='')}", Job)

    def stop(self, name: str) -> Job:
        """Stop a backfill after the batch in hand."""
        return self._ask("DELETE", f"/jobs/{quote(name, safe='')}", Job)

    def pause(self, *, expect: int | None = None) -> Upgrade:
        """Let the workers of the upgrade wait before they claim more."""
        return self._ask("POST", "/pause", Upgrade, {"expect": expect})

    def resume(self, *, expect: int | None = None) -> Upgrade:
        """Let waiting workers go on."""
        return self._ask("POST", "/resume", Upgrade, {"expect": expect})

    def rollback(self, *, expect: int | None = None) -> Switched:
        """Let queries use the space from before the upgrade again; see `Gallery.rollback`."""
        return self._ask("POST", "/rollback", Switched, {"expect": expect})

    def seal(
        self,
        *,
        partial: bool = False,
        unused_for: float | None = None,
        end_grace: bool = False,
        expect: int | None = None,
    ) -> Sealed:
        """Delete the old vectors after a counted check; see `Gallery.seal`."""
        body = {"partial": partial, "unused_for": unused_for, "end_grace": end_grace, "expect": expect}
        return self._ask("POST", "/seal", Sealed, body)

    def status(self) -> Status:
        """Spaces, items, upgrade, work, workers, rate and time left."""
        return self._ask("GET", "/status", Status)

    def canary_curve(self) -> CanaryCurve:
        """How well the canaries find their own class at every share of the backfill so far."""
        return self._ask("GET", "/canary-curve", CanaryCurve)

    def certificates(self) -> list[dict[str, Any]]:
        """For each pair of spaces that may be compared: `query`, `gallery`, `certificate`, `verdict`, perhaps None."""
        return self._ask("GET", "/certificates", list[dict[str, Any]])

    def _ask(self, method: str, path: str, kind: type[T], body: Any = None, *, whole: bool = False) -> T:
        """Ask the service; where it has too much to do and has begun nothing, again after the time it names.

        Raises:
            SamespaceError: what the service refused, or that it cannot be reached.
        """
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        end = time.monotonic() + self._timeout
        while True:
            try:
                place = path if whole else self._path + path
                answer = self._http.request(method, place, content=content, headers=headers)
            except self._unreachable as error:
                raise GalleryError(f"the service at {self._http.base_url} cannot be reached: {error}") from None
            wait = float(answer.headers.get("retry-after", 1))
            if answer.status_code != 429 or time.monotonic() + wait > end:
                break
            time.sleep(wait)
        if answer.status_code >= 400:
            raise _refusal(answer.status_code, answer.content)
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise GalleryError(f"what answers at {self._http.base_url} is no service of samespace: {error}") from None


class _Missing(InputError):
    """What a path names is not there."""


def _refusal(status: int, content: bytes) -> SamespaceError:
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
        return _Missing(detail)
    if status in (429, 503, 504) or status >= 500:
        return GalleryError(f"{detail} (request {value.get('request_id')})")
    return InputError(detail)


def _wire(vectors: VectorSet) -> dict[str, Any]:
    """Vectors as a request has them."""
    if not isinstance(vectors, VectorSet):
        raise InputError(f"vectors go to the service as a VectorSet, got {type(vectors).__name__}")
    if vectors.space is None:
        raise undeclared(vectors.name)
    held = np.ascontiguousarray(vectors.vectors, dtype="<f4")
    return {
        "space": vectors.space.id,
        "precision": vectors.space.precision,
        "base64": base64.b64encode(held.data).decode(),
        "ids": vectors.ids.tolist() if vectors.has_ids else None,
        "labels": None if vectors.labels is None else vectors.labels.astype(str).tolist(),
    }


def _where(where: Where) -> list[dict[str, Any]]:
    return [{"key": one.key, "op": one.operator, "value": one.value} for one in conditions(where)]


def _file(image: Path | bytes) -> str:
    held = image if isinstance(image, bytes) else Path(image).read_bytes()
    return base64.b64encode(held).decode()


def _upgrade(model: str | Space | None, certificates: Sequence[Certificate]) -> dict[str, Any]:
    body: dict[str, Any] = {"certificates": [certificate.to_dict() for certificate in certificates]}
    if isinstance(model, Space):
        body["space"] = model.to_dict()
    elif model is not None:
        body["model"] = model
    return body
