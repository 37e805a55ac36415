"""Vectors scaled to length one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles

_READ_ROWS = 4096


def unit_rows(
    vectors: npt.NDArray[Any], rows: Ints | None = None, ids: npt.NDArray[np.str_] | None = None
) -> npt.NDArray[np.float32]:
    """Rows (N,), all by default, of `vectors` (n, D), perhaps a memory map, scaled to length one: (N, D) float32.

    They are read in blocks; `ids` (N,) are their names, for the error.

    Raises:
        InputError: a vector is zero or not finite, so that it has no direction.
    """
    count = len(vectors) if rows is None else len(rows)
    result = np.empty((count, vectors.shape[1]), dtype=np.float32)
    for start in range(0, count, _READ_ROWS):
        part = slice(start, min(start + _READ_ROWS, count))
        block = np.asarray(vectors[part] if rows is None else vectors[rows[part]], dtype=np.float64)
        result[part], _ = scaled(block, partial(_named, ids, start))
    return result


def random_rotation(dim: int, seed: int) -> Doubles:
    """A random orthogonal (dim, dim) matrix, uniform over rotations and reflections, float64."""
    gaussian = np.random.default_rng(seed).standard_normal((dim, dim))
    q, r = np.linalg.qr(gaussian)
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


def _named(ids: npt.NDArray[np.str_] | None, start: int, row: int) -> str:
    return f"the vector of image '{start + row if ids is None else ids[start + row]}'"


def scaled(values: Doubles, name: Callable[[int], str], part: str = "") -> tuple[Doubles, Doubles]:
    """Each row divided by its length, and the lengths; the error has a row's `name` and what `part` of it was read."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    bad = ~(np.isfinite(lengths) & (lengths > 0))[:, 0]
    if bad.any():
        raise InputError(f"{name(int(np.argmax(bad)))} is zero or not finite{part}; it has no direction to compare")
    return np.asarray(values / lengths), lengths
