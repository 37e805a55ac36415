"""A comparison of a study from its vectors: mapped and fused as the pair says, its certificate and its replicates."""

from __future__ import annotations

from typing import Any

from samespace.benchmarks.certify import certify, certify_with_replicates
from samespace.benchmarks.open import open_benchmark
from samespace.bridge import Bridge, fuse, fused_space
from samespace.evaluate import Certificate, check
from samespace.evaluate.replicates import check_with_replicates
from samespace.evaluate.verdict import Replicates
from samespace.studies.plan import Plan
from samespace.studies.study import Pair
from samespace.vectors import VectorSet

_FIGURE_STEPS = 50


def compared(plan: Plan, pair: Pair, seed: int) -> tuple[Certificate, Replicates]:
    """The certificate of one comparison with one seed, which decides its resamples, and its replicates.

    In the replicates an identity has the same weight with every seed of the study: a benchmark has the same identities
    with each, classes held out of the images are weighed by their names. A study of one seed has no use for them, and
    none are made.
    """
    settings, alone = plan.settings.check, len(plan.seeds) == 1
    options = {**_sets(plan, pair, seed), "replicates": settings.replicates, "seed": seed}
    if settings.benchmark is not None:
        return (certify(**options), {}) if alone else certify_with_replicates(**options)
    drawn = pair == plan.study.figure and not options["prefix"]
    options |= {"backfill_steps": _FIGURE_STEPS if drawn else 1, "examples": 0}
    return (check(**options), {}) if alone else check_with_replicates(**options)


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
