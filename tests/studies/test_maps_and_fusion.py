"""The rows of `beyond` that train nothing of their own: mapped galleries, fused queries, a black box."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest

from samespace.bridge import Bridge, fit, fuse
from samespace.evaluate import Certificate
from samespace.studies import Plan, beyond, jobs, load_settings, reproduce
from samespace.studies.study import Pair
from samespace.vectors import VectorSet

GLYPHS = "glyphs:classes=30,images=6,size=16"
PLAIN = Pair("matched-open-class", "old-classes", "paragon-classes")
BLACK_BOX = replace(PLAIN, new="paragon-classes")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    settings = load_settings("small", ("optim.epochs=2", "optim.batch_size=64", "check.replicates=100"))
    out = tmp_path_factory.mktemp("beyond") / "out"
    plan = Plan(beyond(), settings, GLYPHS, out, (0,), ("5",), ("open-class",))
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "fit", functools.partial(fit, method="affine"))
        reproduce(plan, workers=1, say=said.append, quiet=True)
    return plan, said


def vectors(plan: Plan, model: str, part: str) -> VectorSet:
    return VectorSet.load(plan.vectors_folder(model, 0, part))


def rank1(queries: VectorSet, found: np.ndarray, gallery: VectorSet, searched: np.ndarray) -> float:
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (found, searched)]
    best = gallery.labels[(unit[0] @ unit[1].T).argmax(axis=1)]
    return float((best == queries.labels)[np.isin(queries.labels, gallery.labels)].mean())


def test_each_map_is_learnt_once_and_no_model_is_trained_for_these_rows(finished):
    plan, said = finished
    assert said[0] == "3 models, 3 maps, 6 comparisons; 12 to do, 0 there already; 1 worker"
    assert sum("check matched-open-class on old-classes, gallery-mapped, fused-0.667 (seed 0)" in line for line in said)
    assert sum("bridge paragon-classes on old-classes, query (seed 0)" in line for line in said)
    again: list[str] = []
    assert reproduce(plan, workers=1, say=again.append, quiet=True).done == 0
    assert again == ["3 models, 3 maps, 6 comparisons: everything is there, nothing to do"]


def test_every_row_has_the_rank_of_its_vectors_written_out(finished):
    plan, _ = finished
    queries, new = (vectors(plan, model, "queries") for model in ("old-classes", "matched-open-class"))
    gallery, free = vectors(plan, "old-classes", "gallery"), vectors(plan, "paragon-classes", "queries")
    bridges = {
        (one.new, one.bridge): Bridge.load(plan.bridge(one, 0))
        for one in (
            replace(PLAIN, bridge="gallery"),
            replace(BLACK_BOX, bridge="gallery"),
            replace(BLACK_BOX, bridge="query"),
        )
    }
    to_new, to_free = (bridges[name, "gallery"] for name in ("matched-open-class", "paragon-classes"))
    mapped = to_new.apply(gallery).vectors
    both = fuse(to_new.apply(queries).vectors, new.vectors, 2 / 3)
    rows = {
        PLAIN: (new.vectors, gallery.vectors),
        replace(PLAIN, fuse=0.5): (fuse(queries.vectors, new.vectors, 0.5), gallery.vectors),
        replace(PLAIN, bridge="gallery"): (new.vectors, mapped),
        replace(PLAIN, bridge="gallery", fuse=2 / 3): (both, mapped),
        replace(BLACK_BOX, bridge="gallery"): (free.vectors, to_free.apply(gallery).vectors),
        replace(BLACK_BOX, bridge="query"): (
            bridges["paragon-classes", "query"].apply(free).vectors,
            gallery.vectors,
        ),
    }
    assert set(rows) == set(plan.shown.pairs())
    for pair, sides in rows.items():
        found = Certificate.load(plan.certificate(pair, 0))["rank@1"]
        assert found.cross == pytest.approx(rank1(queries, sides[0], gallery, sides[1])), pair.key
        assert found.old == pytest.approx(rank1(queries, queries.vectors, gallery, gallery.vectors)), pair.key


def test_the_table_shows_the_cross_test_of_each_and_the_self_test_of_models_only(finished):
    plan, _ = finished
    (table,) = json.loads((plan.out / "study.json").read_text())["tables"]
    shown = {
        row["short"] or row["labels"][1]: [cell["mean"] is not None for cell in row["cells"]] for row in table["rows"]
    }
    gains = slice(4, 6)  # there where the paragon leads beyond noise
    for name, there in shown.items():
        there[gains] = [False, False]
        cross, own = [True] * 4, [True] * 4
        if name in ("old model", "paragon"):
            cross = [False] * 4
        elif name != "open-class: matched":
            own = [False] * 4
        assert there == [*cross, False, False, *own], name
    assert len(shown) == 8


def test_a_benchmark_has_no_such_rows(finished):
    plan, _ = finished
    check = replace(plan.settings.check, benchmark="market1501", files="here", images="here")
    shown = replace(plan, settings=replace(plan.settings, check=check)).shown
    assert shown.pairs() == [PLAIN]
