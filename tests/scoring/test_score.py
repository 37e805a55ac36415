import numpy as np
import pytest

from samespace.scoring.blocks import score_blocks
from samespace.scoring.score import score_table
from samespace.scoring.sides import SideVectors
from samespace.vectors import VectorSet


def slow(query, item, score):
    if score == "l2":
        return -float(((query - item) ** 2).sum())
    return float((query * item).sum())


@pytest.mark.parametrize("score", ["ip", "l2"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_each_score_is_that_of_the_definition(score, size):
    rng = np.random.default_rng(3)
    queries, gallery = size * rng.normal(size=(9, 12)), size * rng.normal(size=(40, 12)) * rng.uniform(0.1, 9, (40, 1))
    table = score_table(queries, gallery, score)
    expected = np.array([[slow(query, item, score) for item in gallery] for query in queries])
    assert np.abs(table - expected).max() <= 1e-8 * np.abs(expected).max()


@pytest.mark.parametrize("score", ["cosine", "ip", "l2"])
def test_equal_vectors_score_equally_in_every_block(score):
    rng = np.random.default_rng(5)
    queries, gallery = rng.normal(size=(70, 33)).astype(np.float32), rng.normal(size=(90, 33)).astype(np.float32)
    gallery *= rng.uniform(0.2, 30, (90, 1)).astype(np.float32)
    gallery[45:] = gallery[:45]
    sides = [SideVectors(VectorSet.from_arrays(one), np.arange(len(one)), score=score) for one in (queries, gallery)]
    whole = np.concatenate([block["x"] for _, block in score_blocks({"x": (sides[0], sides[1])})])
    parts = np.concatenate([block["x"] for _, block in score_blocks({"x": (sides[0], sides[1])}, block_size=7)])
    assert (whole == parts).all()
    assert (whole[:, :45] == whole[:, 45:]).all()


def test_a_vector_lies_at_no_distance_from_itself_and_a_zero_vector_has_a_score():
    rows = np.random.default_rng(1).normal(size=(20, 8)) * 37
    rows[3] = 0
    assert (np.diag(score_table(rows, rows, "l2")) == 0).all()
    assert (score_table(rows, rows, "ip")[3] == 0).all()
