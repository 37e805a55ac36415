"""What the plots show: ROC and CMC curves, and histograms of scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from samespace.evaluate.certificate import Curves, Densities, Histograms, Roc, Values
from samespace.evaluate.protocol import Outcome
from samespace.metrics._arrays import Floats
from samespace.metrics.verification import allowed_count

_BINS = 50
_FINE_BINS = 1000
_POINTS = 80
_RANKS = 20


def curves(outcomes: Mapping[str, Outcome | None]) -> Curves:
    """All plot data of a certificate.

    Args:
        outcomes: by name of the test: old, cross, new, paragon; None where it was not run.
    """
    return Curves(
        roc={name: None if outcome is None else _roc(outcome) for name, outcome in outcomes.items()},
        cmc={name: None if outcome is None else _cmc(outcome) for name, outcome in outcomes.items()},
        histograms=_histograms({name: outcomes[name] for name in ("old", "cross", "new")}),
    )


def _roc(outcome: Outcome) -> Roc | None:
    """True accept rates at rates from one impostor to all; exact in the kept tail, from the sample below it."""
    if outcome.impostors == 0:
        return None
    rates = np.minimum(np.geomspace(1 / outcome.impostors, 1.0, _POINTS), 1.0)
    sample = np.append(np.sort(outcome.sample)[::-1], -np.inf)
    tail = outcome.tail.scores
    thresholds = []
    for rate in rates:
        allowed = allowed_count(float(rate), outcome.impostors)
        if allowed < len(tail):
            thresholds.append(tail[allowed])
        else:
            thresholds.append(sample[allowed_count(float(rate), len(sample) - 1)])
    mates = np.sort(outcome.genuine)
    tar = 1.0 - np.searchsorted(mates, np.asarray(thresholds, dtype=mates.dtype), side="right") / len(mates)
    return Roc(far=tuple(rates.tolist()), tar=tuple(np.maximum.accumulate(tar).tolist()))


def _cmc(outcome: Outcome) -> Values:
    rank = outcome.found.rank[outcome.found.mated]
    return tuple(float(np.mean(rank <= k)) for k in range(1, _RANKS + 1))


def _histograms(outcomes: Mapping[str, Outcome | None]) -> Histograms:
    """Densities over fifty bins that span what occurs, gathered in bins fine enough to be joined evenly."""
    fine = {
        name: {"genuine": _count(outcome.genuine), "impostor": _count(outcome.sample)}
        for name, outcome in outcomes.items()
        if outcome is not None
    }
    occupied = np.flatnonzero(sum(counts for kinds in fine.values() for counts in kinds.values()))
    joined = -(-(int(occupied[-1]) - int(occupied[0]) + 1) // _BINS)
    first = min(int(occupied[0]), _FINE_BINS - joined * _BINS)
    width = 2.0 * joined / _FINE_BINS
    edges = [round(-1.0 + 2.0 * (first + joined * step) / _FINE_BINS, 6) for step in range(_BINS + 1)]
    shown = {
        name: Densities(
            **{
                kind: _density(counts[first : first + joined * _BINS].reshape(_BINS, joined).sum(axis=1), width)
                for kind, counts in kinds.items()
            }
        )
        for name, kinds in fine.items()
    }
    return Histograms(tuple(edges), **shown)


def _count(scores: Floats) -> Floats:
    place = ((scores.astype(np.float64) + 1.0) * (_FINE_BINS / 2)).astype(np.int64)
    return np.bincount(np.clip(place, 0, _FINE_BINS - 1), minlength=_FINE_BINS).astype(np.float64)


def _density(counts: Floats, width: float) -> Values:
    total = counts.sum()
    return tuple((counts / (total * width) if total else counts).tolist())
