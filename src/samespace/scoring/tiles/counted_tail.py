"""An impostor tail too long to keep: its scores are counted, and pairs are looked up only near a threshold."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.verification import allowed_count
from samespace.scoring.mates import Mates
from samespace.scoring.thresholds import TailTooShort, places_by_weight
from samespace.scoring.tiles.band import Band, ModelPair, gather_band
from samespace.scoring.tiles.score_counts import ScoreCounts
from samespace.scoring.tiles.tile import LOWEST

# scores of a band; they take about 30 bytes each while they are sorted
_BAND = 1 << 22


class CountedTail:
    """The largest impostor scores of a pair of models, as `Tail`, without a place for each.

    Where identities are weighed, the pairs near the threshold are gathered by a further pass over queries × gallery, at
    most some millions at a time, with the weight of all pairs above them from a table by identities.
    """

    def __init__(self, counts: ScoreCounts, pair: ModelPair, mates: Mates) -> None:
        self._counts, self._pair, self._mates = counts, pair, mates
        self._band: Band | None = None

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def complete(self) -> bool:
        """Whether these are all impostor scores."""
        return len(self) == self._mates.impostors

    def largest(self, place: int) -> float:
        """The score at a place, from 0, in descending order."""
        return self._counts.largest(place)

    def reaching(self, score: float) -> int:
        """How many are at or above one of them."""
        return self._counts.reaching(score)

    def thresholds(self, rate: Fraction, total: Ints, counts: Ints) -> Floats:
        """`scoring.thresholds.pair_thresholds` at one rate, (r,).

        Raises:
            TailTooShort: the scores end before the weight does.
        """
        result = np.full(len(counts), -np.inf)
        if not self._mates.impostors:
            return result
        if (counts == 1).all():
            place = allowed_count(rate, self._mates.impostors)
            if place < len(self):
                result[:] = self.largest(place)
            elif not self.complete:
                raise TailTooShort
            return result
        allowed = np.array([allowed_count(rate, int(one)) for one in total], dtype=np.int64)
        waiting = [(max(0, allowed_count(rate, self._mates.impostors) - _BAND // 2), np.arange(len(counts)))]
        while waiting:
            first, rows = waiting.pop()
            if first >= len(self):
                raise TailTooShort
            low, high = self._ends(first)
            some = counts if len(rows) == len(counts) else counts[rows]
            result[rows], higher, lower = self._found(low, high, some, allowed[rows])
            if higher.any():
                waiting.append((max(0, self._above(high) - _BAND), rows[higher]))
            if lower.any() and low > LOWEST:
                waiting.append((self._above(low), rows[lower]))
        return result

    def forget(self) -> None:
        """Let go of the pairs that were gathered."""
        self._band = None

    def _ends(self, first: int) -> tuple[float, float]:
        """The band (low, high] from place `first` on: some millions of scores, or one value that more scores have."""
        high = self.largest(first)
        last = first + _BAND
        if last < len(self):
            low = self.largest(last)
        else:
            low = LOWEST if self.complete else float(np.nextafter(np.float32(self.largest(len(self) - 1)), -np.inf))
        if low == high or self._above(low) - self._above(high) > 2 * _BAND:
            low = self._counts.below(high)
        return max(low, LOWEST), high

    def _above(self, score: float) -> int:
        """How many scores are above one."""
        return self.reaching(float(np.nextafter(np.float32(score), np.float32(np.inf))))

    def _found(self, low: float, high: float, counts: Ints, allowed: Ints) -> tuple[Floats, Mask, Mask]:
        """The threshold of each row if it is in a band, and whether it is above, and whether it is below."""
        band = self._gathered(low, high)
        spent = band.weight_above(counts)
        higher = spent > allowed
        if self._above(low) - self._above(high) > 2 * _BAND:
            lower = self._gathered(low, low).weight_above(counts) <= allowed
            return np.where(lower, -np.inf, high), higher, lower
        place = places_by_weight(band.query, band.gallery, counts, (allowed - spent)[None])[0]
        lower = ~higher & (place == len(band.scores))
        return np.append(band.scores.astype(np.float64), -np.inf)[place], higher, lower

    def _gathered(self, low: float, high: float) -> Band:
        if self._band is None or (self._band.low, self._band.high) != (low, high):
            self._band = None
            self._band = gather_band(self._pair, self._mates, low, high)
        return self._band
