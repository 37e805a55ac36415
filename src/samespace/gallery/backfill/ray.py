"""A backfill on a Ray cluster: actors that do the work of every other worker. Needs the extra `ray`."""

from __future__ import annotations

import importlib
import time
from typing import Any

from samespace.errors import GalleryError, InputError
from samespace.gallery.backfill.run import Backfilled, Job, follow, maintained, run_job, shares_of, summary
from samespace.gallery.backfill.worker import Progress
from samespace.gallery.index.base import Source
from samespace.gallery.ledger.ledger import Ledger
from samespace.progress import Bar, silent

_POLL_SECONDS = 0.5


def run_on_ray(
    ledger: Ledger,
    job: Job,
    workers: int,
    *,
    source: Source,
    cpus: float = 1.0,
    gpus: float = 0.0,
    address: str | None = None,
    advance: Bar = silent,
) -> Backfilled:
    """Let actors of a Ray cluster work until the list is empty or a limit is reached.

    Each actor opens the gallery, the model and the images by the names in `job`, so these must mean the same on every
    machine: PostgreSQL, or a folder that all share. An actor that dies loses nothing.

    Each reserves `cpus` and `gpus`. `address` is the cluster's, by default the one that Ray finds or a new one on this
    machine. The indexes of `source` are kept up to date meanwhile.

    Raises:
        InputError: Ray is not installed.
        GalleryError: every actor failed; the first reason.
    """
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        generation = ledger.state().query if job.generation is None else job.generation
        began = time.monotonic()
        actor = ray.remote(num_cpus=cpus, num_gpus=gpus)(_Actor)
        # the list keeps the actors alive
        actors = [(actor.remote(), share) for share in shares_of(job, workers)]
        waiting = [one.run.remote(share) for one, share in actors]
        done: list[Progress] = []
        errors: list[str] = []

        def running() -> bool:
            nonlocal waiting
            ready, waiting = ray.wait(waiting, timeout=_POLL_SECONDS)
            for one in ready:
                try:
                    done.append(ray.get(one))
                except ray.exceptions.RayError as error:
                    errors.append(_reason(error))
            return bool(waiting)

        with maintained(source, advance):
            follow(ledger, generation, running, advance)
        if not done:
            raise GalleryError(f"every actor failed: {errors[0]}")
        ended = done[0].ended + (f"; {len(errors)} of {len(actors)} actors failed: {errors[0]}" if errors else "")
        return summary(ledger, generation, done, time.monotonic() - began, ended)
    finally:
        if started:
            ray.shutdown()


class _Actor:
    """One worker."""

    def run(self, job: Job) -> Any:
        """Work until the list is empty or a limit is reached."""
        return run_job(job)


def _ray() -> Any:
    try:
        return importlib.import_module("ray")
    except ImportError:
        raise InputError("a backfill on a cluster needs Ray: pip install 'samespace[ray]'") from None


def _reason(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__
