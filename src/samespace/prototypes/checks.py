"""What feature rows must be; told without importing torch, which a tensor brings along."""

from __future__ import annotations

from typing import Any

import numpy as np

from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy


def check_vectors(vectors: Any, name: str) -> None:
    """Refuse what is not a matrix of floating-point rows.

    Raises:
        InputError: not an array or tensor, not two-dimensional, not floating, or without columns.
    """
    if isinstance(vectors, np.ndarray):
        floating = np.issubdtype(vectors.dtype, np.floating)
    elif hasattr(vectors, "is_floating_point"):
        floating = vectors.is_floating_point()
    else:
        raise InputError(f"{name} is a {type(vectors).__name__}; expected a tensor or numpy array of shape (N, D)")
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise InputError(f"{name} has shape {tuple(vectors.shape)}; expected (N, D), one row per sample")
    if not floating:
        raise InputError(f"{name} has type {vectors.dtype}; expected floating-point features")


def refuse_unusable(norms: Any, rows: Any, name: str) -> None:
    """Refuse rows whose length is zero or not finite, naming the first.

    Args:
        norms: lengths of some rows, a tensor or an array.
        rows: which rows they are, a slice or their numbers.
        name: of the matrix, for the message.

    Raises:
        InputError: a row holds NaN or infinity, or is all zero.
    """
    usable = (norms > 0) & (norms < float("inf"))
    if bool(usable.all()):
        return
    at = int(np.argmin(as_numpy(usable)))
    row = rows.start + at if isinstance(rows, slice) else int(rows.flatten()[at])
    fault = "is all zero" if float(norms.flatten()[at]) == 0 else "holds NaN, infinity or values too large to square"
    raise InputError(f"row {row} of {name} {fault}; every sample needs a finite, non-zero vector")
