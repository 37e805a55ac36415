"""The work of a study: trainings and checks as jobs, each done once, on one or several workers, resumable."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing.connection import wait as wait_for_exit
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from samespace.data import ImageSource, allocate, holdout, open_for_model, subset
from samespace.data.holdout import Holdout, IntArray
from samespace.errors import InputError, TrainingError
from samespace.evaluate import check
from samespace.files import UNREADABLE_NPZ, locked
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.progress import Bar, clock
from samespace.protocols.certify import certify
from samespace.protocols.named import open_benchmark
from samespace.studies.settings import Settings
from samespace.studies.study import Model, Pair, Share, Study
from samespace.train import flushed_denormals, run
from samespace.train.recipe import Recipe
from samespace.vectors import VectorSet

_FIGURE_STEPS = 50
_WAIT_SECONDS = 1.0


@dataclass(frozen=True)
class Plan:
    """A study on given images in a given folder.

    Attributes:
        study: what is compared, whole, so that what is measured does not depend on which tables are asked for.
        settings: how.
        source: the training images, as `open_source` takes them.
        out: folder of the study.
        seeds: runs of it.
        tables: the tables asked for; empty means all.
        quiet: show no bars of single trainings.
    """

    study: Study
    settings: Settings
    source: str
    out: Path
    seeds: tuple[int, ...]
    tables: tuple[str, ...] = ()
    quiet: bool = True

    @property
    def shown(self) -> Study:
        """The part of the study that was asked for."""
        return self.study.only(self.tables)

    def model_folder(self, model: str, seed: int) -> Path:
        """Folder of one model's training."""
        return self.out / f"seed{seed}" / "models" / model

    def vectors_folder(self, model: str, seed: int, name: str) -> Path:
        """Folder of a model's vectors of one part of the check."""
        return self.out / f"seed{seed}" / "vectors" / model / name

    def certificate(self, pair: Pair, seed: int) -> Path:
        """File of one comparison."""
        return self.out / f"seed{seed}" / "certificates" / f"{pair.key}.json"

    def recipe(self, model: Model, seed: int) -> Recipe:
        """The recipe of one model."""
        old = None if model.old is None else self.model_folder(model.old, seed) / "model"
        return self.settings.recipe_of(self.study, model, source=self.source, seed=seed, old=old)

    def metrics(self) -> list[str]:
        """What is measured: the paper's metrics, or what stands in their place; searches before verifications."""
        names = [self.settings.metric(name) for name in self.study.metrics()]
        kept = dict.fromkeys(name for name in names if name is not None)
        return sorted(kept, key=lambda name: name.startswith("TAR"))


@dataclass(frozen=True)
class Job:
    """One training with the vectors it is checked by, or one check.

    Attributes:
        kind: what is to be done.
        name: model, or key of the pair.
        seed: of which run.
        needs: models that must be there first.
        cost: images that it looks at, about, for the time left.
    """

    kind: Literal["train", "check"]
    name: str
    seed: int
    needs: tuple[str, ...] = ()
    cost: int = 1

    def __str__(self) -> str:
        what = self.name if self.kind == "train" else " on ".join(self.name.split("--")[:2])
        return f"{self.kind} {what} (seed {self.seed})"


def jobs(plan: Plan, source: ImageSource) -> list[Job]:
    """All jobs of a plan, in an order in which they can be done one after the other."""
    found = []
    for seed in plan.seeds:
        kept = held_out(plan, source, seed)
        for model in plan.shown.needed():
            epochs = plan.recipe(model, seed).optim.epochs
            cost = epochs * len(training_rows(source, kept, model.data, seed))
            found.append(Job("train", model.name, seed, (model.old,) if model.old else (), cost))
        for pair in plan.shown.pairs():
            needs = tuple(dict.fromkeys((pair.new, pair.old, pair.paragon)))
            found.append(Job("check", pair.key, seed, needs, len(source)))
    return found


def is_done(plan: Plan, job: Job) -> bool:
    """Whether the result of a job is there."""
    if job.kind == "check":
        pair = next(pair for pair in plan.study.pairs() if pair.key == job.name)
        return plan.certificate(pair, job.seed).is_file()
    parts = ("images",) if plan.settings.check.benchmark else ("queries", "gallery")
    folders = [plan.vectors_folder(job.name, job.seed, part) for part in parts]
    return (plan.model_folder(job.name, job.seed) / "model" / "config.json").is_file() and all(
        (folder / "job.json").is_file() for folder in folders
    )


def do(plan: Plan, job: Job) -> float:
    """Do one job, carrying on where it was cut off; returns the seconds it took.

    A job that another process is at, such as a worker that has yet to notice that its study was killed, is waited for.
    """
    began = time.monotonic()
    folder = plan.out / f"seed{job.seed}" / "locks"
    with locked(folder / f"{job.kind}-{job.name}"):
        if not is_done(plan, job):
            (_train if job.kind == "train" else _check)(plan, job)
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
        SamespaceError: a job cannot be done; the others that were under way are finished first.
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
            unfinished.discard((job.name, job.seed)) if job.kind == "train" else None
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
    trained = run(recipe, folder, source=subset(source, rows), quiet=plan.quiet)
    embedder = Embedder.load(trained.model)
    for part, images in _checked(plan, source, kept, embedder).items():
        embed_to(embedder, images, plan.vectors_folder(job.name, job.seed, part))


