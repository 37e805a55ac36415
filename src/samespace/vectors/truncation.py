"""The leading values of vectors, as models trained for it (Matryoshka) allow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.space import Space

Floats = npt.NDArray[np.floating[Any]]

_ROWS = 65_536


def truncated(vectors: Floats, dim: int, space: Space | None, name: str) -> tuple[Floats, Space | None]:
    """The leading `dim` values of vectors (N, D), of the same dtype, and the space that they are of.

    Vectors of a space of unit vectors are scaled to length one again, which copies them; others are a view.

    Raises:
        InputError: the vectors have fewer values, or one of a space of unit vectors is zero in its leading ones.
    """
    width = vectors.shape[1]
    if not 1 <= dim <= width:
        raise InputError(f"{name}: vectors have {width} dimensions and cannot be truncated to {dim}")
    if dim == width:
        return vectors, space
    cut, shorter = vectors[:, :dim], space and space.truncated(dim)
    if space is None or not space.normalized:
        return cut, shorter
    result = np.empty(cut.shape, dtype=cut.dtype)
    for start in range(0, len(cut), _ROWS):
        values = cut[start : start + _ROWS].astype(np.float64)
        lengths = np.linalg.norm(values, axis=1, keepdims=True)
        if not lengths.all():
            row = start + int(np.argmin(lengths))
            raise InputError(f"{name}: the vector of row {row} is zero in its leading {dim} values (rows count from 0)")
        result[start : start + len(values)] = values / lengths
    return result, shorter
