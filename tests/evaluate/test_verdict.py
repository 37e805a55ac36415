"""The verdict by hand, at the edges of what it compares."""

from __future__ import annotations

import math

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import check
from samespace.evaluate.certificate import MetricResult
from samespace.evaluate.verdict import (
    TESTS,
    control_cautions,
    judge,
    overall,
    quota_of,
    require_memory,
    require_options,
    tail_size,
)
from samespace.scoring.metric_names import parse


def judged(gained: list[float], ahead: list[float] | None = None, **values: float) -> MetricResult:
    """A metric whose replicates of old are zero, so that those of cross and paragon are the differences."""
    measured = {"old": 0.0, "cross": float(np.mean(gained))} | values
    draws = {"old": np.zeros(len(gained)), "cross": np.array(gained)}
    if ahead is not None:
        measured.setdefault("paragon", float(np.mean(ahead)))
        draws["paragon"] = np.array(ahead)
    return judge("mAP", measured, draws, -1.0, 0.5)


@pytest.mark.parametrize(
    ("gained", "interval", "compatible"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], (0.2, 0.4), True),
        ([0.0, 0.0, 0.3, 0.4, 0.5], (0.0, 0.4), False),
        ([-0.2, -0.1, 0.3, 0.4, 0.5], (-0.1, 0.4), False),
        ([-0.5, -0.4, -0.3, -0.2, -0.1], (-0.4, -0.2), False),
        ([math.nan, 0.1, 0.2, 0.3, 0.4, 0.5], (0.2, 0.4), True),
    ],
)
def test_a_metric_is_compatible_where_the_whole_interval_lies_above_zero(gained, interval, compatible):
    result = judge(
        "mAP", {"old": 0.0, "cross": 0.3}, {"old": np.zeros(len(gained)), "cross": np.array(gained)}, 0.0, 0.5
    )
    assert result.difference == pytest.approx(interval)
    assert result.compatible is compatible


def test_each_test_that_was_run_has_its_interval_and_its_value():
    draws = {test: np.arange(5.0) + place for place, test in enumerate(TESTS)}
    result = judge("mAP", {"old": 2.0, "cross": 3.0, "new": 4.0, "paragon": 5.0}, draws, 0.25, 0.5)
    assert result.intervals == {test: (1.0 + place, 3.0 + place) for place, test in enumerate(TESTS)}
    assert (result.old, result.cross, result.new, result.paragon, result.control) == (2.0, 3.0, 4.0, 5.0, 0.25)
    assert result.absolute_gain == 1.0
    bare = judged([0.1, 0.2])
    assert (bare.new, bare.paragon, bare.paragon_lead, bare.update_gain) == (None, None, None, None)
    assert (bare.intervals["new"], bare.intervals["paragon"]) == (None, None)


@pytest.mark.parametrize(("lowest", "gain"), [(0.5, 0.2 / 0.9), (0.0, None), (-0.1, None)])
def test_an_update_gain_needs_a_paragon_clearly_ahead(lowest: float, gain: float | None):
    result = judged([0.1, 0.2, 0.3], [lowest, lowest, 1.0], paragon=0.9)
    assert result.paragon_lead[0] == pytest.approx(lowest)
    assert result.update_gain == (gain and pytest.approx(gain))
    assert (result.update_gain_interval is None) is (gain is None)


def test_a_cross_test_below_the_old_model_has_no_update_gain():
    result = judged([-0.3, -0.2, -0.1], [0.5, 0.6, 0.7])
    assert (result.criterion, result.update_gain, result.update_gain_interval) == (False, None, None)


def test_all_metrics_are_needed_and_two_identities():
    yes, no = judged([0.1, 0.2]), judged([-0.1, -0.2])
    assert overall({"a": yes, "b": yes}, 2) == (True, {"a": yes, "b": yes})
    assert overall({"a": yes, "b": no}, 2) == (False, {"a": yes, "b": no})
    alone, results = overall({"a": yes, "b": yes}, 1)
    assert not alone
    assert [result.compatible for result in results.values()] == [False, False]
    assert results["a"].difference == yes.difference
    assert yes.compatible


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_a_confidence_is_a_share_that_is_neither_nothing_nor_all(confidence: float):
    with pytest.raises(InputError, match="confidence lies between 0 and 1"):
        require_options(confidence)


def test_an_option_may_be_its_least_or_absent_and_no_less():
    require_options(0.95, examples=(0, 0), replicates=(1, 1), block_size=(None, 1))
    with pytest.raises(InputError, match="replicates should be at least 1, got 0"):
        require_options(0.95, examples=(0, 0), replicates=(0, 1))


@pytest.mark.parametrize(("control", "told"), [(0.5, False), (1.0, True), (1.5, True)])
def test_a_control_that_reaches_the_interval_of_the_old_model_is_told(control: float, told: bool):
    result = judge("mAP", {"old": 2.0, "cross": 3.0}, {"old": np.arange(5.0), "cross": np.arange(5.0)}, control, 0.5)
    notes = control_cautions({"mAP": result}, "queries")
    expected = f"mAP: randomly rotated new queries reach {control:.4f}, not clearly below the old model's 2.0000; "
    assert [note.startswith(expected) for note in notes] == [True] * told


def test_the_kept_tail_is_three_times_what_is_accepted_and_never_short():
    assert [tail_size(quota) for quota in (0, 1024, 1025, 10_000)] == [4096, 4096, 4099, 31_024]
    assert quota_of([], None) == 0  # type: ignore[arg-type]


def test_a_tail_beyond_the_memory_is_refused_with_the_figure_and_what_to_do():
    metrics = [parse("TAR@FAR=1e-4"), parse("TAR@FAR=1e-2"), parse("mAP")]
    require_memory([1000, 1000], metrics, 500, memory=24 * 1000)
    require_memory([4096], [parse("mAP")], 10**12)
    with pytest.raises(
        InputError, match=r"^TAR@FAR=1e-2 needs .* 10000000000 impostor pairs, 13\.4 GiB, .* 8\.0 GiB: ask"
    ):
        require_memory([3 * 10**8, 3 * 10**8], metrics, 10**10, memory=2**33)


@pytest.mark.parametrize(
    ("identities", "note"), [(2, "Only 2 identities have mates"), (19, "Only 19 identities have mates"), (20, None)]
)
def test_few_identities_with_mates_are_told(make, identities: int, note: str | None):
    few = make(identities=identities, queries=60, gallery=60, strangers=0)
    notes = check(**few.sets(), metrics=["mAP"], replicates=50, examples=0).notes
    assert [text for text in notes if "identities have mates" in text] == (
        [f"{note}: the intervals rest on few and may be too narrow."] if note else []
    )
