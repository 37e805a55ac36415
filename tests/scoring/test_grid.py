from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.scoring.grid import exact_scores, on_grid
from samespace.scoring.units import unit_rows


def units(seed: int, count: int, dim: int) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dim)))


@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_cosines_are_the_same_number_in_any_order_of_the_sums(seed, dim):
    left, right = units(seed, 5, dim), units(seed + 1, 7, dim)
    whole = on_grid(left) @ on_grid(right).T
    turn = np.random.default_rng(seed).permutation(dim)
    shuffled = on_grid(left[:, turn]) @ on_grid(right[:, turn]).T
    first, second = np.divmod(np.arange(35), 7)
    assert np.array_equal(whole, shuffled)
    assert np.array_equal(whole.ravel(), exact_scores(left, right, first, second))
    assert np.array_equal(whole.ravel(), exact_scores(left, right, first, second, memory=1))
    assert np.abs(whole - left.astype(np.float64) @ right.T.astype(np.float64)).max() < 2.0**-25


def test_exactness_holds_for_the_longest_sums():
    # all products positive and the sum near one, where float64 has the fewest digits to spare
    left = unit_rows(np.abs(np.random.default_rng(0).standard_normal((1, 4096))) + 1)
    grid = on_grid(left)[0]
    by_hand = sum(int(value * 2**26) ** 2 for value in grid)
    assert exact_scores(left, left, np.array([0]), np.array([0]))[0] * 2**52 == by_hand


def test_rows_are_scaled_to_length_one_in_the_order_asked_for():
    vectors = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]], dtype=np.float16)
    assert unit_rows(vectors, np.array([1, 0])).tolist() == [[0.0, 1.0], [np.float32(0.6), np.float32(0.8)]]
    assert unit_rows(vectors).dtype == np.float32


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_vector_without_direction_is_refused_by_name(bad):
    vectors = np.array([[1.0, 0.0], [bad, 0.0]])
    with pytest.raises(InputError, match="image 'b' is zero or not finite"):
        unit_rows(vectors, ids=np.array(["a", "b"]))


def test_vectors_that_are_not_of_unit_length_are_refused():
    with pytest.raises(InputError, match="length 2"):
        on_grid(np.array([[2.0, 0.0]]))
