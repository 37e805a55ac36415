"""How an image is brought to the size a network takes: resized, then cropped or padded about its centre."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from samespace.errors import InputError, suggest

if TYPE_CHECKING:
    from torch import Tensor

Size: TypeAlias = tuple[int, int]
ResizeMode: TypeAlias = Literal["exact", "shorter", "letterbox"]
CropMode: TypeAlias = Literal["none", "centre"]
Interpolation: TypeAlias = Literal["bilinear", "bicubic", "nearest"]


@dataclass(frozen=True)
class Fit:
    """How any image becomes one of `height` × `width` pixels; sizes and offsets are torchvision's to the pixel.

    Attributes:
        height: in pixels.
        width: in pixels.
        resize_mode: `exact` resizes to the size whatever the proportions; `shorter` keeps them and covers the size;
            `letterbox` keeps them, stays inside it and pads the rest.
        crop_mode: `centre` cuts the size out of the middle after resizing; needed by `shorter`.
        crop_share: with `centre`, the share of the resized image's side that is kept: 0.875 resizes to 256 for 224.
        interpolation: of resizing.
        antialias: average over all pixels when making an image smaller; nearest never does.
        fill: grey value in [0, 1] that letterbox pads with.

    Example:
        >>> Fit(224, 224, "shorter", "centre", 0.875).plan((480, 640))
        ((256, 341), (16, 58))
    """

    height: int
    width: int
    resize_mode: ResizeMode = "exact"
    crop_mode: CropMode = "none"
    crop_share: float = 1.0
    interpolation: Interpolation = "bilinear"
    antialias: bool = True
    fill: float = 0.0

    def __post_init__(self) -> None:
        kinds = {"resize_mode": ResizeMode, "crop_mode": CropMode, "interpolation": Interpolation}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if value not in get_args(kind):
                raise InputError(f"{name} is {value!r}; {suggest(str(value), get_args(kind))}")
        if self.resize_mode == "shorter" and self.crop_mode == "none":
            raise InputError("resize_mode=shorter leaves images of unlike shapes: set crop_mode=centre")
        if self.resize_mode == "letterbox" and self.crop_mode != "none":
            raise InputError("resize_mode=letterbox keeps the whole image: set crop_mode=none")
        if not 0 < self.crop_share <= 1:
            raise InputError(f"crop_share is a share of the side in (0, 1], got {self.crop_share}")
        if self.crop_share < 1 and self.crop_mode == "none":
            raise InputError(f"crop_share={self.crop_share} needs crop_mode=centre")
        if not 0 <= self.fill <= 1:
            raise InputError(f"fill is a grey value in [0, 1], got {self.fill}")
        if self.fill and self.resize_mode != "letterbox":
            raise InputError("fill pads a letterbox and does nothing otherwise: set resize_mode=letterbox")

    @property
    def size(self) -> Size:
        """(height, width)."""
        return self.height, self.width

    @property
    def plain(self) -> bool:
        """Whether it is what readers of images do by themselves: resize to the size, bilinear, anti-aliased."""
        return self == Fit(self.height, self.width)

    def plan(self, size: Size) -> tuple[Size, tuple[int, int]]:
        """The size to resize an image of (height, width) to, and where in it the window starts (top, left).

        A start below zero is padding before the image.
        """
        resized = self._resized(size)
        top, left = (_start(has, wants) for has, wants in zip(resized, self.size, strict=True))
        return resized, (top, left)

    def keeps(self, size: Size) -> bool:
        """Whether an image of this size stays as it is."""
        return self.plan(size) == (size, (0, 0)) and size == self.size

    def _resized(self, size: Size) -> Size:
        # a share is often a quotient such as 224 / 232, which must give back 232
        target = (math.floor(self.height / self.crop_share + 1e-6), math.floor(self.width / self.crop_share + 1e-6))
        if self.resize_mode == "exact":
            return target
        ratios = [wants / has for wants, has in zip(target, size, strict=True)]
        if self.resize_mode == "letterbox":
            scale = min(ratios)
            return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)
        # the side that binds is met exactly, the other cut down to a whole number, as torchvision's Resize does
        if ratios[0] >= ratios[1]:
            return target[0], max(int(target[0] * size[1] / size[0]), target[1])
        return max(int(target[1] * size[0] / size[1]), target[0]), target[1]

    def apply(self, unit: Tensor) -> Tensor:
        """A float batch (B, C, H, W) in [0, 1] brought to (B, C, height, width)."""
        import torch.nn.functional as F

        resized, (top, left) = self.plan((unit.shape[-2], unit.shape[-1]))
        unit = interpolated(unit, resized, self.interpolation, antialias=self.antialias)
        bottom, right = self.height - resized[0] + top, self.width - resized[1] + left
        if not any((top, left, bottom, right)):
            return unit
        return F.pad(unit, (-left, right, -top, bottom), value=self.fill)


def interpolated(unit: Tensor, size: Size, interpolation: Interpolation, *, antialias: bool) -> Tensor:
    """A float batch (B, C, H, W) in [0, 1] resized to (B, C, *size)."""
    import torch.nn.functional as F

    if tuple(unit.shape[-2:]) == size:
        return unit
    if interpolation == "nearest":
        return F.interpolate(unit, size, mode="nearest-exact")
    resized = F.interpolate(unit, size, mode=interpolation, antialias=antialias, align_corners=False)
    return resized.clamp(0, 1) if interpolation == "bicubic" else resized


def _start(has: int, wants: int) -> int:
    return round((has - wants) / 2) if has >= wants else -((wants - has) // 2)
