"""Query fusion: the old model's query and the new model's, added, where both can search one gallery."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.space import Space

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


def fuse(old: Array, new: Array, alpha: float) -> Floats:
    """`normalize((1 − alpha) old + alpha new)` of unit queries; both are normalised first.

    Where the two cancel out, the old query stands.

    Args:
        old: (Q, D) queries by the old model.
        new: (Q, E) the same queries by the new model, E ≥ D; of wider ones the leading D dimensions are taken.
        alpha: share of the new query, from 0 to 1.

    Returns:
        (Q, D) float32 unit vectors.

    Raises:
        InputError: `alpha` out of range, shapes that do not fit, or a zero vector.

    Example:
        >>> fuse(np.array([[3.0, 0.0]]), np.array([[0.0, 2.0]]), 0.5).round(2).astype(float).round(2).tolist()
        [[0.71, 0.71]]
    """
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha, the share of the new query, lies between 0 and 1, got {alpha}")
    old, new = np.asarray(old), np.asarray(new)
    if old.ndim != 2 or new.ndim != 2 or len(old) != len(new) or new.shape[1] < old.shape[1]:
        raise InputError(
            f"fusion needs old queries (Q, D) and new ones (Q, D or more), got shapes {old.shape} and {new.shape}"
        )
    before, after = unit(old, "old queries"), unit(new[:, : old.shape[1]], "new queries")
    mixed = (1 - alpha) * before + alpha * after
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    return np.where(length > 1e-6, mixed / np.maximum(length, 1e-6), before).astype(np.float32)


def share_to_take(tried: Mapping[float, Sequence[tuple[float, float]]]) -> float:
    """The share of the new query to take: the best of those that are not possibly below the old query alone.

    A share counts where no metric's interval of the difference to share 0, the old query alone, begins below zero; of
    those that count the one with the best mean over the metrics is taken, of equal ones the lowest. Share 0 always
    counts.

    Args:
        tried: by share, for each metric its value and the lower end of that interval.

    Example:
        >>> share_to_take({0.0: [(0.5, 0.0)], 0.5: [(0.6, 0.02)], 1.0: [(0.7, -0.01)]})
        0.5
    """
    safe = [alpha for alpha, metrics in tried.items() if alpha == 0 or all(low >= 0 for _, low in metrics)]
    return max(safe, key=lambda alpha: (sum(value for value, _ in tried[alpha]) / len(tried[alpha]), -alpha))


def fused_space(old: Space, new: Space, alpha: float) -> Space:
    """The space of fused queries: an identity of its own, decided by both spaces and the share."""
    identity = json.dumps(["samespace.fusion/1", old.id, new.id, alpha])
    return Space(
        weights=hashlib.sha256(identity.encode()).hexdigest(),
        preprocessing=json.dumps([old.preprocessing, new.preprocessing]),
        dim=old.dim,
        normalized=True,
        name=f"{1 - alpha:g} {old.name or old.id} + {alpha:g} {new.name or new.id}",
    )


def unit(vectors: Array, what: str, first: int = 0) -> Floats:
    """The vectors at length one, float32.

    Args:
        vectors: (N, D).
        what: what to call them in the error.
        first: the number of their first row, for the error.

    Raises:
        InputError: a vector is zero.
    """
    values = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    if not lengths.all():
        row = first + int(np.argmin(lengths))
        raise InputError(f"{what}: the vector of row {row} is zero and has no direction (rows count from 0)")
    return np.asarray(values / lengths, dtype=np.float32)
