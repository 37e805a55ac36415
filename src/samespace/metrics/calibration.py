"""Calibration: raw scores of one pair of spaces on a scale that all pairs share.

Cosines of new queries to old items and to new items do not mean the same, so a list that holds both cannot be sorted by
them. A calibration maps the raw scores of one (query space, gallery space) pair to log-odds, or to −log10 of the
false-match rate; both maps are strictly increasing, so that within a pair no order changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, suggest
from samespace.metrics._arrays import as_scores
from samespace.typed import plain, read

Float64s = npt.NDArray[np.float64]
Interval = tuple[float, float]
Scale = Literal["logistic", "fmr"]

_FEWEST = 10
_PER_DECADE = 8
_FITTED = 10_000
_STEPS = 100
_TOLERANCE = 1e-9
_PRIOR_SLOPE = 20.0  # standard deviation, on scores of unit variance: far above any slope that real scores give
_NORMAL_95 = 1.959963984540054


@runtime_checkable
class Highest(Protocol):
    """The highest impostor scores, in descending order."""

    def __len__(self) -> int:
        """How many."""
        ...

    def largest(self, place: int) -> float:
        """The score at a place, from 0."""
        ...

    def reaching(self, score: float) -> int:
        """How many are at or above a score."""
        ...


@dataclass(frozen=True)
class _Sorted:
    """All of some scores, ascending, as `Highest`."""

    scores: Float64s

    def __len__(self) -> int:
        return len(self.scores)

    def largest(self, place: int) -> float:
        return float(self.scores[len(self.scores) - 1 - place])

    def reaching(self, score: float) -> int:
        return len(self.scores) - int(self.scores.searchsorted(score))


@dataclass(frozen=True)
class Band:
    """How far a calibration can be trusted.

    Attributes:
        slope: 95 % interval of the slope, were all pairs independent; pairs share items, so it is a lower bound.
        intercept: likewise of the intercept.
        rate: the smallest false-match rate that the impostor pairs support, with ten of them above it; levels beyond
            −log10 of it are extrapolated.
    """

    slope: Interval
    intercept: Interval
    rate: float

    def __post_init__(self) -> None:
        if not np.isfinite([*self.slope, *self.intercept, self.rate]).all():
            raise InputError(f"the band of a calibration holds finite numbers, got {self}")


@dataclass(frozen=True)
class Calibration:
    """Maps raw scores (cosines) of one (query space, gallery space) pair to scales that all pairs share.

    Distinct raw scores in [-1, 1] that are at least 2⁻³⁰ apart, as those of a check are, stay distinct.

    Attributes:
        slope: log-odds = slope · raw + intercept; above 0.
        intercept: of the log-odds, genuine and impostor pairs weighted equally (a log-likelihood ratio).
        scores: raw scores at the knots, strictly increasing.
        levels: −log10 of the false-match rate at the knots, strictly increasing.
        genuine: how many genuine pairs it was learnt on.
        impostor: how many impostor pairs.
        band: how far it can be trusted.

    Raises:
        InputError: a slope that is not above 0, knots that do not increase, or no pairs.
    """

    slope: float
    intercept: float
    scores: tuple[float, ...]
    levels: tuple[float, ...]
    genuine: int
    impostor: int
    band: Band

    def __post_init__(self) -> None:
        if not (np.isfinite([self.slope, self.intercept]).all() and self.slope > 0):
            raise InputError(
                f"a calibration needs a finite slope above 0 and a finite intercept, got {self.slope} and "
                f"{self.intercept}"
            )
        for name, knots in (("scores", self.scores), ("levels", self.levels)):
            if len(knots) < 2 or len(knots) != len(self.scores) or not (np.isfinite(knots).all()):
                raise InputError(f"a calibration needs two or more finite {name}, as many as scores, got {len(knots)}")
            if not (np.diff(knots) > 0).all():
                raise InputError(f"the knots of a calibration should increase strictly; its {name} do not")
        if min(self.genuine, self.impostor) < 1:
            raise InputError(
                f"a calibration rests on pairs of both kinds, got {self.genuine} genuine and {self.impostor} impostor"
            )

    def log_odds(self, raw: Any) -> Float64s:
        """Log-odds that a pair is genuine if half of all pairs were, natural logarithm, shape of `raw`."""
        return np.asarray(np.asarray(raw, dtype=np.float64) * self.slope + self.intercept)

    def level(self, raw: Any) -> Float64s:
        """−log10 of the share of impostor pairs that score as high: linear between and beyond the knots."""
        values = np.asarray(raw, dtype=np.float64)
        scores, levels = np.asarray(self.scores), np.asarray(self.levels)
        segment = np.clip(np.searchsorted(scores, values, side="right") - 1, 0, len(scores) - 2)
        rise = (levels[1:] - levels[:-1]) / (scores[1:] - scores[:-1])
        line = levels[segment] + (values - scores[segment]) * rise[segment]
        # rounding must not lift the end of a segment above the next one's beginning
        inside = np.minimum(line, levels[segment + 1])
        return np.asarray(np.where(values < scores[-1], inside, line))

    def apply(self, raw: Any, scale: Scale = "logistic") -> Float64s:
        """Raw scores on a shared scale: `logistic` log-odds, or `fmr` levels.

        Raises:
            InputError: an unknown scale.
        """
        return self._map(scale)(raw)

    def raw_at(self, value: float, scale: Scale = "logistic") -> float:
        """The lowest raw score that reaches a calibrated value, so that thresholds on either side accept the same.

        Raises:
            InputError: an unknown scale, or a value that is not finite.
        """
        if not np.isfinite(value):
            raise InputError(f"a threshold is a finite number, got {value}")
        if self._map(scale) == self.log_odds:
            guess = (value - self.intercept) / self.slope
        else:
            segment = int(np.clip(np.searchsorted(self.levels, value, side="right") - 1, 0, len(self.levels) - 2))
            (left, right), (low, high) = self.scores[segment : segment + 2], self.levels[segment : segment + 2]
            guess = left + (value - low) * (right - left) / (high - low)
        return _lowest_reaching(self._map(scale), value, guess)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return plain(self)

    @classmethod
    def from_dict(cls, value: Any, where: str = "calibration") -> Calibration:
        """Rebuild a calibration from `to_dict`; `where` names the source in errors.

        Raises:
            InputError: a field is missing, unknown, of the wrong kind, or out of range.
        """
        return read(cls, value, where)

    def _map(self, scale: Scale) -> Callable[[Any], Float64s]:
        if scale not in get_args(Scale):
            raise InputError(f"unknown scale '{scale}'; {suggest(str(scale), get_args(Scale))}")
        return self.log_odds if scale == "logistic" else self.level


def calibrate(genuine: Any, impostor: Any, *, tail: Any = None, impostors: int | None = None) -> Calibration:
    """Learn a calibration from the scores of held-out pairs.

    Log-odds: logistic regression of genuine against impostor, both kinds weighted equally, under a wide normal prior on
    the slope that keeps it finite where the kinds do not overlap. Levels: the k-th largest of n impostor
    scores has a false-match rate of k / (n + 1); knots stand at eight such rates per decade, from all down to ten
    scores. Equal scores share the higher rate.

    Args:
        genuine: (P,) scores of pairs of one identity.
        impostor: (N,) scores of pairs of unlike identities: all of them, or an even sample where they are too many.
        tail: (T,) the largest of all impostor scores, or `Highest`, where `impostor` is only a sample;
            rates that T scores reach are read here, so that rates far below one in N are known.
        impostors: how many impostor pairs `tail` is the largest of.

    Raises:
        InputError: fewer than ten scores of a kind, scores that are not finite, a tail without a total, or genuine
            scores that do not lie above those of impostors.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> learnt = calibrate(rng.normal(0.6, 0.2, 50_000), rng.normal(0.2, 0.2, 50_000))
        >>> round(learnt.slope), round(float(learnt.log_odds(0.4)), 1)
        (10, 0.0)
    """
    mates = _some(genuine, "genuine scores")
    others = _some(impostor, "impostor scores")
    total = len(others) if impostors is None else impostors
    if (tail is None) != (impostors is None):
        raise InputError("tail and impostors belong together: the largest impostor scores, and of how many")
    top = tail if isinstance(tail, Highest) else _Sorted(others if tail is None else _ascending(tail))
    if total < len(top):
        raise InputError(f"impostors counts all impostor pairs, the {len(top)} of the tail among them; got {total}")
    slope, intercept, errors = _logistic(_thinned(mates), _thinned(others), len(mates), len(others))
    if not slope > 0:
        raise InputError(
            f"genuine scores (mean {mates.mean():.4f}) do not lie above impostor scores (mean {others.mean():.4f}); "
            "such a pair of spaces cannot be calibrated"
        )
    scores, levels = _knots(_Sorted(others), top, total)
    bounds = [(value - _NORMAL_95 * error, value + _NORMAL_95 * error) for value, error in errors]
    return Calibration(
        slope=slope,
        intercept=intercept,
        scores=scores,
        levels=levels,
        genuine=len(mates),
        impostor=total,
        band=Band(slope=bounds[0], intercept=bounds[1], rate=min(1.0, _FEWEST / total)),
    )


def _logistic(mates: Float64s, others: Float64s, genuine: int, impostor: int) -> tuple[float, float, list[Interval]]:
    """Slope and intercept of weighted logistic regression, and (value, standard error) of each.

    Both kinds weigh one half, whatever their numbers; `genuine` and `impostor` are how many pairs they stand for.
    """
    raw = np.concatenate([mates, others])
    centre, width = raw.mean(), raw.std() or 1.0
    design = np.stack([(raw - centre) / width, np.ones_like(raw)], axis=1)
    sizes = [len(mates), len(others)]
    target, weight = np.repeat([1.0, 0.0], sizes), np.repeat([0.5 / sizes[0], 0.5 / sizes[1]], sizes)
    prior = np.array([1.0 / (min(genuine, impostor) * _PRIOR_SLOPE**2), 0.0])

    def loss(theta: Float64s) -> float:
        z = design @ theta
        return float(weight @ (np.logaddexp(0, z) - target * z) + prior @ theta**2 / 2)

    def curvature(share: Float64s) -> Float64s:
        return np.asarray((design * (weight * share * (1 - share))[:, None]).T @ design + np.diag(prior))

    theta = np.zeros(2)
    for _ in range(_STEPS):
        share = _sigmoid(design @ theta)
        step = np.linalg.solve(curvature(share), design.T @ (weight * (share - target)) + prior * theta)
        before = loss(theta)
        while loss(theta - step) > before and np.abs(step).max() > _TOLERANCE:
            step = step / 2
        theta = theta - step
        if np.abs(step).max() < _TOLERANCE:
            break
    share = _sigmoid(design @ theta)
    held = np.repeat([0.5 / genuine, 0.5 / impostor], sizes)
    spread = (design * (weight * held * (share - target) ** 2)[:, None]).T @ design
    bread = np.linalg.inv(curvature(share))
    # back from standardised scores to raw ones
    back = np.array([[1 / width, 0.0], [-centre / width, 1.0]])
    slope, intercept = (float(value) for value in back @ theta)
    error = np.sqrt(np.diag(back @ bread @ spread @ bread @ back.T))
    return slope, intercept, [(slope, float(error[0])), (intercept, float(error[1]))]


def _knots(others: Highest, top: Highest, total: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Raw scores and levels at eight rates per decade: read from the tail where it reaches, else from the sample.

    The last two knots stand half a decade apart, because the line through them is followed to rates never seen.
    """
    decades = np.log10(total / _FEWEST)
    counts = _FEWEST * 10.0 ** np.concatenate([[0.0], np.arange(0.5, decades, 1 / _PER_DECADE), [decades]])
    scores, rates = [], []
    for count in counts:
        from_top = count <= len(top)
        source, out_of = (top, total) if from_top else (others, len(others))
        place = min(max(1, round(count * out_of / total)), len(source))
        scores.append(source.largest(place - 1))
        rates.append(source.reaching(scores[-1]) / (out_of + 1))
    return _increasing(scores[::-1], [-float(np.log10(rate)) for rate in rates[::-1]])


