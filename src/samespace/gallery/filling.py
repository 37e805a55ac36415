"""A backfill as `Gallery.backfill` runs it: which space it fills, from what, by how many workers, and when it ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Literal

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery.backfill.limits import Limits
from samespace.gallery.backfill.order import Custom, Order
from samespace.gallery.backfill.ray import run_on_ray
from samespace.gallery.backfill.run import Backfilled, list_work, nothing_lacked, run_many, run_one
from samespace.gallery.backfill.vector_source import FromImages, FromVectors, VectorSource
from samespace.gallery.index.adopted.store import store_of
from samespace.gallery.index.adopted.sync import sync
from samespace.gallery.index.base import Source
from samespace.gallery.ingest.checks import generation_of, require_calibrated
from samespace.gallery.ingest.images import ImagesLike, ModelLike
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import State
from samespace.gallery.models import job_of, model_and_images
from samespace.gallery.quality import measure_and_note
from samespace.gallery.search.earlier import Earlier
from samespace.gallery.trusted import TrustedModel
from samespace.gallery.upgrade.behind import backfill_target
from samespace.gallery.upgrade.plan import items_worth
from samespace.progress import Bar
from samespace.vectors import VectorSet


@dataclass(frozen=True, eq=False)
class Supply:
    """What a backfill takes its vectors from: `vectors` made elsewhere, else a model and images.

    None stands for the model or the images that the gallery remembers. `device` is the model's.
    """

    vectors: VectorSet | None = None
    model: ModelLike | None = None
    images: ImagesLike | None = None
    device: str = "auto"


def require_fillable(
    ledger: Ledger, supply: Supply, *, order: Order | Custom | None = None, epsilon: float | None = None
) -> int:
    """Refuse a backfill that could not begin; nothing is loaded. Arguments and errors as of `Gallery.backfill`.

    Returns the generation that it would fill.
    """
    state = ledger.state()
    require_calibrated(state)
    target = _target(ledger, state, supply.vectors)
    if supply.vectors is None:
        try:
            model_and_images(state, target, supply.model, supply.images)
        except GalleryError as error:
            nothing = nothing_lacked(ledger, target)
            raise GalleryError(nothing or f"{error}, or give vectors made elsewhere: vectors=…") from None
    if epsilon is not None:
        items_worth(ledger, epsilon, order)
    return target


def fill(
    ledger: Ledger,
    source: Source,
    supply: Supply,
    limits: Limits,
    *,
    earlier: Earlier,
    trusted: TrustedModel,
    order: Order | Custom | None,
    epsilon: float | None,
    workers: int,
    on: Literal["processes", "ray"],
    retry: bool,
    seed: int,
    advance: Bar,
    stop: threading.Event | None,
) -> Backfilled:
    """Run a backfill to its end. Arguments and errors as of `Gallery.backfill`.

    `source` is the gallery's, `earlier` has those of its other spaces, `trusted` keeps its model loaded.
    """
    if workers < 1:
        raise InputError(f"workers should be at least 1, got {workers}")
    store = store_of(source)
    if store is not None:
        sync(ledger, store)
    target = require_fillable(ledger, supply, order=order, epsilon=epsilon)
    state = ledger.state()
    vector_source = _vector_source(state, target, supply, trusted)
    if retry:
        with ledger.write() as writer:
            writer.retry(target)
    list_work(ledger, order, generation=target, seed=seed)
    if epsilon is not None:
        most = items_worth(ledger, epsilon, order)
        if not most:
            return Backfilled(0, 0, {}, 0.0, 0, f"the gain that remains is below {epsilon:g} by the check set")
        limits = replace(limits, items=min(most, limits.items or most))
    # the index of a space that is being filled grows with it, so that the switch finds one
    indexed = source if target == state.query else earlier.source(target)
    if workers == 1 and on == "processes":
        done = run_one(
            ledger, vector_source, limits, source=source, indexed=indexed, generation=target, advance=advance, stop=stop
        )
    else:
        job = job_of(ledger, state, target, supply.vectors, supply.model, supply.images, limits, supply.device)
        done = (run_on_ray if on == "ray" else run_many)(ledger, job, workers, source=indexed, advance=advance)
    if supply.vectors is not None and not done.stored:
        done = replace(done, ended=nothing_lacked(ledger, target) or done.ended)
    upgrade = ledger.state().upgrade_to(target)
    if upgrade is None or not upgrade.behind:
        return done
    return replace(done, quality=measure_and_note(ledger))


def _target(ledger: Ledger, state: State, vectors: VectorSet | None) -> int:
    """The generation that a backfill fills."""
    if vectors is None:
        with ledger.read() as reader:
            return backfill_target(reader, state)
    target = generation_of(state, vectors.space, vectors.name)
    if target not in state.sides:
        wanted = " or ".join(str(state.spaces[one].space) for one in state.sides)
        raise SpaceError(f"expected vectors of space {wanted}, got {vectors.space}")
    return target


def _vector_source(state: State, target: int, supply: Supply, trusted: TrustedModel) -> VectorSource:
    """Where a backfill takes its vectors from."""
    if supply.vectors is None:
        return FromImages(trusted.embedder(state, target, supply.model, supply.images, supply.device))
    return FromVectors(supply.vectors, state.spaces[target].space, state.spaces[target].score)
