from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from samespace.errors import InputError
from samespace.metrics import allowed_count, roc, tar_at_far, threshold_at_far

scores = st.lists(st.integers(-4, 4), min_size=1, max_size=30).map(lambda values: np.array(values, float) / 4)
rates = st.sampled_from([0.0, 0.01, 0.1, 0.29, 0.5, 0.999, 1.0])


def slow_threshold(impostor: np.ndarray, far: float) -> float:
    """Try every threshold that can matter, lowest first."""
    for threshold in [-math.inf, *sorted(set(impostor.tolist()))]:
        if Fraction(int((impostor > threshold).sum()), len(impostor)) <= Fraction(repr(far)):
            return threshold
    raise AssertionError("the largest score always qualifies")


@given(scores, rates)
def test_the_threshold_is_the_lowest_whose_false_accept_rate_is_at_most_the_target(impostor, far):
    assert threshold_at_far(impostor, far) == slow_threshold(impostor, far)


@given(scores, scores, rates)
def test_tar_counts_genuine_scores_strictly_above_the_threshold(genuine, impostor, far):
    threshold = slow_threshold(impostor, far)
    assert tar_at_far(genuine, impostor, far) == pytest.approx(np.mean([s > threshold for s in genuine]))


@given(scores, scores, st.randoms(use_true_random=False))
def test_order_of_scores_does_not_matter(genuine, impostor, random):
    shuffled = [list(genuine), list(impostor)]
    for values in shuffled:
        random.shuffle(values)
    assert tar_at_far(*shuffled, 0.1) == tar_at_far(genuine, impostor, 0.1)


def test_tar_is_the_best_point_of_the_exact_roc_curve_that_keeps_the_rate():
    generator = np.random.default_rng(0)
    genuine, impostor = generator.normal(1, 1, 400).round(2), generator.normal(-1, 1, 3000).round(2)
    labels = np.r_[np.ones(400), np.zeros(3000)]
    fpr, tpr, _ = roc_curve(labels, np.r_[genuine, impostor], drop_intermediate=False)
    for far in (1e-3, 1e-2, 0.05, 0.3):
        assert tar_at_far(genuine, impostor, far) == pytest.approx(tpr[fpr <= far].max())


def test_at_most_differs_from_the_nearest_point_of_the_curve():
    impostor = np.arange(10) / 10
    genuine = np.array([0.85, 0.75])
    far = 0.19
    fpr = np.array([(impostor > t).mean() for t in impostor])
    nearest = impostor[np.argmin(np.abs(fpr - far))]
    assert (impostor > nearest).mean() > far
    assert np.mean(genuine > nearest) == 1.0
    assert tar_at_far(genuine, impostor, far) == 0.5


def test_allowed_false_accepts_are_exact_where_floating_point_is_not():
    assert int(0.29 * 100) == 28
    assert allowed_count(0.29, 100) == 29
    assert allowed_count(1e-4, 49_949_334) == 4994
    assert threshold_at_far(np.arange(100), 0.29) == 70


def test_a_collapsed_embedding_accepts_nobody():
    assert tar_at_far(np.ones(5), np.ones(50), 0.1) == 0.0


def test_tensors_and_half_precision_are_read_as_they_are():
    genuine, impostor = torch.tensor([0.5, -0.25]), torch.tensor([-0.5, -0.75, 0.25, 0.0])
    for kind in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        assert tar_at_far(genuine.to(kind), impostor.to(kind), 0.25) == 0.5


def test_every_point_of_the_curve_is_tar_at_its_rate():
    generator = np.random.default_rng(1)
    genuine, impostor = generator.normal(1, 1, 70).round(1), generator.normal(0, 1, 230).round(1)
    curve = roc(genuine, impostor, points=25)
    assert len(curve.far) == 25
    for far, tar, threshold in zip(curve.far, curve.tar, curve.threshold, strict=True):
        assert tar == pytest.approx(tar_at_far(genuine, impostor, float(far)))
        assert threshold == threshold_at_far(impostor, float(far))
    assert curve.tar[-1] == 1.0
    assert roc(genuine, impostor, points=[0.1]).tar[0] == pytest.approx(tar_at_far(genuine, impostor, 0.1))


@pytest.mark.parametrize(
    ("genuine", "impostor", "far", "message"),
    [
        ([], [0.1], 0.1, "no genuine"),
        ([0.1], [], 0.1, "no impostor"),
        ([0.1], [0.1], 1.5, "between 0 and 1"),
        ([0.1], [0.1], -0.1, "between 0 and 1"),
        ([0.1], [float("nan")], 0.1, "NaN"),
        ([float("inf")], [0.1], 0.1, "infinity"),
        ([[0.1]], [0.1], 0.1, "dimension"),
        (["a"], [0.1], 0.1, "numbers"),
    ],
)
def test_what_cannot_be_measured_is_refused(genuine, impostor, far, message):
    with pytest.raises(InputError, match=message):
        tar_at_far(np.array(genuine), np.array(impostor), far)
