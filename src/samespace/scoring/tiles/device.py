"""Products of a tile on a device of PyTorch, brought back to NumPy: float32 without TF32, and float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from samespace.metrics._arrays import Ints
from samespace.scoring.grid import Doubles
from samespace.scoring.score import Singles

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Held:
    """Vectors (n, D) on a device, in float64 and float32."""

    exact: torch.Tensor
    singles: torch.Tensor

    @classmethod
    def of(cls, exact: Doubles, device: torch.device) -> Held:
        """A copy of float64 vectors there."""
        import torch

        there = torch.from_numpy(np.ascontiguousarray(exact)).to(device)
        return cls(there, there.to(torch.float32))

    def part(self, rows: slice | Ints) -> Held:
        """Some of them."""
        import torch

        some = rows if isinstance(rows, slice) else torch.from_numpy(rows).to(self.exact.device)
        return Held(self.exact[some], self.singles[some])

    def single_products(self, gallery: Held, out: Singles) -> Singles:
        """Inner products with each vector of a gallery, (n, g) float32, written to `out`."""
        import torch

        torch.from_numpy(out).copy_(self.singles @ gallery.singles.T)
        return out

    def exact_products(self, gallery: Held) -> Doubles:
        """The same in float64."""
        return np.asarray((self.exact @ gallery.exact.T).cpu().numpy())


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 products in float32, whatever the process allows otherwise."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
