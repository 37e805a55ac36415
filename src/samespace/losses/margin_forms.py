"""Forms of the margin: how each lowers the cosine between a sample and its own class."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

EDGE = 1 - 1e-7
"""Angles are taken of cosines within ±EDGE: arccos has no finite slope at ±1."""


@dataclass(frozen=True)
class MarginForm:
    """One form of the margin softmax.

    Attributes:
        lower: from cosines of any shape and the margin value to lowered cosines, finite with finite gradients at ±1;
            None where the form has no margin.
        default: margin value where none is given.
        low: smallest margin value.
        high: margin values are below it.
        slope: derivative of `lower` by the cosine; None = PyTorch differentiates it.
    """

    lower: Callable[[Tensor, float], Tensor] | None
    default: float = 0.0
    low: float = 0.0
    high: float = math.pi
    slope: Callable[[Tensor, float], Tensor] | None = None


def added_angle(cosine: Tensor, value: float) -> Tensor:
    """cos(θ + m)."""
    inside = cosine.clamp(-EDGE, EDGE)
    return inside * math.cos(value) - (1 - inside.square()).sqrt() * math.sin(value)


def added_angle_slope(cosine: Tensor, value: float) -> Tensor:
    """Cosine of m plus sine of m times cot θ; 0 beyond ±EDGE."""
    inside = cosine.clamp(-EDGE, EDGE)
    slope = torch.full_like(inside, math.sin(value)).div_((1 - inside.square()).sqrt()).mul_(inside)
    return slope.add_(math.cos(value)).masked_fill_(inside != cosine, 0)


def guarded_angle(cosine: Tensor, value: float) -> Tensor:
    """cos(θ + m); past θ = π - m, where that would rise again, cos θ - m sin m (UniBCT Eq. 4)."""
    return torch.where(cosine > -math.cos(value), added_angle(cosine, value), cosine - value * math.sin(value))


def guarded_angle_slope(cosine: Tensor, value: float) -> Tensor:
    """Of `guarded_angle`."""
    return added_angle_slope(cosine, value).masked_fill_(cosine <= -math.cos(value), 1)


def straight_through_angle(cosine: Tensor, value: float) -> Tensor:
    """cos(θ + m), but the margin is outside the gradient, which passes to cos θ unchanged."""
    return cosine + (added_angle(cosine, value) - cosine).detach()


def multiplied_angle(cosine: Tensor, value: float) -> Tensor:
    """cos(m θ), continued so that it falls all the way to θ = π (SphereFace Eq. 7), for any real m >= 1.

    (-1)^k cos(mθ) - 2k for θ in [kπ/m, (k + 1)π/m].
    """
    angle = value * cosine.clamp(-EDGE, EDGE).arccos()
    turn = (angle / math.pi).floor().detach()
    return (1 - 2 * (turn % 2)) * angle.cos() - 2 * turn


def subtracted(cosine: Tensor, value: float) -> Tensor:
    """Cos θ - m."""
    return cosine - value


def unchanged_slope(cosine: Tensor, value: float) -> Tensor:
    """1, whatever the margin value."""
    return torch.ones_like(cosine)
