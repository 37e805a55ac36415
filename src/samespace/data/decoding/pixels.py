"""One image as uint8 pixels of a wanted shape: decoded, turned upright, converted, resized."""

from __future__ import annotations

import ctypes
import importlib
import io
import logging
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from samespace.data.decoding.depth import as_eight_bits, key_at_eight_bits
from samespace.data.decoding.fit import Fit, Size, interpolated
from samespace.data.decoding.jpeg import plain_jpeg
from samespace.errors import InputError

ImageSize = int | tuple[int, int] | Fit
Change = Literal["turned_upright", "first_frame", "to_8_bits", "on_white", "grey_to_rgb", "cmyk_to_rgb", "rgb_to_grey"]
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
JPEG, JPEG_END = ("JPEG", "MPO"), b"\xff\xd9"
SURE = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK")
TAIL = 16
# what Pillow is let open, whatever a file is called; it would start another program for PostScript
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "WEBP", "TIFF", "AVIF", "HEIF", "JPEG2000", "JXL", "TGA", "QOI")


@dataclass(frozen=True)
class Seen:
    """An encoded image as it is in its file.

    Attributes:
        size: (height, width) once it is turned upright.
        changes: what is changed about its pixels on the way to grey or RGB of 8 bits, apart from its size.
    """

    size: Size
    changes: frozenset[Change]


def as_fit(image_size: ImageSize | None) -> Fit | None:
    """How images are brought to a side, a (height, width) pair or what a `Fit` says; see `as_size`."""
    if isinstance(image_size, Fit):
        return image_size
    size = as_size(image_size)
    return None if size is None else Fit(*size)


def as_size(image_size: ImageSize | None) -> Size | None:
    """The (height, width) pair of a side, a pair or a `Fit`.

    Raises:
        InputError: it is not one or two positive whole numbers.
    """
    if image_size is None:
        return None
    if isinstance(image_size, Fit):
        return image_size.size
    pair = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(pair) != 2 or not all(isinstance(side, int) and side > 0 for side in pair):
        raise InputError(f"image_size must be a side or (height, width) in pixels, got {image_size}")
    return pair[0], pair[1]


def require_channels(channels: int | None) -> None:
    """Refuse anything but grey (1) and RGB (3), by an InputError."""
    if channels not in (None, 1, 3):
        raise InputError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")


def header(file: Path | BinaryIO) -> Size:
    """Height and width of an encoded image once it is turned upright; see `look`."""
    return look(file, 3).size


def decode(file: Path | BinaryIO, channels: int, size: Size | Fit | None) -> npt.NDArray[np.uint8]:
    """An encoded image as `(C, H, W)` uint8; see `read`."""
    return read(file, channels, size)[0]


def look(file: Path | BinaryIO, channels: int) -> Seen:
    """What an encoded image is, and an error where it can be seen that it will not decode.

    A plain JPEG is decoded only where its end is not in place, to find out whether it is cut short; other kinds
    always.
    """
    with Image.open(file, formats=formats()) as opened:
        if opened.format in JPEG and opened.mode in ("L", "RGB", "CMYK") and JPEG_END in _tail(file):
            turn = _turn(opened)
            return Seen(_turned(opened.size, turn), _changes(opened, channels, turn, ""))
        image, seen = _upright(opened, channels)
        if image.mode not in SURE or "transparency" in image.info:
            conform(image, channels, (1, 1))
        return seen


def read(file: Path | BinaryIO, channels: int, size: Size | Fit | None) -> tuple[npt.NDArray[np.uint8], Seen]:
    """An encoded image as `(C, H, W)` uint8, upright, resized to `size` (height, width) whatever its shape.

    A `Fit` may keep its shape and cut or pad instead.

    Of several frames or pages the first is taken; transparent parts are put on white. An orientation that cannot be
    read counts as none.

    Raises:
        ValueError: pixels whose range is not known. On damaged bytes Pillow raises nearly anything.
    """
    fit = as_fit(size)
    # other ways than the plain one are those of networks trained elsewhere, on pixels decoded in full
    side = 2 * max(fit.size) if fit is not None and fit.plain else None
    if (pixels := plain_jpeg(file, channels, side)) is not None:
        return _planes(pixels, fit), Seen(pixels.shape[:2], frozenset())
    with Image.open(file, formats=formats()) as opened:
        image, seen = _upright(opened, channels, side)
        return to_planes(conform(image, channels, size)), seen


def conform(image: Image.Image, channels: int, size: Size | Fit | None) -> Image.Image:
    """Convert to grey or RGB, transparent parts on white, and resize: anti-aliased and linear, or as a `Fit` says."""
    if _transparent(image):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert("L" if channels == 1 else "RGB")
    fit = as_fit(size)
    if fit is None:
        return image
    resized, (top, left) = fit.plan((image.height, image.width))
    if image.size != resized[::-1]:
        image = _resized(image, resized, fit)
    if resized == fit.size:
        return image
    if top >= 0 and left >= 0:
        return image.crop((left, top, left + fit.width, top + fit.height))
    grey = round(255 * fit.fill)
    canvas = Image.new(image.mode, fit.size[::-1], grey if channels == 1 else (grey,) * 3)
    canvas.paste(image, (-left, -top))
    return canvas