def _increasing(scores: list[float], levels: list[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The knots that rise strictly in both; where sample and tail contradict each other the later ones yield.

    Raises:
        InputError: fewer than two are left.
    """
    kept: list[tuple[float, float]] = []
    for score, level in sorted(zip(scores, levels, strict=True)):
        if not kept or (score > kept[-1][0] and level > kept[-1][1]):
            kept.append((score, level))
    if len(kept) < 2:
        raise InputError("impostor scores are all equal; such a pair of spaces cannot be calibrated")
    return tuple(score for score, _ in kept), tuple(level for _, level in kept)


def _lowest_reaching(mapped: Callable[[Any], Float64s], value: float, guess: float) -> float:
    """The lowest float64 that an increasing map takes to `value` or above, found next to a good guess."""
    margin = 1e-12 * (1.0 + abs(guess))
    low, high = guess - margin, guess + margin
    while mapped(low) >= value:
        low -= margin
        margin *= 2
    while mapped(high) < value:
        high += margin
        margin *= 2
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (low, middle) if mapped(middle) >= value else (middle, high)
    return float(high)


def _some(values: Any, what: str) -> Float64s:
    scores = np.sort(as_scores(values, what, 1).astype(np.float64))
    if len(scores) < _FEWEST:
        raise InputError(f"a calibration needs at least {_FEWEST} {what}, got {len(scores)}")
    return scores


def _ascending(tail: Any) -> Float64s:
    return np.sort(as_scores(tail, "the tail of impostor scores", 1).astype(np.float64))


def _thinned(ordered: Float64s) -> Float64s:
    """At most ten thousand evenly spaced quantiles of sorted scores, which fit as all of them do."""
    if len(ordered) <= _FITTED:
        return ordered
    return ordered[((np.arange(_FITTED) + 0.5) * (len(ordered) / _FITTED)).astype(np.int64)]


def _sigmoid(z: Float64s) -> Float64s:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))
