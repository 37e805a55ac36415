"""The interval of a mean over seeds, against the resampling written out: one weight for an identity in every seed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from samespace.evaluate import check
from samespace.evaluate.replicates import check_with_replicates
from samespace.metrics import rank_k, tar_at_far, tpir_at_fpir
from samespace.metrics.retrieval import mean_average_precision
from samespace.studies.repeated import mean_interval

METRICS = ["rank@1", "mAP", "TPIR@FPIR=0.25", "TAR@FAR=0.0625"]
REPLICATES = 40


def relabelled(world: Any, by: int) -> Any:
    def moved(one: Any) -> Any:
        return replace(one, labels=one.labels + by)

    return replace(
        world,
        **{name: moved(getattr(world, name)) for name in ("queries", "gallery", "baseline", "new_gallery")},
        paragon=tuple(map(moved, world.paragon)),
    )


@pytest.fixture(scope="module")
def seeds(make) -> list[Any]:
    """Two seeds' checks: some identities are in both, and some have mates in one only."""
    sizes = {"identities": 8, "queries": 24, "gallery": 30, "strangers": 4, "dim": 6}
    return [make(**sizes, seed=3), relabelled(make(**sizes, seed=4), 5)]


def draws(world: Any) -> Any:
    sets = world.sets("new_gallery") | {"paragon": world.paragon}
    return check_with_replicates(**sets, metrics=METRICS, replicates=REPLICATES)[1]


def weight(label: int, number: int) -> int:
    digest = int.from_bytes(hashlib.sha256(str(label).encode()).digest(), "big")
    return int(np.random.default_rng([0, digest]).poisson(1.0, REPLICATES)[number])


def written_out(metric: str, queries: Any, gallery: Any, number: int) -> float:
    """A metric of one resample, each query (for TAR each item as well) there as often as its identity weighs."""
    left, right = (one.vectors / np.linalg.norm(one.vectors, axis=1, keepdims=True) for one in (queries, gallery))
    scores = (left.astype(float) @ right.T.astype(float)).astype(np.float32)
    rows = np.repeat(np.arange(len(scores)), [weight(label, number) for label in queries.labels])
    if metric.startswith("TAR"):
        columns = np.repeat(np.arange(len(right)), [weight(label, number) for label in gallery.labels])
        same = queries.labels[rows][:, None] == gallery.labels[columns][None]
        genuine = [scores[row, gallery.labels == queries.labels[row]] for row in rows]
        return tar_at_far(np.concatenate(genuine), scores[np.ix_(rows, columns)][~same], 0.0625)
    labels = queries.labels[rows], gallery.labels
    if metric.startswith("TPIR") and not np.isin(*labels).all():
        return tpir_at_fpir(scores[rows], *labels, 0.25)
    # without a query that can raise an alarm no threshold keeps a right answer out
    return (mean_average_precision if metric == "mAP" else rank_k)(scores[rows], *labels)


@pytest.mark.parametrize("metric", METRICS)
def test_the_interval_is_that_of_the_mean_under_shared_resamples(seeds, metric):
    found = [draws(world) for world in seeds]
    for test, other in (("cross", "old"), ("new", "paragon")):
        means = []
        for number in range(REPLICATES):
            gaps = []
            for world in seeds:
                sides = {
                    "old": (world.baseline, world.gallery),
                    "cross": (world.queries, world.gallery),
                    "new": (world.queries, world.new_gallery),
                    "paragon": world.paragon,
                }
                one, two = (written_out(metric, *sides[name], number) for name in (test, other))
                gaps.append(one - two)
            means.append((gaps[0] + gaps[1]) / 2)
        expected = np.quantile(means, [0.1, 0.9])
        assert mean_interval(found, metric, test, other, 0.8) == pytest.approx(tuple(expected), abs=1e-6)


def test_one_check_alone_has_the_interval_of_its_certificate_up_to_chance(make):
    world = make(identities=60, queries=240, gallery=240, strangers=20)
    certificate, found = check_with_replicates(**world.sets(), metrics=["rank@1", "mAP"], replicates=4000)
    alone = check(**world.sets(), metrics=["rank@1", "mAP"], replicates=4000)
    assert certificate.to_dict() == replace(alone, created=certificate.created).to_dict()
    for name in ("rank@1", "mAP"):
        low, high = certificate[name].difference
        assert mean_interval([found], name, "cross", "old", 0.95) == pytest.approx((low, high), abs=0.1 * (high - low))


def test_checks_that_share_no_identity_are_independent(make):
    """Two such checks halve the variance of the mean; the same check twice leaves it."""
    world = make(identities=60, queries=240, gallery=240, strangers=20)
    one, other = (
        check_with_replicates(**relabelled(world, by).sets(), metrics=["mAP"], replicates=3000)[1] for by in (0, 1000)
    )

    def width(*found: Any) -> float:
        low, high = mean_interval(found, "mAP", "cross", "old", 0.95)
        return high - low

    assert width(one, one) == width(one)
    assert width(one, other) == pytest.approx(width(one) / np.sqrt(2), rel=0.08)
