"""Calibration of a pair from labelled vectors: the pairs that count, in bounded memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.gallery.search import calibration
from samespace.gallery.search.calibration import calibrate_pair, pair_scores
from samespace.vectors import VectorSet

from .made import Made, made_space, made_vectors

SPACE = made_space("a", 16)


def labelled(count: int, seed: int, *, first: int = 0, classes: int = 20) -> VectorSet:
    """Items `first`, `first + 1`, …, whose vectors lie around the centre of their class."""
    centres = made_vectors(classes, 16, seed=0)
    values = centres[np.arange(count) % classes] + 0.9 * made_vectors(count, 16, seed=seed)
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    ids = [f"item-{first + number}" for number in range(count)]
    return VectorSet.from_arrays(unit, labels=np.arange(count) % classes, ids=ids, space=SPACE)


def slowly(queries: VectorSet, gallery: VectorSet) -> tuple[np.ndarray, np.ndarray]:
    """All genuine and all impostor scores, pair by pair."""
    scores = queries.scores(gallery)
    other = queries.ids[:, None] != gallery.ids[None, :]
    same = queries.labels.astype(str)[:, None] == gallery.labels.astype(str)[None, :]
    return np.sort(scores[same & other]), np.sort(scores[~same & other])


def test_few_pairs_are_all_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_TILE", (7, 13))
    queries, gallery = labelled(60, 1), labelled(90, 2, first=30)
    # an item that is labelled otherwise on the other side is no impostor of itself
    gallery.labels[5] = 7
    genuine, impostor = slowly(queries, gallery)
    found = pair_scores(queries, gallery, None)
    np.testing.assert_allclose(np.sort(found.genuine), genuine, atol=1e-6)
    np.testing.assert_allclose(np.sort(found.impostor), impostor, atol=1e-6)
    assert (found.tail, found.impostors) == (None, len(impostor))


def test_of_many_pairs_a_sample_and_the_tail_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_ALL", 20_000)
    monkeypatch.setattr(calibration, "_TAIL", 500)
    monkeypatch.setattr(calibration, "_TILE", (64, 100))
    queries, gallery = labelled(400, 1), labelled(500, 2, first=100)
    genuine, impostor = slowly(queries, gallery)
    found = pair_scores(queries, gallery, None)
    np.testing.assert_allclose(np.sort(found.genuine), genuine, atol=1e-6)
    assert found.tail is not None
    np.testing.assert_allclose(np.sort(found.tail), impostor[-500:], atol=1e-6)
    assert found.impostors == len(impostor)
    assert abs(len(found.impostor) - 20_000) < 500
    # an even sample: its quantiles are those of all
    shares = np.linspace(0.05, 0.95, 7)
    np.testing.assert_allclose(np.quantile(found.impostor, shares), np.quantile(impostor, shares), atol=0.02)
    again = pair_scores(queries, gallery, None)
    np.testing.assert_array_equal(found.impostor, again.impostor)


def test_a_sample_calibrates_as_all_pairs_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(tmp_path, [SPACE], calibrated=False)
    queries, gallery = labelled(400, 1), labelled(500, 2, first=100)
    whole = calibrate_pair(made.ledger, queries, gallery)
    monkeypatch.setattr(calibration, "_ALL", 20_000)
    monkeypatch.setattr(calibration, "_TAIL", 2_000)
    some = calibrate_pair(made.ledger, queries, gallery)
    raw = np.linspace(-0.5, 1.0, 20)
    np.testing.assert_allclose(some.log_odds(raw), whole.log_odds(raw), atol=0.05 * np.ptp(whole.log_odds(raw)))
    # low rates are read from the tail, which knows of all pairs
    np.testing.assert_allclose(some.level(raw[-5:]), whole.level(raw[-5:]), rtol=0.02)
    with made.ledger.read() as reader:
        assert reader.state().calibrations[1, 1] == some
    made.ledger.close()


def test_memory_does_not_grow_with_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_ALL", 10_000)
    monkeypatch.setattr(calibration, "_TAIL", 1_000)
    monkeypatch.setattr(calibration, "_TILE", (128, 256))
    queries, gallery = labelled(2_000, 1, classes=500), labelled(3_000, 2, first=5_000, classes=500)
    tracemalloc.start()
    try:
        pair_scores(queries, gallery, None)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # all scores alone would take 24 MB
    assert peak < 4e6


def test_labels_are_needed() -> None:
    unlabelled = VectorSet.from_arrays(made_vectors(5, 16, seed=1), space=SPACE)
    with pytest.raises(InputError, match="needs labels"):
        pair_scores(unlabelled, labelled(5, 2), None)
