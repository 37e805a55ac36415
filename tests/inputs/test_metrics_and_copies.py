"""MAP@R, R-precision, copies and doubtful labels: the values of slow definitions, whatever the labels and the ties."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samespace import metrics
from samespace.data import ArraySource
from samespace.data.deep import doubt_labels, find_copies, look
from samespace.errors import SamespaceError

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(max_examples=25 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)


def names(numbers: np.ndarray, kind: str) -> np.ndarray:
    return {"whole": numbers, "huge": numbers + 2**62, "text": np.char.add("é\u2028", numbers.astype(str))}[kind]


@many
@given(seeds, st.integers(1, 5), st.integers(1, 12), st.integers(1, 4), st.sampled_from(["whole", "huge", "text"]))
def test_map_at_r_and_r_precision_by_the_ranking_written_out(seed, queries, gallery, classes, kind):
    random = np.random.default_rng(seed)
    scores = random.integers(-3, 4, (queries, gallery)) / 3
    asked, held = random.integers(0, classes + 1, queries), random.integers(0, classes, gallery)
    averages, shares = [], []
    for row, label in zip(scores, asked, strict=True):
        mates = held == label
        hits = mates[np.lexsort((mates, -row))][: mates.sum()]
        if mates.any():
            averages.append(sum(hits[: i + 1].mean() for i in np.flatnonzero(hits)) / mates.sum())
            shares.append(hits.mean())
    given_ = scores, names(asked, kind), names(held, kind)
    if not averages:
        with pytest.raises(SamespaceError, match="no query has a mate"):
            metrics.r_precision(*given_)
        return
    found = metrics.mean_average_precision_at_r(*given_), metrics.r_precision(*given_)
    assert np.allclose(found, (np.mean(averages), np.mean(shares)), atol=1e-12)


@many
@given(seeds, st.integers(1, 14), st.integers(1, 4), st.integers(1, 5), st.sampled_from([(5, 7), (32, 32), (1, 40)]))
def test_every_copy_is_told_and_nothing_else(seed, count, classes, distinct, size):
    random = np.random.default_rng(seed)
    made = random.integers(0, 256, (distinct, *size), dtype=np.uint8)
    if seed % 3 == 0:
        made[0] = 7  # one colour
    chosen, labels = random.integers(0, distinct, count), random.integers(0, classes, count)
    source = ArraySource(made[chosen], labels)
    found = find_copies(look(source), source.labels)
    same = (made[chosen][:, None] == made[chosen][None]).all(axis=(2, 3))
    unlike = source.labels[:, None] != source.labels[None]
    assert [pair.row for pair in found.across] == np.flatnonzero((same & unlike).any(axis=1)).tolist()
    assert [pair.row for pair in found.within] == np.flatnonzero(np.tril(same & ~unlike, -1).any(axis=1)).tolist()
    for pair in (*found.across, *found.within):
        assert same[pair.row, pair.other]
        assert pair.row != pair.other
    for pair in found.near:
        assert unlike[pair.row, pair.other]
        assert not (same & unlike)[pair.row].any()


@many
@given(seeds, st.integers(1, 16), st.integers(1, 4), st.sampled_from([0.0, 0.3, 2.0]), st.booleans())
def test_misplaced_images_by_all_cosines(seed, count, classes, noise, broken):
    random = np.random.default_rng(seed)
    labels = np.unique(random.integers(0, classes, count), return_inverse=True)[1]
    vectors = (random.normal(size=(classes, 4))[labels] + noise * random.normal(size=(count, 4))).astype(np.float32)
    if broken:
        vectors[0] = np.nan if seed % 2 else 0
    try:
        found = doubt_labels(vectors, labels)
    except SamespaceError:
        assert broken
        return
    assert not broken
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit.astype(np.float64) @ unit.T.astype(np.float64)
    np.fill_diagonal(cosine, -np.inf)
    for one in found.misplaced:
        kth = np.sort(cosine[one.row])[::-1][: found.neighbours].min()
        # float32 may take either of two that tie
        sure = labels[cosine[one.row] > kth + 1e-5]
        assert (sure == one.label).all()
        assert one.label != labels[one.row]
    assert {one.row for one in found.outliers} <= set(range(count))
