"""Pixels of another depth than 8 bits a value, brought to 8, or refused where their range is not known."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED = 0, 2
UNIT_OF_GREY = {"L;2": 85, "L;4": 17}


def as_eight_bits(image: Image.Image) -> Image.Image:
    """A loaded image with grey of more than 8 bits brought to its upper 8; images of 8 bits as they are.

    A grey that stands for transparent, as a PNG may name one, becomes white.

    Raises:
        ValueError: values whose range is not known: floating point, signed 16 bits, and 32 bits unless they go beyond
            255 and not beyond 65,535, which is taken for 16 bits in a larger cell.
    """
    if image.mode == "F":
        raise ValueError("floating-point pixels do not say their range; save them with 8 or 16 bits a value")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    tags: Any = getattr(image, "tag_v2", {})
    bits = _first(tags.get(BITS_PER_SAMPLE), 16 if image.format in ("PNG", "PPM") or image.mode != "I" else 32)
    if bits == 32:
        _require_sixteen_bits(values)
    elif image.mode == "I" and _first(tags.get(SAMPLE_FORMAT), 1) == SIGNED:
        raise ValueError("signed 16-bit pixels do not say their range; save them with 8 or 16 bits, unsigned")
    grey = values >> (max(8, min(bits, 16)) - 8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        grey[values == clear] = 255
    return Image.fromarray(grey.astype(np.uint8))


def key_at_eight_bits(key: Any, stored: str) -> Any:
    """The colour that stands for transparent, which a PNG gives at its own depth, at the depth of the loaded pixels.

    Args:
        key: what Pillow calls `transparency`: a grey, a colour, or anything else, which stays as it is.
        stored: how Pillow calls the stored pixels, such as `L;4` or `RGB;16B`.
    """
    if isinstance(key, int):
        return key * UNIT_OF_GREY.get(stored, 1)
    if isinstance(key, tuple) and stored.startswith("RGB;16"):
        return tuple(value >> 8 for value in key)
    return key


def _require_sixteen_bits(values: Any) -> None:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF or 0 < high <= 0xFF:
        raise ValueError(
            f"32-bit pixels from {low} to {high} do not say their range; save them with 8 or 16 bits a value"
        )


def _first(tag: Any, default: int) -> int:
    value = tag[0] if isinstance(tag, tuple) and tag else tag
    return value if isinstance(value, int) else default
