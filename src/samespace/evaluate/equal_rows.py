"""Items without ids that are in queries and gallery: told by the very same vector and label."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Ints
from samespace.scoring.sides import SideVectors

_ROWS = 4096
_MIX = np.uint64(0x9E3779B97F4A7C15)
Marks = npt.NDArray[np.uint64]


def equal_places(queries: SideVectors, gallery: SideVectors, query_codes: Ints, codes: Ints) -> tuple[Ints, int]:
    """Where each query's own item stands in the gallery, and how many queries equal items of other labels alone.

    A query and a gallery item of one space with the very same vector and label count as one item. Of several equal
    items the first query gets the first, the second the second, and so on; more queries than items get the last.

    Args:
        queries: (Q, D) queries.
        gallery: (G, D) gallery.
        query_codes: (Q,) label of each query.
        codes: (G,) label of each gallery item.

    Returns:
        (Q,) place in the gallery, −1 where there is none; and the count.
    """
    asked, held = _marks(queries), _marks(gallery)
    places = np.full(len(asked), -1, dtype=np.int64)
    keys, stored = _labelled(asked, query_codes), _labelled(held, codes)
    order = np.argsort(stored, kind="stable")
    first, last = (np.searchsorted(stored, keys, side=side, sorter=order) for side in ("left", "right"))
    found = np.flatnonzero(last > first)
    if found.size:
        turn = np.minimum(_occurrence(keys[found]), last[found] - first[found] - 1)
        places[found] = order[first[found] + turn]
    return places, int((np.isin(asked, held) & (places < 0)).sum())


def _marks(vectors: SideVectors) -> Marks:
    """A 64-bit hash of each vector as it was given, (N,); equal for equal vectors."""
    factors = np.random.default_rng(0).integers(0, 2**64, vectors.source.dim, dtype=np.uint64) | np.uint64(1)
    marks = np.empty(len(vectors), dtype=np.uint64)
    for start in range(0, len(vectors), _ROWS):
        # adding zero makes −0 and 0 the same
        values = vectors.source.take(vectors.order[start : start + _ROWS]) + np.float32(0)
        bits = values.view(np.uint32).astype(np.uint64) * _MIX
        bits ^= bits >> np.uint64(29)
        marks[start : start + len(values)] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return marks


def _labelled(marks: Marks, codes: Ints) -> Marks:
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * _MIX
    return np.asarray(marks ^ mixed ^ (mixed >> np.uint64(31)), dtype=np.uint64)


def _occurrence(keys: Marks) -> Ints:
    """How many equal keys stand before each, (N,)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    before = np.arange(len(keys)) - np.repeat(begins, np.diff(np.r_[begins, len(keys)]))
    result = np.empty(len(keys), dtype=np.int64)
    result[order] = before
    return result
