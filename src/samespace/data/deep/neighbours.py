"""The nearest rows of a set to each of its own rows, a block of scores at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from samespace.progress import Advance, silent

Array = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

_BLOCK_SCORES = 1 << 25


class Nearest(NamedTuple):
    """The nearest rows of each row, best first: `row` (N, k) and `cosine` (N, k); −1 and −inf where there is none."""

    row: Ints
    cosine: Array


def nearest_rows(
    vectors: Array, k: int, *, leave_out: Ints | None = None, only: Ints | None = None, advance: Advance = silent
) -> Nearest:
    """The `k` rows of highest cosine to each row, itself left out.

    The products are float32; about 128 MB of scores are held at a time, whatever N is.

    Args:
        vectors: (N, D) float32 of unit length; a row of zeros is near nothing.
        k: how many, at least 1.
        leave_out: (N,) groups; rows of a row's own group are not among its nearest.
        only: (M,) rows to answer for, all by default; the results then have M rows.
        advance: told how many rows are done.
    """
    asked = np.arange(len(vectors)) if only is None else only
    shape = len(asked), k
    result = Nearest(np.full(shape, -1, dtype=np.int64), np.full(shape, -np.inf, dtype=np.float32))
    every, usable = torch.from_numpy(vectors), torch.from_numpy(np.any(vectors != 0, axis=1))
    groups = None if leave_out is None else torch.from_numpy(leave_out)
    step = max(1, _BLOCK_SCORES // max(1, len(vectors)))
    for start in range(0, len(asked), step):
        rows = torch.from_numpy(asked[start : start + step])
        scores = every[rows] @ every.T
        scores[:, ~usable] = -torch.inf
        scores[~usable[rows]] = -torch.inf
        if groups is None:
            scores[torch.arange(len(rows)), rows] = -torch.inf
        else:
            scores.masked_fill_(groups[rows][:, None] == groups[None], -torch.inf)
        best = scores.topk(min(k, len(vectors)), dim=1)
        found = best.values.isfinite()
        width = best.values.shape[1]
        result.row[start : start + step, :width] = torch.where(found, best.indices, -1).numpy()
        result.cosine[start : start + step, :width] = best.values.numpy()
        advance(len(rows))
    return result
