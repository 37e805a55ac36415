from __future__ import annotations

import sys
from dataclasses import asdict, replace
from itertools import combinations, permutations

import numpy as np
import pytest

from samespace.errors import InputError, SpaceError
from samespace.evaluate import check
from samespace.evaluate.verdict import judge, overall
from samespace.metrics import mean_average_precision
from samespace.vectors import VectorSet

NAMES = ["rank@1", "mAP", "TAR@FAR=1e-2", "TPIR@FPIR=0.1", "TPIR-merged@FPIR=0.1"]
FAST = {"replicates": 300, "examples": 8}


@pytest.fixture(scope="module")
def certificate(world):
    return check(**world.sets("new_gallery", "paragon"), metrics=NAMES, **FAST)


def values_of(source: VectorSet, vectors: np.ndarray) -> VectorSet:
    return replace(source, vectors=vectors.astype(np.float32), space=None)


def test_a_better_model_of_the_same_space_is_compatible(certificate):
    assert certificate.compatible
    for result in certificate.metrics.values():
        assert result.criterion
        assert result.compatible
        assert 0 < result.difference[0] <= result.absolute_gain <= result.difference[1]
        assert result.absolute_gain == pytest.approx(result.cross - result.old)
        assert result.old < result.cross < result.paragon
        assert result.update_gain == pytest.approx((result.cross - result.old) / (result.paragon - result.old))
        assert result.update_gain_interval[0] <= result.update_gain <= result.update_gain_interval[1]
        for test in ("old", "cross", "new", "paragon"):
            low, high = result.intervals[test]
            assert low <= getattr(result, test) <= high


def test_the_unchanged_old_model_is_not_compatible(world):
    same = check(
        queries=world.baseline,
        gallery=world.gallery,
        baseline=world.baseline,
        new_gallery=world.gallery,
        metrics=NAMES,
        **FAST,
    )
    assert not same.compatible
    for result in same.metrics.values():
        assert not result.criterion
        assert not result.compatible
        assert result.difference == (0.0, 0.0)
    assert asdict(same.strict) == {
        "positive_share": 1.0,
        "negative_share": 1.0,
        "positive_improved": 0.0,
        "negative_improved": 0.0,
    }
    assert same.flips["cross"].negative == same.flips["cross"].positive == 0.0
    assert any("same space" in note for note in same.notes)


def test_a_randomly_rotated_new_space_is_not_compatible(world):
    q, _ = np.linalg.qr(np.random.default_rng(8).normal(size=(16, 16)))
    turned = world.but(
        queries=values_of(world.queries, world.queries.vectors @ q),
        new_gallery=values_of(world.new_gallery, world.new_gallery.vectors @ q),
    )
    result = check(**turned.sets("new_gallery", "paragon"), metrics=NAMES, **FAST)
    assert not result.compatible
    assert not any(metric.compatible or metric.criterion for metric in result.metrics.values())
    assert all(metric.update_gain is None for metric in result.metrics.values())
    assert result["rank@1"].new > result["rank@1"].old
    assert result["rank@1"].cross < 0.3 < result["rank@1"].old


def test_the_control_collapses_while_the_cross_test_stands(certificate):
    for result in certificate.metrics.values():
        assert result.control < result.intervals["old"][0]
    assert not any("rotated" in note for note in certificate.notes)


def test_a_control_that_does_not_collapse_is_noted(make):
    guesses = make(identities=2, queries=40, gallery=4, strangers=0, dim=2, old_noise=5.0)
    result = check(**guesses.sets(), metrics=["rank@1"], **FAST)
    assert any("rotated" in note for note in result.notes)


def test_a_gain_inside_the_noise_satisfies_the_criterion_but_not_the_verdict(make):
    tie = make(identities=12, queries=40, gallery=40, old_noise=1.0, new_noise=0.9, seed=0)
    result = check(**tie.sets(), metrics=["mAP"], **FAST)["mAP"]
    assert result.criterion
    assert result.difference[0] <= 0 < result.difference[1]
    assert not result.compatible


def test_the_verdict_needs_every_metric():
    draws = {"old": np.array([0.4, 0.5]), "cross": np.array([0.6, 0.7]), "paragon": np.array([0.3, 0.9])}
    result = judge("rank@1", {"old": 0.45, "cross": 0.65, "paragon": 0.8}, draws, 0.0, 0.95)
    assert result.compatible
    assert result.paragon_lead[0] < 0
    assert result.update_gain is None
    assert result.update_gain_interval is None


