"""Random changes of training images, on whole batches and on any device; never used for extraction."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from samespace.errors import InputError

if TYPE_CHECKING:
    import torch

DRAWS = 14
ERASED = (0.02, 0.2)
LIMITS = {
    "rotate": 180.0,
    "translate": 1.0,
    "scale": 0.95,
    "shear": 80.0,
    "brightness": 1.0,
    "contrast": 1.0,
    "erase": 1.0,
    "noise": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Augment:
    """Which changes, and how strong; everything is off by default.

    Draw once for the whole global batch, then let each process apply the rows of its own images: the result for an
    image depends on its own row of draws alone.

    Attributes:
        rotate: largest angle in degrees, either way.
        translate: largest shift as a share of height and width.
        scale: largest change of size: 0.1 scales by 0.9 to 1.1.
        shear: largest horizontal shear in degrees, either way.
        flip: mirror left and right in half of the cases.
        brightness: largest change of brightness: 0.2 multiplies by 0.8 to 1.2.
        contrast: the same for the distance of each pixel from the image's mean.
        erase: probability of a rectangle of 2 to 20 % of the area being replaced by the image's mean.
        noise: standard deviation of noise added to each pixel and channel.
        padding: what moves in from outside: the nearest edge pixel, or zeros (right for light ink on black).

    Raises:
        InputError: a value out of range.

    Example:
        >>> augment = Augment(rotate=10, translate=0.1, flip=True)
        >>> import torch
        >>> draws = augment.draw(4, torch.Generator().manual_seed(0))
        >>> augment.apply(torch.rand(4, 1, 8, 8), draws).shape
        torch.Size([4, 1, 8, 8])
    """

    rotate: float = 0.0
    translate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    erase: float = 0.0
    noise: float = 0.0
    padding: Literal["border", "zeros"] = "border"

    def __post_init__(self) -> None:
        for what, most in LIMITS.items():
            value = getattr(self, what)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.0 <= value <= most:
                raise InputError(f"augment: {what} must lie in 0 to {most:g}, got {value!r}")
        if not isinstance(self.flip, bool):
            raise InputError(f"augment: flip must be true or false, got {self.flip!r}")
        if self.padding not in ("border", "zeros"):
            raise InputError(f"augment: padding must be 'border' or 'zeros', got {self.padding!r}")

    @property
    def active(self) -> bool:
        """Whether anything would change."""
        return any(getattr(self, field.name) for field in fields(self) if field.name != "padding")

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Random numbers for `count` images: `(count, 14)` float64 on the CPU, one row per image.

        The generator (on the CPU) moves on by the same amount whatever is switched on.
        """
        import torch

        return torch.rand(count, DRAWS, generator=generator, dtype=torch.float64)

    def apply(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Change each image by its row of draws.

        Args:
            images: `(B, C, H, W)` floating point in [0, 1], on any device.
            draws: `(B, 14)` from `draw`, or the rows of it that belong to these images.

        Returns:
            New images of the same shape and dtype, in [0, 1].

        Raises:
            InputError: images that are not floating point, or draws for another number of them.
        """
        if images.ndim != 4 or not images.is_floating_point():
            shape = tuple(images.shape)
            raise InputError(f"augment takes (B, C, H, W) floating point in [0, 1], got {images.dtype} {shape}")
        if draws.shape != (len(images), DRAWS):
            raise InputError(f"augment needs draws ({len(images)}, {DRAWS}), got {tuple(draws.shape)}")
        if not self.active:
            return images
        out = images.float()
        if self.rotate or self.translate or self.scale or self.shear or self.flip:
            out = self._move(out, draws)
        draws = draws.to(images.device)
        spread = 2.0 * draws.float() - 1.0
        if self.contrast:
            mean = out.mean(dim=(1, 2, 3), keepdim=True)
            out = mean + (out - mean) * (1.0 + self.contrast * spread[:, 7, None, None, None])
        if self.brightness:
            out = out * (1.0 + self.brightness * spread[:, 6, None, None, None])
        if self.erase:
            out = self._erase(out, draws.float())
        if self.noise:
            out = out + self.noise * _noise((draws[:, 13] * 2.0**52).long(), out.shape)
        return out.clamp(0.0, 1.0).to(images.dtype)

    def _move(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        """Resample through the inverse of scale · rotation · shear · mirror, then shift, about the centre."""
        import torch
        import torch.nn.functional as functional

        height, width = images.shape[2:]
        spread = 2.0 * draws - 1.0
        angle = math.radians(self.rotate) * spread[:, 0]
        slant = torch.tan(math.radians(self.shear) * spread[:, 4])
        size = 1.0 + self.scale * spread[:, 3]
        mirror = torch.where((draws[:, 5] < 0.5) & torch.tensor(self.flip), -1.0, 1.0).double()
        cos, sin = torch.cos(angle) / size, torch.sin(angle) / size
        # Inverse in pixels: mirror @ shear^-1 @ rotation^-1 / scale, applied to output minus shift.
        inverse = torch.stack([mirror * (cos + slant * sin), mirror * (sin - slant * cos), -sin, cos], dim=1).reshape(
            -1, 2, 2
        )
        aspect = torch.tensor([[1.0, height / width], [width / height, 1.0]], dtype=torch.float64)
        matrix = inverse * aspect
        shift = 2.0 * self.translate * spread[:, 1:3, None]
        theta = torch.cat([matrix, -matrix @ shift], dim=2).float().to(images.device)
        grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
        return functional.grid_sample(images, grid, mode="bilinear", padding_mode=self.padding, align_corners=False)

    def _erase(self, images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        import torch

        height, width = images.shape[2:]
        area = ERASED[0] + (ERASED[1] - ERASED[0]) * draws[:, 9]
        aspect = torch.exp(math.log(3.0) * (2.0 * draws[:, 10] - 1.0))
        tall, wide = (area * aspect).sqrt().clamp(max=1.0) * height, (area / aspect).sqrt().clamp(max=1.0) * width
        top, left = draws[:, 11] * (height - tall), draws[:, 12] * (width - wide)
        y = torch.arange(height, device=images.device) + 0.5
        x = torch.arange(width, device=images.device) + 0.5
        rows = (y >= top[:, None]) & (y < (top + tall)[:, None])
        columns = (x >= left[:, None]) & (x < (left + wide)[:, None])
        hole = rows[:, :, None] & columns[:, None, :] & (draws[:, 8] < self.erase)[:, None, None]
        return torch.where(hole[:, None], images.mean(dim=(2, 3), keepdim=True), images)


def _noise(seeds: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Nearly normal numbers of mean 0 and variance 1 from one int64 seed per image, the same on every device.

    A SplitMix64 hash of the pixel's number gives four 16-bit uniform numbers, whose sum is scaled.
    """
    import torch

    pixels = torch.arange(1, shape[1:].numel() + 1, device=seeds.device)
    value = seeds[:, None] + pixels * -7046029254386353131
    value = (value ^ _right(value, 30)) * -4658895280553007687
    value = (value ^ _right(value, 27)) * -7723592293110705685
    value = value ^ _right(value, 31)
    total = sum(((value >> shift) & 0xFFFF).float() for shift in (0, 16, 32, 48))
    return ((torch.as_tensor(total) / 65535.0 - 2.0) * math.sqrt(3.0)).reshape(shape)


def _right(value: torch.Tensor, bits: int) -> torch.Tensor:
    return (value >> bits) & ((1 << (64 - bits)) - 1)
