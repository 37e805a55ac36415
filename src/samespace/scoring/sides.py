"""The vectors of one side of a search, queries or gallery, as the search compares them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles
from samespace.scoring.stored import Int8Codes, StoredForm, halves, signs
from samespace.scoring.units import scaled
from samespace.space import Score
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
        stored_as: what the store keeps of these vectors. Halves are of the vectors as given and are then scaled; the
            others are of vectors that are scaled already, and nothing is scaled after them. Signs are scaled by a
            constant, so that their cosine is 1 − 2 · Hamming distance / D.

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
        stored_as: StoredForm = "float32",
    ) -> None:
        self.source, self.order, self.rotation = source, order, rotation
        self.score, self.stored_as = score, stored_as
        self.dim = source.dim if dim is None else dim
        self._keep = len(order) * self.dim * 8 <= _CACHE_BYTES
        self._kept: Doubles | None = None
        self.lengths: tuple[float, float] | None = None
        self._checked = False
        self._lengths = np.full(len(source), np.nan)
        self._codes: Int8Codes | None = None

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
        part = SideVectors(
            self.source,
            self.order[rows],
            dim=self.dim,
            rotation=self.rotation,
            score=self.score,
            stored_as=self.stored_as,
        )
        if self.stored_as == "int8":
            part._codes = self._ranges()
        if self._kept is not None and part._keep:
            part._kept = self._kept[rows]
        return part

    def as_given(self) -> SideVectors:
        """The same rows unrotated, for cosines of the vectors that were given, whatever is searched."""
        if self.score == "cosine" and self.stored_as == "float32" and self.rotation is None:
            return self
        return SideVectors(self.source, self.order, dim=self.dim)

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
        values = self._scaled(rows)
        if self.stored_as == "int8":
            codes = self._ranges()
            return codes.decode(codes.encode(values)).astype(np.float64)
        if self.stored_as == "binary":
            return signs(values) * (self.dim**-0.5 if self.score == "cosine" else 1.0)
        return values

    def _ranges(self) -> Int8Codes:
        if self._codes is None:
            starts = range(0, len(self), _READ_ROWS)
            self._codes = Int8Codes.of(self._scaled(self.order[start : start + _READ_ROWS]) for start in starts)
        return self._codes

    def _scaled(self, rows: Ints) -> Doubles:
        values = self.source.take(rows).astype(np.float64)
        if self.rotation is not None:
            values = values @ self.rotation
        part = "" if self.dim == self.source.dim else f" in its leading {self.dim} values"

        def name(row: int) -> str:
            return f"{self.source.name}: the vector of row {rows[row]} (id {self.source.ids[rows[row]]})"

        values = values[:, : self.dim]
        if self.stored_as == "float16":
            values = halves(values, name)
        if self.score == "cosine":
            lengths = self._lengths[rows]
            if np.isnan(lengths).any():
                values, found = scaled(values, name, part)
                lengths = self._lengths[rows] = found[:, 0]
            else:
                values /= lengths[:, None]
        else:
            lengths = np.linalg.norm(values, axis=1)
        if lengths.size:
            least, greatest = self.lengths or (np.inf, 0.0)
            self.lengths = min(least, float(lengths.min())), max(greatest, float(lengths.max()))
        return values
