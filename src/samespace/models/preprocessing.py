"""What happens to an image between the source and the network; part of a space's identity."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from samespace.data.decoding.fit import CropMode, Fit, Interpolation, ResizeMode
from samespace.data.decoding.pixels import ImageSize, as_size
from samespace.errors import InputError


@dataclass(frozen=True)
class Preprocessing:
    """Bring to one size, scale to [0, 1], then subtract `mean` and divide by `std`.

    Attributes:
        size: side of a square, or (height, width), in pixels that the network expects.
        channels: 1 (grey) or 3 (RGB).
        mean: subtracted from every channel, in units of [0, 1]; one number, or one for each channel.
        std: divides every channel, in units of [0, 1], likewise.
        resize_mode: `exact`, `shorter` or `letterbox`; this and what follows as in `samespace.data.Fit`.
        crop_mode: `none` or `centre`.
        crop_share: share of the resized side that a centre crop keeps.
        interpolation: `bilinear`, `bicubic` or `nearest`.
        antialias: whether making an image smaller averages over all its pixels.
        fill: grey value in [0, 1] that letterbox pads with.

    Example:
        >>> p = Preprocessing(size=32, channels=1)
        >>> p(torch.full((2, 1, 64, 64), 255, dtype=torch.uint8)).shape
        torch.Size([2, 1, 32, 32])
    """

    size: int | tuple[int, int]
    channels: int
    mean: float | tuple[float, ...] = 0.5
    std: float | tuple[float, ...] = 0.5
    resize_mode: ResizeMode = "exact"
    crop_mode: CropMode = "none"
    crop_share: float = 1.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    fill: float = 0.0

    def __post_init__(self) -> None:
        pair = as_size(self.size if isinstance(self.size, int) else tuple(self.size))  # type: ignore[arg-type]
        # two ways to write one thing are one space
        object.__setattr__(self, "size", pair[0] if pair and pair[0] == pair[1] else pair)
        for name in ("mean", "std"):
            object.__setattr__(self, name, _one_or_each(name, getattr(self, name), self.channels))
        if self.channels not in (1, 3):
            raise InputError(f"images have 1 channel (grey) or 3 (RGB), got channels={self.channels}")
        if min(self.fit.size) < 8:
            raise InputError(f"the image size should be at least 8 pixels, got {self.size}")
        if not all(value > 0 for value in _each(self.std)):
            raise InputError(f"std divides the pixels and should be above 0, got {self.std}")

    @cached_property
    def fit(self) -> Fit:
        """How images are brought to the size."""
        height, width = self.size if isinstance(self.size, tuple) else (self.size, self.size)
        given = {name: getattr(self, name) for name in _FIT}
        return Fit(height, width, **given)

    @property
    def image_size(self) -> ImageSize:
        """The size or, where images are not plainly resized to it, the `Fit`, as a source of images takes it."""
        return self.size if self.fit.plain else self.fit

    def __call__(self, images: Tensor) -> Tensor:
        """Prepare a uint8 batch (B, C, H, W) for the network: float32 (B, C, height, width)."""
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
        return unit if tuple(unit.shape[-2:]) == self.fit.size else self.fit.apply(unit)

    def normalize(self, unit: Tensor) -> Tensor:
        """Shift and scale a float batch in [0, 1]."""
        return (unit - _over_channels(self.mean, unit)) / _over_channels(self.std, unit)

    def describe(self) -> str:
        """Canonical text of the preprocessing, as it enters the identity of a space."""
        values = self.to_dict()
        smooth = "-antialias" if values.pop("antialias", True) else ""
        resize = f"{values.pop('interpolation', 'bilinear')}{smooth}"
        return json.dumps({"resize": resize, **values}, sort_keys=True)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON-ready values; those beyond size, channels, mean and std only where they are used."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        plain = {field.name: field.default for field in fields(self) if field.name in _FIT}
        kept = {name: value for name, value in values.items() if name not in plain or value != plain[name]}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}


_FIT = ("resize_mode", "crop_mode", "crop_share", "interpolation", "antialias", "fill")


def _each(value: float | tuple[float, ...]) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)


def _one_or_each(name: str, value: Any, channels: int) -> float | tuple[float, ...]:
    """One number, also where all channels have the same one, or one for each channel."""
    if isinstance(value, int | float):
        return value
    given = tuple(float(part) for part in value)
    if len(given) not in (1, channels):
        raise InputError(f"{name} should be one number, or one for each of {channels} channel(s), got {list(given)}")
    return given[0] if len(set(given)) == 1 else given


def _over_channels(value: float | tuple[float, ...], unit: Tensor) -> float | Tensor:
    return unit.new_tensor(value)[:, None, None] if isinstance(value, tuple) else value
