"""Made-up vectors of the same items in two spaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from samespace.space import Space
from samespace.vectors import VectorSet

Made = tuple[VectorSet, VectorSet]


def space(name: str, dim: int) -> Space:
    return Space(weights=name * 8, preprocessing="resize 32", dim=dim, normalized=True, name=name)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def make(classes: int = 30, each: int = 8, old_dim: int = 12, new_dim: int = 12, seed: int = 0) -> Made:
    """Class centres with noise; the new vectors are a rotation of the old ones with less noise."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    centres = generator.standard_normal((classes, old_dim))[labels]
    shared = generator.standard_normal(centres.shape)
    turn = np.linalg.qr(generator.standard_normal((max(old_dim, new_dim), max(old_dim, new_dim))))[0]
    old = unit(centres + 0.9 * shared)
    new = unit((centres + 0.3 * shared) @ turn[:old_dim, :new_dim])
    ids = [f"item-{row}" for row in range(len(labels))]
    made = [
        VectorSet.from_arrays(values, labels=labels, ids=ids, space=space(name, values.shape[1]), name=name)
        for name, values in (("old", old), ("new", new))
    ]
    return made[0], made[1]


@pytest.fixture(scope="session")
def pair() -> Made:
    return make()


@pytest.fixture
def making() -> Callable[..., Made]:
    return make
