"""Ranking: where every relevant item stands in the full ranking, counted without ranking it.

Only relevant and ignored pairs are listed. The score of a relevant pair becomes a threshold, and one pass over blocks
of query × gallery scores counts the items at or above each; what is ignored is then taken off. No ranking is sorted, no
queries × gallery matrix is kept, and because scores are exact (`scoring.grid`) neither the memory allowed nor the
number of threads changes a result.

Two definitions of average precision are in use: the mean of the precisions at the relevant items (`average_precision`,
as in `metrics.mean_average_precision`), and the area under the precision-recall curve by the trapezoidal rule
(`trapezoidal_precision`), in the code published with Oxford, Paris and Market-1501.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.bootstrap import ratio, weigh
from samespace.scoring.counting import count_others
from samespace.scoring.grid import Doubles, exact_scores
from samespace.scoring.mates import Pairs

MEMORY = 1 << 29


@dataclass(frozen=True, eq=False)
class Ranking:
    """Where the relevant items of each query stand; ignored items take no place.

    Every measure is (Q,) float64, NaN for a query without relevant items.

    Attributes:
        queries: how many queries there are, with relevant items or without.
        query: (P,) query of each relevant item, ascending; within a query the best comes first.
        place: (P,) its place among the relevant items of its query, from 1, equal scores one after another.
        level: (P,) relevant items of its query with its score or more, itself included.
        others: (P,) other items with its score or more.
    """

    queries: int
    query: Ints
    place: Ints
    level: Ints
    others: Ints

    @property
    def relevant(self) -> Ints:
        """(Q,) relevant items of each query."""
        return np.bincount(self.query, minlength=self.queries)

    @property
    def position(self) -> Ints:
        """(P,) position of each relevant item in the whole ranking, from 1; ties with others count against it."""
        return self.place + self.others

    def rank(self) -> Ints:
        """(Q,) position of the best relevant item; 0 for a query without any."""
        result = np.zeros(self.queries, dtype=np.int64)
        best = self.place == 1
        result[self.query[best]] = self.position[best]
        return result

    def rank_at(self, k: int) -> Floats:
        """1 where a relevant item is among the `k` best, else 0."""
        rank = self.rank()
        return np.where(rank > 0, rank <= k, np.nan)

    def average_precision(self) -> Floats:
        """Mean of the precisions at the relevant items, over the full ranking.

        The precision at an item is the share of relevant ones among the items with its score or more, so ties are
        grouped, as in `metrics.mean_average_precision`.
        """
        return self._mean(self.level / (self.level + self.others))

    def trapezoidal_precision(self) -> Floats:
        """Area under the precision-recall curve by the trapezoidal rule, as in the Oxford buildings code.

        Each relevant item adds a step of recall times the mean of two precisions: just before it (1 at the top of the
        ranking) and at it. Ties with others count against the query.
        """
        before = self.position - 1
        earlier = np.where(before > 0, (self.place - 1) / np.maximum(before, 1), 1.0)
        return self._mean((earlier + self.place / self.position) / 2)

    def average_precision_at(self, depth: int) -> Floats:
        """Σ precision at each relevant item among the `depth` best / min(relevant, depth), as in GLDv2."""
        seen = np.where(self.position <= depth, self.place / self.position, 0.0)
        return ratio(weigh(self.query, seen, self.queries), np.minimum(self.relevant, depth).astype(np.float64))

    def average_precision_at_r(self) -> Floats:
        """Average precision among as many items as are relevant, the terms of `metrics.mean_average_precision_at_r`."""
        within = self.position <= self.relevant[self.query]
        return self._mean(np.where(within, self.place / self.position, 0.0))

    def r_precision(self) -> Floats:
        """Share of relevant items among as many items as are relevant, the terms of `metrics.r_precision`."""
        return self._mean((self.position <= self.relevant[self.query]).astype(np.float64))

    def precision_at(self, depth: int) -> Floats:
        """Share of relevant items among the `depth` best, as published with the revisited Oxford and Paris.

        Where the last relevant item stands before `depth`, the ranking is cut behind it, so that a query with few
        relevant items is not bound to fall short.
        """
        last = np.zeros(self.queries, dtype=np.int64)
        np.maximum.at(last, self.query, self.position)
        cut = np.minimum(last, depth)
        return ratio(weigh(self.query, self.position <= cut[self.query], self.queries), cut.astype(np.float64))

    def _mean(self, values: Floats) -> Floats:
        return ratio(weigh(self.query, values, self.queries), self.relevant.astype(np.float64))


@dataclass(frozen=True, eq=False)
class CountedPairs:
    """Listed pairs with their scores, and how many gallery items score at least as high; several rankings in one.

    A pair may be relevant under one ranking and ignored under another. `scores` (P,) are their cosines, `above` (P,)
    the gallery items with that score or more, the item itself included; −1 where they were not counted.
    """

    queries: int
    pairs: Pairs
    scores: Doubles
    above: Ints

    def ranking(self, relevant: Mask, ignored: Mask | None = None) -> Ranking:
        """The ranking in which some of the listed pairs are relevant, some ignored, and all else is neither.

        `relevant`: (P,) bool. `ignored`: (P,) bool, none of them relevant; none at all by default.

        Raises:
            InputError: a pair is both relevant and ignored, or is relevant and was not counted.
        """
        ignored = np.zeros(len(self.pairs), dtype=bool) if ignored is None else ignored
        if (relevant & ignored).any():
            raise InputError("a gallery item is both relevant to a query and ignored for it")
        if (self.above[relevant] < 0).any():
            raise InputError("the places of these pairs were not counted")
        order = np.flatnonzero(relevant)
        order = order[np.lexsort((-self.scores[order], self.pairs.query[order]))]
        query, scores = self.pairs.query[order], self.scores[order]
        count = np.bincount(query, minlength=self.queries)
        place = 1 + np.arange(len(query)) - np.repeat(np.cumsum(count) - count, count)
        level = _at_or_above(query, scores, query, scores)
        left_out = _at_or_above(query, scores, self.pairs.query[ignored], self.scores[ignored])
        return Ranking(
            queries=self.queries, query=query, place=place, level=level, others=self.above[order] - level - left_out
        )


def count_pairs(
    queries: npt.NDArray[Any],
    gallery: npt.NDArray[Any],
    pairs: Pairs,
    *,
    counted: Mask | None = None,
    memory: int = MEMORY,
) -> CountedPairs:
    """Score the listed pairs and count, over the whole gallery, the items at or above each score.

    Args:
        queries: (Q, D) unit vectors.
        gallery: (G, D) unit vectors, perhaps a memory map.
        pairs: which pairs may be relevant or ignored.
        counted: (P,) bool, the pairs that may be relevant; all by default. Ignored ones need no count.
        memory: bytes to work in, about; more than the least it takes (16 queries) changes speed only.

    Raises:
        InputError: vectors of unlike dimension, longer than one or not finite.
    """
    if queries.ndim != 2 or gallery.ndim != 2 or queries.shape[1] != gallery.shape[1]:
        raise InputError(f"queries and gallery should agree in dimension, got {queries.shape} and {gallery.shape}")
    scores = exact_scores(queries, gallery, pairs.query, pairs.item, memory=memory // 2)
    wanted = np.flatnonzero(np.ones(len(pairs), dtype=bool) if counted is None else counted)
    above = np.full(len(pairs), -1, dtype=np.int64)
    query, levels = pairs.query[wanted], scores[wanted]
    others = count_others(queries, gallery, query, pairs.item[wanted], levels, memory)
    above[wanted] = others + _at_or_above(query, levels, query, levels)
    return CountedPairs(queries=len(queries), pairs=pairs, scores=scores, above=above)


def rank(
    queries: npt.NDArray[Any],
    gallery: npt.NDArray[Any],
    relevant: Pairs,
    ignored: Pairs | None = None,
    *,
    memory: int = MEMORY,
) -> Ranking:
    """Find where the relevant items of each query stand, ignored ones left out.

    Arguments and errors as of `count_pairs`; `ignored` are pairs such as an item of the same camera.

    Example:
        >>> queries, gallery = np.eye(2), np.array([[0.6, 0.8], [1.0, 0.0], [0.8, 0.6]])
        >>> ranking = rank(queries, gallery, Pairs.of_equal(np.array([5, 7]), np.array([5, 6, 7])))
        >>> ranking.rank().tolist(), ranking.average_precision().tolist()
        ([3, 2], [0.3333333333333333, 0.5])
    """
    ignored = Pairs.of_lists([]) if ignored is None else ignored
    query = np.concatenate([relevant.query, ignored.query])
    both = Pairs(query=query, item=np.concatenate([relevant.item, ignored.item]))
    kept = np.arange(len(both)) < len(relevant)
    return count_pairs(queries, gallery, both, counted=kept, memory=memory).ranking(kept, ~kept)


def _at_or_above(query: Ints, thresholds: Doubles, other: Ints, scores: Doubles) -> Ints:
    """For each threshold (P,) of a query, how many of the `scores` (N,) of that query are at or above it."""
    asked = np.repeat([True, False], [len(query), len(other)])
    groups, values = np.concatenate([query, other]), np.concatenate([thresholds, scores])
    order = np.lexsort((asked, -values, groups))
    entries = np.cumsum(~asked[order])
    before = np.searchsorted(np.sort(other), groups[order], side="left")
    result = np.empty(len(values), dtype=np.int64)
    result[order] = entries - before
    return result[: len(query)]
