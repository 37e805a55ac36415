"""Made-up characters: strokes drawn from a seed, so that demos and tests need no download.

A class is a few cubic Bézier strokes. An image of it moves the control points, tilts and stretches the whole,
changes the pen, and adds blur and noise. Every image depends on `(seed, difficulty, size, class, image)` alone:
asking for more classes or more images changes none of those already there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from samespace.data.source import as_rows
from samespace.data.sources.strokes import FloatArray, key, normal, skeletons, uniform
from samespace.errors import InputError

if TYPE_CHECKING:
    import torch

BLOCK_PIXELS = 256 * 32 * 32
BUDGET = 2 * 1024**3
POINTS = 48
THINNEST = 0.02
UNDERFLOW = np.float32(35)  # products of two such exponentials stay clear of slow subnormal numbers
VERSION = "glyphs/1"


@dataclass(frozen=True)
class GlyphStyle:
    """How far the images of one class lie from each other, all set by one `difficulty` in [0, 1].

    Lengths are shares of the image side, angles radians; each is a standard deviation unless it says otherwise.
    """

    bend: float
    drift: float
    turn: float
    slant: float
    stretch: float
    shift: float
    noise: float
    faintness: float
    pen: float = 0.028
    pen_spread: float = 0.2

    @classmethod
    def at(cls, difficulty: float) -> GlyphStyle:
        """The style at one difficulty."""
        return cls(
            bend=0.008 + 0.054 * difficulty,
            drift=0.004 + 0.048 * difficulty,
            turn=0.03 + 0.36 * difficulty,
            slant=0.03 + 0.30 * difficulty,
            stretch=0.03 + 0.21 * difficulty,
            shift=0.01 + 0.05 * difficulty,
            noise=0.01 + 0.19 * difficulty,
            faintness=0.10 + 0.60 * difficulty,
        )


class GlyphSource:
    """A procedural set of characters, `(1, size, size)` uint8, light ink on a dark ground.

    Args:
        classes: number of classes. Four neighbours in number form a family, which shares more strokes the higher
            the difficulty.
        images: images per class.
        size: side in pixels.
        seed: another seed gives other characters.
        difficulty: 0 (neat, unrelated characters) to 1 (careless, noisy, families alike).
        channels: 1, or 3 for the same picture in three equal channels.

    Raises:
        InputError: a value is out of range.
    """

    def __init__(
        self,
        *,
        classes: int = 300,
        images: int = 40,
        size: int = 32,
        seed: int = 0,
        difficulty: float = 0.5,
        channels: int = 1,
    ) -> None:
        _require_range("classes", classes, 1, 1_000_000)
        _require_range("images", images, 1, 1_000_000)
        _require_range("size", size, 12, 512)
        _require_range("seed", seed, 0, 2**63 - 1)
        _require_range("difficulty", difficulty, 0.0, 1.0)
        if channels not in (1, 3):
            raise InputError(f"glyphs have 1 or 3 channels, got {channels}")
        self.size, self.seed, self.difficulty = size, seed, float(difficulty)
        self.per_class = images
        self.name = f"glyphs:classes={classes},images={images},size={size},seed={seed},difficulty={difficulty:g}"
        self.image_shape = (channels, size, size)
        self.classes = tuple(f"glyph-{seed}-{index:05d}" for index in range(classes))
        self.labels: npt.NDArray[np.int64] = np.repeat(np.arange(classes, dtype=np.int64), images)
        self.ids: npt.NDArray[np.str_] = np.array(
            [f"{name}/{index:05d}" for name in self.classes for index in range(images)]
        )
        self._drawn: npt.NDArray[np.uint8] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def load(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Draw images, `(B, C, size, size)` uint8; the whole set is drawn at the first call if it fits in memory."""
        import torch

        index = as_rows(rows, len(self))
        drawn = self._all() if len(self) * self.size**2 <= BUDGET else None
        pixels = drawn[index] if drawn is not None else self._draw(index)
        images = torch.from_numpy(pixels)[:, None]
        return images.expand(-1, self.image_shape[0], -1, -1).contiguous()

    def fingerprint(self) -> str:
        """The sha256 of the parameters, which say all there is to know."""
        text = f"{VERSION} {self.name} difficulty={self.difficulty!r} channels={self.image_shape[0]}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _all(self) -> npt.NDArray[np.uint8]:
        with self._lock:
            if self._drawn is None:
                self._drawn = self._draw(np.arange(len(self), dtype=np.int64))
            return self._drawn

    def _draw(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        out = np.empty((len(rows), self.size, self.size), dtype=np.uint8)
        step = max(BLOCK_PIXELS // self.size**2, 1)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            out[start : start + step] = draw(
                block // self.per_class,
                block % self.per_class,
                size=self.size,
                seed=self.seed,
                difficulty=self.difficulty,
            )
        return out


def draw(
    classes: npt.NDArray[np.int64],
    images: npt.NDArray[np.int64],
    *,
    size: int,
    seed: int,
    difficulty: float,
) -> npt.NDArray[np.uint8]:
    """Draw image `images[b]` of class `classes[b]`, `(B, size, size)` uint8."""
    style = GlyphStyle.at(difficulty)
    present, position = np.unique(classes, return_inverse=True)
    controls, used = skeletons(seed, present, difficulty)
    written = _by_hand(controls[position], key(seed, "image", classes, images), style)
    pen_key = key(seed, "pen", classes, images)
    pen = np.maximum(style.pen * np.exp(style.pen_spread * normal(pen_key, 1)[:, 0]), THINNEST)
    ink = _rasterise(written, used[position], pen, size)
    light = 1.0 - style.faintness * uniform(pen_key, 2)[:, 1]
    grain = style.noise * normal(key(seed, "grain", classes, images), size * size).reshape(-1, size, size)
    pixels = ink * light[:, None, None] + grain
    return np.asarray(np.rint(np.clip(pixels, 0.0, 1.0) * 255.0), dtype=np.uint8)


def _by_hand(controls: FloatArray, keys: npt.NDArray[np.uint64], style: GlyphStyle) -> FloatArray:
    """Move strokes and their control points, then turn, slant, stretch and shift the whole."""
    count, strokes, points, _ = controls.shape
    moves = normal(keys, strokes * (points + 1) * 2 + 6)
    bend = moves[:, : strokes * points * 2].reshape(count, strokes, points, 2)
    drift = moves[:, strokes * points * 2 : -6].reshape(count, strokes, 1, 2)
    turn, slant, wide, tall, right, down = moves[:, -6:].T
    cos, sin = np.cos(style.turn * turn), np.sin(style.turn * turn)
    rotate = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    one = np.ones_like(slant)
    shear = np.stack([np.stack([one, style.slant * slant], -1), np.stack([0 * one, one], -1)], -2)
    stretch = np.exp(style.stretch * np.stack([wide, tall], -1))
    affine = (rotate @ shear) * stretch[:, None, :]
    moved = controls + style.bend * bend + style.drift * drift - 0.5
    shift = 0.5 + style.shift * np.stack([right, down], -1)
    turned: FloatArray = np.einsum("bij,bspj->bspi", affine, moved) + shift[:, None, None, :]
    return turned


def _rasterise(
    controls: FloatArray, used: npt.NDArray[np.bool_], pen: FloatArray, size: int
) -> npt.NDArray[np.float32]:
    """Ink in [0, 1]: Gaussians along the strokes, weighted by arc length, cut to a pen with a soft edge.

    The weights make the sum along a straight stroke `exp(-d² / 2 pen²)` at distance `d`, however unevenly the
    curve parameter runs, so half of the maximum is an even line with round ends. The Gaussian is a product of
    one in x and one in y, so that the sum over the points of a stroke is a matrix product.
    """
    time = np.linspace(0.0, 1.0, POINTS + 1)
    basis = np.stack([(1 - time) ** 3, 3 * time * (1 - time) ** 2, 3 * time**2 * (1 - time), time**3], axis=-1)
    curve = np.einsum("tp,bspc->bstc", basis, controls)
    middle = (curve[:, :, 1:] + curve[:, :, :-1]) / 2
    length = np.linalg.norm(np.diff(curve, axis=2), axis=-1) * used[:, :, None]
    count = len(controls)
    points = middle.reshape(count, -1, 2).astype(np.float32)
    weight = (length.reshape(count, -1) / (np.sqrt(2 * np.pi) * pen[:, None])).astype(np.float32)
    centre = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    falloff = (-0.5 / pen**2).astype(np.float32)[:, None, None]
    exponents = [falloff * (points[:, :, axis, None] - centre) ** 2 for axis in (0, 1)]
    across, along = (np.exp(np.maximum(exponent, -UNDERFLOW)) for exponent in exponents)
    density = (along * weight[:, :, None]).transpose(0, 2, 1) @ across
    edge = np.clip(0.3 / (pen * size), 0.06, 0.45).astype(np.float32)[:, None, None]
    return np.asarray(np.clip((density - 0.5) / (2 * edge) + 0.5, 0.0, 1.0), dtype=np.float32)


def _require_range(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"glyphs: {what} must lie in {low:g} to {high:g}, got {value:g}")
