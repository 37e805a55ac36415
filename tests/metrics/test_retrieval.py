from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from samespace.errors import InputError
from samespace.metrics import mean_average_precision, retrieval


def reference(scores, query_labels, gallery_labels, exclude=None):
    values = []
    for place, (row, label) in enumerate(zip(scores, query_labels, strict=True)):
        keep = np.ones(len(row), bool) if exclude is None else ~exclude[place]
        mates = (np.asarray(gallery_labels) == label)[keep]
        if mates.any():
            values.append(average_precision_score(mates, row[keep]))
    return np.mean(values)


@given(
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
)
def test_map_is_scikit_learns_with_ties_negative_scores_and_missing_mates(queries, gallery, classes, seed, kind):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(-4, 5, (queries, gallery)) / 4).astype(kind)
    query_labels, gallery_labels = generator.integers(0, classes + 1, queries), generator.integers(0, classes, gallery)
    gallery_labels[0] = query_labels[0]
    result = mean_average_precision(scores, query_labels, gallery_labels)
    assert result == pytest.approx(reference(scores, query_labels, gallery_labels), abs=1e-12)


def test_map_with_excluded_pairs_is_that_of_the_rest():
    generator = np.random.default_rng(3)
    scores, labels = generator.normal(size=(8, 8)).round(1), np.array([0, 0, 1, 1, 1, 2, 2, 2])
    own = np.eye(8, dtype=bool)
    result = mean_average_precision(scores, labels, labels, exclude=own)
    assert result == pytest.approx(reference(scores, labels, labels, own), abs=1e-12)


def test_the_block_size_changes_nothing(monkeypatch):
    generator = np.random.default_rng(4)
    scores = generator.normal(size=(20, 30))
    labels = generator.integers(0, 5, 20), generator.integers(0, 5, 30)
    whole = mean_average_precision(scores, *labels)
    monkeypatch.setattr(retrieval, "_BLOCK_SCORES", 40)
    assert mean_average_precision(scores, *labels) == pytest.approx(whole, abs=1e-15)


def test_equal_scores_earn_the_share_of_mates():
    assert mean_average_precision(np.zeros((1, 5)), ["a"], ["a", "b", "c", "d", "a"]) == pytest.approx(0.4)


def test_no_mate_at_all_is_refused():
    with pytest.raises(InputError, match="no query has a mate"):
        mean_average_precision(np.zeros((1, 2)), ["a"], ["b", "c"])