def test_a_mixed_verdict_is_not_compatible(make):
    easy = make(identities=20, queries=60, gallery=200, strangers=0, dim=32, old_noise=0.8, new_noise=0.5)
    mixed = check(**easy.sets(), metrics=["mAP", "rank@1"], **FAST)
    assert mixed["rank@1"].old == mixed["rank@1"].cross == 1.0
    assert [result.compatible for result in mixed.metrics.values()] == [True, False]
    assert not mixed.compatible
    yes, no = mixed.metrics.values()
    assert overall({"a": yes, "b": yes}, 20)[0]
    assert not overall({"a": no, "b": yes}, 20)[0]
    assert not overall({"a": yes, "b": yes}, 1)[0]


def test_a_paragon_ahead_beyond_the_noise_gives_a_gain_with_its_interval():
    draws = {"old": np.array([0.4, 0.5]), "cross": np.array([0.5, 0.6]), "paragon": np.array([0.8, 0.7])}
    result = judge("rank@1", {"old": 0.45, "cross": 0.55, "paragon": 0.75}, draws, 0.0, 0.5)
    assert result.update_gain == pytest.approx(1 / 3)
    assert result.update_gain_interval == pytest.approx((0.3125, 0.4375))


def test_a_resample_always_without_mates_is_refused():
    nothing = np.full(3, np.nan)
    with pytest.raises(InputError, match="no resample"):
        judge("mAP", {"old": 0.5, "cross": 0.6}, {"old": nothing, "cross": nothing}, 0.0, 0.95)


def test_a_single_identity_never_proves_anything():
    generator = np.random.default_rng(0)
    centre = np.ones(8)

    def seen(noise: float, count: int) -> np.ndarray:
        return centre + noise * generator.normal(size=(count, 8))

    def mixed(noise: float) -> np.ndarray:
        return np.vstack([seen(noise, 6), generator.normal(size=(6, 8))])

    labels = ["a"] * 6 + list("bcdefg")
    queries, baseline = (VectorSet.from_arrays(seen(noise, 5), labels=["a"] * 5) for noise in (0.1, 3.0))
    gallery = VectorSet.from_arrays(mixed(0.5), labels=labels)
    result = check(queries=queries, gallery=gallery, baseline=baseline, metrics=["mAP"], replicates=200)
    assert result["mAP"].difference[0] > 0
    assert not result.compatible
    assert any("Only one identity" in note for note in result.notes)


def test_two_runs_agree_and_another_seed_moves_only_the_bootstrap(world, certificate):
    again = check(**world.sets("new_gallery", "paragon"), metrics=NAMES, **FAST)
    assert {**again.to_dict(), "created": ""} == {**certificate.to_dict(), "created": ""}
    other = check(**world.sets("new_gallery", "paragon"), metrics=NAMES, seed=1, **FAST)
    assert other["mAP"].cross == certificate["mAP"].cross
    assert other["mAP"].difference != certificate["mAP"].difference


@pytest.mark.parametrize("block_size", [1, 17])
def test_the_block_size_changes_nothing(world, certificate, block_size):
    cut = check(**world.sets("new_gallery", "paragon"), metrics=NAMES, block_size=block_size, **FAST)
    assert cut.metrics == certificate.metrics
    assert cut.backfill == certificate.backfill
    assert cut.strict == certificate.strict


def test_a_tail_that_proves_too_short_is_read_again_longer(world, certificate, monkeypatch):
    monkeypatch.setattr(sys.modules["samespace.evaluate.check"], "tail_size", lambda quota: quota + 1)
    again = check(**world.sets("new_gallery", "paragon"), metrics=NAMES, **FAST)
    assert again.metrics == certificate.metrics
    assert again.curves == certificate.curves


def test_the_backfill_curve_runs_from_the_cross_test_to_the_new_model(world, certificate):
    curve = certificate.backfill
    assert curve.metrics == ("rank@1", "mAP")
    assert [stage.share for stage in curve.points] == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    for name in curve.metrics:
        assert curve.points[0].values[name] == certificate[name].cross
        assert curve.points[-1].values[name] == certificate[name].new
        assert certificate[name].cross < curve.points[3].values[name] < certificate[name].new
    tar = check(**world.sets("new_gallery"), metrics=["TAR@FAR=1e-2"], backfill_steps=2, **FAST).backfill
    assert tar.metrics == ("rank@1", "mAP", "TAR@FAR=1e-2")
    assert len(tar.points) == 3
    one_step = check(**world.sets("new_gallery"), metrics=["mAP"], backfill_steps=1, **FAST).backfill
    assert [stage.share for stage in one_step.points] == [0.0, 1.0]


