"""Retrieval: average precision over the full ranking, and precision among as many items as a query has mates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.identification import search_inputs

_BLOCK_SCORES = 4_000_000


@dataclass(frozen=True, eq=False)
class Precisions:
    """How the mates of each query stand in its ranking, all of shape (Q,) float64; NaN for a query without mates.

    R is the number of the query's own mates in the gallery.

    Attributes:
        average: average precision over the full ranking, ties grouped.
        average_at_r: average precision among the R best, the terms of MAP@R.
        share_at_r: share of mates among the R best, the terms of R-precision.
    """

    average: Floats
    average_at_r: Floats
    share_at_r: Floats

    @classmethod
    def unfilled(cls, count: int) -> Precisions:
        """Those of `count` queries without mates, to be filled in."""
        return cls(*(np.full(count, np.nan) for _ in range(3)))

    def fill(self, rows: Ints | slice, mates: Floats, others: Ints) -> None:
        """Take some queries: scores of their mates (q, M), padded with −inf, and non-mates at or above each (q, M)."""
        self.average[rows] = precision_from_counts(mates, others)
        self.average_at_r[rows], self.share_at_r[rows] = precision_at_r_from_counts(mates, others)


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
    return float(_precisions(scores, query_labels, gallery_labels, exclude).average.mean())


def mean_average_precision_at_r(scores: Any, query_labels: Any, gallery_labels: Any, *, exclude: Any = None) -> float:
    """MAP@R: mean over mated queries of average precision among the R best, R being the query's number of mates.

    `(1/R) Σ_{i=1}^{R} P(i)`, where P(i) is the share of mates among the i best if the i-th is a mate, and 0 otherwise
    (Musgrave, Belongie, Lim, *A Metric Learning Reality Check*, ECCV 2020, section 2.3). It is 1 where all mates stand
    before all others, and rewards their order above them, which R-precision does not. Ties count against the query.
    Arguments and errors as of `mean_average_precision`.

    Example:
        >>> mean_average_precision_at_r([[0.9, 0.5, 0.1]], [1], [1, 2, 1])
        0.5
    """
    return float(_precisions(scores, query_labels, gallery_labels, exclude).average_at_r.mean())


def r_precision(scores: Any, query_labels: Any, gallery_labels: Any, *, exclude: Any = None) -> float:
    """R-precision: mean over mated queries of the share of mates among the R best, R being the query's number of mates.

    Musgrave et al., ECCV 2020, section 2.3. Ties count against the query. Arguments and errors as of
    `mean_average_precision`.

    Example:
        >>> r_precision([[0.9, 0.5, 0.4, 0.1]], [1], [1, 2, 1, 3])
        0.5
    """
    return float(_precisions(scores, query_labels, gallery_labels, exclude).share_at_r.mean())


def _precisions(scores: Any, query_labels: Any, gallery_labels: Any, exclude: Any) -> Precisions:
    """Those of the mated queries, in their order."""
    values, mate, out = search_inputs(scores, query_labels, gallery_labels, exclude)
    positive = mate & ~out
    rows = np.flatnonzero(positive.any(axis=1))
    if rows.size == 0:
        raise InputError("no query has a mate in the gallery; average precision needs shared identities")
    step = max(1, _BLOCK_SCORES // values.shape[1])
    found = Precisions.unfilled(len(rows))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        mates = np.where(positive[block], values[block], -np.inf)
        others = np.where(mate[block] | out[block], -np.inf, values[block])
        deepest = int(positive[block].sum(axis=1).max())
        mates = np.sort(mates, axis=1)[:, -deepest:]
        above = others.shape[1] - places(np.sort(others, axis=1), mates)
        found.fill(slice(start, start + len(block)), mates, above)
    return found


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


def precision_at_r_from_counts(mates: Floats, others: Ints) -> tuple[Floats, Floats]:
    """Average precision, and share of mates, among the R best of each row, R being the row's number of mates.

    Arguments as of `precision_from_counts`. A mate stands behind every non-mate of equal score; mates of equal score
    stand one behind another.

    Returns:
        (Q,) float64 each; NaN for a row without mates.
    """
    count = np.isfinite(mates).sum(axis=1)
    place = np.arange(1, mates.shape[1] + 1)
    # the better a mate, the fewer others stand above it: sorted, the counts are those of the mates from the best on
    position = place + np.sort(np.where(np.isfinite(mates), others, np.iinfo(np.int32).max), axis=1)
    within = position <= count[:, None]
    total = np.where(count > 0, count, np.nan)
    average = np.where(within, place / position, 0.0).sum(axis=1) / total
    return np.asarray(average), np.asarray(within.sum(axis=1) / total)


def places(rows: Floats, values: Floats) -> Ints:
    """Where each of `values` (Q, M) would enter its ascending row of `rows` (Q, N), before its equals."""
    if values.shape[1] == 0:
        return np.zeros(values.shape, dtype=np.int64)
    entered = [row.searchsorted(mine) for row, mine in zip(rows, values, strict=True)]
    return np.array(entered, dtype=np.int64).reshape(values.shape)
