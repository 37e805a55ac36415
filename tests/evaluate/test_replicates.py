from __future__ import annotations

import numpy as np
import pytest

from samespace.evaluate.inputs import align
from samespace.evaluate.metric_names import parse
from samespace.evaluate.protocol import scan
from samespace.evaluate.replicates import TailTooShort, replicate, values
from samespace.metrics import resamples, tar_at_far, tpir_at_fpir
from samespace.metrics.retrieval import mean_average_precision


@pytest.fixture(scope="module")
def small(make):
    """A trial small enough to resample by writing every drawn copy out, its scores in gallery order."""
    world = make(identities=8, queries=24, gallery=30, strangers=4, dim=6, seed=3)
    trial = align(**world.sets())
    outcome = scan(trial, ["cross"], 10**6)["cross"]
    left, right = world.queries.vectors.astype(float), world.gallery.vectors[trial.gallery_order].astype(float)
    left, right = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (left, right))
    return trial, outcome, (left @ right.T).astype(np.float32)


def copies(codes, counts):
    """Row numbers, each as often as its identity was drawn."""
    return np.repeat(np.arange(len(codes)), counts[codes])


def resampled(trial, name, scores, counts):
    """A metric of the resample written out: copies of queries, and for TAR of gallery items too."""
    metric = parse(name)
    rows = copies(trial.query_codes, counts)
    if metric.kind == "TAR":
        columns = copies(trial.gallery_codes, counts)
        drawn = scores[np.ix_(rows, columns)]
        same = trial.query_codes[rows][:, None] == trial.gallery_codes[columns][None]
        # A genuine pair counts as often as its identity was drawn, not as often squared.
        own = np.repeat(np.arange(len(trial.query_codes)), counts[trial.query_codes])
        genuine = np.concatenate([scores[row, trial.gallery_codes == trial.query_codes[row]] for row in own])
        return tar_at_far(genuine, drawn[~same], float(metric.rate))
    labels = trial.query_codes[rows], trial.gallery_codes
    if metric.kind == "mAP":
        return mean_average_precision(scores[rows], *labels)
    protocol = "merged" if metric.kind == "TPIR-merged" else "open-set"
    return tpir_at_fpir(scores[rows], *labels, float(metric.rate), protocol=protocol)


@pytest.mark.parametrize(
    "name", ["mAP", "TPIR@FPIR=0.2", "TPIR-merged@FPIR=0.1", "TAR@FAR=0.05", "TAR@FAR=0.3", "TAR@FAR=0"]
)
def test_a_replicate_is_the_metric_of_the_resample_written_out(small, name):
    trial, outcome, scores = small
    counts = np.concatenate(list(resamples(trial.identities, replicates=40, seed=9)))
    measured = values(parse(name), outcome, trial, counts)
    unmated = trial.mate_counts() == 0
    for row, value in zip(counts, measured, strict=True):
        if name.startswith("TPIR@") and not row[trial.query_codes[unmated]].any():
            continue
        assert value == pytest.approx(resampled(trial, name, scores, row), abs=1e-12)


def test_weights_of_one_give_the_value_itself(small):
    trial, outcome, scores = small
    ones = np.ones((3, trial.identities), dtype=np.int64)
    for name in ("mAP", "TAR@FAR=0.05", "TPIR@FPIR=0.2"):
        expected = resampled(trial, name, scores, ones[0])
        np.testing.assert_allclose(values(parse(name), outcome, trial, ones), expected)


def test_a_longer_tail_changes_no_replicate_and_a_short_one_is_refused(small):
    trial, whole, _ = small
    metric = parse("TAR@FAR=0.05")
    everything = replicate([metric], {"cross": whole}, trial, replicates=60, seed=1)["TAR@FAR=0.05", "cross"]
    accepted = int(0.05 * whole.impostors)
    with pytest.raises(TailTooShort):
        replicate([metric], scan(trial, ["cross"], accepted), trial, replicates=60, seed=1)
    longer = scan(trial, ["cross"], 5 * accepted)
    assert not longer["cross"].tail.complete
    np.testing.assert_array_equal(
        replicate([metric], longer, trial, replicates=60, seed=1)["TAR@FAR=0.05", "cross"], everything
    )


def test_counting_by_identity_agrees_with_counting_one_by_one(monkeypatch):
    from samespace.evaluate import replicates

    generator = np.random.default_rng(6)
    scores = (generator.integers(-20, 21, 500) / 20).astype(np.float32)
    identity = generator.choice([0, 2, 3, 7], 500)
    thresholds = np.append(generator.choice(scores, 60).astype(np.float64), [-np.inf, np.inf, 0.01])
    counts = generator.integers(0, 4, (63, 9))
    pairs = list(zip(scores, identity, strict=True))
    slow = [sum(row[i] for s, i in pairs if s > t) for row, t in zip(counts, thresholds, strict=True)]
    for many in (0, 10**9):
        monkeypatch.setattr(replicates, "_MANY_SCORES", many)
        np.testing.assert_array_equal(replicates.weight_above(scores, identity, thresholds, counts), slow)


def test_chunks_of_the_tail_change_nothing(small, monkeypatch):
    from samespace.evaluate import replicates

    trial, outcome, _ = small
    metric = parse("TAR@FAR=0.1")
    counts = next(resamples(trial.identities, replicates=50, seed=4))
    whole = values(metric, outcome, trial, counts)
    monkeypatch.setattr(replicates, "_CHUNK_PRODUCTS", 150)
    monkeypatch.setattr(replicates, "_CHUNK_WEIGHTS", 100)
    np.testing.assert_array_equal(values(metric, outcome, trial, counts), whole)


def test_huge_weights_do_not_overflow(small):
    trial, outcome, _ = small
    counts = np.ones((2, trial.identities), dtype=np.int64)
    metric = parse("TAR@FAR=0.1")
    np.testing.assert_allclose(values(metric, outcome, trial, counts * 100_000), values(metric, outcome, trial, counts))


@pytest.mark.parametrize("budget", [1, 1000])
def test_open_set_thresholds_do_not_depend_on_how_replicates_are_cut(budget, monkeypatch):
    from fractions import Fraction

    from samespace.evaluate import replicates

    generator = np.random.default_rng(8)
    scores = (generator.integers(-20, 21, 300) / 20).astype(np.float32)
    identity = generator.integers(0, 9, 300)
    counts = generator.integers(0, 4, (17, 9))
    rate = Fraction(1, 10)
    slow = []
    for row in counts:
        written_out = np.sort(np.repeat(scores, row[identity]))[::-1]
        slow.append(written_out[int(rate * len(written_out))])
    monkeypatch.setattr(replicates, "_CHUNK_QUERIES", budget)
    np.testing.assert_array_equal(replicates.query_thresholds(rate, scores, identity, counts), slow)
    none = replicates.query_thresholds(rate, scores[:0], identity[:0], counts)
    np.testing.assert_array_equal(none, np.full(17, -np.inf))
