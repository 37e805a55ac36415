"""Backfills that run in threads of the service: started, watched, stopped at a safe point."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Backfilled
from samespace.names import one_line
from samespace.progress import Bar

LOG = logging.getLogger("samespace.serve")
_KEPT = 100

Work = Callable[[Bar, threading.Event], Backfilled]


@dataclass(frozen=True)
class Job:
    """A backfill of this process.

    Attributes:
        id: names it.
        gallery: what it fills.
        state: `stopping` until the batch in hand is stored.
        started: seconds since 1970.
        ended: seconds since 1970; None while it runs.
        done: items so far.
        note: what it said last.
        result: what it did, once it has ended.
        error: why it failed, in one line.
    """

    id: str
    gallery: str
    state: Literal["running", "stopping", "done", "stopped", "failed"]
    started: float
    ended: float | None = None
    done: int = 0
    note: str = ""
    result: Backfilled | None = None
    error: str | None = None


class Jobs:
    """The jobs of a service, the last hundred that have ended included; safe to use from several threads."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._stops: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._guard = threading.Lock()
        self._closed = False

    def start(self, gallery: str, work: Work) -> Job:
        """Begin a job in a thread of its own.

        Raises:
            GalleryError: one of this gallery runs already, or the service is stopping.
        """
        with self._guard:
            if self._closed:
                raise GalleryError("the service is stopping and begins nothing new")
            running = [name for name in self._stops if self._jobs[name].gallery == gallery]
            if running:
                raise GalleryError(f"the job {running[0]} fills '{gallery}' already; stop it first, or let it end")
            job = Job(secrets.token_hex(8), gallery, "running", time.time())
            stop = threading.Event()
            thread = threading.Thread(target=self._run, args=(job.id, work, stop), name=f"job-{job.id}", daemon=True)
            self._jobs[job.id], self._stops[job.id] = job, (stop, thread)
            for old in list(self._jobs)[: -_KEPT or None]:
                if old not in self._stops:
                    del self._jobs[old]
            thread.start()
        return job

    def list(self, gallery: str) -> tuple[Job, ...]:
        """The jobs of a gallery, newest first."""
        with self._guard:
            return tuple(job for job in reversed(self._jobs.values()) if job.gallery == gallery)

    def get(self, gallery: str, name: str) -> Job | None:
        """A job of a gallery; None where there is none of this id."""
        with self._guard:
            job = self._jobs.get(name)
            return job if job is not None and job.gallery == gallery else None

    def stop(self, gallery: str, name: str) -> Job | None:
        """Ask a job to end after the batch in hand; one that has ended stays as it is."""
        with self._guard:
            job = self._jobs.get(name)
            if job is None or job.gallery != gallery:
                return None
            if name in self._stops:
                self._stops[name][0].set()
                self._jobs[name] = replace(job, state="stopping")
            return self._jobs[name]

    def close(self) -> None:
        """Stop all jobs and wait until each has stored its batch."""
        with self._guard:
            self._closed = True
            running = list(self._stops.values())
        for stop, _ in running:
            stop.set()
        for _, thread in running:
            thread.join()

    def _run(self, name: str, work: Work, stop: threading.Event) -> None:
        def advance(done: int, note: str = "") -> None:
            with self._guard:
                job = self._jobs[name]
                self._jobs[name] = replace(job, done=job.done + done, note=note or job.note)

        result, error = None, None
        try:
            result = work(advance, stop)
        except SamespaceError as failed:
            error = one_line(str(failed))
        except Exception as failed:
            LOG.exception("job failed", extra={"job": name})
            error = f"unexpected {type(failed).__name__}, a fault of samespace; the log of the service says where"
        with self._guard:
            state: Literal["done", "stopped", "failed"] = "done"
            if error is not None:
                state = "failed"
            elif stop.is_set():
                state = "stopped"
            self._jobs[name] = replace(self._jobs[name], state=state, ended=time.time(), result=result, error=error)
            del self._stops[name]
