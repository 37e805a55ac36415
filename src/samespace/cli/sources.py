"""Opening images where their size plays no part: to count them, or to show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samespace.data import ImageSource


def open_at(source: str, encoded_pixels: int, broken: str) -> ImageSource:
    """Open a source; encoded images, which may differ in size, are brought to `encoded_pixels`."""
    from samespace.data import holds_encoded, open_source

    size = encoded_pixels if holds_encoded(source) else None
    return open_source(source, image_size=size, broken="skip" if broken == "skip" else "refuse")
