"""Margin softmax: what each margin does to the cosine of the target class, and the loss over all classes."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from samespace.errors import InputError, suggest

Margin = Literal[
    "softmax", "norm-softmax", "sphereface", "cosface", "arcface", "arcface-unguarded", "arcface-straight-through"
]
"""Forms of the classification loss.

- `softmax`: linear logits W x + b; nothing is normalised, no scale, no margin.
- `norm-softmax`: scaled cosines without a margin.
- `sphereface`: cos(m θ), continued so that it falls all the way to θ = π (SphereFace Eq. 7), for any real m >= 1.
- `cosface`: cos θ - m (BCT's experiments).
- `arcface`: cos(θ + m); past θ = π - m, where that would rise again, cos θ - m sin m (UniBCT Eq. 4).
- `arcface-unguarded`: cos(θ + m) everywhere.
- `arcface-straight-through`: as unguarded, but the margin is outside the gradient, which passes to cos θ unchanged.
"""

DEFAULT_MARGINS: dict[Margin, float] = {
    "softmax": 0.0,
    "norm-softmax": 0.0,
    "sphereface": 1.7,
    "cosface": 0.4,
    "arcface": 0.5,
    "arcface-unguarded": 0.5,
    "arcface-straight-through": 0.5,
}
"""Default margin values: a factor on the angle (SphereFace), a cosine (CosFace), radians (ArcFace).

SphereFace's own m = 4 needs free feature lengths and annealing; 1.7 trains from the start at a fixed scale.
"""

EDGE = 1 - 1e-7
"""Angles are taken of cosines within ±EDGE: arccos has no finite slope at ±1."""


def check_margin(margin: Margin, margin_value: float | None) -> float:
    """Return the margin value to use.

    Raises:
        InputError: unknown margin, a value for a margin that has none, or a value out of range.
    """
    if margin not in get_args(Margin):
        raise InputError(f"unknown margin {margin!r}; {suggest(str(margin), get_args(Margin))}")
    if margin_value is None:
        return DEFAULT_MARGINS[margin]
    if margin in ("softmax", "norm-softmax"):
        raise InputError(f"margin {margin!r} has no margin value; got margin_value={margin_value}")
    low, high = {"sphereface": (1.0, math.inf), "cosface": (0.0, 2.0)}.get(margin, (0.0, math.pi))
    if not low <= margin_value < high:
        raise InputError(f"margin_value {margin_value} for {margin!r}; expected at least {low} and below {high:.4g}")
    return margin_value


def check_scale(scale: float) -> float:
    """Return the scale.

    Raises:
        InputError: not a finite number above zero.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"scale is {scale}; expected a finite number above 0")
    return scale


def apply_margin(cosine: Tensor, margin: Margin, value: float) -> Tensor:
    """Lower the cosine of the target class by a margin; finite with finite gradients at cos = ±1.

    Args:
        cosine: any shape, floating; cosines between samples and their own class.
        margin: which form; `softmax` and `norm-softmax` change nothing.
        value: see `DEFAULT_MARGINS`.

    Returns:
        the same shape.

    Example:
        >>> apply_margin(torch.tensor([0.9, 0.1]), "cosface", 0.4)
        tensor([ 0.5000, -0.3000])
    """
    if margin == "cosface":
        return cosine - value
    if margin == "sphereface":
        return _multiplied_angle(cosine, value)
    if margin == "arcface":
        fallback = cosine - value * math.sin(value)
        return torch.where(cosine > -math.cos(value), _added_angle(cosine, value), fallback)
    if margin == "arcface-unguarded":
        return _added_angle(cosine, value)
    if margin == "arcface-straight-through":
        return cosine + (_added_angle(cosine, value) - cosine).detach()
    return cosine


def _added_angle(cosine: Tensor, value: float) -> Tensor:
    """cos(θ + m)."""
    inside = cosine.clamp(-EDGE, EDGE)
    return inside * math.cos(value) - (1 - inside.square()).sqrt() * math.sin(value)


def _multiplied_angle(cosine: Tensor, value: float) -> Tensor:
    """(-1)^k cos(mθ) - 2k for θ in [kπ/m, (k + 1)π/m]."""
    angle = value * cosine.clamp(-EDGE, EDGE).arccos()
    turn = (angle / math.pi).floor().detach()
    return (1 - 2 * (turn % 2)) * angle.cos() - 2 * turn


def margin_loss(logits: Tensor, targets: Tensor, *, margin: Margin, scale: float, value: float) -> Tensor:
    """Mean cross-entropy with the margin on the target logit (UniBCT Eq. 4), over the samples that have a target.

    Args:
        logits: (B, C) scaled cosines, or linear responses for `softmax`; overwritten. -inf takes a class out.
        targets: (B,) int64; -1 = no target, the sample contributes nothing.
        margin: form of the margin.
        scale: what the cosines were multiplied by.
        value: margin value.

    Returns:
        scalar; zero, still with a graph, where no sample has a target.
    """
    if margin not in ("softmax", "norm-softmax"):
        columns = targets.clamp(min=0)
        # Indexed, not gathered: the gradient of gather needs the logits that scatter_ overwrites.
        target = logits[torch.arange(len(columns), device=columns.device), columns]
        cosine = torch.where(targets >= 0, target / scale, 0)
        lowered = scale * apply_margin(cosine, margin, value)
        logits = logits.scatter_(1, columns[:, None], lowered[:, None])
    total = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
