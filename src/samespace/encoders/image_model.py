"""An encoder of images whose items come as batches of pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from samespace.encoders.encoder import Encoder
from samespace.models.preprocessing import Preprocessing
from samespace.space import Space


class EncoderOfImages:
    """An `Encoder` of images as an `ImageModel`: batches of pixels in, vectors out."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.preprocessing: Preprocessing | None = getattr(encoder, "preprocessing", None)

    @property
    def space(self) -> Space:
        """The space of the vectors."""
        return self.encoder.space

    @property
    def name(self) -> str:
        """What people call the model."""
        return self.space.name

    @property
    def embedding_dim(self) -> int:
        """Dimensions of the vectors."""
        return self.space.dim

    def embed(self, images: Tensor) -> Tensor:
        """Vectors (B, D) float32, on the CPU, of images (B, C, H, W) uint8."""
        return torch.from_numpy(self.encoder.encode(list(images.cpu()), batch_size=max(len(images), 1)))

    def embed_unit(self, unit: Tensor) -> Tensor:
        """Vectors (B, D) float32 of images (B, C, H, W) in [0, 1], rounded to whole 255ths, on the images' device."""
        return self.embed((unit * 255).round().clamp(0, 255).to(torch.uint8)).to(unit.device)
