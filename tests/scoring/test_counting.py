from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.scoring import counting
from samespace.scoring.counting import count_others
from samespace.scoring.grid import exact_scores, on_grid
from samespace.scoring.units import unit_rows


def crowd(seed: int, spread: float, dim: int = 8, items: int = 6000) -> tuple[np.ndarray, ...]:
    """A gallery in which every listed item has near neighbours, closer together than float32 can tell."""
    generator = np.random.default_rng(seed)
    queries = unit_rows(generator.standard_normal((5, dim)))
    gallery = unit_rows(generator.standard_normal((items, dim)))
    query = np.repeat(np.arange(5), [0, 1, 3, 30, 2])
    item = generator.permutation(items)[: len(query)]
    for listed in item[:8]:
        near = generator.integers(0, items, 12)
        gallery[near] = unit_rows(gallery[listed] + spread * generator.standard_normal((12, dim)))
    return queries, gallery, query, item


def slowly(queries: np.ndarray, gallery: np.ndarray, query: np.ndarray, item: np.ndarray) -> np.ndarray:
    scores = on_grid(queries) @ on_grid(gallery).T
    counts = []
    for row, column in zip(query, item, strict=True):
        others = np.ones(len(gallery), dtype=bool)
        others[item[query == row]] = False
        counts.append(int((scores[row][others] >= scores[row, column]).sum()))
    return np.array(counts)


@settings(max_examples=20)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-8, 1e-7, 1e-6, 1e-4]), st.sampled_from([1, 100_000, 1 << 29])
)
def test_near_ties_are_counted_as_exactly_as_by_comparing_all(seed, spread, memory):
    queries, gallery, query, item = crowd(seed, spread, items=2500 if memory > 1 else 60)
    levels = exact_scores(queries, gallery, query, item)
    found = count_others(queries, gallery, query, item, levels, memory)
    assert found.tolist() == slowly(queries, gallery, query, item).tolist()


def test_scores_in_doubt_are_settled_one_by_one_where_they_are_few(monkeypatch):
    queries, gallery, query, item = crowd(0, 1e-7)
    levels = exact_scores(queries, gallery, query, item)
    looked_up = []

    def watched(left, right, first, second):
        looked_up.append(len(first))
        return exact_scores(left, right, first, second)

    monkeypatch.setattr(counting, "exact_scores", watched)
    found = count_others(queries, gallery, query, item, levels, 1 << 29)
    assert found.tolist() == slowly(queries, gallery, query, item).tolist()
    assert 0 < sum(looked_up) < 500


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_counts_do_not_depend_on_how_torch_may_shorten_products(precision):
    queries, gallery, query, item = crowd(1, 1e-7)
    levels = exact_scores(queries, gallery, query, item)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = count_others(queries, gallery, query, item, levels, 1 << 29)
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.tolist() == slowly(queries, gallery, query, item).tolist()


def test_equal_vectors_everywhere_are_all_counted():
    same = unit_rows(np.ones((3000, 7)))
    query, item = np.array([0, 0, 1]), np.array([5, 2999, 0])
    levels = exact_scores(same, same, query, item)
    assert count_others(same[:2], same, query, item, levels, 1 << 20).tolist() == [2998, 2998, 2999]


@given(st.integers(1, 5000), st.integers(1, 10**6), st.integers(1, 2048), st.integers(1, 1 << 32))
def test_the_work_fits_the_memory_above_the_least_it_takes(queries, items, dim, memory):
    tile, step = counting._cut(queries, items, dim, memory)
    assert 1 <= tile <= items
    assert 1 <= step <= queries
    held = 32 * dim * (tile + step) + 12 * tile * min(step, 256)
    assert held <= memory or tile == 1 or step <= 16
