"""What a source of images looks like, as far as it decides on a network and its training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samespace.data import ImageSource, holds_encoded, open_source
from samespace.data.listed import ListedSource
from samespace.data.readable import load_readable
from samespace.progress import Bar, silent

_PIXELS = 32
_SAMPLE = 256
_SAME = 16
_DRAWN = 0.6


@dataclass(frozen=True)
class Look:
    """What there is.

    Attributes:
        source: the images, at a small size, in colour where they may be coloured.
        per_class: (classes,) number of images.
        smallest, middle, largest: (height, width) of the images, in order of the area.
        grey: whether no image of the sample has colour.
        drawn: whether most of each image is one flat background, as in drawings, scans of letters and signs.
        dark: whether that background is dark.
    """

    source: ImageSource
    per_class: npt.NDArray[np.int64]
    smallest: tuple[int, int]
    middle: tuple[int, int]
    largest: tuple[int, int]
    grey: bool
    drawn: bool
    dark: bool

    @property
    def side(self) -> int:
        """The shorter side of the middle image, in pixels."""
        return min(self.middle)

    @property
    def pixels(self) -> str:
        """The sizes, for people: width × height."""
        ends = [f"{width}x{height}" for height, width in (self.smallest, self.largest)]
        return f"{ends[0]} pixels" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} pixels"

    @property
    def kind(self) -> str:
        """What kind of pictures they are, for people."""
        return ("line drawings" if self.drawn else "photographs") + (" in grey" if self.grey else " in colour")


def look(images: str, *, broken: str = "skip", seed: int = 0, advance: Bar = silent) -> Look:
    """Open a source and look at a sample of it.

    Raises:
        InputError: nothing is there, or it cannot be used.
    """
    encoded = holds_encoded(images)
    source = open_source(
        images, image_size=_PIXELS if encoded else None, broken="skip" if broken == "skip" else "refuse"
    )
    rows = np.random.default_rng(seed).permutation(len(source))[:_SAMPLE].astype(np.int64)
    found = source.sizes.elements() if isinstance(source, ListedSource) else []
    shapes = sorted(list(found) or [source.image_shape[1:]], key=lambda shape: shape[0] * shape[1])
    sample = load_readable(source, rows).images.numpy().astype(np.int16)
    advance(len(rows))
    luminance = sample.mean(axis=1).reshape(len(sample), -1)
    background = np.median(luminance, axis=1, keepdims=True)
    drawn = float((np.abs(luminance - background) <= _SAME).mean(axis=1).mean()) >= _DRAWN
    return Look(
        source=source,
        per_class=np.bincount(source.labels, minlength=len(source.classes)),
        smallest=shapes[0],
        middle=shapes[len(shapes) // 2],
        largest=shapes[-1],
        grey=bool((np.ptp(sample, axis=1) <= 2).all()),
        drawn=drawn,
        dark=float(np.median(background)) < 128,
    )
