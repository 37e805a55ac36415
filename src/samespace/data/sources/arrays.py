"""Images that are arrays already, in memory or in an `.npz` file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from samespace.data.decoding.fit import Fit
from samespace.data.decoding.pixels import ImageSize, as_fit, conform, require_channels, to_planes
from samespace.data.source import as_rows, digest, repeated
from samespace.errors import InputError
from samespace.files import read_npz
from samespace.names import require_names

if TYPE_CHECKING:
    import torch

KEYS = ("images", "labels", "label_names", "ids")


class ArraySource:
    """Labelled images from arrays.

    Args:
        images: `(N, H, W)` grey or `(N, H, W, 3)` RGB, uint8.
        labels: one whole number or string per image; any numbers, re-numbered from 0 over those present.
        label_names: the name of label `i` at position `i`; without it, a class is named by its label.
        ids: one unique name per image; without it, the row number.
        image_size: bring images to this side, or (height, width), or as a `Fit` says.
        channels: 1 or 3; converts where the images have the other.
        name: what to call the source in messages.

    Attributes:
        changes: how many images are changed on the way to pixels, by how: `grey_to_rgb` or `rgb_to_grey`.
        resized: how many images are brought to another size.
        named: whether ids were given; row numbers mean nothing in another source.

    Raises:
        InputError: a wrong dtype or shape, unequal counts, no images, repeated ids, or a label without a name.
    """

    def __init__(
        self,
        images: npt.ArrayLike,
        labels: npt.ArrayLike,
        *,
        label_names: npt.ArrayLike | None = None,
        ids: npt.ArrayLike | None = None,
        image_size: ImageSize | None = None,
        channels: int | None = None,
        name: str = "arrays",
    ) -> None:
        self.name = name
        require_channels(channels)
        pixels = _checked_images(np.asarray(images), name)
        fit = as_fit(image_size)
        has = 1 if pixels.ndim == 3 else 3
        given = pixels[:, None] if has == 1 else pixels.transpose(0, 3, 1, 2)
        conformed = (fit is not None and not fit.keeps(pixels.shape[1:3])) or channels not in (None, has)
        self._planes = _conformed(pixels, channels or has, fit) if conformed else given
        _, depth, height, width = self._planes.shape
        self.image_shape = (depth, height, width)
        self.labels, self.classes = _checked_labels(labels, label_names, len(pixels), name)
        self.ids = _checked_ids(ids, len(pixels), name)
        self.named = ids is not None
        # an allocation made at one size must be found again at another, so the pixels that count are those given
        self._fingerprint = self._digest(given) if conformed else None
        self.changes = _changes(has, depth, len(pixels))
        self.resized = len(pixels) if (height, width) != pixels.shape[1:3] else 0

    @classmethod
    def from_npz(
        cls,
        path: str | Path,
        *,
        image_size: ImageSize | None = None,
        channels: int | None = None,
    ) -> ArraySource:
        """Read an `.npz` with `images`, `labels` and optional `label_names`, `ids`; other arrays are not read.

        Raises:
            InputError: no such file, not a whole `.npz`, an array missing or of the wrong kind.
        """
        held, names = read_npz(Path(path), KEYS, "an .npz of arrays, images and labels")
        missing = [key for key in ("images", "labels") if key not in held]
        if missing:
            there = ", ".join(names) or "nothing"
            raise InputError(f"{path} lacks {' and '.join(missing)}; it holds {there}, expected images, labels")
        return cls(**held, image_size=image_size, channels=channels, name=str(path))

    def __len__(self) -> int:
        """Number of images."""
        return len(self._planes)

    def load(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> torch.Tensor:
        """Images of these rows in this order, `(B, C, H, W)` uint8."""
        import torch

        return torch.from_numpy(np.ascontiguousarray(self._planes[as_rows(rows, len(self))]))

    def fingerprint(self) -> str:
        """The sha256 of pixels as they were given, labels, class names and ids."""
        if self._fingerprint is None:
            self._fingerprint = self._digest(self._planes)
        return self._fingerprint

    def _digest(self, planes: npt.NDArray[np.uint8]) -> str:
        text = [str(planes.shape).encode(), self.labels.tobytes()]
        text += ["\n".join(self.classes).encode(), "\n".join(self.ids).encode()]
        starts = range(0, len(planes), 1024)
        return digest([*text, *(np.ascontiguousarray(planes[start : start + 1024]).tobytes() for start in starts)])


def _changes(has: int, wanted: int, count: int) -> dict[str, int]:
    return {} if has == wanted else {"grey_to_rgb" if wanted == 3 else "rgb_to_grey": count}


def _checked_images(images: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.uint8]:
    legal = "(N, H, W) or (N, H, W, 3) uint8"
    if images.dtype != np.uint8:
        raise InputError(f"images in {name} are {images.dtype}; expected {legal}{_cure_of_values(images)}")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise InputError(f"images in {name} have shape {images.shape}; expected {legal}{_cure_of_shape(images.shape)}")
    if not images.size:
        raise InputError(f"{name} holds no images (shape {images.shape}); expected {legal}")
    pixels = images.astype(np.uint8, copy=False)
    return pixels[..., 0] if pixels.ndim == 4 and pixels.shape[3] == 1 else pixels


def _cure_of_values(images: npt.NDArray[np.generic]) -> str:
    """How to bring values to 0 … 255, where their range tells."""
    if images.dtype.kind not in "biuf" or not images.size:
        return ""
    low, high = images.min(), images.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return "; they hold NaN or infinity"
    if images.dtype.kind == "b" or (images.dtype.kind == "f" and low >= 0 and high <= 1):
        cure = "(images * 255).round().astype('uint8')" if images.dtype.kind == "f" else "images.astype('uint8') * 255"
    elif low >= 0 and high <= 255:
        cure = "images.round().astype('uint8')" if images.dtype.kind == "f" else "images.astype('uint8')"
    elif images.dtype.kind in "iu" and low >= 0 and high <= 0xFFFF:
        cure = "(images >> 8).astype('uint8')"
    else:
        return f"; they run from {low} to {high}: bring them to 0 … 255"
    return f"; they run from {low} to {high}: save {cure}"


def _cure_of_shape(shape: tuple[int, ...]) -> str:
    if len(shape) != 4:
        return ""
    if shape[1] in (1, 3):
        return "; colours come last: save images.transpose(0, 2, 3, 1)"
    return "; blend the fourth channel, transparency, into the others first" if shape[3] == 4 else ""


def _checked_labels(
    given: npt.ArrayLike, label_names: npt.ArrayLike | None, count: int, name: str
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    labels = np.asarray(given)
    if labels.shape != (count,):
        raise InputError(f"{name} has {count} images and labels of shape {labels.shape}; expected one label each")
    if labels.dtype.kind not in "iuU":
        raise InputError(f"labels in {name} are {labels.dtype}; expected whole numbers or strings")
    if labels.dtype.kind == "U":
        require_names(_as_given(given), "labels", name)
    present, numbers = np.unique(labels, return_inverse=True)
    if label_names is None:
        return numbers.astype(np.int64), tuple(str(label) for label in present)
    names = np.asarray(label_names)
    if labels.dtype.kind == "U" or names.ndim != 1 or names.dtype.kind != "U":
        raise InputError(f"label_names in {name} must be one list of strings that whole-number labels index")
    require_names(names.tolist(), "label_names", name)
    if int(present[0]) < 0 or int(present[-1]) >= len(names):
        raise InputError(
            f"labels in {name} run from {present[0]} to {present[-1]}, but label_names has {len(names)} entries"
        )
    classes = tuple(str(names[int(label)]) for label in present)
    if len(set(classes)) != len(classes):
        raise InputError(f"label_names in {name} gives two classes the same name; names must be unique")
    return numbers.astype(np.int64), classes


def _as_given(names: npt.ArrayLike) -> Iterable[str]:
    """Names before numpy drops NULs at their end."""
    return map(str, names if isinstance(names, Sequence) else np.asarray(names).tolist())


def _checked_ids(ids: npt.ArrayLike | None, count: int, name: str) -> npt.NDArray[np.str_]:
    if ids is None:
        return np.arange(count).astype(np.str_)
    given = np.asarray(ids)
    if given.shape != (count,) or given.dtype.kind not in "iuU":
        raise InputError(
            f"ids in {name} are {given.dtype} of shape {given.shape}; expected {count} strings or whole numbers"
        )
    names = given.astype(np.str_)
    require_names(_as_given(ids), "ids", name)
    if twice := repeated(names):
        raise InputError(f"ids in {name} must be unique; {str(twice[0])!r} is used {twice[1]} times")
    return names


def _conformed(pixels: npt.NDArray[np.uint8], channels: int, fit: Fit | None) -> npt.NDArray[np.uint8]:
    height, width = fit.size if fit is not None else pixels.shape[1:3]
    out = np.empty((len(pixels), channels, height, width), dtype=np.uint8)
    for row, image in enumerate(pixels):
        out[row] = to_planes(conform(Image.fromarray(image), channels, fit))
    return out
