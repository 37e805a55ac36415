"""`benchmarks/fusion_limit.py`: metrics are those of the library, chosen shares see no class that they judge."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from samespace.metrics import mean_average_precision, rank_k

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from fusion_limit import Search, chosen, unit


@pytest.fixture
def labels() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(1)
    return draw.integers(0, 40, 700), draw.integers(0, 30, 200)  # some have no mate, others few or many


def test_rank_and_precision_are_those_of_the_library(labels):
    draw = np.random.default_rng(2)
    queries, gallery = unit(draw.standard_normal((700, 8))), unit(draw.standard_normal((200, 8)))
    found = Search(*labels)(queries, gallery).mean(axis=0)
    scores = queries @ gallery.T
    assert found == pytest.approx([rank_k(scores, *labels), mean_average_precision(scores, *labels)])


def test_each_half_is_searched_with_the_share_that_the_other_half_chooses(labels):
    search = Search(*labels)
    half = np.random.default_rng(0).permutation(len(search.classes))[: len(search.classes) // 2]
    inside = np.isin(search.codes, half)[:, None] * np.ones(2)
    # the classes of one half are found by the old query alone, the others by the new one alone
    shares = {0.0: inside, 0.5: 0.5 * np.ones_like(inside), 1.0: 1 - inside}
    assert chosen(search, shares).max() == 0.0
