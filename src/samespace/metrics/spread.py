"""Spread: where scores lie and how widely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of scores.

    Attributes:
        mean: of the scores.
        std: standard deviation, divided by n.
    """

    mean: float
    std: float


def spread(scores: Any) -> Spread:
    """Mean and standard deviation of scores, summed in float64.

    At a low false accept rate only the upper tail of genuine scores is accepted, so that of two models with the same
    mean the one with the wider spread may accept more.

    Args:
        scores: (P,) floats.

    Raises:
        InputError: no score.

    Example:
        >>> one = spread([0.2, 0.4, 0.6, 0.8])
        >>> round(one.mean, 6), round(one.std, 6)
        (0.5, 0.223607)
    """
    values = as_numpy(scores).astype(np.float64)
    if not values.size:
        raise InputError("a spread needs at least one score, got none")
    return Spread(float(values.mean()), float(values.std()))
