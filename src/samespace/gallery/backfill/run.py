"""A backfill as a whole: fill the work list in order, let one or several workers empty it, keep the indexes up."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.order import Custom, Order, priorities
from samespace.gallery.backfill.vector_source import FromImages, VectorSource
from samespace.gallery.backfill.worker import Progress, Worker
from samespace.gallery.index.base import Source
from samespace.gallery.index.open import open_source_of
from samespace.gallery.ingest.images import Images, ItemEmbedder, load_embedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.quality import Quality
from samespace.gallery.search.search import search
from samespace.progress import Bar, silent

_LISTED_AT_ONCE = 20_000
_MAINTAIN_SECONDS = 20.0
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Backfilled:
    """What a run of a backfill did.

    Attributes:
        stored: items that have a vector of the space now and had none before.
        changed: items that changed while they were being embedded; what was embedded of their old content was dropped.
        failed: reason by id of items that could not be embedded.
        seconds: how long the run took.
        left: items still on the list, failed ones not counted.
        ended: why it ended.
        quality: of the new side so far, where it was a behind upgrade's.
    """

    stored: int
    changed: int
    failed: Mapping[str, str]
    seconds: float
    left: int
    ended: str
    quality: Quality | None = None

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.stored / max(self.seconds, 1e-9)


def list_work(ledger: Ledger, order: Order | Custom | None, *, generation: int | None = None, seed: int = 0) -> int:
    """Put every item without a vector of a space on its work list, by default of the query space; how many there are.

    `order` None keeps the order of those that are listed and takes the upgrade's for the others.
    """
    with ledger.read() as reader:
        state = reader.state()
        target = state.query if generation is None else generation
        lacking, work = reader.lacking_count(target), reader.work(target, 0.0)
        if not lacking or (order is None and work.open + work.failed >= lacking):
            return lacking
        items = reader.unserved([target])
        listed = reader.listed(target)
    upgrade = state.upgrade_to(target)
    upgrade_order: Any = upgrade.order if upgrade is not None else "random"
    values = priorities(ledger, state, items, upgrade_order if order is None else order, target=target, seed=seed)
    with ledger.write() as writer:
        # an item that was embedded or removed since needs no work
        parts = [items[start : start + _LISTED_AT_ONCE] for start in range(0, len(items), _LISTED_AT_ONCE)]
        still = np.isin(items, np.concatenate([items[:0], *(writer.lacking(target, part) for part in parts)]))
        items, values = items[still], values[still]
        if order is None and len(listed):
            by_value = items[np.lexsort([items, -values])]
            writer.append_work(target, by_value[~np.isin(by_value, listed)])
        else:
            writer.put_work(target, items, values.tolist())
        if upgrade is not None and isinstance(order, str) and order != upgrade.order:
            writer.set_upgrade(upgrade, order=order)
    with ledger.read() as reader:
        return reader.lacking_count(target)


def run_one(
    ledger: Ledger,
    vector_source: VectorSource,
    limits: Limits,
    *,
    source: Source,
    indexed: Source | None = None,
    generation: int | None = None,
    advance: Bar = silent,
    stop: threading.Event | None = None,
) -> Backfilled:
    """Work in this process until the list is empty or a limit is reached; for the query space by default.

    Searches of `source` are what a latency budget looks at; the index that is kept up is that of `indexed`.
    """
    generation = ledger.state().query if generation is None else generation
    probe = prober(ledger, source)
    worker = Worker(ledger, generation, vector_source, limits, probe=probe, advance=advance, stop=stop)
    with maintained(indexed or source, advance):
        progress = worker.run()
    return summary(ledger, generation, [progress], progress.seconds, progress.ended)


@dataclass(frozen=True)
class Job:
    """What a worker in another process needs, as text and numbers; never show `location`, it may hold a password."""

    location: str
    model: str
    images: str
    limits: Limits
    device: str = "auto"
    generation: int | None = None


def run_job(job: Job, stop: threading.Event | None = None) -> Progress:
    """Do the work of one worker: what every process and every cluster actor runs.

    Raises:
        SamespaceError: the model, the images or the gallery cannot be used.
    """
    with closing(Ledger.open(job.location)) as ledger:
        model = load_embedder(job.model, job.device)
        vector_source = FromImages(ItemEmbedder(model, Images.open(job.images, model)))
        generation = ledger.state().query if job.generation is None else job.generation
        if job.limits.p95 is None:
            return Worker(ledger, generation, vector_source, job.limits, stop=stop).run()
        with closing(open_source_of(ledger)) as source:
            probe = prober(ledger, source)
            return Worker(ledger, generation, vector_source, job.limits, probe=probe, stop=stop).run()


def run_many(ledger: Ledger, job: Job, workers: int, *, source: Source, advance: Bar = silent) -> Backfilled:
    """Let several processes work until the list is empty or a limit is reached.

    A process that dies loses nothing: what it had claimed is claimed by the others.

    Raises:
        GalleryError: every worker failed; the first reason. An error that none expected is raised as it came.
    """
    generation = ledger.state().query if job.generation is None else job.generation
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    processes = [context.Process(target=_process, args=(share, results)) for share in shares_of(job, workers)]
    done: list[Progress] = []
    errors: list[Exception] = []

    def running() -> bool:
        with suppress(queue.Empty):
            result = results.get(timeout=_POLL_SECONDS)
            (errors if isinstance(result, Exception) else done).append(result)
        return any(process.is_alive() for process in processes) or not results.empty()

    began = time.monotonic()
    for process in processes:
        process.start()
    try:
        with maintained(source, advance):
            follow(ledger, generation, running, advance)
    except BaseException:
        for process in processes:
            process.terminate()
        raise
    finally:
        for process in processes:
            process.join()
    died = [process.exitcode for process in processes if process.exitcode not in (0, None)]
    return summary(ledger, generation, done, time.monotonic() - began, _ending(done, errors, died, len(processes)))


def follow(ledger: Ledger, generation: int, running: Callable[[], bool], advance: Bar) -> None:
    """Report what workers elsewhere have stored and what they are doing, until `running` says that they are over."""
    with ledger.read() as reader:
        seen = reader.stored(generation)
    more = True
    while more:
        more = running()
        with ledger.read() as reader:
            now = reader.stored(generation)
            notes = {worker.note for worker in reader.workers(time.time() - 10)}
        advance(now - seen, ", ".join(sorted(notes - {"embedding", ""})))
        seen = now


def _ending(done: list[Progress], errors: list[Exception], died: Sequence[int | None], workers: int) -> str:
    """Why a run of several workers ended. Raises the first error, or GalleryError: none of them did anything."""
    if errors and not done:
        raise errors[0]
    if not done:
        raise GalleryError(
            f"every worker died (exit codes {died}); what was stored is kept, run the same command again"
        )
    ended = done[0].ended
    if errors or died:
        ended += (
            f"; {len(errors) + len(died)} of {workers} workers failed: {_reason(errors[0]) if errors else 'killed'}"
        )
    return ended


def _reason(error: Exception) -> str:
    if isinstance(error, SamespaceError):
        return str(error)
    return (isinstance(error, OSError) and error.strerror) or f"unexpected {type(error).__name__} ({error})"


def shares_of(job: Job, workers: int) -> list[Job]:
    """What each of several workers is to do: its part of the rate and of the number of items.

    There are fewer than `workers` where there are fewer items than that.
    """
    limits = job.limits
    if limits.items is not None:
        workers = min(workers, limits.items)
    rate = None if limits.rate is None else limits.rate / workers
    parts = [
        None if limits.items is None else limits.items // workers + (place < limits.items % workers)
        for place in range(workers)
    ]
    return [replace(job, limits=replace(limits, items=items, rate=rate)) for items in parts]


def nothing_lacked(ledger: Ledger, generation: int) -> str:
    """That no item lacks a vector of a space, and which other space lacks some; empty where that is not so."""
    with ledger.read() as reader:
        state = reader.state()
        if len(reader.unserved([generation])):
            return ""
        lacking = {other: len(reader.unserved([other])) for other in state.sides if other != generation}
    others = [f"{count:,} lack one of {state.spaces[other].space}" for other, count in lacking.items() if count]
    return "; ".join([f"no item lacks a vector of {state.spaces[generation].space}", *others])


def prober(ledger: Ledger, source: Source) -> Callable[[], object]:
    """A search like a user's, with a stored vector as the query."""
    with ledger.read() as reader:
        state = reader.state()
        some = [reader.rows_after(generation, 0, 16).values for generation in reversed(state.servable)]
    stored = next((values for values in some if len(values)), None)

    def probe() -> object:
        with source.snapshot() as snapshot:
            now = snapshot.state
            dim = now.spaces[now.query].space.dim
        if stored is None:
            return None
        query = np.zeros((1, dim), dtype=np.float32)
        width = min(dim, stored.shape[1])
        query[0, :width] = stored[np.random.default_rng().integers(len(stored)), :width]
        query /= max(float(np.linalg.norm(query)), 1e-12)
        return search(source, query, now.spaces[now.query].space, k=10, merge="raw")

    return probe


