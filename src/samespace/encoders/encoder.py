"""`Encoder`: what turns items into vectors of one declared space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from samespace.space import Space

Modality: TypeAlias = Literal["image", "text", "row"]


@runtime_checkable
class Encoder(Protocol):
    """Items in, vectors of one space out. `samespace.Embedder` is one; `samespace.encoders.from_…` make others.

    | modality | an item is |
    |---|---|
    | `image` | a path, a PIL image, or a (C, H, W) uint8 array or tensor |
    | `text` | a string |
    | `row` | a mapping of column names to values |
    """

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        ...

    @property
    def modality(self) -> Modality:
        """What an item is."""
        ...

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 256, device: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Vectors (N, D) float32 of N items, in their order; of unit length where `space.normalized`.

        Args:
            items: of this encoder's modality.
            batch_size: items at once.
            device: where to compute, as `auto`, `cpu`, `cuda` or `cuda:N`; None leaves it as it is.

        Raises:
            InputError: an item is of another kind or cannot be read.
        """
        ...
