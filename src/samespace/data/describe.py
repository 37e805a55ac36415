"""A source of images in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from samespace.data.source import ImageSource, Subset
from samespace.data.sources.kinds import Kind, counted
from samespace.metrics._arrays import look_alikes


@dataclass(frozen=True)
class LeftOut:
    """What opening a source left out, passed over and changed.

    Attributes:
        skipped: path and reason of everything that was left out.
        passed_over: what lies there and is no image of the set, by kind.
        changes: how many images are changed on the way to pixels, by how.
        resized: how many images have another size than the source gives them.
    """

    skipped: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[Kind, ...] = ()
    changes: Mapping[str, int] = field(default_factory=dict)
    resized: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "skipped": [{"path": path, "reason": reason} for path, reason in self.skipped],
            "passed_over": [asdict(kind) for kind in self.passed_over],
            "changes": dict(self.changes),
            "resized": self.resized,
        }


def left_out_of(source: ImageSource) -> LeftOut:
    """What opening a source, or the whole that it is a part of, left out, passed over and changed."""
    while isinstance(source, Subset):
        source = source.whole
    return LeftOut(
        skipped=tuple(getattr(source, "skipped", ())),
        passed_over=counted(getattr(source, "passed_over", ())),
        changes=getattr(source, "changes", {}),
        resized=getattr(source, "resized", 0),
    )


@dataclass(frozen=True)
class Sizes:
    """Sizes of images, (height, width) in pixels.

    Attributes:
        different: how many sizes there are.
        smallest: the one of the fewest pixels.
        largest: the one of the most pixels.
    """

    different: int
    smallest: tuple[int, int]
    largest: tuple[int, int]


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
        passed_over: what lies there and is no image of the set, by kind.
        seen: how many images were looked into for what follows; 0 where the source is not one of encoded images.
        sizes: how many different sizes they have, the smallest and the largest (height, width); None where none was
            looked into.
        changes: how many of them are changed on the way to pixels, by how, such as `turned_upright`.
        look_alikes: pairs of classes whose names differ in leading zeros, case, spaces or Unicode form alone.
        fingerprint: sha256 of the contents.
        notes: how the source was read, a sentence each.
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
    passed_over: tuple[Kind, ...] = ()
    seen: int = 0
    sizes: Sizes | None = None
    changes: dict[str, int] = field(default_factory=dict)
    look_alikes: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        value = asdict(self)
        value["image_shape"] = list(self.image_shape)
        value["skipped"] = [{"path": path, "reason": reason} for path, reason in self.skipped]
        value["passed_over"] = [asdict(kind) for kind in self.passed_over]
        value["look_alikes"] = [list(pair) for pair in self.look_alikes]
        return value


def describe(source: ImageSource) -> Description:
    """Count images and classes.

    Example:
        >>> from samespace.data import open_source
        >>> describe(open_source("glyphs:classes=4,images=3,size=16")).largest_class
        3
    """
    sizes = np.bincount(source.labels, minlength=len(source.classes))
    left_out = left_out_of(source)
    return Description(
        name=source.name,
        images=len(source),
        classes=len(source.classes),
        smallest_class=int(sizes.min()),
        median_class=float(np.median(sizes)),
        largest_class=int(sizes.max()),
        one_image_classes=int((sizes == 1).sum()),
        image_shape=source.image_shape,
        skipped=left_out.skipped,
        fingerprint=source.fingerprint(),
        passed_over=left_out.passed_over,
        seen=getattr(source, "seen", 0),
        sizes=_sizes(getattr(source, "sizes", {})),
        changes=dict(left_out.changes),
        look_alikes=tuple(look_alikes(source.classes)),
        notes=tuple(getattr(source, "notes", ())),
    )


def _sizes(sizes: Iterable[tuple[int, int]]) -> Sizes | None:
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return Sizes(len(ordered), ordered[0], ordered[-1]) if ordered else None
