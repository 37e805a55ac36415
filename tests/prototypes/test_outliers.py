"""Distances to the centre against their definition, memory maps, clusters, lone vectors, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samespace.errors import InputError
from samespace.prototypes import distance_to_centre, turn_in_class


def slow(vectors: Any, labels: Any) -> list[float]:
    """The definition, one vector at a time; NaN for lone ones."""
    unit = np.asarray(vectors, np.float64)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    found = []
    for row, label in enumerate(labels):
        others = [other for other in range(len(labels)) if labels[other] == label and other != row]
        centre = unit[others].mean(axis=0) if others else np.full(unit.shape[1], np.nan)
        found.append(1 - float(unit[row] @ centre) / float(np.linalg.norm(centre)))
    return found


@pytest.fixture
def sample() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 15, 120) * 10**9
    labels[:2] = [-5, 7]
    return (rng.normal(size=(120, 8)) * rng.uniform(0.1, 9, (120, 1))).astype(np.float32), labels


def test_distances_follow_their_definition_and_lone_vectors_get_the_mean(sample: Any) -> None:
    vectors, labels = sample
    expected = np.array(slow(vectors, labels))
    alone = np.isnan(expected)
    assert alone.sum() == 2
    expected[alone] = expected[~alone].mean()
    found = distance_to_centre(vectors, labels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(distance_to_centre(torch.from_numpy(vectors), labels.astype(str)), found, atol=1e-6)


def test_an_outlier_is_farthest_and_has_the_last_turn() -> None:
    rng = np.random.default_rng(1)
    vectors = np.repeat(np.eye(6), 9, axis=0) + 0.02 * rng.normal(size=(54, 6))
    vectors[13] = [1, 1, 0, 0, 0, 0]
    labels = np.repeat(np.arange(6), 9)
    for given in ({"labels": labels}, {"clusters": 6, "seed": 3}):
        assert int(distance_to_centre(vectors, **given).argmax()) == 13
    assert turn_in_class(vectors, labels)[13] == 8


def test_every_class_has_its_first_turn_before_any_has_its_second(sample: Any) -> None:
    vectors, labels = sample
    turn, distance = turn_in_class(vectors, labels), distance_to_centre(vectors, labels)
    for label in np.unique(labels):
        own = labels == label
        assert sorted(turn[own]) == list(range(own.sum()))
        assert (np.diff(distance[own][np.argsort(turn[own])]) >= 0).all()


def test_clusters_are_the_same_for_one_seed_and_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    vectors = np.random.default_rng(2).normal(size=(500, 16)).astype(np.float32)
    np.save(tmp_path / "v.npy", vectors)
    whole = distance_to_centre(vectors, seed=4)
    assert not np.array_equal(whole, distance_to_centre(vectors, seed=5))
    monkeypatch.setattr("samespace.prototypes.outliers.BLOCK_BYTES", 4000)
    np.testing.assert_allclose(distance_to_centre(np.load(tmp_path / "v.npy", mmap_mode="r"), seed=4), whole, atol=1e-6)


def test_others_that_cancel_out_and_lone_vectors_alone() -> None:
    assert distance_to_centre(np.array([[1.0, 0], [0, 1], [0, -1]]), [0, 0, 0])[0] == 1.0
    assert distance_to_centre(np.eye(3), [0, 1, 2]).tolist() == [0.0, 0.0, 0.0]


def test_what_makes_no_sense_is_refused() -> None:
    vectors = np.eye(4)
    with pytest.raises(InputError, match="all zero"):
        distance_to_centre(np.zeros((4, 2)), [0, 0, 1, 1])
    with pytest.raises(InputError, match="leave one out"):
        distance_to_centre(vectors, [0, 0, 1, 1], clusters=2)
    with pytest.raises(InputError, match=r"1\.\.4"):
        distance_to_centre(vectors, clusters=5)
    with pytest.raises(InputError, match="one per item"):
        distance_to_centre(vectors, [0, 1])
    with pytest.raises(InputError, match="at least one vector"):
        distance_to_centre(np.zeros((0, 4)))
    for wrong in (np.ones(4), np.ones((4, 2), dtype=np.int64)):
        for measure in (distance_to_centre, turn_in_class):
            with pytest.raises(InputError, match="vectors has"):
                measure(wrong, [0, 0, 1, 1])


def test_in_a_class_of_two_each_is_the_centre_of_the_other() -> None:
    vectors = np.array([[1.0, 0.0], [3.0, 4.0], [0.0, 2.0], [0.0, -5.0]])
    np.testing.assert_allclose(distance_to_centre(vectors, [0, 0, 1, 1]), [0.4, 0.4, 2.0, 2.0], atol=1e-6)


def test_one_cluster_is_one_class_of_all() -> None:
    vectors = np.random.default_rng(3).normal(size=(9, 4))
    np.testing.assert_array_equal(distance_to_centre(vectors, clusters=1), distance_to_centre(vectors, [0] * 9))


def test_copies_of_one_vector_are_at_no_distance_and_never_below_it() -> None:
    vectors = np.repeat(np.random.default_rng(5).normal(size=(200, 7)), 3, axis=0)
    found = distance_to_centre(vectors, np.repeat(np.arange(200), 3))
    np.testing.assert_allclose(found, 0, atol=1e-6)
    assert (found >= 0).all()
