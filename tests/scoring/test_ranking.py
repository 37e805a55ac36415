from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.errors import InputError
from samespace.metrics import cmc, mean_average_precision
from samespace.scoring.mates import Pairs
from samespace.scoring.ranking import Ranking, count_pairs, rank
from samespace.scoring.units import unit_rows
from samespace.scoring.weighted import weighted_mean


def world(seed: int, queries: int, gallery: int, *, tied: bool) -> tuple[np.ndarray, ...]:
    """Unit vectors with relevant and ignored masks; a tied world has only a few directions."""
    generator = np.random.default_rng(seed)
    if tied:
        directions = unit_rows(np.eye(3)[:, [0, 1, 2, 0]] + np.array([0.0, 0.0, 0.0, 1.0]))
        left, right = directions[generator.integers(0, 3, queries)], directions[generator.integers(0, 3, gallery)]
    else:
        left = unit_rows(generator.standard_normal((queries, 4)))
        right = unit_rows(generator.standard_normal((gallery, 4)))
    kind = generator.choice(3, size=(queries, gallery), p=[0.5, 0.3, 0.2])
    return left, right, kind == 1, kind == 2


def listed(mask: np.ndarray) -> Pairs:
    return Pairs(*(part.astype(np.int64) for part in np.nonzero(mask)))


def reference(scores: np.ndarray, relevant: np.ndarray, ignored: np.ndarray, depth: int) -> dict[str, float]:
    """One query by the definitions: the ranking written out, relevant items behind others of the same score."""
    kept = ~ignored
    scores, relevant = scores[kept], relevant[kept]
    count = int(relevant.sum())
    if count == 0:
        return dict.fromkeys(("rank", "precision", "trapezoid", "at", "share", "at_r", "r_share"), float("nan"))
    order = np.lexsort((relevant, -scores))
    hits = relevant[order]
    position = np.flatnonzero(hits) + 1
    grouped = [(relevant & (scores >= score)).sum() / (scores >= score).sum() for score in scores[relevant]]
    area, recall, precision, found = 0.0, 0.0, 1.0, 0
    for place, hit in enumerate(hits, start=1):
        found += int(hit)
        area += (found / count - recall) * (precision + found / place) / 2
        recall, precision = found / count, found / place
    cut = min(int(position.max()), depth)
    return {
        "rank": float(position[0]),
        "precision": float(np.mean(grouped)),
        "trapezoid": area,
        "at": sum((row + 1) / place for row, place in enumerate(position) if place <= depth) / min(count, depth),
        "at_r": sum((row + 1) / place for row, place in enumerate(position) if place <= count) / count,
        "r_share": float(hits[:count].mean()),
        "share": float((position <= cut).sum() / cut),
    }


def results(found: Ranking, depth: int) -> dict[str, np.ndarray]:
    return {
        "rank": np.where(found.rank() > 0, found.rank(), np.nan),
        "precision": found.average_precision(),
        "trapezoid": found.trapezoidal_precision(),
        "at": found.average_precision_at(depth),
        "share": found.precision_at(depth),
        "at_r": found.average_precision_at_r(),
        "r_share": found.r_precision(),
    }


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 14), st.integers(1, 6), st.booleans())
def test_every_measure_is_its_definition(seed, queries, gallery, depth, tied):
    left, right, relevant, ignored = world(seed, queries, gallery, tied=tied)
    found = results(rank(left, right, listed(relevant), listed(ignored)), depth)
    scores = left.astype(np.float64) @ right.T.astype(np.float64)
    # equal up to the grid on which scores are exact
    scores = np.round(scores * 2**22)
    for row in range(queries):
        wanted = reference(scores[row], relevant[row], ignored[row], depth)
        for name, value in wanted.items():
            assert found[name][row] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2_000, 5_000, 9_000, 20_000]))
def test_neither_memory_nor_the_order_of_the_gallery_changes_a_result(seed, memory):
    left, right, relevant, ignored = world(seed, 20, 60, tied=bool(seed % 2))
    whole = results(rank(left, right, listed(relevant), listed(ignored)), 5)
    turn = np.random.default_rng(seed).permutation(60)
    cut = rank(left, right[turn], listed(relevant[:, turn]), listed(ignored[:, turn]), memory=memory)
    for name, values in results(cut, 5).items():
        assert values == pytest.approx(whole[name], abs=1e-13, nan_ok=True), name


def test_one_query_with_many_relevant_items_is_counted_as_others_are():
    left, right, _, _ = world(3, 2, 200, tied=False)
    relevant = np.zeros((2, 200), dtype=bool)
    relevant[0, :90], relevant[1, :3] = True, True
    found = rank(left, right, listed(relevant))
    scores = left.astype(np.float64) @ right.T.astype(np.float64)
    for row in range(2):
        wanted = reference(scores[row], relevant[row], np.zeros(200, dtype=bool), 10)
        assert found.average_precision()[row] == pytest.approx(wanted["precision"], abs=1e-12)


def test_map_and_cmc_are_those_of_the_metrics():
    generator = np.random.default_rng(1)
    left, right = unit_rows(generator.standard_normal((30, 8))), unit_rows(generator.standard_normal((80, 8)))
    people, gallery = generator.integers(0, 12, 30), generator.integers(0, 10, 80)
    scores = left.astype(np.float64) @ right.T.astype(np.float64)
    found = rank(left, right, Pairs.of_equal(people, gallery))
    assert np.nanmean(found.average_precision()) == pytest.approx(mean_average_precision(scores, people, gallery))
    curve = [np.nanmean(found.rank_at(k)) for k in range(1, 6)]
    assert curve == pytest.approx(cmc(scores, people, gallery, ranks=5))


def test_an_embedding_that_maps_all_to_one_point_finds_nothing():
    same = np.tile(np.float32([1.0, 0.0]), (10, 1))
    found = rank(same[:1], same, Pairs.of_lists([np.array([0, 1])]))
    assert found.rank().tolist() == [9]
    assert found.average_precision().tolist() == [0.2]


def test_queries_without_relevant_items_are_left_out_of_a_mean():
    found = rank(np.eye(3), np.eye(3), Pairs.of_lists([np.array([0]), np.array([], dtype=int), np.array([1])]))
    assert np.isnan(found.average_precision()).tolist() == [False, True, False]
    assert found.rank().tolist()[1] == 0
    units = np.array([0, 1, 2])
    means = weighted_mean(found.rank_at(1), units, np.array([[1, 1, 1], [0, 3, 0], [3, 0, 0]]))
    assert means == pytest.approx([0.5, np.nan, 1.0], nan_ok=True)


def test_a_pair_cannot_be_relevant_and_ignored():
    both = Pairs.of_lists([np.array([0])])
    with pytest.raises(InputError, match="both relevant"):
        count_pairs(np.eye(2)[:1], np.eye(2), both).ranking(np.array([True]), np.array([True]))


def test_pairs_that_were_not_counted_cannot_be_relevant():
    looked = count_pairs(np.eye(2)[:1], np.eye(2), Pairs.of_lists([np.array([0])]), counted=np.array([False]))
    with pytest.raises(InputError, match="not counted"):
        looked.ranking(np.array([True]))


def test_unlike_dimensions_are_refused():
    with pytest.raises(InputError, match="agree in dimension"):
        rank(np.eye(2), np.eye(3), Pairs.of_lists([np.array([0]), np.array([1])]))
