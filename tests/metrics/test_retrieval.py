from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from samespace.errors import InputError
from samespace.metrics import mean_average_precision, mean_average_precision_at_r, r_precision, retrieval


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


def written_out_at_r(scores, query_labels, gallery_labels, exclude=None):
    """MAP@R and R-precision from the ranking itself, mates behind others of the same score."""
    averages, shares = [], []
    for place, (row, label) in enumerate(zip(scores, query_labels, strict=True)):
        keep = np.ones(len(row), bool) if exclude is None else ~exclude[place]
        mates = (np.asarray(gallery_labels) == label)[keep]
        count = int(mates.sum())
        if count:
            hits = mates[np.lexsort((mates, -row[keep]))][:count]
            averages.append(sum(hits[: i + 1].mean() for i in range(count) if hits[i]) / count)
            shares.append(hits.mean())
    return np.mean(averages), np.mean(shares)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(1, 4), st.integers(0, 2**32 - 1), st.booleans())
def test_map_at_r_and_r_precision_are_their_definitions(queries, gallery, classes, seed, excluded):
    generator = np.random.default_rng(seed)
    scores = generator.integers(-4, 5, (queries, gallery)) / 4
    query_labels, gallery_labels = generator.integers(0, classes + 1, queries), generator.integers(0, classes, gallery)
    gallery_labels[0] = query_labels[0]
    exclude = generator.random((queries, gallery)) < 0.3 if excluded else None
    if exclude is not None:
        exclude[0, 0] = False
    given_ = scores, query_labels, gallery_labels
    average, share = written_out_at_r(*given_, exclude)
    assert mean_average_precision_at_r(*given_, exclude=exclude) == pytest.approx(average, abs=1e-12)
    assert r_precision(*given_, exclude=exclude) == pytest.approx(share, abs=1e-12)


def as_pytorch_metric_learning_does(scores, query_labels, gallery_labels):
    """The same in the way of its AccuracyCalculator: k neighbours, a table of matches cut at each query's R.

    Its classes are those with a mate, `k` is the most mates of any; one row of neighbours a query, one of matches;
    cumulated hits over places, masked where the neighbour does not match or stands beyond R.
    """
    counts = (query_labels[:, None] == gallery_labels[None]).sum(axis=1)
    lone = counts == 0
    k = counts.max()
    nearest = np.argsort(-scores, axis=1)[:, :k]
    same = gallery_labels[nearest] == query_labels[:, None]
    within = np.arange(k)[None] < counts[:, None]
    hits = same & within
    precision = np.cumsum(hits, axis=1) * hits / np.arange(1, k + 1)
    average = precision.sum(axis=1) / np.maximum(within.sum(axis=1), 1)
    share = hits.sum(axis=1) / np.maximum(within.sum(axis=1), 1)
    return average[~lone].mean(), share[~lone].mean()


def test_map_at_r_and_r_precision_are_those_of_pytorch_metric_learning():
    generator = np.random.default_rng(7)
    for _ in range(20):
        scores = generator.normal(size=(30, 90))
        query_labels, gallery_labels = generator.integers(0, 12, 30), generator.integers(0, 10, 90)
        average, share = as_pytorch_metric_learning_does(scores, query_labels, gallery_labels)
        assert mean_average_precision_at_r(scores, query_labels, gallery_labels) == pytest.approx(average, abs=1e-12)
        assert r_precision(scores, query_labels, gallery_labels) == pytest.approx(share, abs=1e-12)


def test_the_example_of_the_paper():
    # A Metric Learning Reality Check, table 1: ten results for ten mates; R-precision and MAP@R in percent
    for hits, share, average in (
        ([1] + [0] * 9, 10.0, 10.0),
        ([1, 0, 0, 0, 0, 0, 0, 0, 0, 1], 20.0, 12.0),
        ([1, 1] + [0] * 8, 20.0, 20.0),
        ([1] * 10, 100.0, 100.0),
    ):
        # mates that are not among the ten stand behind
        labels = [1 if hit else 2 for hit in hits] + [1] * (10 - sum(hits))
        scores = [np.linspace(1, 0, len(labels))]
        assert 100 * r_precision(scores, [1], labels) == pytest.approx(share)
        assert 100 * mean_average_precision_at_r(scores, [1], labels) == pytest.approx(average)


def test_a_model_that_maps_everything_to_one_point_has_none():
    labels = [0, 1, 1, 1, 0]
    assert mean_average_precision_at_r(np.zeros((1, 5)), [0], labels) == r_precision(np.zeros((1, 5)), [0], labels) == 0
