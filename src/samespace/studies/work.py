"""The work of a study: trainings and checks as jobs, each done once, on one or several workers, resumable."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_exit

import numpy as np
import torch

from samespace.benchmarks.certify import certify
from samespace.benchmarks.open import open_benchmark
from samespace.data import ImageSource, open_for_model, subset
from samespace.data.holdout import Holdout
from samespace.errors import InputError, SamespaceError, TrainingError
from samespace.evaluate import check
from samespace.files import locked
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.progress import Bar, clock
from samespace.studies.plan import Job, Plan, held_out, is_done, open_training, training_rows
from samespace.train import flushed_denormals, run
from samespace.vectors import VectorSet

_FIGURE_STEPS = 50
_WAIT_SECONDS = 1.0


def do(plan: Plan, job: Job) -> float:
    """Do one job, carrying on where it was cut off; returns the seconds it took.

    A job that another process is at, such as a worker that has yet to notice that its study was killed, is waited for.
    """
    began = time.monotonic()
    folder = plan.out / f"seed{job.seed}" / "locks"
    with locked(folder / f"{job.kind}-{job.name}"):
        if not is_done(plan, job):
            try:
                (_train if job.kind == "train" else _check)(plan, job)
            except SamespaceError as error:
                raise type(error)(f"{job}: {error}") from None
    return time.monotonic() - began


def carry_out(plan: Plan, pending: Sequence[Job], *, workers: int, say: Callable[[str], None], advance: Bar) -> None:
    """Do all pending jobs.

    Args:
        plan: the study.
        pending: jobs that are not done, in an order in which they can be done.
        workers: processes; one means this process.
        say: receives a line for each job that is done.
        advance: progress, in images.

    Raises:
        SamespaceError: a job cannot be done, named by the message; others that are under way stop where they are.
    """
    if workers == 1:
        with flushed_denormals():
            for number, job in enumerate(pending, start=1):
                seconds = do(plan, job)
                say(f"[{number}/{len(pending)}] {job}: {clock(seconds)}")
                advance(job.cost, str(job))
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    # a worker that spins while it waits for its threads takes the core that another worker needs
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            _share_out(plan, pending, pool, workers, say, advance)
        except BrokenProcessPool:
            raise TrainingError(
                "a worker of the study died, perhaps for want of memory; what was finished is kept: "
                "run the same command to carry on, with fewer --workers"
            ) from None
        except BaseException:
            _stop(pool)
            raise


def _share_out(
    plan: Plan,
    pending: Sequence[Job],
    pool: ProcessPoolExecutor,
    workers: int,
    say: Callable[[str], None],
    advance: Bar,
) -> None:
    waiting, running = list(pending), dict[Future[float], Job]()
    unfinished = {(job.name, job.seed) for job in pending if job.kind == "train"}
    finished = 0
    while waiting or running:
        ready = [job for job in waiting if not any((name, job.seed) in unfinished for name in job.needs)]
        for job in ready[: workers - len(running)]:
            waiting.remove(job)
            running[pool.submit(do, plan, job)] = job
        done, _ = wait(running, timeout=_WAIT_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            job = running.pop(future)
            seconds = future.result()
            finished += 1
            unfinished.discard((job.name, job.seed))
            say(f"[{finished}/{len(pending)}] {job}: {clock(seconds)}")
            advance(job.cost, ", ".join(str(other) for other in running.values()))


def _start_worker(threads: int) -> None:
    # Ctrl-C reaches every process of a terminal; the study stops its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # a killed study must not leave workers behind that write into its folder
        threading.Thread(target=_leave_with, args=(parent.sentinel,), daemon=True).start()


def _leave_with(sentinel: int) -> None:
    wait_for_exit([sentinel])
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    pool.shutdown(wait=False, cancel_futures=True)
    for process in list((getattr(pool, "_processes", None) or {}).values()):
        process.terminate()


def _train(plan: Plan, job: Job) -> None:
    model = plan.study.model(job.name)
    recipe = plan.recipe(model, job.seed)
    source = open_training(plan)
    kept = held_out(plan, source, job.seed)
    folder = plan.model_folder(job.name, job.seed)
    rows = training_rows(source, kept, model.data, job.seed)
    trained = run(recipe, folder, source=subset(source, rows), quiet=True)
    embedder = Embedder.load(trained.model)
    for part, images in _checked(plan, source, kept).items():
        embed_to(embedder, images, plan.vectors_folder(job.name, job.seed, part))


def _check(plan: Plan, job: Job) -> None:
    pair = plan.pair(job.name)
    settings = plan.settings.check

    def vectors(model: str, part: str) -> VectorSet:
        return VectorSet.load(plan.vectors_folder(model, job.seed, part))

    if settings.benchmark is not None:
        new, old, paragon = (vectors(model, "images") for model in (pair.new, pair.old, pair.paragon))
        benchmark = open_benchmark(settings.benchmark, str(settings.files))
        certificate = certify(
            benchmark,
            old=old,
            new=new,
            paragon=paragon,
            metrics=plan.metrics(),
            prefix=new.dim > old.dim,
            replicates=settings.replicates,
            seed=job.seed,
        )
    else:
        new, old = vectors(pair.new, "queries"), vectors(pair.old, "queries")
        certificate = check(
            queries=new,
            gallery=vectors(pair.old, "gallery"),
            baseline=old,
            new_gallery=vectors(pair.new, "gallery"),
            paragon=(vectors(pair.paragon, "queries"), vectors(pair.paragon, "gallery")),
            metrics=plan.metrics(),
            prefix=new.dim > old.dim,
            replicates=settings.replicates,
            backfill_steps=_FIGURE_STEPS if pair == plan.study.figure and new.dim == old.dim else 1,
            examples=0,
            seed=job.seed,
        )
    certificate.save(plan.certificate(pair, job.seed))


def require_benchmark(plan: Plan) -> None:
    """Refuse a benchmark whose files or images are not there, before hours of training.

    Raises:
        InputError: files are missing or malformed, or an image of the benchmark is not among the images.
    """
    section = plan.settings.check
    if section.benchmark is None:
        return
    benchmark = open_benchmark(section.benchmark, str(section.files))
    unknown = [name for name in plan.metrics() if name not in benchmark.metrics]
    if unknown:
        raise InputError(
            f"{section.benchmark} measures no '{unknown[0]}' but {', '.join(benchmark.metrics)}; map it under "
            "metrics, or to null"
        )
    wanted, images = benchmark.ids, _benchmark_images(plan)
    missing = wanted[~np.isin(wanted, images.ids)]
    if missing.size:
        raise InputError(
            f"check.images={section.images} lacks {missing.size:,} of the {len(wanted):,} images of "
            f"{section.benchmark}, such as '{missing[0]}'"
        )


def _checked(plan: Plan, source: ImageSource, kept: Holdout | None) -> dict[str, ImageSource]:
    if kept is not None:
        return {"queries": subset(source, kept.query_rows), "gallery": subset(source, kept.gallery_rows)}
    return {"images": _benchmark_images(plan)}


def _benchmark_images(plan: Plan) -> ImageSource:
    recipe = plan.recipe(plan.study.models[0], plan.seeds[0])
    return open_for_model(str(plan.settings.check.images), recipe.model.image_size, channels=recipe.data.channels)
