"""Query fusion in a check: the cross test, the choice of the share, what is judged, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samespace import VectorSet, check
from samespace.cli.main import run
from samespace.errors import InputError, SpaceError
from samespace.evaluate import Certificate
from samespace.evaluate.certificate import FusionPoint
from samespace.evaluate.fusion import ALPHAS, best_share
from samespace.fusion import fused_space
from samespace.metrics import interval as percentiles
from samespace.metrics import matches, mean_average_precision, paired_bootstrap, rank_k

FAST = {"metrics": ["rank@1", "mAP"], "replicates": 200, "examples": 0}


@pytest.fixture(scope="module")
def sets(make):
    """Two models that are about as good, so that together they are better."""
    return make(old_noise=1.0, new_noise=1.0, identities=40, queries=180).sets("new_gallery")


@pytest.fixture(scope="module")
def other_classes(make, sets):
    """A support set: queries by the new model, the gallery by the old one, queries by the old one."""
    found = make(old_noise=1.0, new_noise=1.0, identities=30, seed=5)
    given = [found.queries, found.gallery, found.baseline]
    return tuple(replace(one, labels=one.labels + 1000) for one in given)


def fused_by_hand(old: np.ndarray, new: np.ndarray, alpha: float) -> np.ndarray:
    old, new = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in (old, new))
    mixed = (1 - alpha) * old + alpha * new
    return mixed / np.linalg.norm(mixed, axis=1, keepdims=True)


def scores_by_hand(queries: VectorSet, gallery: VectorSet, baseline: VectorSet, alpha: float) -> np.ndarray:
    asked = fused_by_hand(baseline.vectors, queries.vectors, alpha)
    return asked @ (gallery.vectors / np.linalg.norm(gallery.vectors, axis=1, keepdims=True)).T


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.9])
def test_the_cross_test_is_of_fused_queries_and_the_others_are_not(sets, alpha):
    plain, fused = check(**sets, **FAST), check(**sets, fuse=alpha, **FAST)
    scores = scores_by_hand(sets["queries"], sets["gallery"], sets["baseline"], alpha)
    labels = sets["queries"].labels, sets["gallery"].labels
    assert fused["rank@1"].cross == pytest.approx(rank_k(scores, *labels, 1), abs=1e-9)
    assert fused["mAP"].cross == pytest.approx(mean_average_precision(scores, *labels), abs=1e-6)
    for name in ("old", "new", "control"):
        assert getattr(fused["mAP"], name) == getattr(plain["mAP"], name)


def test_a_fused_check_is_the_check_of_fused_vectors(sets):
    fused = check(**sets, fuse=0.5, **FAST)
    vectors = fused_by_hand(sets["baseline"].vectors, sets["queries"].vectors, 0.5).astype(np.float32)
    bare = {name: replace(one, space=None) for name, one in sets.items() if name != "new_gallery"}
    by_hand = check(**bare | {"queries": replace(bare["queries"], vectors=vectors)}, **FAST)
    for name in fused.metrics:
        assert fused[name].difference == pytest.approx(by_hand[name].difference, abs=1e-6)


def test_two_models_together_are_better_than_either(sets):
    fused = check(**sets, fuse=0.5, **FAST)
    assert fused.compatible
    assert fused["mAP"].cross > max(fused["mAP"].old, check(**sets, **FAST)["mAP"].cross)


def test_share_0_is_the_old_query_and_share_1_the_new_one(sets):
    nothing = check(**sets, fuse=0, **FAST)
    assert not nothing.compatible
    assert all(one.difference == (0, 0) for one in nothing.metrics.values())
    assert not any("No share" in note for note in nothing.notes)
    assert check(**sets, fuse=1.0, **FAST).metrics == check(**sets, **FAST).metrics


def test_of_wider_new_queries_the_leading_dimensions_are_fused(sets):
    old_dim = sets["gallery"].dim
    wide = {
        name: replace(sets[name], vectors=np.hstack([sets[name].vectors, np.ones((len(sets[name]), 3), np.float32)]),
                      space=None)
        for name in ("queries", "new_gallery")
    }  # fmt: skip
    cut = check(**sets | wide, prefix=True, fuse=0.5, **FAST)
    assert cut["mAP"].cross == check(**sets, fuse=0.5, **FAST)["mAP"].cross
    assert cut.new_space.dim == old_dim
    with pytest.raises(InputError, match="--prefix"):
        check(**sets | wide, fuse=0.5, **FAST)


def test_the_baseline_is_matched_by_id(sets):
    order = np.random.default_rng(0).permutation(len(sets["baseline"]))
    shuffled = sets | {"baseline": sets["baseline"].subset(order)}
    assert check(**shuffled, fuse=0.4, **FAST).metrics == check(**sets, fuse=0.4, **FAST).metrics


def test_the_certificate_names_a_space_of_its_own(sets):
    fused = check(**sets, fuse=0.5, **FAST)
    old, new = sets["gallery"].space, sets["queries"].space
    assert fused.compatible
    assert fused.links(old, fused_space(old, new, 0.5))
    assert not fused.links(old, new)
    assert (fused.fusion.alpha, fused.fusion.chosen, fused.fusion.space.id) == (0.5, "given", new.id)
    assert any("only together with the old model" in note for note in fused.notes)


def test_files_without_fusion_have_no_such_key(sets):
    assert "fusion" not in check(**sets, **FAST).to_dict()


@pytest.mark.parametrize("fuse", [0.5, "auto"])
def test_a_fused_certificate_is_read_back(sets, tmp_path, fuse):
    fused = check(**sets, fuse=fuse, **FAST)
    fused.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json") == fused


def test_the_grid_is_its_slow_definition(sets, other_classes):
    fused = check(**sets, fuse="auto", support=other_classes, **FAST)
    queries, gallery, baseline = other_classes
    first = {}
    for alpha in ALPHAS:
        scores = scores_by_hand(queries, gallery, baseline, alpha)
        found = matches(scores, queries.labels, gallery.labels)
        first[str(alpha)] = np.where(found.mated, found.rank == 1, np.nan)
    codes = np.unique(np.concatenate([queries.labels, gallery.labels]), return_inverse=True)[1][: len(queries)]
    drawn = paired_bootstrap(first, codes, replicates=200, seed=0)
    assert [at.alpha for at in fused.fusion.grid] == list(ALPHAS)
    for at in fused.fusion.grid:
        assert at.values["rank@1"] == pytest.approx(np.nanmean(first[str(at.alpha)]), abs=1e-9)
        expected = percentiles(drawn[str(at.alpha)] - drawn["0.0"])
        assert at.differences["rank@1"] == pytest.approx(expected, abs=0.03)


def test_the_share_is_chosen_on_the_support_set_and_all_classes_are_judged(sets, other_classes):
    fused = check(**sets, fuse="auto", support=other_classes, **FAST)
    assert fused.fusion.chosen == "support"
    assert 0 < fused.fusion.alpha < 1
    assert fused.data == check(**sets, **FAST).data
    assert fused.metrics == check(**sets, fuse=fused.fusion.alpha, **FAST).metrics
    assert set(fused.fusion.classes) == set(other_classes[0].labels.tolist()) | set(other_classes[1].labels.tolist())


def test_without_a_support_set_one_half_of_the_classes_chooses_and_the_other_is_judged(sets):
    fused = check(**sets, fuse="auto", seed=3, **FAST)
    assert fused.fusion.chosen == "halves"
    apart = list(fused.fusion.classes)
    judged = {
        name: one.subset(np.flatnonzero(~np.isin(one.labels, apart)))
        for name, one in sets.items()
    }  # fmt: skip
    assert len(apart) == 20 + 3
    assert fused.metrics == check(**judged, fuse=fused.fusion.alpha, seed=3, **FAST).metrics
    assert any("only the others are judged" in note for note in fused.notes)
    assert set(check(**sets, fuse="auto", seed=4, **FAST).fusion.classes) != set(apart)


def test_a_useless_new_model_gets_no_share(sets):
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(16, 16)))[0].astype(np.float32)
    noise = sets["queries"].vectors @ turn
    useless = {name: one for name, one in sets.items() if name != "new_gallery"}
    useless["queries"] = replace(useless["queries"], vectors=noise)
    fused = check(**useless, fuse="auto", **FAST)
    assert fused.fusion.alpha == 0
    assert not fused.compatible
    assert any("No share" in note for note in fused.notes)


def point(alpha: float, *values: tuple[float, float]) -> FusionPoint:
    return FusionPoint(
        alpha=alpha,
        values={f"m{place}": value for place, (value, _) in enumerate(values)},
        differences={f"m{place}": (low, 1.0) for place, (_, low) in enumerate(values)},
    )


def test_the_best_mean_is_taken_of_the_shares_that_are_nowhere_possibly_below():
    status_quo = point(0.0, (0.5, 0.0), (0.5, 0.0))
    assert best_share([status_quo, point(0.3, (0.6, 0.0), (0.6, 0.01)), point(0.6, (0.9, -0.01), (0.9, 0.2))]) == 0.3
    assert best_share([status_quo, point(0.3, (0.4, 0.0), (0.4, 0.0))]) == 0
    assert best_share([status_quo, point(0.3, (0.5, 0.0), (0.5, 0.0))]) == 0
    assert best_share([status_quo, point(0.2, (0.6, 0.1), (0.7, 0.1)), point(0.4, (0.7, 0.1), (0.6, 0.1))]) == 0.2


def test_what_is_refused(sets, other_classes):
    for wrong in (1.5, -0.1, float("nan"), True, "half"):
        with pytest.raises(InputError, match="share of the new query, from 0 to 1, or auto"):
            check(**sets, fuse=wrong, **FAST)
    with pytest.raises(InputError, match="--fuse auto"):
        check(**sets, fuse=0.5, support=other_classes, **FAST)
    judged = sets["queries"], sets["gallery"], sets["baseline"]
    with pytest.raises(InputError, match="not judged, but 46 are in both, such as '16777216'"):
        check(**sets, fuse="auto", support=judged, **FAST)
    with pytest.raises(SpaceError, match="expected support queries in the space of queries"):
        check(**sets, fuse="auto", support=(other_classes[2], *other_classes[1:]), **FAST)
    few = np.isin(sets["queries"].labels - 2**24, [0, 1, 2]), np.isin(sets["gallery"].labels - 2**24, [0, 1, 2])
    small = {
        name: one.subset(np.flatnonzero(few["gallery" in name])) for name, one in sets.items()
    }  # fmt: skip
    with pytest.raises(InputError, match="4 that queries and gallery share are needed, got 3"):
        check(**small, fuse="auto", **FAST)
    mated = np.flatnonzero(np.isin(other_classes[0].labels, other_classes[1].labels))
    support = (other_classes[0].subset(mated), other_classes[1], other_classes[2].subset(mated))
    with pytest.raises(InputError, match="cannot be measured: this data has no"):
        check(**sets, fuse="auto", support=support, **FAST | {"metrics": ["rank@1", "TPIR@FPIR=0.1"]})


@pytest.fixture
def files(sets, other_classes, tmp_path, monkeypatch):
    names = {"new_q": sets["queries"], "old_g": sets["gallery"], "old_q": sets["baseline"]}
    names |= dict(zip(("s_new_q", "s_old_g", "s_old_q"), other_classes, strict=True))
    for name, one in names.items():
        one.save(tmp_path / name)
    monkeypatch.chdir(tmp_path)


CHECK = "check --queries new_q --gallery old_g --baseline old_q --metric rank@1 --metric mAP --replicates 200"
SUPPORT = "--support-queries s_new_q --support-gallery s_old_g --support-baseline s_old_q"


def test_the_command_line(files, sets, other_classes, capsys):
    assert run(f"{CHECK} --fuse auto {SUPPORT} --json c.json --report r".split()) == 0
    out = " ".join(capsys.readouterr().out.split())
    made = json.loads(Path("c.json").read_text())
    alpha = made["fusion"]["alpha"]
    assert f"fused queries: {1 - alpha:g} old + {alpha:g} new, chosen on a support set (36 classes, none of them" in out
    assert "Queries fused of both models may search the old gallery" in out
    page = Path("r/report.html").read_text(encoding="utf-8")
    assert "Query fusion" in page
    assert "Share of the new query" in page
    assert "--fuse auto" in page
    assert run(f"{CHECK} --fuse 0.5 --json - ".split()) == 0
    assert json.loads(capsys.readouterr().out)["fusion"]["alpha"] == 0.5


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--fuse much", "a share from 0 to 1, or auto, got 'much'"),
        ("--fuse 2", "from 0 to 1, or auto, got 2.0"),
        (f"--fuse 0.5 {SUPPORT}", "go together, with --fuse auto"),
        ("--fuse auto --support-queries s_new_q", "go together, with --fuse auto"),
    ],
)
def test_wrong_options_are_refused_in_one_line(files, capsys, options, told):
    assert run(f"{CHECK} {options}".split()) == 2
    error = capsys.readouterr().err
    assert told in error.replace("\n", " ")
    assert "Traceback" not in error
