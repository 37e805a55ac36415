"""Copies: images of the very same pixels, and images that differ by no more than compression or resizing.

A near copy is known by what is left of a picture when its fine detail is gone: the low frequencies of the discrete
cosine transform of its grey version at 32 × 32 pixels, as a perceptual hash takes them, but kept as numbers, not bits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from samespace.data.deep.neighbours import Array, Ints, nearest_rows
from samespace.data.loader import sequential
from samespace.data.readable import UnreadableImages
from samespace.data.source import ImageSource
from samespace.progress import Advance, silent

SIDE, FREQUENCIES = 32, 16
NEAR = 0.99
_BATCH = 256


class Looked(NamedTuple):
    """What is kept of each image of a source: `digest` (N,) 16 bytes of its pixels, `picture` (N, 255) float32.

    `picture` are its low frequencies without the mean, scaled to length one; zeros for an image of one colour.
    """

    digest: npt.NDArray[np.void]
    picture: Array


class Pair(NamedTuple):
    """An image, one that it copies, and how alike they are: 1 for the very same pixels, else a correlation."""

    row: int
    other: int
    likeness: float


@dataclass(frozen=True)
class Copies:
    """Copies in a source, each image named once, with one that it copies.

    Attributes:
        across: images of which another class holds the same pixels.
        within: images of which their own class holds the same pixels; the first of each group is not counted.
        near: images of which another class holds a near copy, and none the same pixels; least alike last.
    """

    across: tuple[Pair, ...]
    within: tuple[Pair, ...]
    near: tuple[Pair, ...]


def look(source: ImageSource, *, advance: Advance = silent) -> Looked:
    """Read every image once. 1,036 bytes an image are kept.

    Where the source brings images to another size, those alike at that size are read again at their own.
    """
    count = len(source)
    digest, picture = np.zeros(count, dtype="V16"), np.zeros((count, FREQUENCIES**2 - 1), dtype=np.float32)
    for batch in sequential(source, _BATCH):
        pixels = batch.images.numpy()
        seen = pictures(pixels)
        for place, (row, image) in enumerate(zip(batch.asked.tolist(), pixels, strict=True)):
            # a stand-in would be taken for a copy of itself
            lost = place in batch.unreadable
            digest[row] = np.void(_digest(image) if not lost else _unlike_any(row))
            picture[row] = 0 if lost else seen[place]
        advance(len(batch.rows))
    original: Callable[[int], npt.NDArray[np.uint8]] | None = getattr(source, "original", None)
    if original is not None:
        for row in np.flatnonzero(_repeated(digest)).tolist():
            with suppress(UnreadableImages):
                digest[row] = np.void(_digest(original(row)))
    return Looked(digest, picture)


def pictures(images: npt.NDArray[np.uint8]) -> Array:
    """Low frequencies of images (B, C, H, W) uint8: (B, 255) float32 of length one; zeros where there is one colour."""
    grey = images.astype(np.float32).mean(axis=1)
    if grey.shape[1:] != (SIDE, SIDE):
        grey = np.stack(
            [np.asarray(Image.fromarray(one).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for one in grey]
        )
    waves = _waves()
    found = (waves @ grey @ waves.T).reshape(len(grey), -1)[:, 1:]
    length = np.linalg.norm(found, axis=1, keepdims=True)
    # a picture of one colour has rounding errors only
    return np.asarray(np.where(length > 1.0, found / np.maximum(length, 1e-12), 0), dtype=np.float32)


def find_copies(looked: Looked, labels: Ints, *, near: float = NEAR, advance: Advance = silent) -> Copies:
    """Copies among the images of a source.

    Args:
        looked: what `look` kept.
        labels: (N,) their classes.
        near: correlation of pictures from which an image of another class is a near copy.
        advance: told how many images were compared.
    """
    _, group = np.unique(looked.digest, return_inverse=True)
    across, within = _exact(group, labels)
    nearest = nearest_rows(looked.picture, 1, leave_out=labels, advance=advance)
    exact = {pair.row for pair in across}
    alike = np.flatnonzero(nearest.cosine[:, 0] >= near)
    found = [
        Pair(row, int(nearest.row[row, 0]), float(nearest.cosine[row, 0])) for row in alike.tolist() if row not in exact
    ]
    return Copies(across, within, tuple(sorted(found, key=lambda pair: -pair.likeness)))


def _exact(group: Ints, labels: Ints) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Pairs across and within classes, from groups of equal pixels (N,)."""
    across, within = [], []
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows) == 1:
            continue
        classes, first = np.unique(labels[rows], return_index=True)
        for row in rows.tolist():
            own = int(rows[first[np.searchsorted(classes, labels[row])]])
            if row != own:
                within.append(Pair(row, own, 1.0))
            if len(classes) > 1:
                other = first[classes != labels[row]].min()
                across.append(Pair(row, int(rows[other]), 1.0))
    return tuple(sorted(across)), tuple(sorted(within))


def _repeated(digest: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    _, group, count = np.unique(digest, return_inverse=True, return_counts=True)
    return np.asarray(count[group] > 1)


def _digest(image: npt.NDArray[np.uint8]) -> bytes:
    text = f"{image.shape}".encode()
    return hashlib.blake2b(text + np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def _unlike_any(row: int) -> bytes:
    return hashlib.blake2b(f"unreadable {row}".encode(), digest_size=16).digest()


def _waves() -> Array:
    """The first rows of the orthonormal discrete cosine transform of 32 values, (16, 32)."""
    place, number = np.arange(SIDE) + 0.5, np.arange(FREQUENCIES)[:, None]
    rows = np.cos(np.pi * number * place / SIDE) * np.sqrt(2 / SIDE)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, dtype=np.float32)