def _process(job: Job, results: Any) -> None:
    stop = threading.Event()
    # Ctrl-C reaches the whole group; a worker then stores what it has and ends
    signal.signal(signal.SIGINT, lambda number, frame: stop.set())
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    try:
        import torch

        torch.set_num_threads(1)
        results.put(run_job(job, stop))
    except SamespaceError as error:
        results.put(GalleryError(str(error)))
    except Exception as error:
        results.put(_portable(error))


def _portable(error: Exception) -> Exception:
    """An error that nobody expected as another process can receive it, with its traceback as a note."""
    sent = error
    if type(error).__module__ != "builtins" or not all(isinstance(part, str | int | None) for part in error.args):
        # a library's own error may not be made anew from its arguments
        kind = MemoryError if type(error).__name__ == "OutOfMemoryError" else RuntimeError
        sent = kind(f"{type(error).__name__}: {error}")
    sent.add_note(f"In the worker:\n{''.join(traceback.format_exception(error))}")
    return sent


@contextmanager
def maintained(source: Source, advance: Bar) -> Iterator[None]:
    """Keep the indexes up to date while the block runs, and bring them up to date at its end, saying so."""
    over = threading.Event()

    def maintain(progress: Bar) -> None:
        # an index that lags is slow, not wrong, and the work itself is stored: it goes on
        with suppress(SamespaceError, OSError):
            source.maintain(progress)

    def repeat() -> None:
        took = 0.0
        # a large index takes long to extend, and is written whole: a quarter of the time at most
        while not over.wait(max(_MAINTAIN_SECONDS, 3 * took)):
            began = time.monotonic()
            maintain(silent)
            took = time.monotonic() - began

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    maintain(lambda rows, note="": advance(0, note))


def summary(ledger: Ledger, generation: int, parts: list[Progress], seconds: float, ended: str) -> Backfilled:
    """What several workers did, as one."""
    with ledger.read() as reader:
        left = reader.work(generation, time.time()).open
    return Backfilled(
        stored=sum(part.completed.stored for part in parts),
        changed=sum(part.completed.changed for part in parts),
        failed={name: reason for part in parts for name, reason in part.failed.items()},
        seconds=seconds,
        left=left,
        ended=ended,
    )