@pytest.mark.parametrize("seed", [0, 1])
def test_every_stage_of_a_backfill_scores_as_a_gallery_would_whose_classes_are_replaced_in_one_order(make, seed):
    few = make(identities=4, queries=40, gallery=24, strangers=0, old_noise=1.5)
    options = FAST | {"metrics": ["mAP"], "backfill_steps": 4, "seed": seed}
    curve = [stage.values["mAP"] for stage in check(**few.sets("new_gallery"), **options).backfill.points]
    classes = np.unique(few.gallery.labels)
    scores = {}
    for chosen in (set(some) for size in range(5) for some in combinations(classes.tolist(), size)):
        new = np.isin(few.gallery.labels, list(chosen))
        mixed = values_of(few.gallery, np.where(new[:, None], few.new_gallery.vectors, few.gallery.vectors))
        cosines = values_of(few.queries, few.queries.vectors)._unit(16) @ mixed._unit(16).T
        scores[frozenset(chosen)] = mean_average_precision(cosines, few.queries.labels, few.gallery.labels)
    assert len({round(value, 9) for value in scores.values()}) == 16
    fitting = [
        order
        for order in permutations(classes.tolist())
        if [scores[frozenset(order[:stage])] for stage in range(5)] == pytest.approx(curve)
    ]
    assert len(fitting) == 1


def test_a_prefix_meets_old_items_by_the_slice_and_new_items_whole(world):
    generator = np.random.default_rng(5)

    def longer(source: VectorSet) -> VectorSet:
        more = generator.normal(size=(len(source), 6)) * 2
        return values_of(source, np.hstack([source.vectors, more]))

    long = world.but(queries=longer(world.queries), new_gallery=longer(world.new_gallery))
    cut = check(**long.sets("new_gallery"), metrics=["rank@1", "mAP"], prefix=True, **FAST)
    short = check(**world.sets("new_gallery"), metrics=["rank@1", "mAP"], **FAST)
    whole = check(
        queries=long.queries, gallery=long.new_gallery, baseline=long.queries, metrics=["rank@1", "mAP"], **FAST
    )
    assert cut.options == {"prefix": True}
    assert cut["mAP"].cross == short["mAP"].cross
    assert cut["mAP"].new == whole["mAP"].cross
    assert cut["mAP"].new != short["mAP"].new
    assert cut.backfill.points[0].values["mAP"] == cut["mAP"].cross
    assert cut.backfill.points[-1].values["mAP"] == cut["mAP"].new


def test_what_was_not_given_is_absent(world):
    result = check(**world.sets(), metrics=["rank@1"], **FAST)
    assert result.backfill is None
    assert result.paragon_space is None
    assert result.flips["new"] is None
    assert (result["rank@1"].new, result["rank@1"].paragon, result["rank@1"].update_gain) == (None, None, None)
    assert result["rank@1"].intervals["new"] is None
    assert result.curves.roc["new"] is None
    assert result.curves.histograms.new is None
    assert all(example.new is None for example in result.examples)


def test_the_default_metrics_are_those_the_data_supports(world, make):
    small = check(**world.sets(), **FAST)
    assert list(small.metrics) == ["rank@1", "mAP", "TAR@FAR=1e-3"]
    assert any("TAR@FAR=1e-3 was chosen" in note for note in small.notes)
    assert any("No open-set TPIR" in note for note in small.notes)
    open_set = check(**make(queries=210, strangers=40).sets(), **FAST)
    assert "TPIR@FPIR=1e-2" in open_set.metrics
    tiny = check(**make(identities=3, queries=9, gallery=9, strangers=0).sets(), **FAST)
    assert list(tiny.metrics) == ["rank@1", "mAP"]
    assert any("No TAR" in note for note in tiny.notes)


def test_a_point_beyond_the_data_is_measured_at_the_highest_impostor_and_noted(world):
    result = check(**world.sets(), metrics=["TAR@FAR=1e-7"], **FAST)
    exact = check(**world.sets(), metrics=["TAR@FAR=0"], **FAST)
    assert result["TAR@FAR=1e-7"].cross == exact["TAR@FAR=0"].cross
    assert any("less than one false accept" in note for note in result.notes)


