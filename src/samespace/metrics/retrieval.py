"""Retrieval: average precision over the full ranking."""

from __future__ import annotations

from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.identification import search_inputs

_BLOCK_SCORES = 4_000_000


def mean_average_precision(scores: Any, query_labels: Any, gallery_labels: Any, *, exclude: Any = None) -> float:
    """Mean over mated queries of average precision over the full ranking.

    Ties are grouped: the precision at a mate is (mates at or above its score) / (items at or above its score), and
    a query's average precision is the mean over all of its mates. Queries without a mate are left out.

    Args:
        scores: (Q, G) similarity, larger meaning more alike; negative scores are ordinary.
        query_labels: (Q,) identities, integers or strings.
        gallery_labels: (G,) identities.
        exclude: (Q, G) bool, true for pairs to leave out.

    Raises:
        InputError: shapes that do not fit, scores that are not finite, or no mated query.

    Example:
        >>> round(mean_average_precision([[0.9, 0.5, 0.1]], [1], [1, 2, 1]), 4)
        0.8333
    """
    values, mate, out = search_inputs(scores, query_labels, gallery_labels, exclude)
    positive = mate & ~out
    rows = np.flatnonzero(positive.any(axis=1))
    if rows.size == 0:
        raise InputError("no query has a mate in the gallery; average precision needs shared identities")
    step = max(1, _BLOCK_SCORES // values.shape[1])
    total = 0.0
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        mates = np.where(positive[block], values[block], -np.inf)
        others = np.where(mate[block] | out[block], -np.inf, values[block])
        deepest = int(positive[block].sum(axis=1).max())
        mates = np.sort(mates, axis=1)[:, -deepest:]
        total += float(average_precision(mates, np.sort(others, axis=1)).sum())
    return total / len(rows)


def average_precision(mates: Floats, others: Floats) -> Floats:
    """Average precision of each row from its two kinds of scores, ties grouped.

    Counting where each mate falls among the sorted others replaces ranking the whole row.

    Args:
        mates: (Q, M) scores of mates, each row ascending, padded in front with −inf.
        others: (Q, N) scores of non-mates, each row ascending, padded in front with −inf.

    Returns:
        (Q,) float64; NaN for a row without mates.
    """
    return precision_from_counts(mates, others.shape[1] - places(others, mates))


def precision_from_counts(mates: Floats, others: Ints) -> Floats:
    """Average precision of each row from the scores of its mates (Q, M), in any order, padded with −inf.

    `others` (Q, M) are how many non-mates score at least as high as each mate.
    """
    real = np.isfinite(mates)
    at_or_above = mates.shape[1] - places(np.sort(mates, axis=1), mates)
    precision = np.where(real, at_or_above / np.maximum(1, at_or_above + others), 0.0)
    count = real.sum(axis=1)
    return np.asarray(precision.sum(axis=1) / np.where(count > 0, count, np.nan))


def places(rows: Floats, values: Floats) -> Ints:
    """Where each of `values` (Q, M) would enter its ascending row of `rows` (Q, N), before its equals."""
    if values.shape[1] == 0:
        return np.zeros(values.shape, dtype=np.int64)
    entered = [row.searchsorted(mine) for row, mine in zip(rows, values, strict=True)]
    return np.array(entered, dtype=np.int64).reshape(values.shape)
