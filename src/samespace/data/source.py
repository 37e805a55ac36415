"""What every source of labelled images offers, and views on a part of one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError

if TYPE_CHECKING:
    import torch

Rows = Sequence[int] | npt.NDArray[np.int64]


@runtime_checkable
class ImageSource(Protocol):
    """Labelled images by row number; reading is thread-safe and repeatable."""

    @property
    def name(self) -> str:
        """What to call it in messages, such as `faces/` or `glyphs:classes=300`."""
        ...

    @property
    def ids(self) -> npt.NDArray[np.str_]:
        """One unique name per image, `(N,)`."""
        ...

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The class of each image, `(N,)` int64, every number from 0 to `len(classes) - 1` in use."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each class; the position is the label."""
        ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def load(self, rows: Rows) -> torch.Tensor:
        """Images of these rows in this order, `(B, C, H, W)` uint8."""
        ...

    def fingerprint(self) -> str:
        """The sha256 (hex) of what the images, labels and ids are."""
        ...


class Subset:
    """Some `rows` of the source `whole`, in a given order, with labels re-numbered over the classes that remain."""

    def __init__(self, source: ImageSource, rows: npt.NDArray[np.int64]) -> None:
        self.whole = source
        self.rows = rows
        present, labels = np.unique(source.labels[rows], return_inverse=True)
        self.labels: npt.NDArray[np.int64] = labels.astype(np.int64)
        self.classes = tuple(source.classes[label] for label in present)
        self.ids = source.ids[rows]
        self.named: bool = getattr(source, "named", True)
        self.image_shape = source.image_shape
        self.name = source.name

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    def load(self, rows: Rows) -> torch.Tensor:
        """Images of these rows of the view, `(B, C, H, W)` uint8."""
        return self.whole.load(self.rows[as_rows(rows, len(self))])

    def fingerprint(self) -> str:
        """The sha256 of the whole source's fingerprint and the rows taken from it."""
        return digest([self.whole.fingerprint().encode(), np.ascontiguousarray(self.rows).tobytes()])


def subset(source: ImageSource, rows: Rows) -> ImageSource:
    """View some rows of a source.

    Rows keep the order given, and ids and class names stay what they were. Labels are re-numbered from 0 over
    the classes present, in their original order.

    Raises:
        InputError: a row is outside the source or given twice, or there is none.
    """
    index = as_rows(rows, len(source))
    if not len(index):
        raise InputError(f"no rows to take from {source.name}; give at least one")
    if len(np.unique(index)) != len(index):
        raise InputError(f"a row of {source.name} was asked for twice; ids would no longer be unique")
    return Subset(source, index)


def as_rows(rows: Rows, count: int) -> npt.NDArray[np.int64]:
    """Row numbers as an int64 array. Raises InputError: a number is not whole or lies outside `0 … count - 1`."""
    index = np.asarray(rows)
    if not index.size:
        return np.empty(0, dtype=np.int64)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        raise InputError(f"rows must be one list of whole numbers, got {index.dtype} of shape {index.shape}")
    if index.min() < 0 or index.max() >= count:
        raise InputError(f"rows must lie in 0 to {count - 1}, got {index.min()} to {index.max()}")
    return index.astype(np.int64)


def repeated(names: npt.NDArray[Any]) -> tuple[Any, int] | None:
    """The most frequent of several names, and how often it occurs; None where each occurs once."""
    values, uses = np.unique(names, return_counts=True)
    return (values[uses.argmax()], int(uses.max())) if len(values) < len(names) else None


def digest(parts: Iterable[bytes | memoryview]) -> str:
    """The sha256 (hex) of several byte strings, each preceded by its length so that none runs into the next."""
    state = hashlib.sha256()
    for part in parts:
        state.update(len(part).to_bytes(8, "little") if isinstance(part, bytes) else part.nbytes.to_bytes(8, "little"))
        state.update(part)
    return state.hexdigest()
