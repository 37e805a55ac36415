"""Merging the nearest items of several spaces into one list, on a scale that they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from samespace.gallery.index.base import Float64s, Neighbours
from samespace.gallery.ledger.state import Ints
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
class Ranked:
    """What one space contributes to the list of one query; (n,) each.

    Attributes:
        place: of the space among those that met the query.
        items: item numbers.
        raw: as `Hit.raw`.
        score: calibrated, NaN where the pair has no calibration.
    """

    place: Ints
    items: Ints
    raw: Float64s
    score: Float64s


def ranked(
    place: int,
    neighbours: Neighbours,
    calibration: Calibration | None,
    *,
    scale: Scale,
    min_score: float | None = None,
    min_level: float | None = None,
) -> Ranked:
    """One space's part of a list, on the scale, without what a threshold leaves out.

    Both maps of a calibration are increasing, so a threshold cuts the end off a space's k best: leaving out before
    merging gives the k best of all that pass.

    Args:
        place: of the space.
        neighbours: its k best.
        calibration: of the pair; needed for thresholds.
        scale: of the scores.
        min_score: lowest score on the scale.
        min_level: lowest −log10 of the pair's false-match rate.
    """
    if calibration is None:
        score = np.full(len(neighbours.raw), np.nan)
        keep = np.ones(len(neighbours.raw), dtype=np.bool_)
    else:
        score = calibration.apply(neighbours.raw, scale)
        keep = np.ones(len(score), dtype=np.bool_) if min_score is None else score >= min_score
        if min_level is not None:
            keep &= calibration.level(neighbours.raw) >= min_level
    count = int(np.count_nonzero(keep))
    return Ranked(np.full(count, place, dtype=np.int64), neighbours.items[keep], neighbours.raw[keep], score[keep])


def merged(lists: Sequence[Ranked], k: int, *, by: Merge, ids: Callable[[Ints], list[str]]) -> tuple[Ranked, list[str]]:
    """The `k` best of all lists with their ids, best first, ties by id.

    Args:
        lists: of the spaces; their items are distinct.
        k: at least 1.
        by: calibrated scores, which must not be NaN, or raw ones.
        ids: ids of items by number.
    """
    place, items, raw, score = (
        np.concatenate([getattr(one, name) for one in lists]) for name in ("place", "items", "raw", "score")
    )
    key = raw if by == "raw" else score
    if len(key) > k:
        keep = key >= np.partition(key, len(key) - k)[len(key) - k]
        place, items, raw, score, key = place[keep], items[keep], raw[keep], score[keep], key[keep]
    names = ids(items)
    order = sorted(range(len(names)), key=lambda number: (-key[number], names[number]))[:k]
    return Ranked(place[order], items[order], raw[order], score[order]), [names[number] for number in order]
