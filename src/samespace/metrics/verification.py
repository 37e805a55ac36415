"""1:1 verification: true accepts at a bound on false accepts, and the curve through all such points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import Floats, as_scores


def allowed_count(rate: float | Fraction, count: int) -> int:
    """How many of `count` may be accepted at `rate`: floor(rate · count), exact for the rate as written.

    Example:
        >>> allowed_count(0.29, 100), int(0.29 * 100)
        (29, 28)

    Raises:
        InputError: `rate` is outside [0, 1].
    """
    if not 0 <= rate <= 1:
        raise InputError(f"a false accept rate lies between 0 and 1, got {rate}")
    exact = rate if isinstance(rate, Fraction) else Fraction(repr(float(rate)))
    return math.floor(exact * count)


def threshold_at_far(impostor: Any, far: float | Fraction) -> float:
    """The lowest threshold whose false accept rate is at most `far`, where accepted means strictly above.

    With n impostor scores, k = floor(far · n) false accepts are allowed and the threshold is the (k+1)-th largest
    score; −inf where all may be accepted. Ties at the threshold are rejected, so the rate is never exceeded.

    Args:
        impostor: (n,) scores of pairs of unlike identities, larger meaning more alike.
        far: the bound on the false accept rate, in [0, 1].

    Raises:
        InputError: no impostor score, a score that is not finite, or a rate out of range.

    Example:
        >>> threshold_at_far([0.1, 0.5, 0.3, 0.2], 0.25)
        0.3
    """
    scores = as_scores(impostor, "impostor scores", 1)
    if scores.size == 0:
        raise InputError("no impostor scores: a false accept rate needs pairs of unlike identities")
    allowed = allowed_count(far, scores.size)
    if allowed >= scores.size:
        return -math.inf
    place = scores.size - 1 - allowed
    return float(np.partition(scores, place)[place])


def tar_at_far(genuine: Any, impostor: Any, far: float | Fraction) -> float:
    """True accept rate at a false accept rate of at most `far`.

    Args:
        genuine: (m,) scores of pairs of one identity.
        impostor: (n,) scores of pairs of unlike identities.
        far: the bound on the false accept rate, in [0, 1].

    Returns:
        The share of genuine scores strictly above `threshold_at_far(impostor, far)`.

    Raises:
        InputError: no genuine or impostor score, a score that is not finite, or a rate out of range.

    Example:
        >>> tar_at_far([0.9, 0.4, 0.3], [0.1, 0.5, 0.3, 0.2], 0.25)
        0.6666666666666666
    """
    scores = as_scores(genuine, "genuine scores", 1)
    if scores.size == 0:
        raise InputError("no genuine scores: a true accept rate needs pairs of one identity")
    return float(np.mean(scores > threshold_at_far(impostor, far)))


@dataclass(frozen=True, eq=False)
class Roc:
    """Points of a ROC curve: at most `far` false accepts, `tar` true accepts, strictly above `threshold`."""

    far: Floats
    tar: Floats
    threshold: Floats


def roc(genuine: Any, impostor: Any, *, points: Any = 200) -> Roc:
    """The ROC curve at chosen false accept rates; each point is exactly `tar_at_far`.

    Args:
        genuine: (m,) scores of pairs of one identity.
        impostor: (n,) scores of pairs of unlike identities.
        points: the rates, or how many to space logarithmically from 1/n to 1.

    Raises:
        InputError: as `tar_at_far`.
    """
    high = np.sort(as_scores(impostor, "impostor scores", 1))[::-1]
    mates = np.sort(as_scores(genuine, "genuine scores", 1))
    if high.size == 0 or mates.size == 0:
        raise InputError(f"a ROC curve needs both kinds of scores, got {mates.size} genuine, {high.size} impostor")
    rates = np.geomspace(1 / high.size, 1.0, points) if isinstance(points, int) else np.asarray(points, float)
    rates = np.minimum(rates, 1.0)
    allowed = np.array([allowed_count(float(rate), high.size) for rate in rates])
    thresholds = np.append(high.astype(np.float64), -math.inf)[allowed]
    tar = 1.0 - np.searchsorted(mates, thresholds, side="right") / mates.size
    return Roc(far=rates, tar=tar, threshold=thresholds)
