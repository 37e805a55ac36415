from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.metrics import cmc, matches, rank_k, tpir_at_fpir

BIG = 2**24


@st.composite
def searches(draw):
    """Scores with many ties, some negative; some queries have no mate."""
    queries, gallery = draw(st.integers(2, 7)), draw(st.integers(2, 9))
    values = draw(st.lists(st.integers(-3, 3), min_size=queries * gallery, max_size=queries * gallery))
    query_labels = draw(st.lists(st.integers(BIG, BIG + 4), min_size=queries, max_size=queries))
    gallery_labels = draw(st.lists(st.integers(BIG, BIG + 3), min_size=gallery, max_size=gallery))
    gallery_labels[0] = query_labels[0]
    scores = np.array(values, float).reshape(queries, gallery) / 3
    return scores, np.array(query_labels), np.array(gallery_labels)


def slow_ranks(scores, query_labels, gallery_labels):
    """Rank of the best mate, ties against it; None without one."""
    ranks = []
    for row, label in zip(scores, query_labels, strict=True):
        mates = [s for s, other in zip(row, gallery_labels, strict=True) if other == label]
        others = [s for s, other in zip(row, gallery_labels, strict=True) if other != label]
        ranks.append(1 + sum(s >= max(mates) for s in others) if mates else None)
    return ranks


def slow_tpir(scores, query_labels, gallery_labels, fpir, protocol):
    alarms, mated = [], []
    ranks = slow_ranks(scores, query_labels, gallery_labels)
    for row, label, rank in zip(scores, query_labels, ranks, strict=True):
        others = [s for s, other in zip(row, gallery_labels, strict=True) if other != label]
        if protocol == "merged" or rank is None:
            alarms.append(max(others, default=-math.inf))
        if rank is not None:
            mated.append((rank, max(s for s, other in zip(row, gallery_labels, strict=True) if other == label)))
    for threshold in [-math.inf, *sorted(alarms)]:
        if sum(a > threshold for a in alarms) <= fpir * len(alarms):
            return sum(rank == 1 and best > threshold for rank, best in mated) / len(mated)
    raise AssertionError("the largest score always qualifies")


@given(searches(), st.integers(1, 5))
def test_rank_k_is_its_definition(search, k):
    ranks = [rank for rank in slow_ranks(*search) if rank is not None]
    assert rank_k(*search, k) == pytest.approx(np.mean([rank <= k for rank in ranks]))


@given(searches(), st.sampled_from([0.0, 0.25, 0.5]))
def test_tpir_is_its_definition_under_both_protocols(search, fpir):
    assert tpir_at_fpir(*search, fpir, protocol="merged") == pytest.approx(slow_tpir(*search, fpir, "merged"))
    if None in slow_ranks(*search):
        assert tpir_at_fpir(*search, fpir) == pytest.approx(slow_tpir(*search, fpir, "open-set"))


@given(searches(), st.randoms(use_true_random=False))
def test_the_order_of_queries_and_gallery_does_not_matter(search, random):
    scores, query_labels, gallery_labels = search
    rows, columns = list(range(len(query_labels))), list(range(len(gallery_labels)))
    random.shuffle(rows)
    random.shuffle(columns)
    shuffled = scores[rows][:, columns], query_labels[rows], gallery_labels[columns]
    assert rank_k(*shuffled, 1) == rank_k(*search, 1)
    assert tpir_at_fpir(*shuffled, 0.25, protocol="merged") == tpir_at_fpir(*search, 0.25, protocol="merged")


@given(searches())
def test_cmc_is_rank_k_at_every_depth(search):
    np.testing.assert_allclose(cmc(*search, 4), [rank_k(*search, k) for k in (1, 2, 3, 4)])


def test_a_collapsed_embedding_finds_nothing():
    scores = np.full((4, 6), 0.7)
    labels = [0, 1, 2, 0], [0, 0, 1, 1, 2, 2]
    assert rank_k(scores, *labels) == 0.0
    assert tpir_at_fpir(scores, *labels, 0.5, protocol="merged") == 0.0


def test_merged_and_open_set_protocols_differ_where_a_mated_query_meets_a_close_stranger():
    scores = np.array([[0.6, 0.8, 0.1], [0.2, 0.7, 0.1], [0.3, 0.4, 0.5]])
    queries, gallery = ["a", "b", "stranger"], ["a", "b", "c"]
    assert tpir_at_fpir(scores, queries, gallery, 0.0, protocol="open-set") == 0.5
    assert tpir_at_fpir(scores, queries, gallery, 0.0, protocol="merged") == 0.0


def test_queries_without_a_mate_are_left_out_of_the_share():
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]])
    assert rank_k(scores, ["a", "z", "b"], ["a", "b"]) == 0.5


def test_one_class_alone_is_always_found_first():
    assert rank_k(np.array([[-0.5, -0.9]]), [3], [3, 3]) == 1.0
    assert tpir_at_fpir(np.array([[-0.5, -0.9]]), [3], [3, 3], 0.0, protocol="merged") == 1.0


def test_ids_above_the_precision_of_float32_stay_apart():
    assert np.float32(BIG) == np.float32(BIG + 1)
    assert rank_k(np.array([[0.2, 0.9]]), [BIG], np.array([BIG, BIG + 1])) == 0.0


def test_labels_may_be_text_numbers_or_tensors():
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.2]])
    assert rank_k(scores, ["x", "y"], ["x", "y"]) == 0.5
    assert rank_k(scores, torch.tensor([7, 9]), torch.tensor([7, 9])) == 0.5
    assert rank_k(scores, ["7", "9"], [7, 9]) == 0.5


def test_excluded_pairs_do_not_exist():
    scores = np.array([[1.0, 0.2, 0.5], [0.3, 1.0, 0.1]])
    own = np.array([[True, False, False], [False, True, False]])
    found = matches(scores, ["a", "b"], ["a", "b", "a"], exclude=own)
    assert found.rank.tolist() == [1, 0]
    assert found.mate[0] == 0.5
    assert found.other.tolist() == [0.2, 0.3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": np.zeros(3)}, "dimension"),
        ({"scores": np.full((2, 2), np.nan)}, "NaN"),
        ({"query_labels": ["a"]}, "query labels should be 2"),
        ({"gallery_labels": [0.5, 1.5]}, "integers or strings"),
        ({"query_labels": ["y", "z"]}, "no query has a mate"),
        ({"exclude": np.zeros((2, 2))}, "bool mask"),
        ({"k": 0}, "at least 1"),
    ],
)
def test_bad_searches_are_refused(changes, message):
    given_ = {"scores": np.eye(2), "query_labels": ["a", "b"], "gallery_labels": ["a", "b"], **changes}
    with pytest.raises(InputError, match=message):
        rank_k(**given_)


def test_open_set_tpir_needs_queries_without_a_mate():
    with pytest.raises(InputError, match="without a mate"):
        tpir_at_fpir(np.eye(2), ["a", "b"], ["a", "b"], 0.1)
    with pytest.raises(InputError, match="did you mean 'merged'"):
        tpir_at_fpir(np.eye(2), ["a", "b"], ["a", "b"], 0.1, protocol="merge")  # type: ignore[arg-type]
