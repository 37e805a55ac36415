"""One worker of a backfill: claim, read, embed, store; the work list in the ledger is the checkpoint."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import numpy as np

from samespace.errors import GalleryError, counted
from samespace.gallery.backfill.limits import LatencyBudget, Limits, RateLimit
from samespace.gallery.backfill.vector_source import FromVectors, Listed, Prepared, VectorSource
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.pool import Unreachable
from samespace.gallery.ledger.state import Claim, Completed, State, Vectors, Work, WorkerStatus
from samespace.progress import Bar, silent

_POLL_SECONDS = 0.5
_WAIT_SECONDS = 0.05
_OTHERS_SECONDS = 0.2
_HEARTBEAT_SECONDS = 2.0
_AHEAD = 2
_IMAGES = 256
_VECTORS_BYTES, _MOST_VECTORS = 16 * 2**20, 16_384
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_PATIENCE_SECONDS = 3600.0

T = TypeVar("T")


@dataclass
class Progress:
    """What a worker has done so far: what became of its vectors, reason by id of what failed, and why it `ended`."""

    completed: Completed = field(default_factory=Completed)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    ended: str = ""


class Worker:
    """One worker: reading, embedding and writing go on at once in threads, and one more says that it is alive.

    `generation` is of the space to embed for, `probe` one search, for the latency budget; `stop`, set from outside,
    ends the run after the items at work.
    """

    def __init__(
        self,
        ledger: Ledger,
        generation: int,
        vector_source: VectorSource,
        limits: Limits,
        *,
        probe: Callable[[], object] = lambda: None,
        advance: Bar = silent,
        stop: threading.Event | None = None,
    ) -> None:
        self.ledger, self.generation, self.vector_source, self.limits = ledger, generation, vector_source, limits
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.stop = stop or threading.Event()
        self._advance = advance
        self._budget = LatencyBudget(limits.p95, probe)
        self._speed = RateLimit(limits.rate)
        self._listed = Listed(ledger, generation, vector_source) if isinstance(vector_source, FromVectors) else None
        self._batch = limits.batch_size or _batch_of(vector_source, limits)
        self._progress = Progress()
        self._claimed = 0
        self._at_work: set[int] = set()
        self._at_work_lock = threading.Lock()
        self._note = ""
        self._began = time.monotonic()
        self._started = time.time()
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._unsure = False
        self._loaded: queue.Queue[Prepared | None] = queue.Queue(_AHEAD)
        self._embedded: queue.Queue[tuple[Prepared, Vectors] | None] = queue.Queue(_AHEAD)

    def run(self) -> Progress:
        """Work until there is nothing left to claim, a limit is reached or `stop` is set."""
        release_dead(self.ledger, self.generation)
        steps = (self._load, self._write)
        threads = [threading.Thread(target=self._guarded, args=(step,), daemon=True) for step in steps]
        heart = threading.Thread(target=self._stay_alive, daemon=True)
        for thread in (*threads, heart):
            thread.start()
        embedded = False
        try:
            self._embed()
            embedded = True
        except BaseException:
            self.stop.set()
            raise
        finally:
            self._embedded.put(None)
            self._drain_loaded()
            for thread in threads:
                thread.join()
            self._over.set()
            heart.join()
            self._release(counted=not embedded or any(not isinstance(one, GalleryError) for one in self._errors))
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
                # nobody may wait for a writer that has failed
                while self._embedded.get() is not None:
                    pass

    def _load(self) -> None:
        try:
            while not self.stop.is_set():
                claims = self._patiently(self._claim)
                if claims is None:
                    break
                if claims:
                    self._loaded.put(self.vector_source.take(claims).covering(claims))
        finally:
            self._loaded.put(None)

    def _embed(self) -> None:
        while (prepared := self._loaded.get()) is not None:
            vectors = prepared.embed() if prepared.claims else np.empty((0, 0), dtype=np.float32)
            self._embedded.put((prepared, vectors))

    def _write(self) -> None:
        while (done := self._embedded.get()) is not None:
            self._patiently(partial(self._store, *done))

    def _patiently(self, step: Callable[[], T]) -> T:
        """Do a step again, ever more rarely, while the server of the gallery does not answer."""
        pause, since = _FIRST_PAUSE_SECONDS, time.monotonic()
        while True:
            try:
                return step()
            except Unreachable:
                if self.stop.is_set() or time.monotonic() - since > _PATIENCE_SECONDS:
                    raise
            self._unsure = True
            self._advance(0, "waiting for the database")
            self.stop.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _release_unknown(self) -> None:
        """Free what a claim took of which the answer never came."""
        with self._at_work_lock:
            kept = sorted(self._at_work)
        with self.ledger.claiming() as writer:
            writer.release_others(self.generation, self.owner, kept)
        self._unsure = False

    def _stay_alive(self) -> None:
        """Record that this worker is alive and renew the leases of its claims, however long embedding takes."""
        while not self._over.wait(min(_HEARTBEAT_SECONDS, self.limits.lease / 3)):
            # where the database stays unreachable, the work itself fails
            with suppress(GalleryError):
                self._heartbeat()

    def _claim(self) -> list[Claim] | None:
        """The next items; an empty list where there are none yet; None at the end."""
        if self._unsure:
            self._release_unknown()
        state = self.ledger.state()
        count = self._may_claim(state)
        if count <= 0:
            return None
        if note := self._reason_to_wait(state):
            self._say(note)
            self._advance(0, note)
            self.stop.wait(_POLL_SECONDS)
            return []
        if pause := self._speed.wait():
            # nothing is claimed before its time: a lease runs for work, not for waiting
            self.stop.wait(min(pause, _POLL_SECONDS))
            return []
        claims = self._claim_listed(count)
        if not claims:
            return self._await_others()
        self._claimed += len(claims)
        self._speed.begin(len(claims))
        self._say("embedding")
        return claims

    def _reason_to_wait(self, state: State) -> str:
        """Why no work may be claimed now; empty if it may."""
        upgrade = state.upgrade_to(self.generation)
        if upgrade is not None and upgrade.paused:
            return "paused"
        return f"waiting for searches (p95 {self._budget.p95:.0f} ms)" if self._budget.exceeded() else ""

    def _claim_listed(self, count: int) -> list[Claim]:
        if self._listed is None:
            return self._claim_among(None, count)
        while some := self._listed.next(count):
            if claims := self._claim_among(some, count):
                return claims
        return []

    def _claim_among(self, items: list[int] | None, count: int) -> list[Claim]:
        now = time.time()
        with self.ledger.claiming() as writer:
            claims = writer.claim(self.generation, self.owner, count, now=now, lease=self.limits.lease, among=items)
        with self._at_work_lock:
            self._at_work.update(claim.item for claim in claims)
        return claims

    def _may_claim(self, state: State) -> int:
        if self.generation not in state.sides:
            self._progress.ended = "the gallery is queried by another space now"
            return 0
        if self.limits.seconds is not None and time.monotonic() - self._began >= self.limits.seconds:
            self._progress.ended = f"the {self.limits.seconds:g} seconds of this run are over"
            return 0
        count = self._batch
        if self.limits.items is not None:
            count = min(count, self.limits.items - self._claimed)
            if count <= 0:
                some = counted(self.limits.items, "item of this run is", "items of this run are")
                self._progress.ended = f"the {some} done"
                return 0
        return count

    def _await_others(self) -> list[Claim] | None:
        """Nothing can be claimed: end, unless claimed items may become free again, this worker's own included."""
        if self._at_work:
            self.stop.wait(_WAIT_SECONDS)
            return []
        with self.ledger.read() as reader:
            work = reader.work(self.generation, time.time())
        if not work.open or (self._listed is not None and not self._listed.reload()):
            self._progress.ended = self._progress.ended or self._nothing_left(work)
            return None
        release_dead(self.ledger, self.generation)
        self._say("waiting for other workers")
        self.stop.wait(_OTHERS_SECONDS)
        return []

    def _nothing_left(self, work: Work) -> str:
        if work.open and isinstance(self.vector_source, FromVectors):
            return f"of the items that are left, {work.open:,} have no vector in {self.vector_source.vectors.name}"
        if work.failed:
            return (
                f"nothing is left but {counted(work.failed, 'item')} that could not be embedded; try "
                "them again with retry=True"
            )
        return "nothing is left"

    def _store(self, prepared: Prepared, vectors: Vectors) -> None:
        with self.ledger.write() as writer:
            completed = Completed()
            if prepared.claims:
                completed = writer.complete(self.generation, prepared.claims, vectors, owner=self.owner)
            writer.fail(self.generation, self.owner, prepared.failed)
        if prepared.failed:
            with self.ledger.read() as reader:
                items = reader.items(list(prepared.failed)).values()
            self._progress.failed.update({item.id: prepared.failed[item.number] for item in items})
        self._progress.completed += completed
        with self._at_work_lock:
            self._at_work.difference_update(claim.item for claim in prepared.claims)
            self._at_work.difference_update(prepared.failed)
        self._advance(completed.stored + completed.present, "")

    def _say(self, note: str) -> None:
        """Record what this worker is doing, at once if that is new."""
        if note != self._note:
            self._note = note
            # the next heartbeat says it
            with suppress(Unreachable):
                self._heartbeat()

    def _heartbeat(self) -> None:
        now = time.time()
        worker = WorkerStatus(
            self.owner, self.generation, self._started, now, self._progress.completed.stored,
            len(self._progress.failed), self._note,
        )  # fmt: skip
        with self.ledger.claiming() as writer:
            writer.heartbeat(worker)
            writer.renew(self.generation, self.owner, now + self.limits.lease)

    def _release(self, *, counted: bool) -> None:
        """Free what was claimed and not embedded; the claims of a worker that was killed end with their lease.

        The try is `counted` unless it was the store that failed, for that is not the fault of any item.
        """
        try:
            with self.ledger.write() as writer:
                if not counted:
                    writer.release_others(self.generation, self.owner, [])
                writer.release_owned(self.generation, self.owner)
                writer.end_worker(self.owner)
        except GalleryError as error:
            self._errors.append(error)

    def _drain_loaded(self) -> None:
        """Make room for a loader that waits for it, so that it sees that the run is over."""
        with suppress(queue.Empty):
            while self._loaded.get_nowait() is not None:
                pass


def _batch_of(vector_source: VectorSource, limits: Limits) -> int:
    """Items at once: of ready vectors many, as each commit writes pages all over an index; few where a limit is set."""
    if not isinstance(vector_source, FromVectors) or limits.rate is not None or limits.p95 is not None:
        return _IMAGES
    return max(_IMAGES, min(_MOST_VECTORS, _VECTORS_BYTES // (4 * vector_source.space.dim)))


def release_dead(ledger: Ledger, generation: int) -> int:
    """Free the claims of workers of this machine whose process is gone; other machines' end with their lease."""
    with ledger.read() as reader:
        dead = [owner for owner in reader.owners(generation) if is_dead(owner)]
    for owner in dead:
        with ledger.write() as writer:
            writer.release_owned(generation, owner)
            writer.end_worker(owner)
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
        pass
    return False
