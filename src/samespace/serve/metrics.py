"""What Prometheus reads: latency, queries by space, what each space serves, how far indexes and backfills lag."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from samespace.gallery import Answer, Gallery, Status

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_STATUS_SECONDS = 5.0


class Metrics:
    """Counters and gauges of one service, or of all its workers together; safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self._searches = Histogram(
            "samespace_search_seconds",
            "Time of searches by gallery, space of the queries and mode: vectors, images or texts.",
            ["gallery", "space", "mode"], buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._queries = Counter(
            "samespace_queries", "Queries answered, by the space that they are of.", ["gallery", "space"],
            registry=registry,
        )  # fmt: skip
        self._commits = Histogram(
            "samespace_commit_seconds", "Time of changes, until they are on disk.", ["gallery", "operation"],
            buckets=_BUCKETS, registry=registry,
        )  # fmt: skip
        self._requests = Counter(
            "samespace_requests", "Requests by method, route and status.", ["method", "route", "status"],
            registry=registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "samespace_requests_in_flight", "Requests being worked on.", registry=registry, multiprocess_mode="livesum"
        )
        self._items = _gauge(registry, "samespace_items", "Items of a gallery.")
        self._backfilled = _gauge(registry, "samespace_backfilled_share", "Share of items with the newest vector.")
        self._lag = _gauge(registry, "samespace_backfill_lag_items", "Items on the work list of the backfill.")
        self._served = _gauge(registry, "samespace_served_share", "Share of items that a space serves.", "space")
        self._unindexed = _gauge(
            registry, "samespace_index_lag_vectors", "Vectors of a space that no index covers yet.", "space"
        )
        self._old = _gauge(registry, "samespace_earlier_queries", "Queries of an earlier space, as counted.", "space")
        self._lease = _gauge(
            registry, "samespace_lease_age_seconds",
            "Longest time since a worker that holds claims has renewed their leases; 0 where none holds any.",
        )  # fmt: skip
        self._drift = _gauge(
            registry, "samespace_canary_drift",
            "1 - the lowest cosine of a canary's stored vector with what the model at hand makes of it now.", "space",
        )  # fmt: skip
        self._read: dict[str, float] = {}
        self._guard = threading.Lock()

    def request(self, method: str, route: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()

    def search(self, gallery: str, space: str, mode: str, answer: Answer, seconds: float) -> None:
        """Count a search that was answered."""
        self._searches.labels(gallery, space, mode).observe(seconds)
        self._queries.labels(gallery, space).inc(len(answer.hits))

    def drift(self, gallery: str, space: str, drift: float) -> None:
        """Keep how far a model is from the one that made the vectors of its space."""
        self._drift.labels(gallery, space).set(drift)

    @contextmanager
    def committing(self, gallery: str, operation: str) -> Iterator[None]:
        """Measure a change; one that fails is not counted."""
        began = time.perf_counter()
        yield
        self._commits.labels(gallery, operation).observe(time.perf_counter() - began)

    def text(self, galleries: dict[str, Gallery]) -> bytes:
        """All of it in Prometheus' form; how galleries stand is read again every few seconds."""
        with self._guard:
            for name, gallery in galleries.items():
                if time.monotonic() - self._read.get(name, -_STATUS_SECONDS) >= _STATUS_SECONDS:
                    self._show(name, gallery.status())
                    self._lease.labels(name).set(_lease_age(gallery))
                    self._read[name] = time.monotonic()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)

    def _show(self, name: str, status: Status) -> None:
        self._items.labels(name).set(status.items)
        self._backfilled.labels(name).set(status.backfilled)
        self._lag.labels(name).set(status.work.open + status.work.claimed)
        for one in status.spaces:
            self._served.labels(name, one.space.id).set(one.served / status.items if status.items else 0.0)
            self._unindexed.labels(name, one.space.id).set(max(0, one.vectors - one.indexed))
            if one.queries is not None:
                self._old.labels(name, one.space.id).set(one.queries.queries)


def _gauge(registry: CollectorRegistry, name: str, what: str, *labels: str) -> Gauge:
    return Gauge(name, what, ["gallery", *labels], registry=registry, multiprocess_mode="mostrecent")


def _lease_age(gallery: Gallery) -> float:
    """Longest time since a worker that holds claims has renewed their leases, in seconds."""
    now = time.time()
    with gallery.ledger.read() as reader:
        owners = {owner for generation in reader.state().sides for owner in reader.owners(generation)}
        seen = [worker.seen for worker in reader.workers(0.0) if worker.owner in owners]
    return max(0.0, now - min(seen, default=now))