def _check(plan: Plan, job: Job) -> None:
    pair = next(pair for pair in plan.study.pairs() if pair.key == job.name)
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
            metrics=[name for name in plan.metrics() if name in benchmark.metrics],
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


def open_training(plan: Plan) -> ImageSource:
    """The labelled images of which models are trained and, without a benchmark, checked."""
    section = plan.recipe(plan.study.models[0], plan.seeds[0])
    return open_for_model(
        plan.source, section.model.image_size, channels=section.data.channels, broken=section.data.broken
    )


def require_benchmark(plan: Plan) -> None:
    """Refuse a benchmark whose files or images are not there, before hours of training.

    Raises:
        InputError: files are missing or malformed, or an image of the benchmark is not among the images.
    """
    section = plan.settings.check
    if section.benchmark is None:
        return
    wanted = open_benchmark(section.benchmark, str(section.files)).ids
    images = open_for_model(str(section.images), plan.recipe(plan.study.models[0], plan.seeds[0]).model.image_size)
    missing = wanted[~np.isin(wanted, images.ids)]
    if missing.size:
        raise InputError(
            f"check.images={section.images} lacks {missing.size:,} of the {len(wanted):,} images of "
            f"{section.benchmark}, such as '{missing[0]}'"
        )


def held_out(plan: Plan, source: ImageSource, seed: int) -> Holdout | None:
    """The classes kept for the check; None where a benchmark takes their place.

    Raises:
        InputError: the images' file has no such array, or too few classes.
    """
    section = plan.settings.check
    if section.benchmark is not None:
        return None
    queries = section.queries_per_class
    return holdout(
        source,
        fraction=section.fraction,
        seed=seed,
        open_set=section.open_set,
        queries_per_class=int(queries) if queries >= 1 else queries,
        check_classes=_marked_classes(plan, source, seed),
    )


def training_rows(source: ImageSource, kept: Holdout | None, data: Share, seed: int) -> IntArray:
    """Rows of the training images that a model gets, sorted int64; shares of one seed are nested."""
    everything = np.arange(len(source), dtype=np.int64) if kept is None else kept.train_rows
    if data.by == "all":
        return everything
    kind: Literal["open-data", "open-class"] = "open-data" if data.by == "images" else "open-class"
    allocation = allocate(source, kind, fraction=data.fraction, seed=seed, holdout=kept)
    return allocation.new_rows if data.rest else allocation.old_rows


def _marked_classes(plan: Plan, source: ImageSource, seed: int) -> IntArray | None:
    section = plan.settings.check
    name = section.classes or section.groups
    if name is None:
        return None
    marks = _class_array(Path(plan.source), name)
    if len(marks) != len(source.classes):
        raise InputError(
            f"{plan.source}: '{name}' should hold one value per class, {len(source.classes)}, got {len(marks)}"
        )
    if section.classes:
        return np.flatnonzero(marks)
    groups = np.unique(marks)
    count = min(max(round(section.fraction * len(groups)), 1), len(groups) - 1)
    chosen = np.random.default_rng(np.random.SeedSequence([seed, 3])).permutation(groups)[:count]
    return np.flatnonzero(np.isin(marks, chosen))


def _class_array(path: Path, name: str) -> npt.NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            held = list(file.files)
            marks = np.asarray(file[name]) if name in held else None
    except UNREADABLE_NPZ as error:
        raise InputError(f"{path} cannot be read as .npz ({error}); check.classes and check.groups need one") from None
    if marks is None:
        raise InputError(
            f"{path} holds no array '{name}' for check.classes or check.groups; it holds {', '.join(held)}"
        )
    return marks


def _checked(plan: Plan, source: ImageSource, kept: Holdout | None, embedder: Embedder) -> dict[str, ImageSource]:
    if kept is not None:
        return {"queries": subset(source, kept.query_rows), "gallery": subset(source, kept.gallery_rows)}
    size = embedder.config.preprocessing.size
    return {"images": open_for_model(str(plan.settings.check.images), size)}


def identity(plan: Plan, source: ImageSource) -> dict[str, str]:
    """What the results in a folder depend on, for telling whether they may be kept: a digest for each part."""
    settings = plan.settings
    learnt = {key: value for key, value in settings.recipe.items() if key != "run"}
    return {
        "study": plan.study.name,
        "images": source.fingerprint(),
        "recipe": _digest(learnt),
        "variants": _digest(settings.variants),
        "check": _digest(asdict(settings.check)),
        "metrics": _digest(settings.metrics),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
