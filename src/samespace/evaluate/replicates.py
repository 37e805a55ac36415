"""Replicates of a check under weights that follow from identities' names, to be averaged over several checks."""

from __future__ import annotations

from collections.abc import Sequence

from samespace.evaluate.fusion import fused
from samespace.evaluate.inputs import align
from samespace.evaluate.templates import pool_sides
from samespace.evaluate.verdict import TESTS, Replicates, quota_of, replicate_deepened, tail_size
from samespace.metrics._arrays import names_of
from samespace.scoring.metric_names import choose_metrics
from samespace.scoring.scores import collect_scores
from samespace.vectors import VectorSet


def replicates_by_name(
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    baseline_gallery: VectorSet | None = None,
    metrics: Sequence[str],
    prefix: bool = False,
    fuse: float | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> Replicates:
    """The metrics of `samespace.evaluate.check` on the same sets, over resamples that weigh identities by name.

    Checks that share identities are resampled together, whatever else differs in them: the average of their replicates
    is that of one bootstrap over all of them (`samespace.metrics.bootstrap.resamples_by_name`). Thresholds are each
    check's own, found anew in each resample.

    Args:
        queries: and the other sets as in `check`.
        gallery: the gallery that new queries search.
        baseline: the queries by the old model.
        new_gallery: the gallery by the new model.
        paragon: queries and gallery by the paragon.
        baseline_gallery: what the baseline searches, where that is another one.
        metrics: names.
        prefix: as in `check`.
        fuse: the share of the new query in fused ones.
        replicates: bootstrap resamples.
        seed: of the weights, the same for all checks that are averaged.

    Returns:
        {(metric name, test): (replicates,) float64} of the tests that were given; NaN where a resample leaves a metric
        undefined.

    Raises:
        InputError: as `check`.
    """
    sets, _ = pool_sides(
        {"queries": queries, "baseline": baseline, "paragon queries": paragon and paragon[0]},
        {
            "gallery": gallery,
            "new_gallery": new_gallery,
            "paragon gallery": paragon and paragon[1],
            "baseline_gallery": baseline_gallery,
        },
    )
    aligned = align(
        queries=sets["queries"],
        gallery=sets["gallery"],
        baseline=sets["baseline"],
        new_gallery=sets.get("new_gallery"),
        paragon=(sets["paragon queries"], sets["paragon gallery"]) if paragon else None,
        baseline_gallery=sets.get("baseline_gallery"),
        prefix=prefix,
        seed=seed,
    )
    if fuse is not None:
        aligned = fused(aligned, fuse)
    measured, _ = choose_metrics(metrics, aligned.mates)
    pairs = {test: aligned.pairs[test] for test in TESTS if test in aligned.pairs}
    size = tail_size(quota_of(measured, aligned.mates))
    scores = collect_scores(pairs, aligned.mates, size)
    assert aligned.queries.labels is not None
    assert aligned.gallery.labels is not None
    names = names_of(aligned.queries.labels, aligned.gallery.labels)
    _, draws = replicate_deepened(
        measured, scores, pairs, size=size, replicates=replicates, seed=seed, block_size=None, names=names
    )
    return draws
