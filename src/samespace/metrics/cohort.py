"""Scores normalised against a cohort: how far a score stands out from what its query and its item usually get."""

from __future__ import annotations

from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, as_scores


def cohort_normalised(scores: Any, query_cohort: Any, gallery_cohort: Any, *, top: int = 200) -> Floats:
    """Adaptive symmetric normalisation of scores (Matějka et al., *Analysis of Score Normalization*, Interspeech 2017).

    `½ ((s − μ_q)/σ_q + (s − μ_g)/σ_g)`: μ_q and σ_q are mean and standard deviation of the `top` highest scores of the
    query against a cohort of vectors that are none of the people or things searched for, best of some that no model
    was trained on; μ_g and σ_g those of the gallery item. An item or a query that is like everything no longer passes a
    threshold that all share. The order of one query's hits changes only by the items' part.

    Args:
        scores: (Q, G) cosines of queries and gallery.
        query_cohort: (Q, C) cosines of the queries and the cohort, whose vectors are in the gallery's space.
        gallery_cohort: (G, C) cosines of the gallery and the same cohort.
        top: how many of the cohort's scores count, at least 2; all where there are fewer.

    Returns:
        (Q, G) float64, no longer cosines.

    Raises:
        InputError: shapes that do not fit, scores that are not finite, a cohort or `top` below 2, or an item whose
            `top` cohort scores are all equal.

    Example:
        >>> cohort_normalised([[0.9, 0.5]], [[0.3, 0.1]], [[0.3, 0.1], [0.6, 0.4]]).round(2).tolist()
        [[7.0, 1.5]]
    """
    table, queries = as_scores(scores, "scores", 2), as_scores(query_cohort, "scores of queries and cohort", 2)
    gallery = as_scores(gallery_cohort, "scores of gallery and cohort", 2)
    if table.shape != (len(queries), len(gallery)) or queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"scores {table.shape} need cohort scores (queries, cohort) and (gallery, cohort), got {queries.shape} and "
            f"{gallery.shape}"
        )
    if min(top, queries.shape[1]) < 2:
        raise InputError(
            f"a cohort of 2 vectors or more and top of 2 or more are needed, got {queries.shape[1]}, {top}"
        )
    (mean_q, std_q), (mean_g, std_g) = _highest(queries, top, "query"), _highest(gallery, top, "gallery item")
    values = table.astype(np.float64)
    return 0.5 * ((values - mean_q[:, None]) / std_q[:, None] + (values - mean_g) / std_g)


def _highest(scores: Floats, top: int, what: str) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the `top` highest of each row, (N,) float64."""
    count = min(top, scores.shape[1])
    best = np.partition(scores, scores.shape[1] - count, axis=1)[:, scores.shape[1] - count :].astype(np.float64)
    deviation = best.std(axis=1)
    if (deviation == 0).any():
        raise InputError(f"{what} {int(np.argmax(deviation == 0))} scores the same with all of its cohort")
    return best.mean(axis=1), deviation
