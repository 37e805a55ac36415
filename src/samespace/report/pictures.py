"""Images of the example queries and of what they find, as data URIs inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from samespace.errors import InputError

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Example

ImageLookup = Callable[[list[str]], Sequence[np.ndarray | None]]

_LARGEST = 112
_TINY = 64


@dataclass(frozen=True)
class Picture:
    """An image as a data URI; a tiny one is enlarged without smoothing."""

    source: str
    tiny: bool


def pictures(examples: Sequence[Example], images: ImageLookup | None) -> dict[str, Picture]:
    """The pictures by item id; an item without an image has none.

    Raises:
        InputError: `images` gives too few or too many, or something that is no image.
    """
    if images is None or not examples:
        return {}
    items = [item for one in examples for item in (one.query, *one.old, *one.cross, *(one.new or ()))]
    wanted = list(dict.fromkeys(item.id for item in items))
    found = images(wanted)
    if len(found) != len(wanted):
        raise InputError(f"'images' gave {len(found)} images for {len(wanted)} ids; give None for a missing one")
    return {name: _picture(array, name) for name, array in zip(wanted, found, strict=True) if array is not None}


def _picture(array: np.ndarray, name: str) -> Picture:
    pixels = np.asarray(array)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    shaped = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    if pixels.dtype != np.uint8 or not shaped or pixels.size == 0:
        raise InputError(
            f"image '{name}' should be uint8 of shape (H, W) or (H, W, 3), got {pixels.dtype} {pixels.shape}"
        )
    image = Image.fromarray(pixels)
    image.thumbnail((_LARGEST, _LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(source, max(pixels.shape[:2]) <= _TINY)
