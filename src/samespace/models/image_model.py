"""`ImageModel`: what the rooms that work on batches of pixels need of a model, an `Embedder` or another."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from samespace.models.preprocessing import Preprocessing
from samespace.space import Space


class ImageModel(Protocol):
    """Batches of pixels in, vectors of one space out."""

    @property
    def name(self) -> str:
        """What people call the model."""
        ...

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        ...

    @property
    def embedding_dim(self) -> int:
        """Dimensions of the vectors."""
        ...

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How images are brought to the size that the model takes; None where it takes any."""
        ...

    def embed(self, images: Tensor) -> Tensor:
        """Vectors (B, embedding_dim) float32 of images (B, C, H, W) uint8, deterministically."""
        ...

    def embed_unit(self, unit: Tensor) -> Tensor:
        """Vectors (B, embedding_dim) float32 of images (B, C, H, W) in [0, 1], such as augmented ones."""
        ...
