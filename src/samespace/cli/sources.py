"""Opening images where their size plays no part: to count them, or to show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samespace.data import ImageSource


def open_at(source: str, folder_pixels: int, broken: str) -> ImageSource:
    """Open a source; the images of a folder, which may differ in size, are brought to `folder_pixels`."""
    from samespace.data import open_source

    size = folder_pixels if Path(source).is_dir() else None
    return open_source(source, image_size=size, broken="skip" if broken == "skip" else "refuse")
