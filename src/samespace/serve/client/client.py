"""`Client`: a gallery behind a service, with the methods of `Gallery` and its errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from samespace.errors import InputError
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
from samespace.gallery.ledger.filters import Where
from samespace.gallery.ledger.state import Upgrade
from samespace.gallery.search.search import Merge
from samespace.metrics.calibration import Calibration, Scale
from samespace.serve.backfills.job import Job
from samespace.serve.client.connection import Connection, Missing
from samespace.serve.client.messages import sent_file, sent_upgrade, sent_vectors, sent_where
from samespace.space import Score, Space
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    import httpx

    from samespace.evaluate.certificate import Certificate

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
        self._connection = Connection(address, gallery, key=key, timeout=timeout, transport=transport)
        self._ask = self._connection.ask

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
        self._connection.close()

    @property
    def space(self) -> Space:
        """The space that queries use now."""
        known = self._ask("GET", "/v1", dict[str, Any], whole=True)["galleries"]
        name = next((one for one in known if f"/v1/{quote(one, safe='')}" == self._connection.path), None)
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
        old = None if old_queries is None else sent_vectors(old_queries)
        options: dict[str, Any] = {
            "min_score": min_score, "max_fmr": max_fmr, "merge": merge, "scale": scale, "exact": exact,
            "count": count, "fuse": fuse, "old_queries": old, "k": k, "where": sent_where(where),
        }  # fmt: skip
        return self._ask("POST", "/search", Answer, {"queries": sent_vectors(queries), **options})

    def search_images(self, images: Sequence[Path | bytes], *, k: int = 10, where: Where = None) -> Answer:
        """Find the best items for each image file, embedded by the service."""
        body = {"images": [sent_file(image) for image in images], "k": k, "where": sent_where(where)}
        return self._ask("POST", "/search", Answer, body)

    def search_texts(self, texts: Sequence[str], *, k: int = 10, where: Where = None) -> Answer:
        """Find the best items for each text, embedded by the service."""
        return self._ask("POST", "/search", Answer, {"texts": list(texts), "k": k, "where": sent_where(where)})

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
                "vectors": sent_vectors(vectors.subset(np.arange(start, start + len(ids)))),
                "also": [sent_vectors(given.subset(given.rows_of(ids))) for given in also],
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
            {"id": name, "image": sent_file(image), **({} if labels is None else {"label": labels.get(name)})}
            for name, image in images.items()
        ]
        body = {"images": items, "metadata": metadata, "update": update}
        return self._ask("POST", "/items", Added, body)

    def get(self, name: str) -> StoredItem | None:
        """What the gallery knows of an item; None where it has none of this id."""
        try:
            return self._ask("GET", f"/items/{quote(name, safe='')}", StoredItem)
        except Missing:
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
        body = {**sent_upgrade(model, certificates), "order": order, "accept_uncertified": accept_uncertified}
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
            "queries": sent_vectors(queries),
            "gallery": sent_vectors(gallery),
            "certificate": None if certificate is None else certificate.to_dict(),
            "fuse": fuse,
            "old_queries": None if old_queries is None else sent_vectors(old_queries),
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
        body = {**sent_upgrade(model, certificates), "order": order, "accept_uncertified": accept_uncertified}
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
        body = {
            **sent_upgrade(model, ()),
            "behind": True,
            "order": order,
            "score": score,
            "grace": grace,
            "expect": expect,
        }
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
        model: str | None = None,
        epsilon: float | None = None,
        retry: bool = False,
    ) -> Job:
        """Start a backfill in the service, see `Gallery.backfill`; `job` watches it, `stop` stops it.

        A model is named as the service was started with it; by default it is the one that the gallery remembers.
        """
        chosen = limits or Limits()
        given = {name: getattr(chosen, name) for name in ("batch_size", "items", "seconds", "rate", "p95")}
        held = None if vectors is None else sent_vectors(vectors)
        body = {**given, "order": order, "vectors": held, "model": model, "epsilon": epsilon, "retry": retry}
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
