"""Backfills that run in threads of the service; they belong to the gallery, so that any of its processes can list them,
stop them, and carry on those of a process that is gone.
"""  # noqa: D205

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery.ledger.job_records import (
    add_job_record,
    ask_to_stop,
    drop_job_record,
    job_records,
    replace_job_record,
)
from samespace.names import one_line
from samespace.serve.backfills.job import UNDER_WAY, Job, JobState, jobs_of, record_of
from samespace.serve.wire import JobBody
from samespace.vectors import VectorSet

LOG = logging.getLogger("samespace.serve")
_KEPT = 100
_LOOK_SECONDS = 1.0
_ALIVE_SECONDS = 2.0


@dataclass
class _Running:
    """A job of this process, and the record of it that the gallery has."""

    job: Job
    record: str
    limits: Limits
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class Jobs:
    """The jobs of a service's galleries, the last hundred of each; safe to use from several threads.

    `place`: where a model lies, by the name that requests give it.
    """

    def __init__(self, galleries: Mapping[str, Gallery], place: Callable[[str], str]) -> None:
        self.process = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._galleries, self._place = galleries, place
        self._running: dict[str, _Running] = {}
        self._changing, self._writing = threading.Lock(), threading.Lock()
        self._closing = threading.Event()
        self._watching: threading.Thread | None = None

    def watch(self) -> None:
        """From now on take part: look for wishes to stop, and carry on what other processes have left."""
        self._watching = threading.Thread(target=self._watch, name="jobs", daemon=True)
        self._watching.start()

    def start(self, gallery: str, body: JobBody, vectors: VectorSet | None) -> Job:
        """Begin a job in a thread of its own.

        Raises:
            InputError: a limit that is not legal, or a model that the service has not.
            SpaceError: vectors of another space.
            GalleryError: nothing can be filled, one of this gallery runs already, or the service is stopping.
        """
        limits = _limits(body, 0)
        model = None if body.model is None else self._place(body.model)
        self._galleries[gallery].require_fillable(order=body.order, vectors=vectors, model=model, epsilon=body.epsilon)
        request = None if vectors is not None else body.model_dump(exclude_defaults=True)
        now = time.time()
        job = Job(secrets.token_hex(8), gallery, "running", now, process=self.process, seen=now, request=request)
        one = _Running(job, record_of(job), limits)
        with self._writing:
            if self._closing.is_set():
                raise GalleryError("the service is stopping and begins nothing new")
            with self._galleries[gallery].ledger.write() as writer:
                known = jobs_of(job_records(writer)[0], gallery)
                if running := [other.id for other in known.values() if other.state in UNDER_WAY]:
                    raise GalleryError(f"the job {running[0]} fills '{gallery}' already; stop it first, or let it end")
                for old in list(known)[_KEPT - 1 :]:
                    drop_job_record(writer, old)
                add_job_record(writer, job.id, one.record)
            self._begin(one, body, vectors)
        return job

    def list(self, gallery: str) -> tuple[Job, ...]:
        """The jobs of a gallery, newest first."""
        with self._galleries[gallery].ledger.read() as reader:
            records, stops = job_records(reader)
        found = []
        for job in jobs_of(records, gallery).values():
            mine = self._running.get(job.id)
            now = job if mine is None else mine.job
            found.append(replace(now, state="stopping") if now.state == "running" and now.id in stops else now)
        return tuple(found)

    def get(self, gallery: str, name: str) -> Job | None:
        """A job of a gallery; None where there is none of this id."""
        return next((job for job in self.list(gallery) if job.id == name), None)

    def stop(self, gallery: str, name: str) -> Job | None:
        """Ask a job to end after the batch in hand, wherever it runs; one that has ended stays as it is."""
        job = self.get(gallery, name)
        if job is None or job.state in ("done", "stopped", "failed"):
            return job
        with self._galleries[gallery].ledger.claiming() as writer:
            ask_to_stop(writer, name)
        if (mine := self._running.get(name)) is not None:
            mine.stop.set()
        return self.get(gallery, name)

    def close(self) -> None:
        """End all jobs of this process after the batch in hand; those that another can carry on wait for one."""
        self._closing.set()
        with self._writing:
            running = list(self._running.values())
        for one in running:
            one.stop.set()
        for thread in (self._watching, *(one.thread for one in running)):
            if thread is not None:
                thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            for name, gallery in self._galleries.items():
                # where the store cannot be reached now, the next look may reach it
                with suppress(SamespaceError):
                    self._look(name, gallery)

    def _look(self, name: str, gallery: Gallery) -> None:
        """Stop what should stop, say that this process is alive, carry on what others have left."""
        with gallery.ledger.read() as reader:
            records, stops = job_records(reader)
        for job in jobs_of(records, name).values():
            mine = self._running.get(job.id)
            if mine is not None:
                if job.id in stops:
                    mine.stop.set()
                if time.time() - mine.job.seen >= _ALIVE_SECONDS:
                    self._write(mine)
            elif job.id in stops and job.state in ("waiting", "died"):
                stopped = replace(job, state="stopped", ended=time.time())
                with gallery.ledger.claiming() as writer:
                    replace_job_record(writer, job.id, record_of(stopped), records[job.id])
            elif job.state in ("waiting", "died") and job.error is None and job.request is not None:
                self._take_over(gallery, job, records[job.id])

    def _take_over(self, gallery: Gallery, job: Job, before: str) -> None:
        taken = replace(
            job, state="running", ended=None, process=self.process, seen=time.time(), processes=job.processes + 1
        )
        body = JobBody.model_validate(job.request)
        one = _Running(taken, record_of(taken), _limits(body, job.done))
        with self._writing:
            if self._closing.is_set():
                return
            with gallery.ledger.claiming() as writer:
                if not replace_job_record(writer, job.id, one.record, before):
                    return
            self._begin(one, body, None)
        LOG.info("job carried on", extra={"job": job.id, "gallery": job.gallery, "from": job.process})

    def _begin(self, one: _Running, body: JobBody, vectors: VectorSet | None) -> None:
        name = f"job-{one.job.id}"
        one.thread = threading.Thread(target=self._run, args=(one, body, vectors), name=name, daemon=True)
        self._running[one.job.id] = one
        one.thread.start()

    def _run(self, one: _Running, body: JobBody, vectors: VectorSet | None) -> None:
        def advance(done: int, note: str = "") -> None:
            with self._changing:
                one.job = replace(one.job, done=one.job.done + done, note=note or ("" if done else one.job.note))

        result, error = None, None
        try:
            model = None if body.model is None else self._place(body.model)
            result = self._galleries[one.job.gallery].backfill(
                order=body.order, vectors=vectors, model=model, limits=one.limits, epsilon=body.epsilon,
                retry=body.retry, advance=advance, stop=one.stop,
            )  # fmt: skip
        except SamespaceError as failed:
            error = one_line(str(failed))
        except Exception as failed:
            LOG.exception("job failed", extra={"job": one.job.id})
            error = f"unexpected {type(failed).__name__}, a fault of samespace; the log of the service says where"
        state: JobState = "done" if error is None else "failed"
        if one.stop.is_set() and error is None:
            state = "waiting" if self._closing.is_set() and body.vectors is None else "stopped"
        ended = None if state == "waiting" else time.time()
        with suppress(SamespaceError):
            self._write(one, state=state, ended=ended, result=result, error=error)
        del self._running[one.job.id]

    def _write(self, one: _Running, **changes: Any) -> None:
        """Bring the record of a job of this process up to date; it stops where another process has taken it over."""
        with self._writing:
            if one.job.state not in UNDER_WAY:
                return
            with self._changing:
                job = one.job = replace(one.job, seen=time.time(), **changes)
            record = record_of(job)
            with self._galleries[job.gallery].ledger.claiming() as writer:
                if not replace_job_record(writer, job.id, record, one.record):
                    one.stop.set()
            one.record = record


def _limits(body: JobBody, done: int) -> Limits:
    """The limits of what is left of a job of which some items are done."""
    items = None if body.items is None else max(1, body.items - done)
    return Limits(batch_size=body.batch_size, items=items, seconds=body.seconds, rate=body.rate, p95=body.p95)
