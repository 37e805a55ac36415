"""TAR at bounds on FAR over a list of pairs, under weights of identities.

A genuine pair counts as often as its identity, an impostor pair as often as the product of both of its identities;
thresholds are found anew under each set of weights, the lowest whose FAR is at most the target, accepting strictly
above. All impostor scores are kept, but only the highest are ever sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch

from samespace.evaluate.replicates import weight_above
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import ratio, weigh
from samespace.metrics.verification import allowed_count

Codes = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]

_MARGIN = 1.3
_SPARE = 4096
_LEAST_SEGMENT, _SEGMENTS = 1024, 16
_CHUNK_WEIGHTS = 1 << 18
_EXACT = 1 << 24
_CHUNK_PAIRS = 1 << 18


class PairsFound:
    """Scores of a list of pairs under one pair of models.

    Args:
        genuine: (p,) scores of pairs of one identity.
        genuine_identity: (p,) that identity.
        impostor: (n,) scores of pairs of unlike identities.
        identities: gives the identities of the first and of the second of each, (n,) both; called only where weights
            differ.
    """

    def __init__(
        self,
        genuine: Scores,
        genuine_identity: Ints,
        impostor: Scores,
        identities: Callable[[], tuple[Codes, Codes]],
    ) -> None:
        self.genuine, self.genuine_identity = genuine, genuine_identity
        self.impostor, self.identities = impostor, identities
        self._tail: tuple[Scores, Codes, Codes] | None = None

    def tar(self, rates: Sequence[Fraction], counts: Ints) -> list[Floats]:
        """TAR at each rate under each row of `counts` (r, identities): (r,) float64 each, NaN without such pairs."""
        if (counts == 1).all():
            found = thresholds(self.impostor, rates) if self.impostor.size else [np.nan] * len(rates)
            levels = [np.full(len(counts), threshold) for threshold in found]
        else:
            levels = self._thresholds(rates, counts)
        total = counts @ weigh(self.genuine_identity, np.ones(len(self.genuine)), counts.shape[1])
        return [self._share(level, counts, total) for level in levels]

    def _share(self, thresholds: Floats, counts: Ints, total: Floats) -> Floats:
        defined = ~np.isnan(thresholds)
        if not defined.any():
            return np.full(len(counts), np.nan)
        above = weight_above(self.genuine, self.genuine_identity, np.where(defined, thresholds, 0.0), counts)
        return np.where(defined, ratio(above, total), np.nan)

    def _thresholds(self, rates: Sequence[Fraction], counts: Ints) -> list[Floats]:
        total = impostor_weight(*self.identities(), counts)
        allowed = np.array([[allowed_count(rate, int(weight)) for weight in total] for rate in rates], dtype=np.int64)
        size = _SPARE + int(_MARGIN * max(allowed_count(rate, len(self.impostor)) for rate in rates))
        while True:
            scores, first, second = self._highest(min(size, len(self.impostor)))
            place = places_by_weight(first, second, counts, allowed)
            if len(scores) == len(self.impostor) or (place < len(scores)).all():
                break
            size *= 2
        levels = np.append(scores.astype(np.float64), -np.inf)[place]
        return [np.where(total > 0, level, np.nan) for level in levels]

    def _highest(self, size: int) -> tuple[Scores, Codes, Codes]:
        """The `size` highest impostor scores, descending, with their identities; kept for the next call."""
        if self._tail is None or len(self._tail[0]) < size:
            cut = len(self.impostor) - size
            chosen = np.argpartition(self.impostor, cut)[cut:] if cut else np.arange(size)
            chosen = chosen[np.argsort(-self.impostor[chosen], kind="stable")]
            first, second = self.identities()
            self._tail = self.impostor[chosen], first[chosen], second[chosen]
        return self._tail


def thresholds(impostor: Scores, rates: Sequence[Fraction]) -> list[float]:
    """`metrics.threshold_at_far` at several rates at once: each is looked for among the highest left by the last.

    Example:
        >>> thresholds(np.array([0.1, 0.5, 0.3, 0.2], dtype=np.float32), [Fraction(1, 4), Fraction(1)])
        [0.30000001192092896, -inf]
    """
    found = [-np.inf] * len(rates)
    highest = impostor
    for allowed, place in sorted(
        ((allowed_count(rate, len(impostor)), i) for i, rate in enumerate(rates)), reverse=True
    ):
        if allowed < len(impostor):
            cut = len(highest) - 1 - allowed
            highest = np.partition(highest, cut)[cut:]
            found[place] = float(highest[0])
    return found


def impostor_weight(first: Codes, second: Codes, counts: Ints) -> Ints:
    """Σ c_first · c_second over all pairs under each row of `counts`, (r,) int64."""
    identities = counts.shape[1]
    if len(first) == 0:
        return np.zeros(len(counts), dtype=np.int64)
    if identities * identities > 4 * len(first):
        pieces = [slice(start, start + _CHUNK_PAIRS) for start in range(0, len(first), _CHUNK_PAIRS)]
        weights = _columns(counts)
        return np.asarray(np.sum([_weight(first[piece], second[piece], weights) for piece in pieces], axis=0))
    table = np.bincount(first.astype(np.int64) * identities + second, minlength=identities * identities)
    kind = torch.float32 if int(table.max()) * identities * int(counts.max()) < _EXACT else torch.float64
    rows = torch.from_numpy(counts).to(kind)
    products = rows @ torch.from_numpy(table.reshape(identities, identities)).to(kind)
    return np.asarray((products.double() * rows).sum(dim=1).long().numpy())


def places_by_weight(first: Codes, second: Codes, counts: Ints, allowed: Ints) -> Ints:
    """How many of the leading pairs each row of `counts` accepts within each of its allowances.

    Whole segments of pairs are weighed at once, as a sparse matrix times the weights; a row is followed pair by pair
    only through the segment in which its allowance runs out.

    Args:
        first: (T,) identity of the first of each pair, best pair first.
        second: (T,) identity of the second.
        counts: (r, identities).
        allowed: (k, r) weight that may be accepted, by rate and row.

    Returns:
        (k, r); T where the weight never exceeds what is allowed.
    """
    place = np.full(allowed.shape, len(first), dtype=np.int64)
    spent = np.zeros(len(counts), dtype=np.int64)
    weights = _columns(counts)
    start = 0
    while start < len(first) and (spent <= allowed.max(axis=0)).any():
        piece = slice(start, start + max(_LEAST_SEGMENT, start // _SEGMENTS))
        after = spent + _weight(first[piece], second[piece], weights)
        for rate, limit in enumerate(allowed):
            rows = np.flatnonzero((spent <= limit) & (after > limit))
            within = _follow(first[piece], second[piece], counts, rows, limit[rows] - spent[rows])
            place[rate, rows] = start + within
        spent, start = after, piece.stop
    return place


def _follow(first: Codes, second: Codes, counts: Ints, rows: Ints, allowance: Ints) -> Ints:
    """How many of the pairs fit in each row's allowance, one by one."""
    place = np.zeros(len(rows), dtype=np.int64)
    step = max(1, _CHUNK_WEIGHTS // max(1, len(first)))
    narrow = np.int32 if len(first) * int(counts.max()) ** 2 < 2**31 else np.int64
    for start in range(0, len(rows), step):
        some = counts[rows[start : start + step]].astype(narrow)
        products = np.take(some, first, axis=1)
        products *= np.take(some, second, axis=1)
        running = np.cumsum(products, axis=1, out=products)
        limits = allowance[start : start + step]
        place[start : start + step] = [
            np.searchsorted(row, limit, "right") for row, limit in zip(running, limits, strict=True)
        ]
    return place


def _columns(counts: Ints) -> torch.Tensor:
    """Weights with a row for each identity, as `_weight` reads them."""
    return torch.from_numpy(np.ascontiguousarray(counts.T, dtype=np.float32))


def _weight(first: Codes, second: Codes, weights: torch.Tensor) -> Ints:
    """Σ c_first · c_second over some pairs for each column of `weights`, (r,) int64."""
    # integers below 2²⁴ are exact in float32, which is twice as fast
    if len(first) * float(weights.max()) ** 2 >= _EXACT:
        weights = weights.double()
    order = np.argsort(first, kind="stable")
    present, offsets = np.unique(first[order], return_index=True)
    sums = torch.nn.functional.embedding_bag(
        torch.from_numpy(second[order].astype(np.int64)), weights, torch.from_numpy(offsets), mode="sum"
    )
    sums.mul_(weights[torch.from_numpy(present)])
    total = torch.ones(len(present), dtype=sums.dtype) @ sums
    return np.asarray(total.long().numpy())
