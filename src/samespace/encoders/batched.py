"""The one implementation behind all families: a function of a batch, its output checked and brought to unit length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from samespace.encoders.encoder import Modality
from samespace.errors import InputError
from samespace.metrics._arrays import as_numpy
from samespace.space import Space

if TYPE_CHECKING:
    from torch import Tensor

    from samespace.models import Preprocessing

BatchFunction = Callable[[Sequence[Any], str | None], Any]
"""Vectors (B, D) of a batch, on a device, None for the one the model is on. Images come as one tensor where there is a
preprocessing: (B, C, H, W) uint8 of its size."""


@dataclass(frozen=True, eq=False)
class BatchedEncoder:
    """An `Encoder` made of a function.

    Attributes:
        space: of the vectors.
        modality: what an item is.
        function: vectors of a batch, of any length where the space is normalised.
        preprocessing: for images: brings them to the size that the function takes; None hands them over as they are.
    """

    space: Space
    modality: Modality
    function: BatchFunction
    preprocessing: Preprocessing | None = None

    def encode(
        self, items: Sequence[Any], *, batch_size: int = 256, device: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Vectors (N, D) float32 of N items, in their order; see `Encoder.encode`.

        Raises:
            InputError: an item is of another kind, or the function gives another shape, NaN, infinity or, where the
                space is normalised, a vector of zeros.
        """
        if batch_size < 1:
            raise InputError(f"batch_size should be at least 1, got {batch_size}")
        require_items(items, self.modality)
        vectors = np.empty((len(items), self.space.dim), dtype=np.float32)
        for start in range(0, len(items), batch_size):
            batch: Any = items[start : start + batch_size]
            if self.preprocessing is not None:
                from samespace.models.items import pixels_of

                batch = pixels_of(batch, self.preprocessing)
            vectors[start : start + len(batch)] = checked(self.function(batch, device), len(batch), self.space)
        return vectors

    def embed(self, images: Tensor) -> Tensor:
        """Vectors (B, D) float32, on the CPU, of a batch of images (B, C, H, W) uint8, resized where need be.

        Those of the size that the preprocessing says count as prepared already.
        """
        import torch

        if self.preprocessing is None:
            return torch.from_numpy(self.encode(list(images.cpu().numpy()), batch_size=max(len(images), 1)))
        unit = self.preprocessing.to_unit(images.cpu())
        pixels = (unit * 255).round().to(torch.uint8)
        return torch.from_numpy(checked(self.function(cast(Any, pixels), None), len(pixels), self.space))

    def embed_unit(self, unit: Tensor) -> Tensor:
        """Vectors (B, D) float32 of images (B, C, H, W) in [0, 1], rounded to whole 255ths, on the images' device."""
        import torch

        return self.embed((unit * 255).round().clamp(0, 255).to(torch.uint8)).to(unit.device)

    @property
    def embedding_dim(self) -> int:
        """Dimensions of the vectors."""
        return self.space.dim

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.space.name


def require_items(items: Sequence[Any], modality: Modality) -> None:
    """Refuse one text in place of a list of texts, and texts or rows that are none."""
    if isinstance(items, str | bytes):
        raise InputError(f"items should be a list, got one text; write [{items[:20]!r}]")
    kind = {"text": str, "row": dict}.get(modality)
    if kind is None:
        return
    for place, item in enumerate(items):
        if not isinstance(item, kind):
            meant = "a string" if modality == "text" else "a dict of column names to values"
            raise InputError(f"item {place} should be {meant}, got {type(item).__name__}")


def checked(given: Any, count: int, space: Space) -> npt.NDArray[np.float32]:
    """What a model gave for `count` items as (count, D) float32, of unit length where the space is normalised."""
    vectors = np.asarray(as_numpy(given), dtype=np.float32)
    who = space.name or "the encoder"
    if vectors.shape != (count, space.dim):
        raise InputError(
            f"{who} gave vectors of shape {vectors.shape} for {count} items; expected {(count, space.dim)}"
        )
    if not np.isfinite(vectors).all():
        raise InputError(f"{who} gave NaN or infinity for item {int(np.argmin(np.isfinite(vectors).all(axis=1)))}")
    if not space.normalized:
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not lengths.all():
        raise InputError(f"{who} gave a vector of zeros for item {int(np.argmin(lengths))}, which has no direction")
    return np.asarray(vectors / lengths, dtype=np.float32)
