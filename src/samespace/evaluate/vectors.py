"""Unit vectors read on demand: the rows of a set in a chosen order, L2-normalised in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from samespace.errors import InputError
from samespace.vectors import VectorSet

Ints = npt.NDArray[np.int64]

_CACHE_BYTES = 1 << 27
_READ_ROWS = 4096


class UnitVectors:
    """Rows of a `VectorSet` in a chosen order, each scaled to length one.

    Args:
        source: the vectors, perhaps memory-mapped.
        order: (N,) rows of `source`.
        dim: use only the leading `dim` values of each vector, scaled to length one by themselves.
        rotation: (D, D) float64, applied to the whole vector before it is cut to `dim`.

    Small sets are kept once read; large ones are read again each time, so that memory stays bounded.
    """

    def __init__(
        self, source: VectorSet, order: Ints, *, dim: int | None = None, rotation: torch.Tensor | None = None
    ) -> None:
        self.source, self.order, self.rotation = source, order, rotation
        self.dim = source.dim if dim is None else dim
        self._keep = len(order) * self.dim * 8 <= _CACHE_BYTES
        self._kept: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.order)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Rows `start` to `stop` of the order, (stop − start, dim) float64, each of length one.

        Raises:
            InputError: a vector is zero or not finite, so that it has no direction.
        """
        if self._keep:
            if self._kept is None:
                self._kept = torch.cat([block for _, block in self._blocks(0, len(self))])
            return self._kept[start:stop]
        return torch.cat([block for _, block in self._blocks(start, stop)])

    def blocks(self, size: int = _READ_ROWS) -> Iterator[tuple[int, torch.Tensor]]:
        """All rows in order, at most `size` at a time, with the first row of each block."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))

    def subset(self, rows: Ints) -> UnitVectors:
        """Some of the rows, in the order given."""
        return UnitVectors(self.source, self.order[rows], dim=self.dim, rotation=self.rotation)

    def check(self) -> None:
        """Read everything once.

        Raises:
            InputError: a vector is zero or not finite.
        """
        for _ in self.blocks():
            pass

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, torch.Tensor]]:
        for first in range(start, stop, _READ_ROWS):
            rows = self.order[first : min(first + _READ_ROWS, stop)]
            yield first, self._unit(rows)

    def _unit(self, rows: Ints) -> torch.Tensor:
        values = torch.from_numpy(self.source.take(rows)).double()
        if self.rotation is not None:
            values = values @ self.rotation
        values = values[:, : self.dim]
        norms = values.norm(dim=1, keepdim=True)
        bad = ~(torch.isfinite(norms) & (norms > 0))
        if bad.any():
            row = int(rows[int(bad.flatten().nonzero()[0])])
            part = "" if self.dim == self.source.dim else f" in its leading {self.dim} values"
            raise InputError(
                f"{self.source.name}: the vector of row {row} (id {self.source.ids[row]}) is zero or not finite{part}; "
                "it has no direction to compare"
            )
        return torch.div(values, norms)


def random_rotation(dim: int, seed: int) -> torch.Tensor:
    """A random orthogonal (dim, dim) matrix, uniform over rotations and reflections, float64."""
    gaussian = np.random.default_rng(seed).standard_normal((dim, dim))
    q, r = np.linalg.qr(gaussian)
    signed: npt.NDArray[Any] = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return torch.from_numpy(signed)
