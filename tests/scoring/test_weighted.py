from __future__ import annotations

import numpy as np
import pytest

from samespace.evaluate.inputs import align
from samespace.evaluate.verdict import replicate
from samespace.metrics import resamples, tar_at_far, tpir_at_fpir
from samespace.metrics.retrieval import mean_average_precision
from samespace.scoring import thresholds
from samespace.scoring.metric_names import parse
from samespace.scoring.scores import collect_scores
from samespace.scoring.thresholds import TailTooShort


def scores_of(aligned, tail_size):
    return collect_scores({"cross": aligned.pairs["cross"]}, aligned.mates, tail_size)["cross"]


@pytest.fixture(scope="module")
def small(make):
    """Sets few enough to resample by writing every drawn copy out, its scores in gallery order."""
    world = make(identities=8, queries=24, gallery=30, strangers=4, dim=6, seed=3)
    aligned = align(**world.sets())
    whole_scores = scores_of(aligned, 10**6)
    left, right = world.queries.vectors.astype(float), world.gallery.vectors[aligned.gallery_order].astype(float)
    left, right = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (left, right))
    return aligned, whole_scores, (left @ right.T).astype(np.float32)


def copies(codes, counts):
    """Row numbers, each as often as its identity was drawn."""
    return np.repeat(np.arange(len(codes)), counts[codes])


def resampled(aligned, name, scores, counts):
    """A metric of the resample written out: copies of queries, and for TAR of gallery items too."""
    metric = parse(name)
    rows = copies(aligned.mates.query_codes, counts)
    if metric.kind == "TAR":
        columns = copies(aligned.mates.gallery_codes, counts)
        drawn = scores[np.ix_(rows, columns)]
        same = aligned.mates.query_codes[rows][:, None] == aligned.mates.gallery_codes[columns][None]
        # A genuine pair counts as often as its identity was drawn, not as often squared.
        own = np.repeat(np.arange(len(aligned.mates.query_codes)), counts[aligned.mates.query_codes])
        genuine = np.concatenate(
            [scores[row, aligned.mates.gallery_codes == aligned.mates.query_codes[row]] for row in own]
        )
        return tar_at_far(genuine, drawn[~same], float(metric.argument))
    labels = aligned.mates.query_codes[rows], aligned.mates.gallery_codes
    if metric.kind == "mAP":
        return mean_average_precision(scores[rows], *labels)
    protocol = "merged" if metric.kind == "TPIR-merged" else "open-set"
    return tpir_at_fpir(scores[rows], *labels, float(metric.argument), protocol=protocol)


@pytest.mark.parametrize(
    "name", ["mAP", "TPIR@FPIR=0.2", "TPIR-merged@FPIR=0.1", "TAR@FAR=0.05", "TAR@FAR=0.3", "TAR@FAR=0"]
)
def test_a_replicate_is_the_metric_of_the_resample_written_out(small, name):
    aligned, whole_scores, scores = small
    counts = np.concatenate(list(resamples(aligned.mates.identities, replicates=40, seed=9)))
    measured = parse(name).values(whole_scores, counts)
    unmated = aligned.mates.counts == 0
    for row, value in zip(counts, measured, strict=True):
        if name.startswith("TPIR@") and not row[aligned.mates.query_codes[unmated]].any():
            continue
        assert value == pytest.approx(resampled(aligned, name, scores, row), abs=1e-12)


def test_weights_of_one_give_the_value_itself(small):
    aligned, whole_scores, scores = small
    ones = np.ones((3, aligned.mates.identities), dtype=np.int64)
    for name in ("mAP", "TAR@FAR=0.05", "TPIR@FPIR=0.2"):
        expected = resampled(aligned, name, scores, ones[0])
        np.testing.assert_allclose(parse(name).values(whole_scores, ones), expected)


def test_a_longer_tail_changes_no_replicate_and_a_short_one_is_refused(small):
    aligned, whole, _ = small
    metric = parse("TAR@FAR=0.05")
    everything = replicate([metric], {"cross": whole}, replicates=60, seed=1)["TAR@FAR=0.05", "cross"]
    accepted = int(0.05 * whole.mates.impostors)
    with pytest.raises(TailTooShort):
        replicate([metric], {"cross": scores_of(aligned, accepted)}, replicates=60, seed=1)
    longer = {"cross": scores_of(aligned, 5 * accepted)}
    assert not longer["cross"].tail.complete
    np.testing.assert_array_equal(
        replicate([metric], longer, replicates=60, seed=1)["TAR@FAR=0.05", "cross"], everything
    )


def test_counting_by_identity_agrees_with_counting_one_by_one(monkeypatch):
    generator = np.random.default_rng(6)
    scores = (generator.integers(-20, 21, 500) / 20).astype(np.float32)
    identity = generator.choice([0, 2, 3, 7], 500)
    levels = np.append(generator.choice(scores, 60).astype(np.float64), [-np.inf, np.inf, 0.01])
    counts = generator.integers(0, 4, (63, 9))
    pairs = list(zip(scores, identity, strict=True))
    slow = [sum(row[i] for s, i in pairs if s > t) for row, t in zip(counts, levels, strict=True)]
    for many in (0, 10**9):
        monkeypatch.setattr(thresholds, "_MANY_SCORES", many)
        np.testing.assert_array_equal(thresholds.weight_above(scores, identity, levels, counts), slow)


def test_chunks_of_the_tail_change_nothing(small, monkeypatch):
    aligned, whole_scores, _ = small
    metric = parse("TAR@FAR=0.1")
    counts = next(resamples(aligned.mates.identities, replicates=50, seed=4))
    whole = metric.values(whole_scores, counts)
    monkeypatch.setattr(thresholds, "_CHUNK_BYTES", 150)
    monkeypatch.setattr(thresholds, "_CHUNK_WEIGHTS", 100)
    np.testing.assert_array_equal(metric.values(whole_scores, counts), whole)


def test_huge_weights_do_not_overflow(small):
    aligned, whole_scores, _ = small
    counts = np.ones((2, aligned.mates.identities), dtype=np.int64)
    metric = parse("TAR@FAR=0.1")
    np.testing.assert_allclose(metric.values(whole_scores, counts * 100_000), metric.values(whole_scores, counts))


@pytest.mark.parametrize("budget", [1, 1000])
def test_open_set_thresholds_do_not_depend_on_how_replicates_are_cut(budget, monkeypatch):
    from fractions import Fraction

    generator = np.random.default_rng(8)
    scores = (generator.integers(-20, 21, 300) / 20).astype(np.float32)
    identity = generator.integers(0, 9, 300)
    counts = generator.integers(0, 4, (17, 9))
    rate = Fraction(1, 10)
    slow = []
    for row in counts:
        written_out = np.sort(np.repeat(scores, row[identity]))[::-1]
        slow.append(written_out[int(rate * len(written_out))])
    monkeypatch.setattr(thresholds, "_CHUNK_WEIGHTS", budget)
    np.testing.assert_array_equal(thresholds.query_thresholds(rate, scores, identity, counts), slow)
    none = thresholds.query_thresholds(rate, scores[:0], identity[:0], counts)
    np.testing.assert_array_equal(none, np.full(17, -np.inf))
