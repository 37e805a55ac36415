"""What happens to an image between the source and the network; part of a space's identity."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from samespace.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Resize to a square, scale to [0, 1], then subtract `mean` and divide by `std`.

    Attributes:
        size: height and width in pixels that the network expects.
        channels: 1 (grey) or 3 (RGB).
        mean: subtracted from every channel, in units of [0, 1].
        std: divides every channel, in units of [0, 1].

    Example:
        >>> p = Preprocessing(size=32, channels=1)
        >>> p(torch.full((2, 1, 64, 64), 255, dtype=torch.uint8)).shape
        torch.Size([2, 1, 32, 32])
    """

    size: int
    channels: int
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise InputError(f"images have 1 channel (grey) or 3 (RGB), got channels={self.channels}")
        if self.size < 8:
            raise InputError(f"the image size should be at least 8 pixels, got {self.size}")
        if not self.std > 0:
            raise InputError(f"std divides the pixels and should be above 0, got {self.std}")

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare a uint8 batch (B, C, H, W) for the network: float32 (B, C, size, size)."""
        return self.normalize(self.to_unit(images))

    def to_unit(self, images: Tensor) -> Tensor:
        """A uint8 batch (B, C, H, W) as float32 in [0, 1] at the network's size.

        Raises:
            InputError: not a uint8 batch of the expected number of channels.
        """
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise InputError(
                f"expected uint8 images of shape (batch, {self.channels}, height, width), "
                f"got {str(images.dtype).removeprefix('torch.')} of shape {tuple(images.shape)}"
            )
        if images.shape[1] != self.channels:
            raise InputError(f"the model expects {self.channels} channel(s), got images of {images.shape[1]}")
        return self.resize(images.to(torch.float32) / 255)

    def resize(self, unit: Tensor) -> Tensor:
        """A float batch (B, C, H, W) at the network's size."""
        if unit.shape[-2:] == (self.size, self.size):
            return unit
        return F.interpolate(unit, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)

    def normalize(self, unit: Tensor) -> Tensor:
        """Shift and scale a float batch in [0, 1]."""
        return (unit - self.mean) / self.std

    def describe(self) -> str:
        """Canonical text of the preprocessing, as it enters the identity of a space."""
        return json.dumps({"resize": "bilinear-antialias", **self.to_dict()}, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values."""
        return asdict(self)
