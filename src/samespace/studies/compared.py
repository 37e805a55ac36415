"""A comparison of a study from its vectors: mapped and fused as the pair says, its certificate and its replicates."""

from __future__ import annotations

from typing import Any

from samespace.benchmarks.certify import certify, replicates_of
from samespace.benchmarks.open import open_benchmark
from samespace.bridge import Bridge, fuse, fused_space
from samespace.evaluate import Certificate, check
from samespace.evaluate.replicates import replicates_by_name
from samespace.evaluate.verdict import Replicates
from samespace.studies.plan import Plan
from samespace.studies.study import Pair
from samespace.vectors import VectorSet

_FIGURE_STEPS = 50


def certified(plan: Plan, pair: Pair, seed: int) -> Certificate:
    """The certificate of one comparison with one seed, which also decides its resamples."""
    settings = plan.settings.check
    sets = _sets(plan, pair, seed)
    if settings.benchmark is not None:
        return certify(**sets, replicates=settings.replicates, seed=seed)
    drawn = pair == plan.study.figure and not sets["prefix"]
    return check(
        **sets,
        replicates=settings.replicates,
        backfill_steps=_FIGURE_STEPS if drawn else 1,
        examples=0,
        seed=seed,
    )


def replicated(plan: Plan, pair: Pair, seed: int) -> Replicates:
    """The replicates of one comparison, in which an identity has the same weight with every seed of the study.

    A benchmark has the same identities with every seed; classes held out of the images are weighed by their names.
    """
    replicate = replicates_by_name if plan.settings.check.benchmark is None else replicates_of
    return replicate(**_sets(plan, pair, seed), replicates=plan.settings.check.replicates, seed=0)


def _sets(plan: Plan, pair: Pair, seed: int) -> dict[str, Any]:
    """What `check` is given of one comparison, or `certify` on a benchmark."""

    def vectors(model: str, part: str) -> VectorSet:
        return VectorSet.load(plan.vectors_folder(model, seed, part))

    settings, metrics = plan.settings.check, plan.metrics()
    if settings.benchmark is not None:
        old, new, paragon = (vectors(model, "images") for model in (pair.old, pair.new, pair.paragon))
        return {
            "benchmark": open_benchmark(settings.benchmark, str(settings.files)),
            **{"old": old, "new": new, "paragon": paragon},
            **{"metrics": metrics, "prefix": new.dim > old.dim},
        }
    sets: dict[str, Any] = {
        "queries": vectors(pair.new, "queries"),
        "gallery": vectors(pair.old, "gallery"),
        "baseline": vectors(pair.old, "queries"),
        "paragon": (vectors(pair.paragon, "queries"), vectors(pair.paragon, "gallery")),
        "metrics": metrics,
    }
    if pair.as_trained:
        sets["new_gallery"] = vectors(pair.new, "gallery")
    elif pair.bridge == "gallery":
        sets |= _on_mapped_gallery(Bridge.load(plan.bridge(pair, seed)), pair.fuse, **sets)
    else:
        sets["fuse"] = pair.fuse
        if pair.bridge == "query":
            sets["queries"] = Bridge.load(plan.bridge(pair, seed)).apply(sets["queries"])
    return sets | {"prefix": sets["queries"].dim > sets["gallery"].dim}


def _on_mapped_gallery(
    bridge: Bridge, alpha: float | None, *, queries: VectorSet, gallery: VectorSet, baseline: VectorSet, **_: Any
) -> dict[str, VectorSet]:
    """The sets that a mapped gallery changes; the baseline stays what is deployed, old queries on the old gallery."""
    if alpha is not None:
        queries = _fused(bridge.apply(baseline), queries, alpha)
    return {"queries": queries, "gallery": bridge.apply(gallery), "baseline_gallery": gallery}


def _fused(old: VectorSet, new: VectorSet, alpha: float) -> VectorSet:
    """Queries of two models by one model of both, in a space of its own."""
    assert old.space is not None
    assert new.space is not None
    return VectorSet.from_arrays(
        fuse(old.vectors, new.vectors, alpha),
        labels=new.labels,
        ids=new.ids,
        space=fused_space(old.space, new.space, alpha),
        name=f"{new.name}, fused",
    )
