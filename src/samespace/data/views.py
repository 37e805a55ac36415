"""Fixed views: the same few random changes of every image, whenever and wherever they are made."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from samespace.data.augment import DRAWS, Augment
from samespace.data.source import ImageSource, Rows, as_rows, digest
from samespace.data.sources.strokes import key, uniform
from samespace.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FixedViews:
    """`count` augmented views of every image, each a function of the image's id alone.

    Pixels are rounded to whole 255ths, so that a view is the same image to whoever makes it.

    Attributes:
        augment: the changes, drawn anew for each image and view.
        count: K, views of an image.
        seed: of the draws.

    Raises:
        InputError: a count below 1, or nothing that `augment` would change.
    """

    augment: Augment = field(default_factory=Augment)
    count: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"the number of views should be at least 1, got {self.count}")
        if not self.augment.active:
            raise InputError("augment changes nothing, so every view would be the plain image; switch some change on")

    def numbers(self, ids: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
        """What stands for each id in the draws, (N,) int64 of at least 0."""
        hashes = (
            hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=7).digest() for name in ids.tolist()
        )
        return np.array([int.from_bytes(value, "little") for value in hashes], dtype=np.int64)

    def chosen(self, numbers: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """Which view each image shows in an epoch, (B,): all of them in turn, from a start of its own."""
        return (numbers + epoch) % self.count

    def apply(self, unit: Tensor, numbers: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> Tensor:
        """The given view of each image.

        Args:
            unit: (B, C, H, W) floating in [0, 1].
            numbers: (B,) of the images, from `numbers`.
            views: (B,) below `count`.

        Returns:
            (B, C, H, W) in [0, 1], in whole 255ths.
        """
        import torch

        draws = torch.from_numpy(uniform(key(self.seed, "view", numbers, views), DRAWS))
        return (self.augment.apply(unit, draws) * 255).round() / 255

    def identity(self) -> str:
        """A name for this choice of views: sha256 of its settings, 12 hex digits."""
        return digest([repr(asdict(self)).encode()])[:12]


class ViewSource:
    """One fixed view of every image of a source, as a source of its own; labels, ids and classes stay."""

    def __init__(self, source: ImageSource, views: FixedViews, view: int) -> None:
        self._source, self._views, self._view = source, views, view
        self._numbers = views.numbers(source.ids)
        self.labels, self.ids, self.classes = source.labels, source.ids, source.classes
        self.image_shape = source.image_shape
        self.named: bool = getattr(source, "named", True)
        self.name = f"{source.name}, view {view + 1} of {views.count}"

    def __len__(self) -> int:
        """Number of images."""
        return len(self._source)

    def load(self, rows: Rows) -> Tensor:
        """The view of these images, (B, C, H, W) uint8."""
        import torch

        index = as_rows(rows, len(self))
        unit = self._source.load(index).float() / 255
        changed = self._views.apply(unit, self._numbers[index], np.full(len(index), self._view))
        return (changed * 255).round().to(torch.uint8)

    def fingerprint(self) -> str:
        """The sha256 of the source's fingerprint, the views' settings and the view's number."""
        return digest([self._source.fingerprint().encode(), self._views.identity().encode(), str(self._view).encode()])
