"""The worker loop of a backfill: claim, read, embed, hand in; the work list in the ledger is the checkpoint."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from samespace.errors import GalleryError, InputError
from samespace.gallery.adding import require_vectors
from samespace.gallery.images import Encoder, Images, another_image
from samespace.gallery.ledger import Ledger
from samespace.gallery.records import Claim, Handed, State, Vectors, Worker
from samespace.gallery.throttle import LatencyBudget, RateLimit
from samespace.space import Space
from samespace.vectors import VectorSet

_POLL_SECONDS = 0.5
_WAIT_SECONDS = 0.05
_BEAT_SECONDS = 2.0
_AHEAD = 2


@dataclass(frozen=True)
class Batch:
    """Images of claimed items, ready to be embedded."""

    claims: list[Claim]
    embed: Callable[[], Vectors]
    failed: dict[int, str]


class Supply(Protocol):
    """Where the vectors of claimed items come from."""

    def take(self, claims: list[Claim]) -> Batch:
        """Fetch what is needed for these items; runs beside the embedding of the batch before."""
        ...


class FromImages:
    """Vectors by a model from images.

    Args:
        encoder: the model.
        images: of the items, as the model takes them.
    """

    def __init__(self, encoder: Encoder, images: Images) -> None:
        self.encoder, self.images = encoder, images

    def take(self, claims: list[Claim]) -> Batch:
        """Read the images of these items."""
        loaded = self.images.load([claim.id for claim in claims])
        failed = {claims[place].item: reason for place, reason in loaded.missing.items()}
        kept = []
        for slot, (place, content) in enumerate(zip(loaded.places, loaded.contents, strict=True)):
            if another_image(claims[place].content, content):
                failed[claims[place].item] = "the image is not the one that was added; add the item again with update"
            else:
                kept.append(slot)
        pixels = loaded.pixels if len(kept) == len(loaded.places) else loaded.pixels[kept]
        chosen = [claims[loaded.places[slot]] for slot in kept]
        return Batch(chosen, lambda: self.encoder.vectors(pixels), failed)


class FromVectors:
    """Vectors that were made elsewhere.

    Args:
        vectors: a set of the space, by item id.
        space: of the vectors.
    """

    def __init__(self, vectors: VectorSet, space: Space) -> None:
        if not vectors.has_ids:
            raise InputError(f"{vectors.name} has no ids; a backfill finds vectors by item id")
        self.vectors, self.space = vectors, space
        self._order = np.argsort(vectors.ids, kind="stable")
        self._sorted = vectors.ids[self._order]

    def take(self, claims: list[Claim]) -> Batch:
        """Find the vectors of these items."""
        wanted = np.asarray([claim.id for claim in claims], dtype=np.str_)
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        found = self._sorted[place] == wanted
        failed = {
            claims[slot].item: f"no vector of this id in {self.vectors.name}"
            for slot in np.flatnonzero(~found).tolist()
        }
        values = self.vectors.take(self._order[place[found]])
        require_vectors(values, self.space, self.vectors.name, wanted[found])
        return Batch([claims[slot] for slot in np.flatnonzero(found)], lambda: values, failed)


@dataclass(frozen=True)
class Limits:
    """When a worker ends or waits.

    Attributes:
        batch_size: items claimed, read and embedded at once.
        lease: seconds after which a claim that came to nothing is free for others.
        items: most items to embed in this run.
        seconds: longest time this run may take.
        rate: most items per second.
        p95: most milliseconds that the 95th percentile of searches may take while this worker claims work.
    """

    batch_size: int = 256
    lease: float = 300.0
    items: int | None = None
    seconds: float | None = None
    rate: float | None = None
    p95: float | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "lease", "items", "seconds", "rate", "p95"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} should be above 0, got {value}")


@dataclass
class Progress:
    """How far a worker has come."""

    handed: Handed = field(default_factory=Handed)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ended: str = ""


class Loop:
    """One worker: three threads, so that reading, embedding and writing go on at once.

    Args:
        ledger: of the gallery; this worker's own connection.
        rank: of the space to embed for.
        supply: where vectors come from.
        limits: when to end or wait.
        probe: one search, for the latency budget.
        advance: called with how many more items are done, and a note.
        stop: set from outside to end the run after the batch in hand.
    """

    def __init__(
        self,
        ledger: Ledger,
        rank: int,
        supply: Supply,
        limits: Limits,
        *,
        probe: Callable[[], object] = lambda: None,
        advance: Callable[[int, str], None] = lambda done, note: None,
        stop: threading.Event | None = None,
    ) -> None:
        self.ledger, self.rank, self.supply, self.limits = ledger, rank, supply, limits
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.stop = stop or threading.Event()
        self._advance = advance
        self._budget = LatencyBudget(limits.p95, probe)
        self._speed = RateLimit(limits.rate)
        self._progress = Progress()
        self._claimed = 0
        self._began = time.monotonic()
        self._started = time.time()
        self._beaten = 0.0
        self._errors: list[BaseException] = []
        self._loaded: queue.Queue[Batch | None] = queue.Queue(_AHEAD)
        self._embedded: queue.Queue[tuple[Batch, Vectors] | None] = queue.Queue(_AHEAD)

    def run(self) -> Progress:
        """Work until there is nothing left to claim, a limit is reached or `stop` is set."""
        release_dead(self.ledger, self.rank)
        threads = [
            threading.Thread(target=self._guarded, args=(step,), daemon=True) for step in (self._load, self._write)
        ]
        for thread in threads:
            thread.start()
        try:
            self._embed()
        except BaseException:
            self.stop.set()
            raise
        finally:
            self._embedded.put(None)
            self._drain()
            for thread in threads:
                thread.join()
            self._leave()
        if self._errors:
            raise self._errors[0]
        self._progress.seconds = time.monotonic() - self._began
        return self._progress

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except BaseException as error:
            self._errors.append(error)
            self.stop.set()
            if step == self._write:
                self._drop()

    def _load(self) -> None:
        try:
            while not self.stop.is_set():
                claims = self._claim()
                if claims is None:
                    break
                if claims:
                    self._loaded.put(self.supply.take(claims))
        finally:
            self._loaded.put(None)

    def _embed(self) -> None:
        while (batch := self._loaded.get()) is not None:
            vectors = batch.embed() if batch.claims else np.empty((0, 0), dtype=np.float32)
            self._embedded.put((batch, vectors))

    def _write(self) -> None:
        while (done := self._embedded.get()) is not None:
            self._hand_in(*done)

    def _claim(self) -> list[Claim] | None:
        """The next items; none at all for now; or None at the end."""
        with self.ledger.read() as view:
            state = view.state()
        count = self._may_claim(state)
        if count <= 0:
            return None
        upgrade = state.upgrade
        note = ""
        if upgrade is not None and upgrade.paused:
            note = "paused"
        elif self._budget.exceeded():
            note = f"waiting for searches (p95 {self._budget.p95:.0f} ms)"
        if note:
            self._beat(note, force=True)
            self._advance(0, note)
            self.stop.wait(_POLL_SECONDS)
            return []
        with self.ledger.claiming() as change:
            claims = change.claim(self.rank, self.owner, count, now=time.time(), lease=self.limits.lease)
        if not claims:
            return self._await_others()
        self._claimed += len(claims)
        self.stop.wait(self._speed.wait(len(claims)))
        return claims

    def _may_claim(self, state: State) -> int:
        if state.query != self.rank:
            self._progress.ended = "the gallery is queried by another space now"
            return 0
        if self.limits.seconds is not None and time.monotonic() - self._began >= self.limits.seconds:
            self._progress.ended = f"the {self.limits.seconds:g} seconds of this run are over"
            return 0
        count = self.limits.batch_size
        if self.limits.items is not None:
            count = min(count, self.limits.items - self._claimed)
            if count <= 0:
                self._progress.ended = f"the {self.limits.items:,} items of this run are done"
                return 0
        return count

    def _await_others(self) -> list[Claim] | None:
        """Nothing is free: end, unless claims are out that may yet come to nothing, this worker's own included."""
        with self.ledger.read() as view:
            work = view.work(self.rank, time.time())
        if not work.open:
            self._progress.ended = self._progress.ended or "nothing is left"
            return None
        if self._claimed == self._seen():
            release_dead(self.ledger, self.rank)
            self._beat("waiting for other workers")
        self.stop.wait(_WAIT_SECONDS)
        return []

    def _hand_in(self, batch: Batch, vectors: Vectors) -> None:
        with self.ledger.write() as change:
            handed = change.hand_in(self.rank, batch.claims, vectors, owner=self.owner) if batch.claims else Handed()
            change.fail(self.rank, self.owner, batch.failed)
        names = self._names(batch)
        self._progress.handed += handed
        self._progress.failed.update(names)
        self._advance(handed.stored + handed.present, "")
        self._beat("embedding")

    def _names(self, batch: Batch) -> dict[str, str]:
        if not batch.failed:
            return {}
        with self.ledger.read() as view:
            return {item.id: batch.failed[item.number] for item in view.items(list(batch.failed)).values()}

    def _seen(self) -> int:
        handed = self._progress.handed
        return handed.stored + handed.present + handed.changed + handed.gone + handed.lost + len(self._progress.failed)

    def _beat(self, note: str, *, force: bool = False) -> None:
        now = time.time()
        if force or now - self._beaten >= _BEAT_SECONDS:
            self._beaten = now
            worker = Worker(
                self.owner, self.rank, self._started, now, self._progress.handed.stored,
                len(self._progress.failed), note,
            )  # fmt: skip
            with self.ledger.claiming() as change:
                change.beat(worker)

    def _leave(self) -> None:
        """Give back what was claimed and not embedded; a worker that was killed leaves that to the lease."""
        try:
            with self.ledger.write() as change:
                change.release_owned(self.rank, self.owner)
                change.leave(self.owner)
        except GalleryError as error:
            self._errors.append(error)

    def _drain(self) -> None:
        """Let a loader that waits for room see that the run is over."""
        while True:
            try:
                if self._loaded.get_nowait() is None:
                    return
            except queue.Empty:
                return

    def _drop(self) -> None:
        """Keep taking what is embedded, so that nobody waits for a writer that has failed."""
        while self._embedded.get() is not None:
            pass


def release_dead(ledger: Ledger, rank: int) -> int:
    """Take back the claims of workers of this machine whose process is gone; other machines' wait for their lease."""
    with ledger.read() as view:
        dead = [owner for owner in view.owners(rank) if is_dead(owner)]
    for owner in dead:
        with ledger.write() as change:
            change.release_owned(rank, owner)
            change.leave(owner)
    return len(dead)


def is_dead(owner: str) -> bool:
    """Whether a worker was a process of this machine that is gone."""
    host, _, rest = owner.rpartition("-")[0].rpartition("-")
    if host != socket.gethostname() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
