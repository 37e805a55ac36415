"""Vectors scaled to length one: read on demand in a chosen order, or made at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles
from samespace.vectors import VectorSet

_CACHE_BYTES = 1 << 27
_READ_ROWS = 4096


class UnitVectors:
    """Rows of a `VectorSet` in a chosen order, each scaled to length one in float64.

    Args:
        source: the vectors, perhaps memory-mapped.
        order: (N,) rows of `source`.
        dim: use only the leading `dim` values of each vector, scaled to length one by themselves.
        rotation: (D, D) float64, applied to the whole vector before it is cut to `dim`.

    Attributes:
        lengths: the least and the greatest length of the vectors read so far, before they were scaled.

    Small sets are kept once read; large ones are read again each time, so that memory stays bounded.
    """

    def __init__(
        self, source: VectorSet, order: Ints, *, dim: int | None = None, rotation: Doubles | None = None
    ) -> None:
        self.source, self.order, self.rotation = source, order, rotation
        self.dim = source.dim if dim is None else dim
        self._keep = len(order) * self.dim * 8 <= _CACHE_BYTES
        self._kept: Doubles | None = None
        self.lengths: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.order)

    def read(self, start: int, stop: int) -> Doubles:
        """Rows `start` to `stop` of the order, (stop − start, dim) float64, each of length one.

        Raises:
            InputError: a vector is zero or not finite, so that it has no direction.
        """
        if not self._keep:
            return self._made(start, stop)
        if self._kept is None:
            self._kept = self._made(0, len(self))
        return self._kept[start:stop]

    def blocks(self, size: int = _READ_ROWS) -> Iterator[tuple[int, Doubles]]:
        """All rows in order, at most `size` at a time, with the first row of each block."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))

    def subset(self, rows: Ints) -> UnitVectors:
        """Some of the rows, in the order given."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        part = UnitVectors(self.source, self.order[rows], dim=self.dim, rotation=self.rotation)
        if self._kept is not None and part._keep:
            part._kept = self._kept[rows]
        return part

    def check(self) -> None:
        """Read everything once, which raises an InputError where a vector is zero or not finite."""
        for _ in self.blocks():
            pass

    def _made(self, start: int, stop: int) -> Doubles:
        made = np.empty((stop - start, self.dim))
        for first in range(start, stop, _READ_ROWS):
            rows = self.order[first : min(first + _READ_ROWS, stop)]
            made[first - start : first - start + len(rows)] = self._unit(rows)
        return made

    def _unit(self, rows: Ints) -> Doubles:
        values = self.source.take(rows).astype(np.float64)
        if self.rotation is not None:
            values = values @ self.rotation
        part = "" if self.dim == self.source.dim else f" in its leading {self.dim} values"

        def name(row: int) -> str:
            return f"{self.source.name}: the vector of row {rows[row]} (id {self.source.ids[rows[row]]})"

        unit, lengths = _scaled(values[:, : self.dim], name, part)
        if lengths.size:
            least, greatest = self.lengths or (np.inf, 0.0)
            self.lengths = min(least, float(lengths.min())), max(greatest, float(lengths.max()))
        return unit


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
        result[part], _ = _scaled(block, partial(_named, ids, start))
    return result


def random_rotation(dim: int, seed: int) -> Doubles:
    """A random orthogonal (dim, dim) matrix, uniform over rotations and reflections, float64."""
    gaussian = np.random.default_rng(seed).standard_normal((dim, dim))
    q, r = np.linalg.qr(gaussian)
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


def _named(ids: npt.NDArray[np.str_] | None, start: int, row: int) -> str:
    return f"the vector of image '{start + row if ids is None else ids[start + row]}'"


def _scaled(values: Doubles, name: Callable[[int], str], part: str = "") -> tuple[Doubles, Doubles]:
    """Each row divided by its length, and the lengths; the error has a row's `name` and what `part` of it was read."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    bad = ~(np.isfinite(lengths) & (lengths > 0))[:, 0]
    if bad.any():
        raise InputError(f"{name(int(np.argmax(bad)))} is zero or not finite{part}; it has no direction to compare")
    return np.asarray(values / lengths), lengths
