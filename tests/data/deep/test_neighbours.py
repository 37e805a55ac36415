from __future__ import annotations

import numpy as np
import pytest

from samespace.data.deep import neighbours
from samespace.data.deep.neighbours import nearest_rows


def units(seed: int, count: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 70, 10_000])
@pytest.mark.parametrize("grouped", [False, True])
def test_the_nearest_are_those_of_the_whole_table_whatever_the_block(monkeypatch, block, grouped):
    monkeypatch.setattr(neighbours, "_BLOCK_SCORES", block)
    vectors = units(0, 30)
    groups = np.random.default_rng(1).integers(0, 4, 30) if grouped else np.arange(30)
    told: list[int] = []
    found = nearest_rows(vectors, 3, leave_out=groups if grouped else None, advance=told.append)
    table = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    table[groups[:, None] == groups[None]] = -np.inf
    assert found.row.tolist() == np.argsort(-table, axis=1)[:, :3].tolist()
    assert found.cosine == pytest.approx(-np.sort(-table, axis=1)[:, :3], abs=1e-5)
    assert sum(told) == 30


def test_what_is_not_there_is_minus_one_and_zeros_are_near_nothing():
    vectors = np.eye(3, dtype=np.float32)
    vectors[2] = 0
    found = nearest_rows(vectors, 2)
    assert found.row.tolist() == [[1, -1], [0, -1], [-1, -1]]
    assert nearest_rows(vectors[:1], 4).row.tolist() == [[-1] * 4]
