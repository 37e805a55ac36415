"""`scoring` (blocked, weighted by identity) against `metrics` (pure functions) on every metric of a check.

Integer weights are repetitions of identities: queries written out as often as their identity weighs, and for TAR the
gallery items too.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace import metrics
from samespace.errors import InputError
from samespace.evaluate.inputs import align
from samespace.scoring.metric_names import KINDS, parse
from samespace.scoring.scores import Scores, collect_scores
from samespace.vectors import VectorSet

NAMES = [
    "rank@1",
    "rank@3",
    "mAP",
    "MAP@R",
    "R-precision",
    *(f"TAR@FAR={rate}" for rate in ("0", "0.1", "0.5", "0.99")),
    *(f"{kind}@FPIR={rate}" for kind in ("TPIR", "TPIR-merged") for rate in ("0", "0.25", "0.9")),
]


def made(seed: int, *, tied: bool, classes: int, block_size: int) -> tuple[Scores, np.ndarray]:
    """Scores of a small search and the same as a table; tied vectors have few values, so that scores tie."""
    generator = np.random.default_rng(seed)
    queries, gallery = generator.integers(2, 12, size=2)

    def draw(count: int) -> np.ndarray:
        values = generator.integers(-1, 2, (count, 3)) if tied else generator.normal(size=(count, 3))
        values = values.astype(np.float32)
        values[(values == 0).all(axis=1), 0] = 1.0
        return values

    labels = generator.integers(0, classes, queries), generator.integers(0, max(1, classes - 1), gallery)
    labels[0][0] = labels[1][0]
    # by ids, since without them a query and an item of equal vectors count as one item
    sets = [
        VectorSet.from_arrays(draw(len(part)), labels=part, ids=[f"{side}{row}" for row in range(len(part))])
        for side, part in zip("qg", labels, strict=True)
    ]
    aligned = align(queries=sets[0], gallery=sets[1], baseline=sets[0])
    pair = {"cross": aligned.pairs["cross"]}
    scores = collect_scores(pair, aligned.mates, 10**6, block_size=block_size)["cross"]
    left, right = (side.read(0, len(side)) for side in aligned.pairs["cross"])
    return scores, (np.round(left @ right.T * 2.0**30) / 2.0**30).astype(np.float32)


def slowly(name: str, scores: Scores, table: np.ndarray, weights: np.ndarray) -> float:
    """The metric of what is written out; NaN where `metrics` refuses it as undefined."""
    metric, mates = parse(name), scores.mates
    rows = np.repeat(np.arange(len(mates.query_codes)), weights[mates.query_codes])
    codes = mates.query_codes[rows]
    try:
        if metric.kind == "TAR":
            columns = np.repeat(np.arange(len(mates.gallery_codes)), weights[mates.gallery_codes])
            drawn = table[np.ix_(rows, columns)]
            impostor = drawn[codes[:, None] != mates.gallery_codes[columns][None]]
            # a genuine pair counts as often as its identity, not as often squared
            genuine = table[rows][codes[:, None] == mates.gallery_codes[None]]
            return metrics.tar_at_far(genuine, impostor, metric.argument)
        given = table[rows], codes, mates.gallery_codes
        if metric.kind == "rank":
            return metrics.rank_k(*given, int(metric.argument))
        if metric.kind == "mAP":
            return metrics.mean_average_precision(*given)
        if metric.kind == "MAP@R":
            return metrics.mean_average_precision_at_r(*given)
        if metric.kind == "R-precision":
            return metrics.r_precision(*given)
        protocol = "merged" if metric.kind == "TPIR-merged" else "open-set"
        return metrics.tpir_at_fpir(*given, metric.argument, protocol=protocol)
    except InputError:
        return float("nan")


def test_every_metric_of_a_check_is_held_equal():
    assert {parse(name).kind for name in NAMES} == set(KINDS)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(1, 6), st.integers(1, 5))
def test_scoring_and_metrics_agree_under_all_weights(name, seed, tied, classes, block_size):
    scores, table = made(seed, tied=tied, classes=classes, block_size=block_size)
    generator = np.random.default_rng(seed + 1)
    counts = generator.integers(0, 4, size=(5, scores.mates.identities))
    counts[0] = 1
    for weights, value in zip(counts, parse(name).values(scores, counts), strict=True):
        expected = slowly(name, scores, table, weights)
        if np.isnan(expected):
            # without weight on what sets the threshold all are accepted
            rank_one = slowly("rank@1", scores, table, weights)
            mated = weights[scores.mates.query_codes] @ scores.mates.counts > 0
            assert np.isnan(value) or value == pytest.approx(1.0 if name.startswith("TAR") and mated else rank_one)
        else:
            assert value == pytest.approx(expected, abs=1e-12)
