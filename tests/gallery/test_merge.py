"""Merging: thresholds before the cut, ties by id."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from samespace.gallery.index.found import Found, Neighbours
from samespace.gallery.ledger.state import Ints
from samespace.gallery.search.merge import Hit, Merge, Order, merged

from .made import made_calibration

COARSE = st.lists(st.integers(-4, 4), max_size=12)


def names(items: Ints) -> list[str]:
    """Ids whose order is not that of the numbers."""
    return [f"{(7 * number) % 31:02d}" for number in items.tolist()]


def found(scores: list[int], first: int) -> Neighbours:
    values = np.sort(np.array(scores, dtype=np.float64) / 4)[::-1]
    return Neighbours(np.arange(first, first + len(scores), dtype=np.int64), values)


def hits(lists: Sequence[Neighbours], k: int, order: Order) -> tuple[Hit, ...]:
    """The merged list of one query, of the lists of spaces 0, 1 and so on."""
    every = Found.listed({place: [one] for place, one in enumerate(lists)}, order.key)
    ids = dict(zip(every.items.tolist(), names(every.items), strict=True))
    spaces = {place: str(place) for place in range(len(lists))}
    (best,) = merged(every.take(every.best(k)), k, order, queries=1, ids=ids, spaces=spaces)
    return best


@given(old=COARSE, new=COARSE, k=st.integers(1, 30), by=st.sampled_from(["calibrated", "raw"]))
def test_merged_lists_equal_a_plain_sort(old: list[int], new: list[int], k: int, by: Merge) -> None:
    lists = [found(scores, 15 * place) for place, scores in enumerate([old, new])]
    order = Order({place: made_calibration(slope, 0.5) for place, slope in enumerate([2.0, 4.0])}, "logistic", by)
    rows = [
        (str(place), name, raw, raw * slope + 0.5)
        for place, (one, slope) in enumerate(zip(lists, [2.0, 4.0], strict=True))
        for name, raw in zip(names(one.items), one.raw.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: (-row[2 if by == "raw" else 3], row[1]))
    assert [(hit.space, hit.item, hit.raw, hit.score) for hit in hits(lists, k, order)] == rows[:k]


def test_a_space_without_calibration_has_no_scores_and_passes_whole() -> None:
    share = hits([found([1, 2], 0)], 5, Order({0: None}, "logistic", "raw", min_score=100.0))
    assert [hit.score for hit in share] == [None, None]
    assert [hit.space for hit in share] == ["0", "0"]


def test_thresholds_are_reached_by_equal_values() -> None:
    known = {0: made_calibration(2.0, 0.5)}
    assert len(hits([found([0, 2, 4], 0)], 5, Order(known, "logistic", "calibrated", min_score=1.5))) == 2
    level = float(known[0].level(0.5))
    assert len(hits([found([0, 2, 4], 0)], 5, Order(known, "logistic", "calibrated", min_level=level))) == 2