def _resized(image: Image.Image, size: Size, fit: Fit) -> Image.Image:
    if fit.antialias or fit.interpolation == "nearest":
        return image.resize(size[::-1], Image.Resampling[fit.interpolation.upper()])
    import torch

    # Pillow always averages when it makes an image smaller
    unit = torch.from_numpy(to_planes(image)[None]).float() / 255
    pixels = interpolated(unit, size, fit.interpolation, antialias=False).mul(255).round().to(torch.uint8)[0]
    return Image.fromarray(pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy())


def to_planes(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Grey or RGB image to `(C, H, W)` uint8."""
    pixels = np.asarray(image, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _planes(pixels: npt.NDArray[np.uint8], fit: Fit | None) -> npt.NDArray[np.uint8]:
    """Pixels (H, W, C) of grey or RGB as (C, H, W), brought to the size."""
    if fit is None or fit.keeps(pixels.shape[:2]):
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return to_planes(
        conform(Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels), pixels.shape[-1], fit)
    )


def prepare_pillow() -> None:
    """Keep messages of Pillow about odd files off the terminal, and let it read HEIF where pillow-heif is installed.

    What matters of the messages is an error or a `Change`.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    _prepare_libraries()


@cache
def formats() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed libraries can read."""
    _prepare_libraries()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@cache
def _prepare_libraries() -> None:
    # Pillow logs what it meets in odd files; without any handler Python would print that
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    with suppress(AttributeError, OSError):
        # libtiff prints its errors, which Pillow raises all the same
        ctypes.CDLL(importlib.import_module("PIL._imaging").__file__).TIFFSetErrorHandler(None)


def _upright(opened: Image.Image, channels: int, side: int | None = None) -> tuple[Image.Image, Seen]:
    """The image loaded, of 8 bits a value and turned upright, and what it was; at least `side` pixels are enough."""
    # Pillow itself turns a TIFF as it is loaded, and forgets that it did
    before = _turn(opened) if opened.format == "TIFF" else 1
    whole, stored = opened.size, _stored(opened)
    if side is not None:
        opened.draft(None, (side, side))
    opened.load()
    if "transparency" in opened.info:
        opened.info["transparency"] = key_at_eight_bits(opened.info["transparency"], stored)
    turn = _turn(opened)
    seen = Seen(
        _turned(opened.size if opened.format == "TIFF" else whole, turn),
        _changes(opened, channels, max(before, turn), stored),
    )
    image = as_eight_bits(opened)
    return image.transpose(TURNS[turn]) if turn in TURNS else image, seen


def _turn(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        turn = image.getexif().get(ORIENTATION, 1)
    except Exception:  # malformed EXIF raises nearly anything, and the pixels are fine all the same
        return 1
    return turn if isinstance(turn, int) and turn in TURNS else 1


def _turned(size: Size, turn: int) -> Size:
    """(height, width), once turned upright, of an image of this (width, height)."""
    return size if turn >= 5 else (size[1], size[0])


def _changes(image: Image.Image, channels: int, turn: int, stored: str) -> frozenset[Change]:
    grey = image.mode[0] in "1LI" and image.mode != "LAB"
    found: dict[Change, bool] = {
        "turned_upright": turn != 1,
        "first_frame": image.format != "MPO" and _several(image),
        "to_8_bits": image.mode.startswith("I") or ";16" in stored,
        "on_white": _transparent(image),
        "grey_to_rgb": grey and channels == 3,
        "rgb_to_grey": not grey and channels == 1,
        "cmyk_to_rgb": image.mode == "CMYK",
    }
    return frozenset(change for change, true in found.items() if true)


def _several(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a second frame that is damaged says nothing of the first
        return True


def _transparent(image: Image.Image) -> bool:
    if image.mode in ("RGBA", "LA", "PA", "RGBa"):
        low = image.getextrema()[-1]
        return isinstance(low, tuple) and low[0] < 255
    return "transparency" in image.info


def _stored(image: Image.Image) -> str:
    """How Pillow calls the pixels as they are stored, such as `RGB;16B`; empty where it does not say."""
    for *_, told in getattr(image, "tile", ()):
        raw = told[0] if isinstance(told, tuple) and told else told
        return raw if isinstance(raw, str) else ""
    return ""


def _tail(file: Path | BinaryIO) -> bytes:
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return _tail(opened)
    place = file.tell()
    file.seek(max(file.seek(0, io.SEEK_END) - TAIL, 0))
    end = file.read()
    file.seek(place)
    return end
