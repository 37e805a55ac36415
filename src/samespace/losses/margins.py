"""Margin softmax: `MARGINS`, the one table of margins, and the loss over all classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from samespace.errors import InputError, suggest
from samespace.losses import margin_forms
from samespace.losses.margin_forms import MarginForm

MARGINS: dict[str, MarginForm] = {
    "softmax": MarginForm(None),
    "norm-softmax": MarginForm(None),
    "sphereface": MarginForm(margin_forms.multiplied_angle, 1.7, 1.0, math.inf),
    "cosface": MarginForm(margin_forms.subtracted, 0.4, 0.0, 2.0, margin_forms.unchanged_slope),
    "arcface": MarginForm(margin_forms.guarded_angle, 0.5, slope=margin_forms.guarded_angle_slope),
    "arcface-unguarded": MarginForm(margin_forms.added_angle, 0.5, slope=margin_forms.added_angle_slope),
    "arcface-straight-through": MarginForm(
        margin_forms.straight_through_angle, 0.5, slope=margin_forms.unchanged_slope
    ),
}
"""Forms of the classification loss and their margin values, a factor on the angle, a cosine, or radians.

`softmax` is linear logits W x + b: nothing is normalised, no scale, no margin; `norm-softmax` is scaled cosines without
a margin. `cosface` is what BCT's experiments use, `arcface` is UniBCT Eq. 4. SphereFace's own m = 4 needs free feature
lengths and annealing; 1.7 trains from the start at a fixed scale.
"""

Margin = str
"""A name in `MARGINS`."""


def check_margin(margin: Margin, margin_value: float | None) -> float:
    """Return the margin value to use.

    Raises:
        InputError: unknown margin, a value for a margin that has none, or a value out of range.
    """
    if margin not in MARGINS:
        raise InputError(f"unknown margin {margin!r}; {suggest(str(margin), MARGINS)}")
    form = MARGINS[margin]
    if margin_value is None:
        return form.default
    if form.lower is None:
        raise InputError(f"margin {margin!r} has no margin value; got margin_value={margin_value}")
    if not form.low <= margin_value < form.high:
        raise InputError(
            f"margin_value {margin_value} for {margin!r}; expected at least {form.low} and below {form.high:.4g}"
        )
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
        margin: a name in `MARGINS`; `softmax` and `norm-softmax` change nothing.
        value: margin value.

    Returns:
        the same shape.

    Example:
        >>> apply_margin(torch.tensor([0.9, 0.1]), "cosface", 0.4)
        tensor([ 0.5000, -0.3000])
    """
    lower = MARGINS[margin].lower
    return cosine if lower is None else lower(cosine, value)


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
    if MARGINS[margin].lower is not None:
        columns = targets.clamp(min=0)
        # Indexed, not gathered: the gradient of gather needs the logits that scatter_ overwrites.
        target = logits[torch.arange(len(columns), device=columns.device), columns]
        cosine = torch.where(targets >= 0, target / scale, 0)
        lowered = scale * apply_margin(cosine, margin, value)
        logits = logits.scatter_(1, columns[:, None], lowered[:, None])
    total = functional.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
