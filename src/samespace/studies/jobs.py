"""One job of a study: a training with the vectors it is checked by, a map, or a check; done once, resumable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from samespace.benchmarks.open import open_benchmark
from samespace.bridge import fit
from samespace.data import ImageSource, open_for_model, subset
from samespace.errors import InputError, SamespaceError
from samespace.files import locked, replacing
from samespace.models import Embedder
from samespace.models.extract import embed, embed_to
from samespace.studies.compared import compared
from samespace.studies.plan import Job, Kind, Plan, held_out, is_done, open_training, training_images
from samespace.train import run


def do(plan: Plan, job: Job) -> float:
    """Do one job, carrying on where it was cut off; returns the seconds it took.

    A job that another process is at, such as a worker that has yet to notice that its study was killed, is waited for.
    """
    began = time.monotonic()
    with locked(plan.lock(job)):
        if not is_done(plan, job):
            try:
                _DOING[job.kind](plan, job)
            except SamespaceError as error:
                raise type(error)(f"{job}: {error}") from None
    return time.monotonic() - began


def _train(plan: Plan, job: Job) -> None:
    model = plan.study.model(job.name)
    source = open_training(plan)
    images = training_images(plan, source, model, job.seed)
    trained = run(plan.recipe(model, job.seed), plan.model_folder(job.name, job.seed), source=images, quiet=True)
    embedder = Embedder.load(trained.model)
    for part, images in checked_images(plan, source, job.seed).items():
        embed_to(embedder, images, plan.vectors_folder(job.name, job.seed, part))


def _bridge(plan: Plan, job: Job) -> None:
    pair = plan.bridged(job.name)
    assert pair.bridge is not None
    images = training_images(plan, open_training(plan), plan.study.model(pair.new), job.seed)
    old, new = (
        embed(Embedder.load(plan.model_folder(model, job.seed) / "model"), images) for model in (pair.old, pair.new)
    )
    replicates = plan.settings.check.replicates
    made = fit(old, new, direction=pair.bridge, replicates=replicates, seed=job.seed, quiet=True)
    made.save(plan.bridge(pair, job.seed))


def _check(plan: Plan, job: Job) -> None:
    pair = plan.pair(job.name)
    certificate, replicates = plan.certificate(pair, job.seed), plan.replicates(pair, job.seed)
    made, draws = compared(plan, pair, job.seed)
    if not certificate.is_file():
        made.save(certificate)
    if draws and not replicates.is_file():
        arrays: dict[str, Any] = {f"{metric} {test}": values for (metric, test), values in draws.items()}
        with replacing(replicates) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)


_DOING: dict[Kind, Callable[[Plan, Job], None]] = {"train": _train, "bridge": _bridge, "check": _check}


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


def checked_images(plan: Plan, source: ImageSource, seed: int) -> dict[str, ImageSource]:
    """What models are checked on, by the name of its folder of vectors."""
    kept = held_out(plan, source, seed)
    if kept is None:
        return {"images": _benchmark_images(plan)}
    return {"queries": subset(source, kept.query_rows), "gallery": subset(source, kept.gallery_rows)}


def _benchmark_images(plan: Plan) -> ImageSource:
    recipe = plan.recipe(plan.study.models[0], plan.seeds[0])
    return open_for_model(str(plan.settings.check.images), recipe.model.sees, channels=recipe.data.channels)
