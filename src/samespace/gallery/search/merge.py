"""Merging the nearest items of several spaces into one list, on a scale that they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samespace.gallery.index.found import Float64s, Found
from samespace.metrics.calibration import Calibration, Scale

Merge = Literal["calibrated", "raw"]


@dataclass(frozen=True)
class Hit:
    """An item that a search found.

    Attributes:
        item: its id.
        score: on the scale of the search, which all spaces share; None where the pair of spaces has no calibration.
        raw: cosine, inner product or minus squared distance of the query and the vector it met.
        space: id of the space that served the item.
    """

    item: str
    score: float | None
    raw: float
    space: str


@dataclass(frozen=True, eq=False)
class Order:
    """What items of several spaces are sorted by.

    Attributes:
        calibrations: of queries on the items of each generation; None where there is none.
        scale: of the scores.
        by: calibrated scores or raw ones.
        min_score: lowest score on the scale.
        min_level: lowest −log10 of the pair's false-match rate.
    """

    calibrations: Mapping[int, Calibration | None]
    scale: Scale
    by: Merge
    min_score: float | None = None
    min_level: float | None = None

    def score(self, generation: int, raw: Float64s) -> Float64s:
        """Scores on the scale, NaN where the pair has no calibration."""
        calibration = self.calibrations[generation]
        return np.full(len(raw), np.nan) if calibration is None else calibration.apply(raw, self.scale)

    def key(self, generation: int, raw: Float64s) -> Float64s:
        """What items are sorted by, NaN where a threshold leaves one out; thresholds need a calibration.

        All maps of a calibration are increasing, so the `k` best by this key are among the `k` best of their spaces.
        """
        score = self.score(generation, raw)
        key = raw if self.by == "raw" else score
        calibration = self.calibrations[generation]
        if calibration is not None and self.min_score is not None:
            key = np.where(score < self.min_score, np.nan, key)
        if calibration is not None and self.min_level is not None:
            key = np.where(calibration.level(raw) < self.min_level, np.nan, key)
        return key


def merged(
    found: Found, k: int, order: Order, *, queries: int, ids: Mapping[int, str], spaces: Mapping[int, str]
) -> tuple[tuple[Hit, ...], ...]:
    """The `k` best of each query, best first, ties by id.

    Args:
        found: all that may be among them; an item comes once for a query.
        k: at least 1.
        order: of the items.
        queries: how many there are.
        ids: of items by number.
        spaces: ids of spaces by generation.
    """
    score = np.empty(len(found.raw))
    for generation in spaces:
        mine = found.generation == generation
        score[mine] = order.score(generation, found.raw[mine])
    columns = (column.tolist() for column in (found.query, -found.key, found.items, score, found.raw, found.generation))
    rows = sorted((query, key, ids[item], *rest) for query, key, item, *rest in zip(*columns, strict=True))
    lists: list[list[Hit]] = [[] for _ in range(queries)]
    for query, _, name, value, raw, generation in rows:
        if len(lists[query]) < k:
            lists[query].append(Hit(name, None if math.isnan(value) else value, raw, spaces[generation]))
    return tuple(map(tuple, lists))
