"""`Job`: a backfill that a service runs, as its gallery has it on record."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from samespace.gallery import Backfilled
from samespace.gallery.backfill.worker import is_dead

_SILENT_SECONDS = 30.0
_MOST_PROCESSES = 5

JobState = Literal["running", "stopping", "waiting", "died", "done", "stopped", "failed"]
UNDER_WAY: tuple[JobState, ...] = ("running", "stopping")


@dataclass(frozen=True)
class Job:
    """A backfill of a gallery.

    Attributes:
        id: names it.
        gallery: what it fills.
        state: `stopping` until the batch in hand is stored; `waiting` where its service has stopped and the next
            process of the gallery carries it on; `died` where its process is gone: another one carries it on, unless
            `error` says why not.
        started: seconds since 1970.
        ended: seconds since 1970; None while it runs or waits.
        done: items so far.
        note: what it said last.
        result: what its last process did, once it has ended.
        error: why it failed, in one line.
        process: that runs it, or ran it last: machine, number and a random part.
        seen: when that process last said so, in seconds since 1970.
        processes: how many have worked on it.
        request: what was asked for; None where it came with vectors, which are not kept, so that nobody else can carry
            it on.
    """

    id: str
    gallery: str
    state: JobState
    started: float
    ended: float | None = None
    done: int = 0
    note: str = ""
    result: Backfilled | None = None
    error: str | None = None
    process: str = ""
    seen: float = 0.0
    processes: int = 1
    request: Mapping[str, Any] | None = None


def record_of(job: Job) -> str:
    """What the gallery keeps of a job."""
    return msgspec.json.encode(job).decode()


def jobs_of(records: Mapping[str, str], gallery: str) -> dict[str, Job]:
    """Jobs by id, newest first; those of processes that are gone said to be so."""
    found = {}
    for name, text in records.items():
        # a record of another version, or an altered one, is none
        with suppress(msgspec.MsgspecError):
            found[name] = _as_it_is(replace(msgspec.json.decode(text, type=Job), id=name, gallery=gallery))
    return dict(sorted(found.items(), key=lambda pair: -pair[1].started))


def _as_it_is(job: Job) -> Job:
    gone = is_dead(job.process) or time.time() - job.seen > _SILENT_SECONDS
    if job.state not in UNDER_WAY or not gone:
        return job
    error = None
    if job.request is None:
        error = "its process is gone, and the vectors with it; what it stored is kept: send them again to carry on"
    elif job.processes >= _MOST_PROCESSES:
        error = f"{job.processes} processes died while they worked on it; what they stored is kept"
    return replace(job, state="died", ended=job.seen if error else None, error=error)
