"""Each value of a certificate is had from the public functions of `samespace.metrics` and plain matrices of cosines."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from samespace import metrics
from samespace.evaluate import Certificate, check

NAMES = [
    "rank@1",
    "rank@5",
    "mAP",
    "MAP@R",
    "R-precision",
    "TAR@FAR=1e-2",
    "TAR@FAR=0",
    "TPIR@FPIR=0.1",
    "TPIR-merged@FPIR=0.1",
]
SIDES = {
    "old": ("baseline", "gallery"),
    "cross": ("queries", "gallery"),
    "new": ("queries", "new_gallery"),
}


def cosines(queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    left, right = (side.astype(np.float64) for side in (queries, gallery))
    left, right = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (left, right))
    return left @ right.T


def value(name: str, scores: np.ndarray, queries: Any, gallery: Any) -> float:
    """A metric by its name, from a matrix of scores and labels."""
    kind, _, argument = name.partition("@")
    rate = Fraction(argument.rpartition("=")[2]) if "=" in argument else Fraction(0)
    mates = queries[:, None] == gallery[None]
    match kind:
        case "rank":
            return metrics.rank_k(scores, queries, gallery, int(argument))
        case "mAP":
            return metrics.mean_average_precision(scores, queries, gallery)
        case "MAP":
            return metrics.mean_average_precision_at_r(scores, queries, gallery)
        case "R-precision":
            return metrics.r_precision(scores, queries, gallery)
        case "TAR":
            return metrics.tar_at_far(scores[mates], scores[~mates], rate)
        case "TPIR":
            return metrics.tpir_at_fpir(scores, queries, gallery, rate)
    return metrics.tpir_at_fpir(scores, queries, gallery, rate, protocol="merged")


@pytest.fixture(scope="module")
def certificate(world: Any) -> Certificate:
    return check(**world.sets("new_gallery", "paragon"), metrics=NAMES, replicates=100, examples=0)


@pytest.fixture(scope="module")
def tables(world: Any) -> dict[str, np.ndarray]:
    sets = {test: [getattr(world, side).vectors for side in sides] for test, sides in SIDES.items()}
    sets["paragon"] = [side.vectors for side in world.paragon]
    return {test: cosines(*sides) for test, sides in sets.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_every_metric_is_that_of_the_public_function(world, certificate, tables, name):
    result = certificate[name]
    labels = world.queries.labels, world.gallery.labels
    values = {test: value(name, scores, *labels) for test, scores in tables.items()}
    assert {test: getattr(result, test) for test in tables} == pytest.approx(values, abs=1e-12)
    assert result.criterion == metrics.criterion(values["cross"], values["old"])
    assert result.absolute_gain == pytest.approx(metrics.absolute_gain(values["cross"], values["old"]))
    assert result.paragon_lead[0] > 0
    gain = metrics.update_gain(values["cross"], values["old"], values["paragon"])
    assert result.update_gain == pytest.approx(gain)


@pytest.mark.parametrize("name", ["rank@1", "rank@5"])
def test_the_intervals_of_ranks_are_those_of_the_paired_bootstrap(world, certificate, tables, name):
    labels = world.queries.labels, world.gallery.labels
    right = {}
    for test, scores in tables.items():
        matches = metrics.matches(scores, *labels)
        right[test] = np.where(matches.mated, matches.rank <= int(name.partition("@")[2]), np.nan)
    # identities that only the gallery has are drawn, too, and change nothing but the draw
    assert set(world.gallery.labels) <= set(world.queries.labels)
    draws = metrics.paired_bootstrap(right, world.queries.labels, replicates=100, seed=0)
    for test, bounds in certificate[name].intervals.items():
        assert bounds == pytest.approx(metrics.interval(draws[test]))
    assert certificate[name].difference == pytest.approx(metrics.interval(draws["cross"] - draws["old"]))


def test_flips_strict_shares_and_the_cmc_are_those_of_the_public_functions(world, certificate, tables):
    labels = world.queries.labels, world.gallery.labels
    before = metrics.matches(tables["old"], *labels)
    for test in ("cross", "new"):
        after = metrics.matches(tables[test], *labels)
        assert certificate.flips[test] == metrics.flips(before.right_at_first, after.right_at_first)
    mates = labels[0][:, None] == labels[1][None]
    shares = metrics.strict_criterion(tables["cross"], tables["old"], mates)
    assert asdict(certificate.strict) == pytest.approx(asdict(shares))
    for test, scores in tables.items():
        assert certificate.curves.cmc[test] == pytest.approx(metrics.cmc(scores, *labels))
        curve = metrics.roc(scores[mates], scores[~mates], points=np.array(certificate.curves.roc[test].far))
        assert certificate.curves.roc[test].tar == pytest.approx(curve.tar)


def test_the_spread_of_genuine_scores_is_that_of_all_pairs_of_one_identity(world, certificate, tables):
    mates = world.queries.labels[:, None] == world.gallery.labels[None]
    assert set(certificate.genuine) == set(tables)
    for test, scores in tables.items():
        one = certificate.genuine[test]
        assert (one.mean, one.std) == pytest.approx((scores[mates].mean(), scores[mates].std()), abs=1e-7)