def test_what_the_data_cannot_define_is_refused(make):
    closed = make(identities=6, queries=12, gallery=12, strangers=0)
    with pytest.raises(InputError, match="TPIR-merged needs none"):
        check(**closed.sets(), metrics=["TPIR@FPIR=0.1"], **FAST)
    one = make(identities=1, queries=4, gallery=4, strangers=0)
    with pytest.raises(InputError, match="no impostor pairs"):
        check(**one.sets(), metrics=["TAR@FAR=0.1"], **FAST)


def test_one_class_alone_is_judged_and_never_compatible(make):
    result = check(**make(identities=1, queries=4, gallery=4, strangers=0).sets("new_gallery"), **FAST)
    assert result["rank@1"].cross == 1.0
    assert not result.compatible
    assert result.strict.negative_share is None
    assert result.curves.roc["old"] is None


def test_classes_of_one_image_are_counted_as_what_they_are():
    labels, gallery_labels = ["a", "b", "lonely"], ["a", "b", "only-here"]
    generator = np.random.default_rng(2)
    queries = VectorSet.from_arrays(generator.normal(size=(3, 5)), labels=labels)
    gallery = VectorSet.from_arrays(generator.normal(size=(3, 5)), labels=gallery_labels)
    data = check(queries=queries, gallery=gallery, baseline=queries, metrics=["rank@1"], replicates=50).data
    assert data == {
        "queries": 3,
        "gallery": 3,
        "identities": 4,
        "mated_queries": 2,
        "unmated_queries": 1,
        "genuine_pairs": 2,
        "impostor_pairs": 7,
        "self_matches_dropped": 0,
    }


def test_the_verdict_is_rarely_wrong_where_old_and_new_are_equally_good(make):
    passed = covered = 0
    for seed in range(60):
        equal = make(identities=40, queries=80, gallery=40, strangers=0, dim=8, new_noise=1, best_noise=1, seed=seed)
        one, other = (values_of(source, source.vectors) for source in (equal.queries, equal.paragon[0]))
        for_old = {"gallery": equal.gallery, "replicates": 200, "examples": 0, "metrics": ["mAP"]}
        result = check(queries=one, baseline=other, **for_old)["mAP"]
        passed += result.compatible
        covered += result.difference[0] <= 0 <= result.difference[1]
    assert passed <= 6
    assert covered >= 51


@pytest.mark.parametrize(
    "option", [{"confidence": 1.0}, {"replicates": 0}, {"examples": -1}, {"backfill_steps": 0}, {"block_size": 0}]
)
def test_options_out_of_range_are_refused(world, option):
    with pytest.raises(InputError, match=next(iter(option))):
        check(**world.sets(), **option)


def test_progress_counts_queries(world):
    seen = []
    check(
        **world.sets(),
        metrics=["rank@1"],
        block_size=40,
        progress=lambda done, total: seen.append((done, total)),
        **FAST,
    )
    assert seen == [(40, 90), (80, 90), (90, 90)]


@pytest.mark.parametrize("seed", range(3))
def test_galleries_in_each_others_place_are_noted_or_refused(make, seed):
    world = make(seed=seed)
    sets = {"queries": world.queries, "baseline": world.baseline}
    with pytest.raises(SpaceError, match="expected baseline in the space of gallery"):
        check(**sets, gallery=world.new_gallery, new_gallery=world.gallery)
    bare = {name: replace(one, space=None) for name, one in sets.items()}
    old, new = (replace(one, space=None) for one in (world.gallery, world.new_gallery))
    fast = {"examples": 0, "replicates": 200, "metrics": ["mAP"]}
    words = "gallery and new gallery may stand in each other's place"
    assert any(words in note for note in check(**bare, gallery=new, new_gallery=old, **fast).notes)
    assert not any(words in note for note in check(**bare, gallery=old, new_gallery=new, **fast).notes)


def test_a_vector_without_direction_is_refused_by_name(world):
    for value, words in ((np.nan, "item3"), (0.0, "item3")):
        vectors = world.gallery.vectors.copy()
        vectors[3] = value
        with pytest.raises(InputError, match=f"row 3 .*{words}"):
            check(**(world.sets() | {"gallery": replace(world.gallery, vectors=vectors)}), examples=0, replicates=10)
