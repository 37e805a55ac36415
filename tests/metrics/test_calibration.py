"""Calibrations: known parameters come back, order never changes, rates hold on fresh pairs, bad files are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.metrics import Calibration, calibrate

GENUINE, IMPOSTOR, WIDTH = 0.7, 0.1, 0.12


def draw(seed: int, genuine: int = 4000, impostor: int = 40_000) -> tuple[Any, Any]:
    """Two normal laws of one width, whose log-likelihood ratio is a known straight line."""
    rng = np.random.default_rng(seed)
    return rng.normal(GENUINE, WIDTH, genuine), rng.normal(IMPOSTOR, WIDTH, impostor)


@pytest.fixture(scope="module")
def learnt() -> Calibration:
    return calibrate(*draw(0))


def test_the_line_of_two_normal_laws_comes_back(learnt: Calibration) -> None:
    slope = (GENUINE - IMPOSTOR) / WIDTH**2
    intercept = -slope * (GENUINE + IMPOSTOR) / 2
    assert learnt.slope == pytest.approx(slope, rel=0.1)
    assert learnt.intercept == pytest.approx(intercept, rel=0.1)
    assert learnt.band.slope[0] < slope < learnt.band.slope[1]
    assert learnt.band.intercept[0] < intercept < learnt.band.intercept[1]


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    slope = (GENUINE - IMPOSTOR) / WIDTH**2
    found = [calibrate(*draw(seed, 500, 2000)).band.slope for seed in range(40)]
    assert sum(low < slope < high for low, high in found) >= 33


def test_the_numbers_of_each_kind_do_not_move_the_line(learnt: Calibration) -> None:
    genuine, impostor = draw(0)
    repeated = calibrate(genuine, np.repeat(impostor, 5))
    assert repeated.slope == pytest.approx(learnt.slope, rel=1e-2)
    assert repeated.intercept == pytest.approx(learnt.intercept, rel=1e-2)


def test_kinds_that_do_not_overlap_give_a_finite_slope() -> None:
    found = calibrate(np.linspace(0.8, 0.9, 50), np.linspace(0.0, 0.1, 50))
    assert 0 < found.slope < 1000
    assert found.log_odds(0.45) == pytest.approx(0.0, abs=0.05)


@pytest.mark.parametrize("scale", ["logistic", "fmr"])
def test_order_never_changes(learnt: Calibration, scale: Any) -> None:
    step = 2.0**-30
    around = np.concatenate([np.arange(-50, 50) * step + at for at in (-1, 0, 1, *learnt.scores[::7])])
    raw = np.unique(np.round(np.concatenate([around, np.linspace(-1, 1, 20_001)]) / step) * step)
    assert (np.diff(learnt.apply(raw, scale)) > 0).all()
    assert learnt.apply(raw.astype(np.float32).reshape(1, -1), scale).dtype == np.float64


@pytest.mark.parametrize("scale", ["logistic", "fmr"])
def test_a_threshold_accepts_the_same_on_either_side(learnt: Calibration, scale: Any) -> None:
    for value in (-3.0, -0.01, 0.0, 0.3, 1.0, 2.34, 3.0, 7.5, *learnt.levels[::9]):
        raw = learnt.raw_at(value, scale)
        assert learnt.apply(raw, scale) >= value > learnt.apply(np.nextafter(raw, -np.inf), scale)
        assert float(learnt.apply(raw, scale)) == pytest.approx(value, abs=1e-9)


def test_levels_are_the_false_match_rate_of_fresh_pairs(learnt: Calibration) -> None:
    fresh = draw(1, 10, 1_000_000)[1]
    for rate, tolerance in ((0.5, 0.03), (1e-1, 0.05), (1e-2, 0.12), (1e-3, 0.4)):
        assert np.mean(learnt.level(fresh) >= -np.log10(rate)) == pytest.approx(rate, rel=tolerance)


def test_beyond_the_last_knot_levels_go_on_in_a_line(learnt: Calibration) -> None:
    rise = (learnt.levels[-1] - learnt.levels[-2]) / (learnt.scores[-1] - learnt.scores[-2])
    assert learnt.level(learnt.scores[-1] + 0.1) == pytest.approx(learnt.levels[-1] + 0.1 * rise)
    fall = (learnt.levels[1] - learnt.levels[0]) / (learnt.scores[1] - learnt.scores[0])
    assert learnt.level(learnt.scores[0] - 0.1) == pytest.approx(learnt.levels[0] - 0.1 * fall)


def test_a_tail_reaches_rates_that_a_sample_cannot() -> None:
    genuine, impostor = draw(2, 500, 400_000)
    whole = calibrate(genuine, impostor)
    tailed = calibrate(genuine, impostor[::100], tail=np.sort(impostor)[-5000:], impostors=len(impostor))
    assert tailed.impostor == whole.impostor
    assert tailed.band.rate == whole.band.rate
    assert tailed.levels[-1] == whole.levels[-1]
    raw = np.linspace(-0.1, 0.7, 50)
    np.testing.assert_allclose(tailed.level(raw), whole.level(raw), atol=0.15)
    np.testing.assert_allclose(tailed.log_odds(raw), whole.log_odds(raw), rtol=0.1, atol=0.5)


def test_ties_leave_knots_that_increase() -> None:
    genuine, impostor = draw(3, 1000, 5000)
    found = calibrate(np.round(genuine, 1), np.round(impostor, 1))
    assert len(found.scores) < 12
    assert (np.diff(found.levels) > 0).all()


def test_what_cannot_be_calibrated_is_refused() -> None:
    genuine, impostor = draw(4, 100, 100)
    with pytest.raises(InputError, match="at least 10 genuine scores, got 9"):
        calibrate(genuine[:9], impostor)
    with pytest.raises(InputError, match="at least 10 impostor scores, got 0"):
        calibrate(genuine, [0.0] * 0)
    with pytest.raises(InputError, match="NaN"):
        calibrate(np.append(genuine, np.nan), impostor)
    with pytest.raises(InputError, match="do not lie above impostor"):
        calibrate(impostor, genuine)
    with pytest.raises(InputError, match="belong together"):
        calibrate(genuine, impostor, tail=impostor)
    with pytest.raises(InputError, match="counts all impostor pairs"):
        calibrate(genuine, impostor, tail=impostor, impostors=5)
    with pytest.raises(InputError, match="all equal"):
        calibrate(genuine, np.zeros(100))
    with pytest.raises(InputError, match="legal: logistic, fmr"):
        calibrate(genuine, impostor).apply(0.5, "logit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="finite"):
        calibrate(genuine, impostor).raw_at(float("nan"))


def test_a_calibration_survives_json(learnt: Calibration) -> None:
    assert Calibration.from_dict(json.loads(json.dumps(learnt.to_dict()))) == learnt


@pytest.mark.parametrize(
    "change",
    [
        {"slope": 0.0},
        {"slope": "1"},
        {"slope": float("nan")},
        {"intercept": None},
        {"scores": [0.0, 0.0]},
        {"scores": [0.0, 0.5, 1.0]},
        {"scores": 3},
        {"levels": [1.0, 0.5]},
        {"scores": [0.1], "levels": [0.1]},
        {"genuine": 0},
        {"impostor": 2.5},
        {"band": None},
        {"band": {"slope": [1.0], "intercept": [0.0, 1.0], "rate": 0.1}},
    ],
)
def test_a_malformed_calibration_is_refused(change: dict[str, Any]) -> None:
    good = {
        "slope": 2.0,
        "intercept": -1.0,
        "scores": [0.0, 1.0],
        "levels": [0.0, 2.0],
        "genuine": 10,
        "impostor": 20,
        "band": {"slope": [1.0, 3.0], "intercept": [-2.0, 0.0], "rate": 0.5},
    }
    Calibration.from_dict(good)
    with pytest.raises(InputError, match="here"):
        Calibration.from_dict(good | change, "here")
    for missing in good:
        with pytest.raises(InputError, match=missing):
            Calibration.from_dict({key: value for key, value in good.items() if key != missing})
