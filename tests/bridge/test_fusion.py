"""Query fusion: the sum, its space, and the choice of its share."""

from __future__ import annotations

import numpy as np
import pytest

from samespace.bridge import choose_alpha, fuse, fused_space
from samespace.errors import InputError
from samespace.space import Space


def space(name: str, dim: int) -> Space:
    return Space(weights=name * 8, preprocessing="resize 32", dim=dim, normalized=True, name=name)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_fusion_is_its_definition():
    generator = np.random.default_rng(0)
    old, new = generator.standard_normal((5, 3)), generator.standard_normal((5, 3))
    for alpha in (0.0, 0.3, 1.0):
        for row, found in enumerate(fuse(old, new, alpha)):
            a, b = old[row] / np.sqrt((old[row] ** 2).sum()), new[row] / np.sqrt((new[row] ** 2).sum())
            mixed = (1 - alpha) * a + alpha * b
            assert np.allclose(found, mixed / np.sqrt((mixed**2).sum()), atol=1e-6)


def test_of_wider_new_queries_the_leading_dimensions_are_taken():
    generator = np.random.default_rng(1)
    old, new = generator.standard_normal((5, 3)), generator.standard_normal((5, 8))
    assert np.array_equal(fuse(old, new, 0.4), fuse(old, new[:, :3], 0.4))


def test_where_both_cancel_out_the_old_query_stands():
    old = np.array([[0.6, 0.8]])
    assert np.allclose(fuse(old, -old, 0.5), old)


@pytest.mark.parametrize(
    ("old", "new", "alpha", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 3)), 1.1, "between 0 and 1"),
        (np.ones((2, 3)), np.ones((2, 3)), float("nan"), "between 0 and 1"),
        (np.ones((2, 3)), np.ones((2, 2)), 0.5, r"got shapes \(2, 3\) and \(2, 2\)"),
        (np.ones((2, 3)), np.ones((3, 3)), 0.5, "got shapes"),
        (np.zeros((2, 3)), np.ones((2, 3)), 0.5, "old queries: the vector of row 0 is zero"),
    ],
)
def test_what_cannot_be_fused(old, new, alpha, message):
    with pytest.raises(InputError, match=message):
        fuse(old, new, alpha)


def test_the_space_of_fused_queries_is_its_own():
    old, new = space("old", 4), space("new", 4)
    found = {fused_space(old, new, 0.5), fused_space(old, new, 0.6), fused_space(new, old, 0.5), old, new}
    assert len({one.id for one in found}) == 5
    assert fused_space(old, new, 0.5) == fused_space(old, new, 0.5)


def searches(noise_of_new: float):
    """Old and new queries with independent noise on a gallery by the old model."""
    generator = np.random.default_rng(2)
    labels = np.repeat(np.arange(60), 4)
    centres = generator.standard_normal((60, 16))[labels]
    old, new, gallery = (
        unit(centres + noise * generator.standard_normal(centres.shape)) for noise in (1.4, noise_of_new, 1.4)
    )
    return old, new, gallery, labels, labels


def test_two_views_of_like_strength_are_fused():
    choice = choose_alpha(*searches(1.4), replicates=300)
    assert 0.2 <= choice.alpha <= 0.8
    assert min(low for _, low, _ in choice.gains[choice.alpha].values()) > 0


def test_a_new_query_that_knows_nothing_is_left_out():
    choice = choose_alpha(*searches(30.0), replicates=300)
    assert choice.alpha == 0.0
    assert set(choice.gains[0.0].values()) == {(0.0, 0.0, 0.0)}


def test_the_status_quo_is_always_among_the_choices():
    assert 0.0 in choose_alpha(*searches(30.0), alphas=(1.0,), replicates=100).gains
