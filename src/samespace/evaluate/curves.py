"""What the plots show: ROC and CMC curves, and histograms of scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from samespace.evaluate.certificate import Curves, Densities, Histograms, Roc, Values
from samespace.metrics._arrays import Floats
from samespace.metrics.verification import allowed_count
from samespace.scoring.scores import Scores

COSINES = (-1.0, 1.0)
_BINS = 50
_FINE_BINS = 1000
_POINTS = 80
_RANKS = 20


def curves(tests: Mapping[str, Scores | None], *, span: tuple[float, float] | None = COSINES) -> Curves:
    """All plot data of a certificate.

    Args:
        tests: scores by the name of the test, old, cross, new and paragon; None where it was not run.
        span: the least and the greatest possible score; None to take what occurs.
    """
    return Curves(
        roc={name: None if scores is None else _roc(scores) for name, scores in tests.items()},
        cmc={name: None if scores is None else _cmc(scores) for name, scores in tests.items()},
        histograms=_histograms({name: tests[name] for name in ("old", "cross", "new")}, span),
    )


def _roc(scores: Scores) -> Roc | None:
    """True accept rates at rates from one impostor to all; exact in the kept tail, from the sample below it."""
    impostors = scores.mates.impostors
    if impostors == 0:
        return None
    rates = np.minimum(np.geomspace(1 / impostors, 1.0, _POINTS), 1.0)
    sample = np.append(np.sort(scores.sample)[::-1], -np.inf)
    tail = scores.tail
    thresholds = []
    for rate in rates:
        allowed = allowed_count(float(rate), impostors)
        if allowed < len(tail):
            thresholds.append(tail.largest(allowed))
        else:
            thresholds.append(sample[allowed_count(float(rate), len(sample) - 1)])
    mates = np.sort(scores.genuine)
    tar = 1.0 - np.searchsorted(mates, np.asarray(thresholds, dtype=mates.dtype), side="right") / len(mates)
    return Roc(far=tuple(rates.tolist()), tar=tuple(np.maximum.accumulate(tar).tolist()))


def _cmc(scores: Scores) -> Values:
    rank = scores.matches.rank[scores.matches.mated]
    return tuple(float(np.mean(rank <= k)) for k in range(1, _RANKS + 1))


def _histograms(tests: Mapping[str, Scores | None], span: tuple[float, float] | None) -> Histograms:
    """Densities over fifty bins that span what occurs, gathered in bins fine enough to be joined evenly."""
    shown = {name: scores for name, scores in tests.items() if scores is not None}
    low, high = _span(shown) if span is None else span
    fine = {
        name: {"genuine": _count(scores.genuine, low, high), "impostor": _count(scores.sample, low, high)}
        for name, scores in shown.items()
    }
    occupied = np.flatnonzero(sum(counts for kinds in fine.values() for counts in kinds.values()))
    joined = -(-(int(occupied[-1]) - int(occupied[0]) + 1) // _BINS)
    first = min(int(occupied[0]), _FINE_BINS - joined * _BINS)
    width = (high - low) * joined / _FINE_BINS
    digits = 6 - int(np.floor(np.log10((high - low) / 2)))
    edges = [round(low + (high - low) * (first + joined * step) / _FINE_BINS, digits) for step in range(_BINS + 1)]
    densities = {
        name: Densities(
            **{
                kind: _density(counts[first : first + joined * _BINS].reshape(_BINS, joined).sum(axis=1), width)
                for kind, counts in kinds.items()
            }
        )
        for name, kinds in fine.items()
    }
    return Histograms(tuple(edges), **densities)


def _span(tests: Mapping[str, Scores]) -> tuple[float, float]:
    """The least and the greatest score that occur."""
    kinds = [kind for scores in tests.values() for kind in (scores.genuine, scores.sample) if len(kind)]
    low, high = min(float(kind.min()) for kind in kinds), max(float(kind.max()) for kind in kinds)
    return (low, high) if high > low else (low - 1.0, low + 1.0)


def _count(scores: Floats, low: float, high: float) -> Floats:
    place = ((scores.astype(np.float64) - low) * (_FINE_BINS / (high - low))).astype(np.int64)
    return np.bincount(np.clip(place, 0, _FINE_BINS - 1), minlength=_FINE_BINS).astype(np.float64)


def _density(counts: Floats, width: float) -> Values:
    total = counts.sum()
    return tuple((counts / (total * width) if total else counts).tolist())
