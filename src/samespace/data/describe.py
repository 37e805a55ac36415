"""A source of images in a few numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from samespace.data.source import ImageSource


@dataclass(frozen=True)
class Description:
    """What a source holds.

    Attributes:
        name: what the source is called.
        images: number of images.
        classes: number of classes.
        smallest_class: images of the smallest class.
        median_class: median number of images per class.
        largest_class: images of the largest class.
        one_image_classes: classes with a single image, which cannot be on both sides of any split.
        image_shape: channels, height, width.
        skipped: path and reason of everything that was left out.
        fingerprint: sha256 of the contents.
    """

    name: str
    images: int
    classes: int
    smallest_class: int
    median_class: float
    largest_class: int
    one_image_classes: int
    image_shape: tuple[int, int, int]
    skipped: tuple[tuple[str, str], ...]
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        value = asdict(self)
        value["image_shape"] = list(self.image_shape)
        value["skipped"] = [{"path": path, "reason": reason} for path, reason in self.skipped]
        return value


def describe(source: ImageSource) -> Description:
    """Count images and classes.

    Example:
        >>> from samespace.data import open_source
        >>> describe(open_source("glyphs:classes=4,images=3,size=16")).largest_class
        3
    """
    sizes = np.bincount(source.labels, minlength=len(source.classes))
    return Description(
        name=source.name,
        images=len(source),
        classes=len(source.classes),
        smallest_class=int(sizes.min()),
        median_class=float(np.median(sizes)),
        largest_class=int(sizes.max()),
        one_image_classes=int((sizes == 1).sum()),
        image_shape=source.image_shape,
        skipped=tuple(getattr(source, "skipped", ())),
        fingerprint=source.fingerprint(),
    )
