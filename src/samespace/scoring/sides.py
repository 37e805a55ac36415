"""The vectors of one side of a search, queries or gallery, as the search compares them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles
from samespace.scoring.score import Score
from samespace.scoring.units import scaled
from samespace.vectors import VectorSet

_CACHE_BYTES = 1 << 27
_READ_ROWS = 4096


class SideVectors:
    """Rows of a `VectorSet` in a chosen order, in float64; for `cosine` each is scaled to length one.

    Args:
        source: the vectors, perhaps memory-mapped.
        order: (N,) rows of `source`.
        dim: use only the leading `dim` values of each vector, for `cosine` scaled to length one by themselves.
        rotation: (D, D) float64, applied to the whole vector before it is cut to `dim`.
        score: what the search ranks by.

    Attributes:
        lengths: the least and the greatest length of the vectors read so far, before they were scaled.

    Small sets are kept once read; large ones are read again each time, so that memory stays bounded.
    """

    def __init__(
        self,
        source: VectorSet,
        order: Ints,
        *,
        dim: int | None = None,
        rotation: Doubles | None = None,
        score: Score = "cosine",
    ) -> None:
        self.source, self.order, self.rotation, self.score = source, order, rotation, score
        self.dim = source.dim if dim is None else dim
        self._keep = len(order) * self.dim * 8 <= _CACHE_BYTES
        self._kept: Doubles | None = None
        self.lengths: tuple[float, float] | None = None
        self._checked = False

    def __len__(self) -> int:
        return len(self.order)

    def read(self, start: int, stop: int) -> Doubles:
        """Rows `start` to `stop` of the order, (stop − start, dim) float64.

        Raises:
            InputError: a vector is not finite, or zero and to be compared by its direction.
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

    def subset(self, rows: Ints) -> SideVectors:
        """Some of the rows, in the order given."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        part = SideVectors(self.source, self.order[rows], dim=self.dim, rotation=self.rotation, score=self.score)
        if self._kept is not None and part._keep:
            part._kept = self._kept[rows]
        return part

    def check(self) -> None:
        """Read everything once, which raises an InputError where a vector cannot be compared."""
        for _ in self.blocks():
            pass
        self._checked = True

    @property
    def longest(self) -> float:
        """Length of the longest vector, before it was scaled."""
        if not self._checked:
            self._kept = None
            self.check()
        assert self.lengths is not None
        return self.lengths[1]

    def _made(self, start: int, stop: int) -> Doubles:
        made = np.empty((stop - start, self.dim))
        for first in range(start, stop, _READ_ROWS):
            rows = self.order[first : min(first + _READ_ROWS, stop)]
            made[first - start : first - start + len(rows)] = self._compared(rows)
        return made

    def _compared(self, rows: Ints) -> Doubles:
        values = self.source.take(rows).astype(np.float64)
        if self.rotation is not None:
            values = values @ self.rotation
        part = "" if self.dim == self.source.dim else f" in its leading {self.dim} values"

        def name(row: int) -> str:
            return f"{self.source.name}: the vector of row {rows[row]} (id {self.source.ids[rows[row]]})"

        values = values[:, : self.dim]
        if self.score == "cosine":
            values, lengths = scaled(values, name, part)
        else:
            lengths = np.linalg.norm(values, axis=1)
        if lengths.size:
            least, greatest = self.lengths or (np.inf, 0.0)
            self.lengths = min(least, float(lengths.min())), max(greatest, float(lengths.max()))
        return values
