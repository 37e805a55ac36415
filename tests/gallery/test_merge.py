"""Merging: thresholds before the cut, ties by id."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samespace.gallery.index.base import Neighbours
from samespace.gallery.ledger.state import Ints
from samespace.gallery.search.merge import Merge, merged, ranked

from .made import made_calibration

COARSE = st.lists(st.integers(-4, 4), max_size=12)


def names(items: Ints) -> list[str]:
    """Ids whose order is not that of the numbers."""
    return [f"{(7 * number) % 31:02d}" for number in items.tolist()]


def found(scores: list[int], first: int) -> Neighbours:
    values = np.sort(np.array(scores, dtype=np.float64) / 4)[::-1]
    return Neighbours(np.arange(first, first + len(scores), dtype=np.int64), values)


@given(old=COARSE, new=COARSE, k=st.integers(1, 30), by=st.sampled_from(["calibrated", "raw"]))
def test_merged_lists_equal_a_plain_sort(old: list[int], new: list[int], k: int, by: Merge) -> None:
    shares = [
        ranked(place, found(scores, 15 * place), made_calibration(slope, 0.5), scale="logistic")
        for place, (scores, slope) in enumerate([(old, 2.0), (new, 4.0)])
    ]
    rows = [
        (place, name, raw, raw * slope + 0.5)
        for place, (scores, slope) in enumerate([(old, 2.0), (new, 4.0)])
        for name, raw in zip(names(found(scores, 15 * place).items), found(scores, 0).raw.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: (-row[2 if by == "raw" else 3], row[1]))
    best, ids = merged(shares, k, by=by, ids=names)
    assert list(zip(best.place.tolist(), ids, best.raw.tolist(), best.score.tolist(), strict=True)) == rows[:k]


def test_a_space_without_calibration_has_no_scores_and_passes_whole() -> None:
    share = ranked(3, found([1, 2], 0), None, scale="logistic", min_score=100.0)
    assert np.isnan(share.score).all()
    assert share.place.tolist() == [3, 3]


def test_thresholds_are_reached_by_equal_values() -> None:
    calibration = made_calibration(2.0, 0.5)
    assert len(ranked(0, found([0, 2, 4], 0), calibration, scale="logistic", min_score=1.5).raw) == 2
    level = float(calibration.level(0.5))
    assert len(ranked(0, found([0, 2, 4], 0), calibration, scale="logistic", min_level=level).raw) == 2
