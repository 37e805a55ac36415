from __future__ import annotations

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.metrics import bootstrap, interval, paired_bootstrap, resamples
from samespace.metrics.bootstrap import resamples_by_name


def test_resamples_draw_as_many_identities_as_there_are():
    counts = np.concatenate(list(resamples(7, replicates=4000, seed=1)))
    assert counts.shape == (4000, 7)
    assert (counts.sum(axis=1) == 7).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=0.06)
    np.testing.assert_allclose(counts.var(axis=0), 6 / 7, atol=0.08)


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch):
    whole = np.concatenate(list(resamples(5, replicates=50, seed=2)))
    assert not np.array_equal(whole, np.concatenate(list(resamples(5, replicates=50, seed=3))))
    monkeypatch.setattr(bootstrap, "_BLOCK_COUNTS", 35)
    blocks = list(resamples(5, replicates=50, seed=2))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_a_replicate_is_the_mean_over_the_drawn_identities_with_all_their_queries():
    identities = np.array(["a", "b", "b", "c", "c", "c"])
    values = np.array([1.0, 0.0, 1.0, 0.5, np.nan, 0.25])
    drawn = np.concatenate(list(resamples(3, replicates=30, seed=5)))
    means = paired_bootstrap({"x": values}, identities, replicates=30, seed=5)["x"]
    for counts, mean in zip(drawn, means, strict=True):
        copies = [v for v, code in zip(values, [0, 1, 1, 2, 2, 2], strict=True) for _ in range(counts[code])]
        assert mean == pytest.approx(np.nanmean(copies))


def test_systems_share_their_resamples_so_equal_systems_never_differ():
    right = np.random.default_rng(0).random(40)
    identities = np.arange(40) // 4
    means = paired_bootstrap({"old": right, "same": right, "better": right + 0.1}, identities, replicates=200)
    np.testing.assert_array_equal(means["old"], means["same"])
    np.testing.assert_allclose(means["better"] - means["old"], 0.1)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(11)
    covered = 0
    for trial in range(150):
        skill = generator.beta(4, 2, 60)
        right = generator.random((60, 5)) < skill[:, None]
        means = paired_bootstrap({"x": right.ravel()}, np.repeat(np.arange(60), 5), replicates=300, seed=trial)
        low, high = interval(means["x"], 0.95)
        covered += low <= 4 / 6 <= high
    assert 0.88 <= covered / 150 <= 0.99


def test_resampling_identities_is_wider_than_resampling_queries_where_queries_of_one_agree():
    right = np.repeat(np.random.default_rng(1).random(30) < 0.5, 20)
    by_identity = interval(paired_bootstrap({"x": right}, np.arange(600) // 20)["x"])
    by_query = interval(paired_bootstrap({"x": right}, np.arange(600))["x"])
    assert by_identity[1] - by_identity[0] > 3 * (by_query[1] - by_query[0])


def test_undefined_replicates_are_left_out_of_the_interval():
    assert interval([np.nan, 1.0, 2.0, 3.0], 0.5) == (1.5, 2.5)
    assert all(np.isnan(interval([np.nan])))


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95])
def test_a_confidence_out_of_range_is_refused(confidence):
    with pytest.raises(InputError, match="confidence"):
        interval([0.0], confidence)


def test_counts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="one value per query"):
        paired_bootstrap({"x": [1.0]}, ["a", "b"])
    with pytest.raises(InputError, match="at least one query"):
        paired_bootstrap({"x": []}, [])
    with pytest.raises(InputError, match="replicates"):
        next(resamples(3, replicates=0))


def test_weights_by_name_follow_from_the_name_alone(monkeypatch):
    whole = np.concatenate(list(resamples_by_name(["x", "y", "z"], replicates=4000, seed=1)))
    np.testing.assert_allclose(whole.mean(axis=0), 1.0, atol=0.06)
    np.testing.assert_allclose(whole.var(axis=0), 1.0, atol=0.08)
    np.testing.assert_allclose(np.corrcoef(whole.T)[~np.eye(3, dtype=bool)], 0.0, atol=0.06)
    other = np.concatenate(list(resamples_by_name(["z", "x"], replicates=4000, seed=1)))
    np.testing.assert_array_equal(other, whole[:, [2, 0]])
    assert not np.array_equal(next(resamples_by_name(["x"], replicates=50, seed=2))[:, 0], whole[:50, 0])
    monkeypatch.setattr(bootstrap, "_BLOCK_COUNTS", 35)
    blocks = list(resamples_by_name(["x", "y", "z"], replicates=40, seed=1))
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), whole[:40])
    with pytest.raises(InputError, match="a bootstrap needs identities and replicates, got 0 and 5"):
        next(resamples_by_name([], replicates=5))
