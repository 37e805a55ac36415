"""Held-out classes: the split, the values of each query against slow definitions, the gains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.bridge.support import METRICS, Support, compare, hold_out, search_values
from samespace.errors import InputError
from samespace.metrics import mean_average_precision, rank_k, tar_at_far


@given(st.lists(st.integers(0, 9), min_size=40, max_size=120), st.integers(0, 99), st.floats(0.1, 0.4))
def test_the_split_parts_classes_and_loses_no_item_of_the_rest(classes, seed, fraction):
    classes = np.array([*classes, *range(10), *range(10)])
    split = hold_out(classes, fraction=fraction, seed=seed)
    held = set(classes[split.queries]) | set(classes[split.gallery])
    assert held.isdisjoint(classes[split.train])
    assert len(held) == max(2, round(fraction * 10))
    rows = np.concatenate([split.train, split.queries, split.gallery])
    assert sorted(rows.tolist()) == list(range(len(classes)))
    for name in held:
        mine = (classes[split.queries] == name).sum()
        assert mine == (classes == name).sum() // 2 >= 1


def test_the_split_is_the_same_for_a_seed_and_another_for_another():
    classes = np.repeat(np.arange(50), 4)
    assert np.array_equal(hold_out(classes, seed=3).queries, hold_out(classes, seed=3).queries)
    assert not np.array_equal(hold_out(classes, seed=3).queries, hold_out(classes, seed=4).queries)


def test_no_more_items_than_asked_for_are_kept_apart():
    split = hold_out(np.repeat(np.arange(100), 10), fraction=0.5, most=200)
    assert len(split.queries) + len(split.gallery) == 200


def test_classes_of_one_item_are_for_learning():
    classes = np.array([*range(20), *np.repeat([100, 101, 102, 103], 2)])
    assert set(classes[hold_out(classes, fraction=0.5).queries]) <= {100, 101, 102, 103}


@pytest.mark.parametrize("classes", [[0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5], [0] * 9])
def test_too_few_classes_are_refused(classes):
    with pytest.raises(InputError, match="at least 4 classes, 2 of them with 2 items"):
        hold_out(np.array(classes))


@pytest.mark.parametrize("fraction", [0.0, 1.0, float("nan")])
def test_the_share_lies_between_0_and_1(fraction):
    with pytest.raises(InputError, match="between 0 and 1"):
        hold_out(np.repeat(np.arange(9), 2), fraction=fraction)


def test_values_are_the_metrics():
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 5)
    queries, gallery = (generator.integers(-2, 3, (30, 4)).astype(np.float32) for _ in range(2))
    values = search_values(queries, gallery, labels, labels, far=0.1)
    scores, mate = queries @ gallery.T, labels[:, None] == labels[None, :]
    expected = (
        mean_average_precision(scores, labels, labels),
        rank_k(scores, labels, labels),
        # each query has five mates, so that the mean over queries is that over pairs
        tar_at_far(scores[mate], scores[~mate], 0.1),
    )
    for metric, value in zip(METRICS, expected, strict=True):
        assert np.mean(values[metric]) == pytest.approx(value)


def test_a_query_without_a_mate_has_no_say():
    values = search_values(np.eye(3), np.eye(3)[:2], np.array([0, 1, 9]), np.array([0, 1]))
    assert all(np.isnan(values[metric]).tolist() == [False, False, True] for metric in METRICS)


def test_gains_are_over_the_base_and_the_interval_holds_the_difference():
    generator = np.random.default_rng(1)
    classes = np.repeat(np.arange(40), 3)
    base = {metric: generator.random(120) for metric in METRICS}
    better = {metric: base[metric] + 0.1 + 0.1 * generator.standard_normal(120) for metric in METRICS}
    gains = compare({"base": base, "better": better}, "base", classes, replicates=500)
    assert gains["base"]["mAP"] == (0.0, 0.0, 0.0)
    for difference, low, high in gains["better"].values():
        assert 0 < low < difference < high


def test_support_survives_json():
    made = Support(3, 9, 12, {"old": {"mAP": 0.5}}, {"old": {"mAP": (0.0, -0.1, 0.1)}})
    assert Support.from_dict(made.to_dict()) == made
