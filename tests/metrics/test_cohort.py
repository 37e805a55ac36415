from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.metrics import cohort_normalised, rank_k, tar_at_far


def slowly(scores, queries, gallery, top):
    result = np.empty(scores.shape)
    for row in range(scores.shape[0]):
        for column in range(scores.shape[1]):
            of_query, of_item = (sorted(side)[-top:] for side in (queries[row], gallery[column]))
            result[row, column] = sum((scores[row, column] - np.mean(s)) / np.std(s) for s in (of_query, of_item)) / 2
    return result


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 6), st.integers(3, 9), st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_it_is_its_definition(queries, gallery, cohort, top, seed):
    random = np.random.default_rng(seed)
    given_ = [random.uniform(-1, 1, shape) for shape in ((queries, gallery), (queries, cohort), (gallery, cohort))]
    assert cohort_normalised(*given_, top=top) == pytest.approx(slowly(*given_, top), rel=1e-9)


def test_items_like_everything_stop_passing_the_common_threshold():
    random = np.random.default_rng(0)
    centres = random.normal(size=(60, 24))
    cohort = random.normal(size=(300, 24))
    common = random.normal(size=24)
    labels = np.repeat(np.arange(60), 4)
    pull = np.abs(random.normal(size=(2, 240, 1))) * 1.5
    sides = [centres[labels] + random.normal(size=(240, 24)) * 0.5 + share * common for share in pull]
    queries, gallery = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    cohort = cohort + common * 0.7
    cohort /= np.linalg.norm(cohort, axis=1, keepdims=True)
    raw = queries @ gallery.T
    better = cohort_normalised(raw, queries @ cohort.T, gallery @ cohort.T, top=50)
    mate = labels[:, None] == labels[None]
    assert tar_at_far(better[mate], better[~mate], 1e-2) > tar_at_far(raw[mate], raw[~mate], 1e-2) + 0.05
    assert rank_k(better, labels, labels) > rank_k(raw, labels, labels) - 0.05


@pytest.mark.parametrize(
    ("shapes", "top", "message"),
    [
        (((2, 3), (2, 5), (2, 5)), 2, "need cohort scores"),
        (((2, 3), (2, 5), (3, 4)), 2, "need cohort scores"),
        (((2, 3), (2, 1), (3, 1)), 2, "2 vectors or more"),
        (((2, 3), (2, 5), (3, 5)), 1, "2 vectors or more"),
    ],
)
def test_what_does_not_fit_is_refused(shapes, top, message):
    random = np.random.default_rng(0)
    with pytest.raises(InputError, match=message):
        cohort_normalised(*(random.random(shape) for shape in shapes), top=top)


def test_a_cohort_without_spread_is_refused():
    with pytest.raises(InputError, match="query 0 scores the same"):
        cohort_normalised(np.zeros((1, 1)), np.ones((1, 3)), np.array([[0.1, 0.2, 0.3]]))
