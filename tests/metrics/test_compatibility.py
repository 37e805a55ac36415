from __future__ import annotations

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.metrics import absolute_gain, criterion, flips, strict_criterion, update_gain

VERIFICATION = {"old": 77.86, "paragon": 86.96}
SEARCH = {"old": 59.34, "paragon": 76.88}


@pytest.mark.parametrize(
    ("test", "cross", "gain", "absolute"),
    [
        (VERIFICATION, 80.25, 26.26, 2.39),
        (VERIFICATION, 80.59, 30.00, 2.73),
        (SEARCH, 67.23, 44.98, 7.89),
        (SEARCH, 70.70, 64.77, 11.36),
    ],
)
def test_gains_are_those_of_table_1_of_bct(test, cross, gain, absolute):
    assert criterion(cross, test["old"])
    assert round(100 * update_gain(cross, **test), 2) == pytest.approx(gain, abs=0.011)
    assert round(absolute_gain(cross, test["old"]), 2) == absolute


@pytest.mark.parametrize("cross", [0.0, 3.10, 77.26, 77.86])
def test_there_is_no_gain_where_the_criterion_fails(cross):
    assert not criterion(cross, 77.86)
    assert update_gain(cross, **VERIFICATION) is None


@pytest.mark.parametrize("paragon", [0.5, 0.4])
def test_there_is_no_gain_where_the_paragon_does_not_beat_the_old_model(paragon):
    assert update_gain(0.6, 0.5, paragon) is None


def test_strict_shares_are_those_of_equation_1_written_in_distances():
    generator = np.random.default_rng(0)
    cross, old = generator.integers(-5, 6, (2, 6, 9)) / 5
    mates = generator.random((6, 9)) < 0.3
    out = generator.random((6, 9)) < 0.1
    shares = strict_criterion(cross, old, mates, exclude=out)
    new_distance, old_distance = 1 - cross, 1 - old
    positive = [(i, j) for i in range(6) for j in range(9) if mates[i, j] and not out[i, j]]
    negative = [(i, j) for i in range(6) for j in range(9) if not mates[i, j] and not out[i, j]]
    assert shares.positive_share == pytest.approx(np.mean([new_distance[p] <= old_distance[p] for p in positive]))
    assert shares.negative_share == pytest.approx(np.mean([new_distance[p] >= old_distance[p] for p in negative]))
    assert shares.positive_improved == pytest.approx(np.mean([new_distance[p] < old_distance[p] for p in positive]))
    assert shares.negative_improved == pytest.approx(np.mean([new_distance[p] > old_distance[p] for p in negative]))


def test_the_old_model_satisfies_every_pair_and_improves_none():
    scores = np.random.default_rng(1).normal(size=(4, 5))
    shares = strict_criterion(scores, scores, np.eye(4, 5, dtype=bool))
    assert (shares.positive_share, shares.negative_share) == (1.0, 1.0)
    assert (shares.positive_improved, shares.negative_improved) == (0.0, 0.0)


def test_shares_without_pairs_are_absent():
    shares = strict_criterion(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2), dtype=bool))
    assert shares.positive_share == 1.0
    assert shares.negative_share is None
    with pytest.raises(InputError, match="one shape"):
        strict_criterion(np.ones((2, 2)), np.ones((2, 3)), np.ones((2, 2), dtype=bool))


def test_flips_by_hand():
    old = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    new = np.array([1, 1, 1, 0, 1, 1, 1, 0, 0, 0], dtype=bool)
    result = flips(old, new)
    assert result.negative == pytest.approx(0.1)
    assert result.positive == pytest.approx(0.3)
    assert result.relative_negative == pytest.approx(0.1 / (0.4 * 0.4))


def test_relative_flips_are_absent_where_nothing_can_flip():
    assert flips([True, False], [True, True]).relative_negative is None
    assert flips([False, False], [True, False]).relative_negative is None


def test_flips_refuse_what_is_not_outcomes_of_the_same_queries():
    with pytest.raises(InputError, match="same queries"):
        flips([True], [True, False])
    with pytest.raises(InputError, match="bool"):
        flips([1, 0], [0, 1])
