from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from samespace.metrics import tar_at_far, threshold_at_far
from samespace.scoring import pairs as listed
from samespace.scoring import thresholds
from samespace.scoring.pairs import PairScores
from samespace.scoring.thresholds import pair_weight, places_by_weight, thresholds_at

RATES = [Fraction(text) for text in ("0", "1e-3", "1e-2", "0.1", "0.29", "0.9")]


def made(seed: int, *, genuine: int = 40, impostors: int = 400, identities: int = 9) -> PairScores:
    generator = np.random.default_rng(seed)
    first = generator.integers(identities, size=impostors).astype(np.int32)
    second = (first + generator.integers(1, identities, size=impostors)).astype(np.int32) % identities
    second = second.astype(np.int32)
    return PairScores(
        genuine=generator.normal(0.6, 0.4, genuine).round(1).astype(np.float32),
        genuine_identity=generator.integers(identities, size=genuine),
        impostor=generator.normal(0, 0.4, impostors).round(1).astype(np.float32),
        identities=lambda: (first, second),
    )


def repeated(pairs: PairScores, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The pairs written out as often as their weights say."""
    genuine = np.repeat(pairs.genuine, row[pairs.genuine_identity])
    first, second = pairs.identities()
    return genuine, np.repeat(pairs.impostor, row[first] * row[second])


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_several_thresholds_at_once_are_those_of_the_metric(seed, count):
    scores = np.random.default_rng(seed).integers(-5, 6, count).astype(np.float32) / 8
    assert thresholds_at(scores, RATES) == [threshold_at_far(scores, rate) for rate in RATES]


@given(st.integers(0, 10**6))
def test_all_ones_give_the_metric_itself(seed):
    pairs = made(seed)
    values = pairs.tar(RATES, np.ones((2, 9), dtype=np.int64))
    for value, rate in zip(values, RATES, strict=True):
        assert value.tolist() == [tar_at_far(pairs.genuine, pairs.impostor, rate)] * 2


@given(st.integers(0, 10**6))
def test_weights_count_as_if_every_pair_were_written_out_so_often(seed):
    pairs = made(seed)
    counts = np.random.default_rng(seed + 1).integers(0, 4, size=(6, 9))
    values = pairs.tar(RATES, counts)
    for rate, column in zip(RATES, values, strict=True):
        for value, row in zip(column, counts, strict=True):
            genuine, impostor = repeated(pairs, row)
            if genuine.size and impostor.size:
                assert value == pytest.approx(tar_at_far(genuine, impostor, rate))
            else:
                assert np.isnan(value)


def test_a_tail_that_proves_too_short_is_taken_longer(monkeypatch):
    monkeypatch.setattr(listed, "_SPARE", 1)
    monkeypatch.setattr(listed, "_MARGIN", 0.1)
    monkeypatch.setattr(thresholds, "_LEAST_SEGMENT", 3)
    monkeypatch.setattr(thresholds, "_CHUNK_WEIGHTS", 7)
    pairs = made(3, impostors=3_000)
    counts = np.random.default_rng(4).integers(0, 5, size=(20, 9))
    for rate, column in zip(RATES, pairs.tar(RATES, counts), strict=True):
        assert column.tolist() == pytest.approx([tar_at_far(*repeated(pairs, row), rate) for row in counts])


@pytest.mark.parametrize("identities", [4, 400])
def test_the_weight_of_all_impostors_is_their_sum_of_products(monkeypatch, identities):
    monkeypatch.setattr(thresholds, "_CHUNK_BYTES", 50)
    generator = np.random.default_rng(5)
    first, second = (generator.integers(identities, size=200).astype(np.int32) for _ in range(2))
    counts = generator.integers(0, 9, size=(7, identities))
    assert pair_weight(first, second, counts).tolist() == (counts[:, first] * counts[:, second]).sum(1).tolist()


def test_large_weights_are_summed_exactly():
    first, second = np.array([0, 1, 0], dtype=np.int32), np.array([1, 2, 2], dtype=np.int32)
    counts = np.array([[100_003, 99_991, 100_019]])
    products = np.cumsum([100_003 * 99_991, 99_991 * 100_019, 100_003 * 100_019])
    allowed = np.array([[products[0] - 1], [products[0]], [products[1] + 5], [products[2]]])
    assert places_by_weight(first, second, counts, allowed)[:, 0].tolist() == [0, 1, 2, 3]


def test_no_impostor_or_no_genuine_weight_is_undefined():
    pairs = made(6, identities=3)
    values = pairs.tar([Fraction(1, 10)], np.array([[1, 0, 0], [0, 0, 0], [1, 1, 2]]))[0]
    assert np.isnan(values[:2]).all()
    assert np.isfinite(values[2])
