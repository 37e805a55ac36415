"""One job of a study: a training with the vectors it is checked by, or a check; done once, resumable."""

from __future__ import annotations

import time

import numpy as np

from samespace.benchmarks.certify import certify
from samespace.benchmarks.open import open_benchmark
from samespace.data import ImageSource, open_for_model, subset
from samespace.data.holdout import Holdout
from samespace.errors import InputError, SamespaceError
from samespace.evaluate import check
from samespace.files import locked
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.studies.plan import Job, Plan, held_out, is_done, open_training, training_rows
from samespace.train import run
from samespace.vectors import VectorSet

_FIGURE_STEPS = 50


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
    return open_for_model(str(plan.settings.check.images), recipe.model.sees, channels=recipe.data.channels)
