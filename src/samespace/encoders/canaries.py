"""Canaries: vectors of a few fixed items, kept in a file, by which a changed service is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.encoders.encoder import Modality
from samespace.errors import InputError, SpaceError
from samespace.files import read_npz, replacing

Vectors = npt.NDArray[np.float32]
TOLERANCE = 1e-3
"""How far the cosine of a canary's vector with the one kept may lie below 1: services round, and batch."""

_TEXTS = (
    "A red bicycle leans against a brick wall.",
    "Invoice 2041 is due in thirty days.",
    "The algorithm converges when the gradient vanishes.",
    "Zwei Katzen schlafen auf dem Sofa.",
    "return policy",
)
_SIDE = 64


def default_canaries(modality: Modality) -> list[Any]:
    """Fixed items of a modality: five texts, or three images (3, 64, 64) uint8.

    Raises:
        InputError: of rows nothing is known; the user gives some.
    """
    if modality == "text":
        return list(_TEXTS)
    if modality == "image":
        down, right = np.mgrid[:_SIDE, :_SIDE] / (_SIDE - 1)
        waves = [np.sin(2 * np.pi * (k + 1) * (right if k % 2 else down) + k) / 2 + 0.5 for k in range(3)]
        planes = [down, right, 1 - down, *waves, down * right, (1 - right) * down, waves[0] * waves[1]]
        return list((np.stack(planes).reshape(3, 3, _SIDE, _SIDE) * 255).round().astype(np.uint8))
    raise InputError("rows have no canaries of their own; give some items as canary_items")


def items_digest(items: Sequence[Any]) -> str:
    """The sha256 (hex) of what the items are: their text, their pixels or, of anything else, its `repr`."""
    state = hashlib.sha256()
    for item in items:
        array = np.asarray(item) if hasattr(item, "__array__") else None
        part = repr(item).encode() if array is None else repr((array.shape, str(array.dtype))).encode()
        state.update(part if array is None else part + np.ascontiguousarray(array).tobytes())
        state.update(b"\n")
    return state.hexdigest()


def check_canaries(file: Path, items: Sequence[Any], encode: Callable[[Sequence[Any]], Vectors], name: str) -> Vectors:
    """The vectors of `items` now, the same as those in `file`; where there is no file it is written.

    Raises:
        SpaceError: a vector has turned away from the one kept, or has another dimension: the model has changed.
        InputError: the file is damaged or holds the vectors of other items.
    """
    now, digest = encode(items), items_digest(items)
    if not file.exists():
        with replacing(file) as temporary, temporary.open("wb") as opened:
            np.savez(opened, vectors=now, items=np.array(digest))
        return now
    held, _ = read_npz(file, ("vectors", "items"), "the canaries of an encoder")
    if set(held) != {"vectors", "items"} or np.asarray(held["items"]).ndim:
        raise InputError(f"{file} holds no canaries; choose another file, or remove it to record them now")
    if str(held["items"]) != digest:
        raise InputError(f"{file} holds canaries of other items; choose another file, or remove it to record these")
    kept = np.asarray(held["vectors"], dtype=np.float32)
    if kept.shape != now.shape:
        raise SpaceError(f"{name} gives {now.shape[1]} dimensions, {kept.shape[1]} when its canaries were recorded")
    cosines = (kept * now).sum(1) / np.maximum(np.linalg.norm(kept, axis=1) * np.linalg.norm(now, axis=1), 1e-30)
    if cosines.min() < 1 - TOLERANCE:
        worst = int(cosines.argmin())
        raise SpaceError(
            f"{name} is no longer the model whose canaries {file} holds: item {worst} now has a cosine of "
            f"{cosines[worst]:.4f} with its vector of then; give the new model another revision and another file"
        )
    return now
