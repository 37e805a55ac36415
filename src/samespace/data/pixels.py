"""One image as uint8 pixels of a wanted shape: decoded, turned upright, converted, resized."""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from samespace.errors import InputError

Size = tuple[int, int]
ORIENTATION = 0x0112
ENDINGS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
TAIL = 16


def as_size(image_size: int | tuple[int, int] | None) -> Size | None:
    """Turn a side or a (height, width) pair into a pair.

    Raises:
        InputError: it is not one or two positive whole numbers.
    """
    if image_size is None:
        return None
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise InputError(f"image_size must be a side or (height, width) in pixels, got {image_size}")
    return pair[0], pair[1]


def require_channels(channels: int | None) -> None:
    """Refuse anything but grey (1) and RGB (3), by an InputError."""
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")


def header(file: Path | BinaryIO) -> Size:
    """Height and width of an encoded image once it is turned upright.

    The pixels of a JPEG or PNG are decoded only where its end is not in place, to find out whether it is cut short;
    those of other formats always.
    """
    with Image.open(file) as image:
        width, height = image.size
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        ending = ENDINGS.get(image.format or "")
        if ending is None or ending not in _tail(file):
            image.load()
    return (width, height) if turned else (height, width)


def _tail(file: Path | BinaryIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return _tail(opened)
    place = file.tell()
    file.seek(max(file.seek(0, io.SEEK_END) - TAIL, 0))
    end = file.read()
    file.seek(place)
    return end


def decode(file: Path | BinaryIO, channels: int, size: Size | None) -> npt.NDArray[np.uint8]:
    """Read an encoded image as `(C, H, W)` uint8, upright, resized to `size` (height, width) whatever its shape."""
    with Image.open(file) as opened:
        if size is not None:
            side = 2 * max(size)
            opened.draft(None, (side, side))
        image = ImageOps.exif_transpose(opened)
        return to_planes(conform(image, channels, size))


def conform(image: Image.Image, channels: int, size: Size | None) -> Image.Image:
    """Convert to grey or RGB, transparent parts on white, and resize by anti-aliased linear interpolation."""
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.mode.startswith("I"):
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 256).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return image


def to_planes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Grey or RGB image to `(C, H, W)` uint8."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
