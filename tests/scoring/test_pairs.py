from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.scoring import blocks as tables
from samespace.scoring import pairs as module
from samespace.scoring.blocks import block_columns, table_blocks
from samespace.scoring.pairs import compact, table_scores

GRID = 2.0**-20


def unit(generator: np.random.Generator, count: int, dim: int = 16) -> np.ndarray:
    values = generator.normal(size=(count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.integers(0, 200))
def test_every_pair_gets_its_cosine_on_the_grid(seed, rows, columns, count):
    generator = np.random.default_rng(seed)
    left, right = unit(generator, rows), unit(generator, columns)
    first, second = generator.integers(rows, size=count), generator.integers(columns, size=count)
    scores = table_scores(left, right, first, second)
    exact = (left[first].astype(np.float64) * right[second]).sum(axis=1)
    np.testing.assert_allclose(scores, exact, atol=GRID)
    assert (scores / GRID == np.round(scores / GRID)).all()


@pytest.mark.parametrize("memory", [1, 5_000, 40_000, 1 << 30])
def test_memory_changes_no_score(monkeypatch, memory):
    monkeypatch.setattr(tables, "_tile_columns", lambda rows: 16)
    monkeypatch.setattr(tables, "_TILE_ROWS", 24)
    monkeypatch.setattr(module, "_CHUNK", 100)
    generator = np.random.default_rng(1)
    left, right = unit(generator, 70), unit(generator, 150)
    first, second = generator.integers(70, size=2_000), generator.integers(150, size=2_000)
    expected = table_scores(left, right, first, second)
    np.testing.assert_array_equal(table_scores(left, right, first, second, memory=memory), expected)
    (_, table) = next(table_blocks(left, right))
    blocks = list(table_blocks(left, right, memory=memory))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks], axis=1), table)
    assert all(block.shape[1] <= block_columns(70, memory) for _, block in blocks)
    assert (len(blocks) > 1) == (memory < 150 * 70 * 4)


def test_sparse_lists_and_dense_lists_agree(monkeypatch):
    generator = np.random.default_rng(2)
    left, right = unit(generator, 300), unit(generator, 300)
    first, second = generator.permutation(300), generator.permutation(300)
    sparse = table_scores(left, right, first, second)
    monkeypatch.setattr(module, "_DENSE", 0.0)
    np.testing.assert_allclose(table_scores(left, right, first, second), sparse, atol=GRID)


def test_equal_vectors_tie_wherever_they_stand():
    generator = np.random.default_rng(3)
    kinds = unit(generator, 5, 128)
    left, right = generator.integers(5, size=1_100), generator.integers(5, size=900)
    _, table = next(table_blocks(kinds[left], kinds[right]))
    for one in range(5):
        for other in range(5):
            assert len(np.unique(table[left == one][:, right == other])) == 1
    assert (table[left == 0][:, right == 0] == 1.0).all()


def test_a_template_without_direction_scores_zero():
    left = np.zeros((1, 4), dtype=np.float32)
    assert table_scores(left, np.eye(4, dtype=np.float32), np.array([0]), np.array([2])).tolist() == [0.0]


def test_compact_numbers_only_what_occurs():
    rows, place = compact(np.array([7, 3, 7, 0]), 8)
    assert rows.tolist() == [0, 3, 7]
    assert rows[place].tolist() == [7, 3, 7, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"first": np.array([0, 3])}, "rows 0 to 2"),
        ({"second": np.array([-1, 0])}, "rows 0 to 2"),
        ({"second": np.array([0])}, "one each per pair"),
        ({"memory": 0}, "at least 1 byte"),
        ({"left": np.eye(3)}, "float32"),
        ({"left": np.eye(3, 4, dtype=np.float32)}, "agree in dimension"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    eye = np.eye(3, dtype=np.float32)
    given = {"left": eye, "right": eye, "first": np.array([0, 1]), "second": np.array([1, 2])} | changes
    with pytest.raises(InputError, match=message):
        table_scores(**given)
