"""Thresholds under integer weights of identities, and the weight above them.

A query counts as often as its identity; a pair of one identity as often as that, a pair of two as often as the product
of both. Thresholds are found anew under each set of weights by the rule of `metrics.threshold_at_far`: the lowest at
which the accepted weight is at most the rate asked for, accepting strictly above.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import weighed
from samespace.metrics.verification import allowed_count
from samespace.scoring.tail import Codes

_CHUNK_WEIGHTS = 1 << 18
_CHUNK_BYTES = 1 << 17
_LEAST_SEGMENT, _MOST_SEGMENT, _SEGMENTS = 1024, 1 << 16, 16
_MANY_SCORES = 16
_MARGIN, _SPARE = 2.0, 64
_EXACT = 1 << 24


class TailTooShort(Exception):
    """More of the largest impostor scores are needed to place a threshold."""


def thresholds_at(impostor: Floats, rates: Sequence[Fraction]) -> list[float]:
    """`metrics.threshold_at_far` at several rates at once: each is looked for among the highest left by the last.

    Example:
        >>> thresholds_at(np.array([0.1, 0.5, 0.3, 0.2], dtype=np.float32), [Fraction(1, 4), Fraction(1)])
        [0.30000001192092896, -inf]
    """
    thresholds = [-np.inf] * len(rates)
    highest = impostor
    for allowed, number in sorted(
        ((allowed_count(rate, len(impostor)), number) for number, rate in enumerate(rates)), reverse=True
    ):
        if allowed < len(impostor):
            cut = len(highest) - 1 - allowed
            highest = np.partition(highest, cut)[cut:]
            thresholds[number] = float(highest[0])
    return thresholds


def query_thresholds(rate: Fraction, scores: Floats, identity: Ints, counts: Ints) -> Floats:
    """The lowest threshold of each row of `counts` above which at most `rate` of the weight of the scores lies, (r,).

    Only the highest scores are looked at, and more where a row allows more.

    `scores` and `identity` are (Q,), one each for each query, `counts` (r, identities).
    """
    allowed = _allowed(rate, weighed(counts, identity, np.ones(len(scores)))[0])
    order = np.argsort(-scores, kind="stable")
    size = min(len(scores), _SPARE + int(_MARGIN * allowed_count(rate, len(scores))))
    place = _within(counts, identity[order[:size]], allowed)
    beyond = np.flatnonzero(place == size) if size < len(scores) else np.zeros(0, dtype=np.int64)
    place[beyond] = _within(counts[beyond], identity[order], allowed[beyond])
    return np.asarray(np.append(scores[order].astype(np.float64), -np.inf)[place])


def pair_thresholds(
    rates: Sequence[Fraction], scores: Floats, sides: tuple[Codes, Codes], complete: bool, total: Ints, counts: Ints
) -> list[Floats]:
    """The lowest threshold of each row of `counts` at which at most each rate of the impostor weight is accepted.

    `scores` (T,) are the largest impostor scores, descending, `sides` (T,) the identities of both sides of each,
    `complete` says whether these are all there are, and `total` (r,) is the weight of all impostor pairs.

    Returns:
        (r,) float64 for each rate; −inf where all may be accepted.

    Raises:
        TailTooShort: the scores end before the weight does.
    """
    allowed = np.array([_allowed(rate, total) for rate in rates])
    place = places_by_weight(*sides, counts, allowed)
    if not complete and (place == len(scores)).any():
        raise TailTooShort
    return list(np.append(scores.astype(np.float64), -np.inf)[place])


def weight_above(scores: Floats, identity: Ints, thresholds: Floats, counts: Ints) -> Floats:
    """Weight of the scores strictly above each row's threshold, (r,) float64.

    Scores above every threshold are summed per identity; only those between the lowest and the highest threshold
    are looked at row by row, one by one or, where identities have many, identity by identity.
    """
    low, high = thresholds.min(), thresholds.max()
    sure = scores > high
    (total,) = weighed(counts, identity[sure], np.ones(np.count_nonzero(sure)))
    unsure = (scores > low) & ~sure
    scores, identity = scores[unsure], identity[unsure]
    present = np.unique(identity)
    if len(scores) > _MANY_SCORES * len(present):
        return np.asarray(total + _weight_above_by_identity(scores, identity, present, thresholds, counts))
    step = max(1, _CHUNK_WEIGHTS // len(counts))
    for start in range(0, len(scores), step):
        above = scores[None, start : start + step] > thresholds[:, None]
        total = total + (counts[:, identity[start : start + step]] * above).sum(axis=1)
    return np.asarray(total, dtype=np.float64)


def _weight_above_by_identity(
    scores: Floats, identity: Ints, present: Ints, thresholds: Floats, counts: Ints
) -> Floats:
    """The same weight, by counting each identity's scores above each threshold in one sorted list of keys."""
    size = len(scores)
    order = np.argsort(scores)
    keys = np.sort(identity[order] * size + np.arange(size))
    below = np.searchsorted(scores[order], thresholds.astype(scores.dtype), side="right")
    total = np.zeros(len(counts))
    step = max(1, _CHUNK_WEIGHTS // len(counts))
    for start in range(0, len(present), step):
        some = present[start : start + step]
        last = np.searchsorted(keys, (some + 1) * size)
        first = np.searchsorted(keys, some[None, :] * size + below[:, None])
        total += (counts[:, some] * (last - first)).sum(axis=1)
    return total


def pair_weight(first: Codes, second: Codes, counts: Ints) -> Ints:
    """Σ c_first · c_second over all pairs under each row of `counts`, (r,) int64."""
    identities = counts.shape[1]
    if len(first) == 0:
        return np.zeros(len(counts), dtype=np.int64)
    if identities * identities > 4 * len(first):
        return _products(first, second, _narrowed(counts))
    table = np.bincount(first.astype(np.int64) * identities + second, minlength=identities * identities)
    # whole numbers below 2²⁴ are exact in float32, which is twice as fast
    kind = np.float32 if int(table.max()) * identities * int(counts.max()) < _EXACT else np.float64
    rows = counts.astype(kind)
    products = rows @ table.reshape(identities, identities).astype(kind)
    return np.asarray((products.astype(np.float64) * rows).sum(axis=1), dtype=np.int64)


def places_by_weight(first: Codes, second: Codes, counts: Ints, allowed: Ints) -> Ints:
    """How many of the leading pairs each row of `counts` accepts within each of its allowances.

    Whole segments of pairs are weighed at once; a row is followed pair by pair only through the segment in which its
    allowance runs out.

    `first` and `second` (T,) are the identities of each pair, best pair first, `allowed` (k, r) the weight that may be
    accepted, by rate and row. The result is (k, r), T where the weight never exceeds what is allowed.
    """
    place = np.full(allowed.shape, len(first), dtype=np.int64)
    spent = np.zeros(len(counts), dtype=np.int64)
    weights = _narrowed(counts)
    start = 0
    while start < len(first) and (spent <= allowed.max(axis=0)).any():
        piece = slice(start, start + min(max(_LEAST_SEGMENT, start // _SEGMENTS), _MOST_SEGMENT))
        after = spent + _products(first[piece], second[piece], weights)
        for number, limit in enumerate(allowed):
            rows = np.flatnonzero((spent <= limit) & (after > limit))
            within = _within(counts[rows], first[piece], limit[rows] - spent[rows], second[piece])
            place[number, rows] = start + within
        spent, start = after, piece.stop
    return place


def _within(counts: Ints, first: Codes, allowance: Ints, second: Codes | None = None) -> Ints:
    """How many of the leading scores, or pairs, fit in each row's allowance, one by one."""
    place = np.zeros(len(counts), dtype=np.int64)
    step = max(1, _CHUNK_WEIGHTS // max(1, len(first)))
    for start in range(0, len(counts) if len(first) else 0, step):
        part = slice(start, start + step)
        weights = np.take(counts[part], first, axis=1)
        if second is not None:
            weights *= np.take(counts[part], second, axis=1)
        running = np.cumsum(weights, axis=1, out=weights)
        place[part] = [row.searchsorted(limit, "right") for row, limit in zip(running, allowance[part], strict=True)]
    return place


def _narrowed(counts: Ints) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Weights with a row for each identity, in the smallest whole numbers that hold a product of two."""
    return np.ascontiguousarray(counts.T, dtype=np.min_scalar_type(int(counts.max(initial=0)) ** 2))


def _products(first: Codes, second: Codes, weights: npt.NDArray[np.unsignedinteger[Any]]) -> Ints:
    """Σ w_first · w_second over some pairs for each column of `weights` (identities, r), (r,) int64."""
    step = max(1, _CHUNK_BYTES // max(1, weights[:1].nbytes))
    # sums of a chunk fit in twice the digits of a product, as a chunk has few rows
    largest = np.iinfo(weights.dtype).max * step
    kind = np.min_scalar_type(largest) if weights.dtype.itemsize < 8 else np.int64
    total = np.zeros(weights.shape[1], dtype=np.int64)
    for start in range(0, len(first), step):
        products = weights[first[start : start + step]]
        products *= weights[second[start : start + step]]
        total += products.sum(axis=0, dtype=kind).astype(np.int64)
    return total


def _allowed(rate: Fraction, totals: Any) -> Ints:
    return np.array([allowed_count(rate, int(total)) for total in totals], dtype=np.int64)
