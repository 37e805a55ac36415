"""1:N search of templates: rank, mate and best stranger of every probe in one gallery, from blocks of scores."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import numpy.typing as npt

from samespace.evaluate.metric_names import Metric
from samespace.evaluate.replicates import weight_above
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import ratio, weigh
from samespace.metrics.identification import Matches
from samespace.metrics.verification import allowed_count

Alarm = Literal["open-set", "merged"]

_MARGIN, _SPARE = 2.0, 64
_CHUNK = 1 << 18


@dataclass(frozen=True, eq=False)
class GalleryList:
    """Which templates a gallery holds.

    Attributes:
        name: such as `G1`.
        template: (G,) number of each template, each once.
        subject: (G,) its subject.
    """

    name: str
    template: Ints
    subject: Ints


class Search:
    """Gathers what every probe finds in a gallery from blocks of scores.

    A probe is not matched with its own template. Ties count against the probe, as in `metrics.matches`.

    Args:
        gallery: the gallery.
        rows: where its templates stand among the rows of the blocks, side by side.
        template: (P,) template of each probe, in the order of the blocks' columns.
        subject: (P,) its subject.
    """

    def __init__(self, gallery: GalleryList, rows: slice, template: Ints, subject: Ints) -> None:
        order = np.argsort(gallery.subject, kind="stable")
        first, last = (np.searchsorted(gallery.subject, subject, side, sorter=order) for side in ("left", "right"))
        count = last - first
        self.rows = rows
        self._probe = np.repeat(np.arange(len(subject)), count)
        slot = np.arange(len(self._probe)) - (np.cumsum(count) - count)[self._probe]
        self._place = order[first[self._probe] + slot]
        self._keep = gallery.template[self._place] != template[self._probe]
        self.rank = np.zeros(len(subject), dtype=np.int64)
        self.mate = np.full(len(subject), -np.inf, dtype=np.float32)
        self.other = np.full(len(subject), -np.inf, dtype=np.float32)

    def add(self, start: int, block: npt.NDArray[np.float32]) -> None:
        """Take the scores of the probes from `start` on, (C, p) float32; they are there again afterwards."""
        scores = block[self.rows]
        stop = start + scores.shape[1]
        low, high = np.searchsorted(self._probe, [start, stop])
        column, place, keep = self._probe[low:high] - start, self._place[low:high], self._keep[low:high]
        mates = scores[place, column]
        best = np.full(stop - start, -np.inf, dtype=np.float32)
        np.maximum.at(best, column[keep], mates[keep])
        scores[place, column] = -np.inf
        other = scores.max(axis=0, initial=-np.inf)
        mated = np.isfinite(best)
        above = np.zeros(stop - start, dtype=np.int64)
        beaten = np.flatnonzero(mated & (other >= best))
        above[beaten] = (scores[:, beaten] >= best[beaten]).sum(axis=0)
        scores[place, column] = mates
        self.rank[start:stop] = np.where(mated, 1 + above, 0)
        self.mate[start:stop], self.other[start:stop] = best, other

    def finish(self) -> Matches:
        """What was gathered."""
        return Matches(rank=self.rank, mate=self.mate, other=self.other)


def search_value(metric: Metric, found: Matches, identity: Ints, counts: Ints, alarm: Alarm) -> Floats:
    """A rank or TPIR metric under weights of the probes' identities; the gallery stays as it is.

    Args:
        metric: rank@k or TPIR.
        found: what each probe finds.
        identity: (P,) identity of each probe.
        counts: (r, identities).
        alarm: which probes raise false alarms: those without a mate, or all, by their best non-mate.

    Returns:
        (r,) float64; NaN where no weight falls on mated probes, or on none that could raise an alarm.
    """
    mated = found.mated
    total = counts @ weigh(identity, mated, counts.shape[1])
    if metric.kind == "rank":
        return ratio(counts @ weigh(identity, mated & (found.rank <= metric.k), counts.shape[1]), total)
    alarms = ~mated if alarm == "open-set" else np.ones_like(mated)
    thresholds = alarm_thresholds(metric.rate, found.other[alarms], identity[alarms], counts)
    right = found.rank == 1
    value = ratio(weight_above(found.mate[right], identity[right], thresholds, counts), total)
    possible = counts @ weigh(identity, alarms, counts.shape[1])
    return np.where(possible > 0, value, np.nan)


def alarm_thresholds(rate: Fraction, scores: Floats, identity: Ints, counts: Ints) -> Floats:
    """The lowest threshold of each row of `counts` above which at most `rate` of the probes' weight lies, (r,).

    As `evaluate.replicates.query_thresholds`, but looking at the highest scores alone, and at more only where a row
    allows more.
    """
    total = counts @ weigh(identity, np.ones(len(scores)), counts.shape[1])
    allowed = np.array([allowed_count(rate, int(weight)) for weight in total], dtype=np.int64)
    order = np.argsort(-scores, kind="stable")
    ordered = np.append(scores[order].astype(np.float64), -np.inf)
    size = min(len(scores), _SPARE + int(_MARGIN * allowed_count(rate, len(scores))))
    place = _places(identity[order[:size]], counts, allowed)
    beyond = np.flatnonzero(place == size) if size < len(scores) else np.zeros(0, dtype=np.int64)
    place[beyond] = _places(identity[order], counts[beyond], allowed[beyond])
    return np.asarray(ordered[place])


def _places(identity: Ints, counts: Ints, allowed: Ints) -> Ints:
    """How many of the leading scores fit in each row's allowance."""
    place = np.zeros(len(counts), dtype=np.int64)
    step = max(1, _CHUNK // max(1, len(identity)))
    for start in range(0, len(counts) if len(identity) else 0, step):
        running = np.cumsum(np.take(counts[start : start + step], identity, axis=1), axis=1)
        limits = allowed[start : start + step]
        place[start : start + step] = [
            np.searchsorted(row, limit, "right") for row, limit in zip(running, limits, strict=True)
        ]
    return place
