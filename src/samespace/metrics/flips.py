"""Flips: which queries an update breaks and which it repairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy


@dataclass(frozen=True)
class Flips:
    """Shares of queries whose outcome changes.

    Attributes:
        negative: share right before and wrong after (NFR).
        positive: share wrong before and right after.
        relative_negative: NFR / (R_old · (1 − R_new)), with R the share that is right: 1 where the errors of the new
            model fall independently of the old one's, 0 where it breaks nothing; None where it is undefined.
    """

    negative: float
    positive: float
    relative_negative: float | None


def flips(old_right: Any, new_right: Any) -> Flips:
    """Negative, positive and relative negative flip rates of an update (Yan et al., CVPR 2021).

    Args:
        old_right: (Q,) bool, whether the old system answers each query rightly.
        new_right: (Q,) bool, whether the new system does, the same queries in the same order.

    Raises:
        InputError: shapes that differ, nothing at all, or values that are not bool.

    Example:
        >>> flips([True, True, False, False], [True, False, True, False])
        Flips(negative=0.25, positive=0.25, relative_negative=1.0)
    """
    old, new = as_numpy(old_right), as_numpy(new_right)
    if old.shape != new.shape or old.ndim != 1 or old.size == 0:
        raise InputError(f"flips compare the same queries twice, got shapes {old.shape} and {new.shape}")
    if old.dtype != np.bool_ or new.dtype != np.bool_:
        raise InputError(f"flips take bool outcomes, got {old.dtype} and {new.dtype}")
    negative = float(np.mean(old & ~new))
    chance = float(old.mean()) * (1.0 - float(new.mean()))
    return Flips(
        negative=negative,
        positive=float(np.mean(~old & new)),
        relative_negative=negative / chance if chance > 0 else None,
    )
