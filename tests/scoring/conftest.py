"""Small checks with ties, scored by tiles however small they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from samespace.evaluate.inputs import AlignedSets, align
from samespace.scoring import scores as scores_module
from samespace.scoring.tiles import pilot, scan
from samespace.vectors import VectorSet


@pytest.fixture(scope="session")
def made() -> Callable[..., AlignedSets]:
    return make_check


def make_check(
    seed: int, *, kind: str, classes: int, score: str, stored_as: str = "float32", dim: int = 6
) -> AlignedSets:
    """A small check whose vectors have few values, come in copies or lie 1e-8 apart: scores tie, or nearly."""
    generator = np.random.default_rng(seed)
    queries, gallery = (int(size) for size in generator.integers(2, 40, size=2))
    few = generator.normal(size=(3, dim))

    def draw(count: int) -> np.ndarray:
        if kind == "grid":
            values = generator.integers(-1, 2, (count, dim)).astype(np.float64)
        else:
            values = few[generator.integers(0, 3, count)] if kind != "spread" else generator.normal(size=(count, dim))
        if kind == "near":
            values = values + 1e-8 * generator.normal(size=values.shape)
        values[(values == 0).all(axis=1), 0] = 1.0
        return values * (1.0 if score == "cosine" else generator.uniform(0.1, 30))

    labels = generator.integers(0, classes, queries), generator.integers(0, classes, gallery)
    labels[0][0] = labels[1][0]
    own = int(generator.integers(0, min(queries, gallery)))
    labels[0][1:own], ids = labels[1][1:own], [[f"q{i}" for i in range(queries)], [f"g{i}" for i in range(gallery)]]
    ids[0][1:own] = ids[1][1:own]
    sets = [
        VectorSet.from_arrays(draw(len(mine)), labels=mine, ids=names)
        for mine, names in ((labels[0], ids[0]), (labels[1], ids[1]), (labels[0], ids[0]))
    ]
    return align(queries=sets[0], gallery=sets[1], baseline=sets[2], score=score, stored_as=stored_as)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(scan, "_TILE_QUERIES", 5)
    monkeypatch.setattr(scan, "_TILE_ITEMS", 7)
    monkeypatch.setattr(pilot, "_ITEMS", 9)


@pytest.fixture
def by_tiles(small_tiles, monkeypatch):
    """However small, a search is scored by tiles."""
    monkeypatch.setattr(scores_module, "_LARGE", 0)
    monkeypatch.setattr(scores_module, "_FEWEST_OTHERS", 0)
    monkeypatch.setattr(pilot, "_FEW", 0.2)
