"""Closed-form maps recover what made the data, and are their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samespace.bridge.linear import LinearMap, affine, mean_shift, procrustes
from samespace.errors import InputError

Pair = tuple[np.ndarray, np.ndarray]


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def rotation(dim: int, generator: np.random.Generator) -> np.ndarray:
    return np.linalg.qr(generator.standard_normal((dim, dim)))[0]


def spread(seed: int, count: int = 200, dim: int = 6) -> tuple[np.random.Generator, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator, unit(generator.standard_normal((count, dim)) + generator.standard_normal(dim))


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_procrustes_recovers_a_rotation(seed, dim):
    generator, source = spread(seed, dim=dim)
    turn = rotation(dim, generator)
    weight, bias = procrustes(source, (source @ turn).astype(np.float32))
    assert np.allclose(weight, turn, atol=1e-4)
    assert np.allclose(bias, 0, atol=1e-4)


def test_procrustes_recovers_a_shift_as_well():
    generator, source = spread(0)
    turn, shift = rotation(6, generator), generator.standard_normal(6)
    weight, bias = procrustes(source, (source @ turn + shift).astype(np.float32))
    assert np.allclose(weight, turn, atol=1e-4)
    assert np.allclose(bias, shift, atol=1e-4)


@pytest.mark.parametrize(("into", "out"), [(6, 4), (4, 6)])
def test_procrustes_between_unlike_dimensions_has_orthonormal_rows_or_columns(into, out):
    generator, source = spread(1, dim=into)
    weight, _ = procrustes(source, unit(generator.standard_normal((200, out))))
    product = weight.T @ weight if into > out else weight @ weight.T
    assert np.allclose(product, np.eye(min(into, out)), atol=1e-8)


def test_no_rotation_is_nearer_than_that_of_procrustes():
    generator, source = spread(2)
    target = unit(source @ rotation(6, generator) + 0.3 * generator.standard_normal(source.shape))
    centred = source - source.mean(axis=0), target - target.mean(axis=0)

    def error(turn: np.ndarray) -> float:
        return float(np.linalg.norm(centred[0] @ turn - centred[1]))

    best = procrustes(source, target)[0]
    for _ in range(50):
        small = np.linalg.qr(np.eye(6) + 0.05 * generator.standard_normal((6, 6)))[0]
        nearby = best @ (small * np.sign(np.diag(small)))
        assert error(best) <= error(nearby) + 1e-9


def test_affine_without_a_pull_recovers_any_affine_map():
    generator, source = spread(3)
    true, shift = generator.standard_normal((6, 3)), generator.standard_normal(3)
    weight, bias = affine(source, (source @ true + shift).astype(np.float32), strength=0.0)
    assert np.allclose(weight, true, atol=1e-3)
    assert np.allclose(bias, shift, atol=1e-3)


def test_affine_with_a_strong_pull_is_procrustes():
    generator, source = spread(4)
    target = unit(generator.standard_normal((200, 5)))
    assert np.allclose(affine(source, target, strength=1e9)[0], procrustes(source, target)[0], atol=1e-6)


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
def test_affine_is_at_the_minimum_of_its_objective(seed, strength):
    generator, source = spread(seed, count=60, dim=4)
    target = unit(generator.standard_normal((60, 4)))
    weight, _ = affine(source, target, strength=strength)
    x, y = source - source.mean(axis=0, dtype=np.float64), target - target.mean(axis=0, dtype=np.float64)
    pull = strength * np.mean(np.linalg.eigvalsh(x.T @ x / 60))
    gradient = x.T @ (x @ weight - y) / 60 + pull * (weight - procrustes(source, target)[0])
    assert np.abs(gradient).max() < 1e-6


def test_mean_shift_moves_the_mean():
    _, source = spread(5)
    weight, bias = mean_shift(source, source + np.float32(0.25))
    assert np.array_equal(weight, np.eye(6))
    assert np.allclose(bias, 0.25, atol=1e-6)


def test_mean_shift_needs_one_dimension():
    with pytest.raises(InputError, match="needs spaces of one dimension, got 6 and 4"):
        mean_shift(spread(0)[1], spread(0, dim=4)[1])


def test_a_negative_strength_is_refused():
    with pytest.raises(InputError, match="at least 0"):
        affine(spread(0)[1], spread(1)[1], strength=-1)


def test_a_map_gives_unit_vectors():
    made = LinearMap.of(np.full((3, 2), 2.0), np.array([0.0, 1.0]))
    found = made(torch.eye(3))
    assert torch.allclose(found, torch.nn.functional.normalize(torch.tensor([[2.0, 3.0]]).repeat(3, 1)))
