"""Ordinary JPEGs decoded by simplejpeg where it is installed (extra `jpeg`): the pixels of Pillow in less time.

Pillow spends most of its time on a small image in Python, where threads wait for each other; simplejpeg next to none.
Both decode by libjpeg-turbo, to the same pixels.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

_START = b"\xff\xd8"
_EXIF_OR_XMP = b"\xff\xe1"
_COLOURS = {("YCbCr", 3): "RGB", ("Gray", 1): "GRAY"}


def plain_jpeg(file: Path | BinaryIO, channels: int, side: int | None) -> npt.NDArray[np.uint8] | None:
    """Pixels (H, W, channels) uint8 of a JPEG that Pillow would decode to the same without a change, else None.

    None also where simplejpeg is not installed, for damaged files, and for what may be turned (it has EXIF or XMP),
    is of other colours than `channels`, or so large that Pillow decodes it at a fraction of its size because `side`
    pixels are enough.
    """
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return plain_jpeg(opened, channels, side)
    start, data = file.tell(), file.read(len(_START))
    if data == _START:
        data += file.read()
    file.seek(start)
    if not data.startswith(_START) or _EXIF_OR_XMP in data:
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        wanted = _COLOURS.get((space, channels))
        halved = side is not None and min(height, width) >= 2 * side
        if wanted is None or halved or height * width > (Image.MAX_IMAGE_PIXELS or 0):
            return None
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, wanted)
    except (ValueError, MemoryError):
        return None
    return pixels


@cache
def _simplejpeg() -> Any:
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None
