"""What the metrics accept: tensors or arrays of scores, integer or text labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


def as_numpy(values: Any) -> npt.NDArray[Any]:
    """The values as a numpy array; a tensor comes from any device, and bfloat16 becomes float32."""
    if hasattr(values, "detach"):
        # a tensor, known by its method, so that metrics of arrays never import torch
        values = values.detach().cpu()
        return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)
    return np.asarray(values)


def as_scores(values: Any, what: str, ndim: int) -> Floats:
    """Finite floating-point scores of `ndim` dimensions.

    Raises:
        InputError: another shape, not numbers, NaN or infinity.
    """
    array = as_numpy(values)
    if array.ndim != ndim:
        raise InputError(f"{what} should have {ndim} dimension(s), got shape {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{what} should be numbers, got {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    elif array.dtype == np.float16:
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold NaN or infinity; a score is a finite number")
    return array


def as_labels(values: Any, what: str, count: int | None = None) -> npt.NDArray[Any]:
    """One integer or text label per item; never floats, in which large ids collide.

    Raises:
        InputError: another shape, count or kind.
    """
    array = as_numpy(values)
    if array.ndim != 1 or (count is not None and len(array) != count):
        expected = "one per item" if count is None else f"{count}, one per item"
        raise InputError(f"{what} should be {expected}, got shape {array.shape}")
    if array.dtype.kind not in "iubUS" and array.size:
        raise InputError(f"{what} should be integers or strings, got {array.dtype}")
    return array


def look_alikes(names: Iterable[Any]) -> list[tuple[str, str]]:
    """Pairs of different names that look like one: leading zeros, case, spaces around, or another Unicode form.

    Example:
        >>> look_alikes(["7", "007", "8", "Ann", "ann "])
        [('007', '7'), ('Ann', 'ann ')]
    """
    first: dict[str, str] = {}
    pairs = []
    for name in sorted({str(name) for name in names}):
        form = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        form = form.lstrip("0") or "0" if form.isdecimal() else form
        if first.setdefault(form, name) != name:
            pairs.append((first[form], name))
    return pairs


def encode(*labels: npt.NDArray[Any]) -> list[Ints]:
    """Number the labels of several sets jointly: equal labels get equal numbers 0, 1, … in sorted order.

    Where one set names its classes by text and another by integers, the integers are read as text.

    Example:
        >>> [codes.tolist() for codes in encode(np.array([7, 3]), np.array(["3", "9"]))]
        [[1, 0], [0, 2]]
    """
    _, codes = np.unique(_joined(labels), return_inverse=True)
    ends = np.cumsum([len(array) for array in labels])[:-1]
    return [part.astype(np.int64) for part in np.split(codes, ends)]


def names_of(*labels: npt.NDArray[Any]) -> list[str]:
    """What the numbers of `encode` stand for, in their order, as text."""
    return [str(name) for name in np.unique(_joined(labels))]


def _joined(labels: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    columns = [array.astype(np.int64) if array.dtype.kind == "b" else array for array in labels]
    if any(array.dtype.kind in "US" or array.dtype == np.uint64 for array in columns if array.size):
        columns = [array.astype(str) for array in columns]
    return np.concatenate(columns)
