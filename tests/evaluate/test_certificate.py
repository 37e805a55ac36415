from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.metrics import tar_at_far


@pytest.fixture(scope="module")
def certificate(world):
    return check(**world.sets("new_gallery", "paragon"), metrics=["rank@1", "TAR@FAR=1e-2"], replicates=200, examples=6)


def test_a_saved_certificate_is_read_back_as_it_was(certificate, tmp_path):
    certificate.save(tmp_path / "certificate.json")
    assert Certificate.load(tmp_path / "certificate.json") == certificate
    assert json.loads((tmp_path / "certificate.json").read_text()) == certificate.to_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["certificate.json"]


def test_a_certificate_without_the_optional_tests_is_read_back_too(world, tmp_path):
    bare = check(**world.sets(), metrics=["mAP"], replicates=50)
    bare.save(tmp_path / "bare.json")
    assert Certificate.load(tmp_path / "bare.json") == bare


def test_the_json_has_the_documented_shape(certificate):
    value = certificate.to_dict()
    assert list(value) == [
        "format", "samespace", "created", "seed", "replicates", "confidence", "compatible", "old_space", "new_space",
        "paragon_space", "data", "options", "metrics", "strict", "flips", "backfill", "sweep",
        "calibrations", "genuine", "curves", "examples", "notes",
    ]  # fmt: skip
    assert set(value["metrics"]["rank@1"]) == {
        "old", "cross", "new", "paragon", "control", "difference", "absolute_gain", "update_gain",
        "update_gain_interval", "criterion", "compatible", "intervals", "paragon_lead", "swap",
    }  # fmt: skip
    assert value["format"] == "samespace.certificate/1"
    assert value["old_space"]["name"] == "old"
    assert len(value["curves"]["cmc"]["cross"]) == 20
    histograms = value["curves"]["histograms"]
    assert len(histograms["edges"]) == 51
    width = histograms["edges"][1] - histograms["edges"][0]
    for test in ("old", "cross", "new"):
        for kind in ("genuine", "impostor"):
            assert sum(histograms[test][kind]) * width == pytest.approx(1.0, abs=1e-4)


def test_the_roc_curve_is_tar_at_every_rate(world, certificate):
    left, right = (s.vectors / np.linalg.norm(s.vectors, axis=1, keepdims=True) for s in (world.queries, world.gallery))
    scores = left @ right.T
    mates = world.queries.labels[:, None] == world.gallery.labels[None]
    curve = certificate.curves.roc["cross"]
    for far, tar in zip(curve.far, curve.tar, strict=True):
        assert tar == pytest.approx(tar_at_far(scores[mates], scores[~mates], far), abs=0.006)
    assert list(curve.tar) == sorted(curve.tar)


def test_examples_show_what_each_test_finds(world, certificate):
    assert len(certificate.examples) == 6
    kinds = [example.kind for example in certificate.examples]
    assert "fixed" in kinds
    left, right = (s.vectors / np.linalg.norm(s.vectors, axis=1, keepdims=True) for s in (world.queries, world.gallery))
    for example in certificate.examples:
        row = int(np.flatnonzero(world.queries.ids == example.query.id)[0])
        assert example.query.label == world.queries.labels[row]
        order = np.argsort(-(left[row] @ right.T))[:5]
        assert [item.id for item in example.cross] == world.gallery.ids[order].tolist()
        for item in example.cross:
            assert item.mate == (item.label == example.query.label)
        right_before, right_after = example.old[0].mate, example.cross[0].mate
        kind = {(0, 1): "fixed", (1, 0): "broken", (0, 0): "both-wrong", (1, 1): "both-right"}
        assert example.kind == kind[right_before, right_after]


def test_a_compatible_certificate_links_its_two_spaces_and_no_others(world, certificate):
    old, new = world.gallery.space, world.queries.space
    assert certificate.compatible
    assert certificate.links(old, new)
    assert not certificate.links(new, old)
    assert not certificate.links(old, world.paragon[0].space)
    assert not replace(certificate, compatible=False).links(old, new)


def test_undeclared_spaces_are_never_linked(world):
    bare = replace(world.queries, space=None)
    result = check(**{**world.sets(), "queries": bare}, metrics=["rank@1"], replicates=50)
    assert result.compatible
    assert result.to_dict()["new_space"] == {"id": None, "name": "new query", "dim": 16}
    assert not result.links(world.gallery.space, world.queries.space)


def test_where_every_set_declares_its_space_no_note_says_otherwise(certificate):
    assert not any("declares no space" in note for note in certificate.notes)


@pytest.mark.parametrize(("side", "companion"), [("queries", "new_gallery"), ("gallery", "baseline")])
def test_a_companion_does_not_vouch_for_an_undeclared_space(world, side, companion):
    sets = world.sets("new_gallery")
    result = check(**{**sets, side: replace(sets[side], space=None)}, metrics=["rank@1"], replicates=50)
    assert result.compatible
    assert (result.new_space if side == "queries" else result.old_space).id is None
    assert not result.links(world.gallery.space, world.queries.space)
    expected = f"{sets[side].name} declares no space, though {sets[companion].name} does"
    assert sum(expected in note for note in result.notes) == 1


def test_a_metric_that_was_not_measured_is_named(certificate):
    with pytest.raises(InputError, match="did you mean 'rank@1'"):
        certificate["rank@5"]


MALFORMED = {
    "not json": (lambda value: "{", "not valid JSON"),
    "a list": (lambda value: "[]", "JSON list"),
    "another format": (lambda value: {**value, "format": "other/2"}, "expected a certificate of format"),
    "no metrics": (lambda value: {key: value[key] for key in value if key != "metrics"}, "'metrics' should be a dict"),
    "text for a number": (
        lambda value: {**value, "metrics": {"rank@1": {**value["metrics"]["rank@1"], "old": "high"}}},
        "metric 'rank@1': 'old' should be a number",
    ),
    "half an interval": (
        lambda value: {**value, "metrics": {"rank@1": {**value["metrics"]["rank@1"], "difference": [0.1]}}},
        "an interval",
    ),
    "verdict altered": (lambda value: {**value, "compatible": not value["compatible"]}, "altered"),
    "space altered": (lambda value: {**value, "old_space": {**value["old_space"], "dim": 9}}, "altered"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_certificate_is_refused_in_one_line(certificate, tmp_path, case):
    change, message = MALFORMED[case]
    value = change(certificate.to_dict())
    path = tmp_path / "certificate.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    with pytest.raises(InputError, match=message) as caught:
        Certificate.load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_certificate_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Certificate.load(tmp_path / "none.json")


STORED = Path(__file__).with_name("stored") / "certificate.json"


def stored() -> dict:
    return json.loads(STORED.read_text())


def test_a_stored_certificate_is_read_and_written_again_to_the_letter(tmp_path):
    """Made by `samespace check` before certificates had types; lists cut short."""
    found = Certificate.load(STORED)
    found.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == STORED.read_text()
    assert found["mAP"].update_gain == stored()["metrics"]["mAP"]["update_gain"]
    assert found.sweep.orders["distance"]["raw"].points[-1].share == 1.0


OLDER = {
    "no sweep and calibrations": lambda value: [value.pop(key) for key in ("sweep", "calibrations")],
    "no new gallery": lambda value: value.update(
        backfill=None, sweep=None, flips={**value["flips"], "new": None},
        curves={**value["curves"], "roc": {**value["curves"]["roc"], "new": None}},
    ),
    "no paragon": lambda value: [value.pop("paragon_space"), value["metrics"]["mAP"].update(paragon=None)],
    "no swap": lambda value: [metric.pop("swap") for metric in value["metrics"].values()],
    "a benchmark": lambda value: value.update(
        strict={}, flips={}, curves={}, examples=[], backfill=None, options={"benchmark": "IJB-C", "prefix": False}
    ),
    "undeclared": lambda value: value.update(old_space={"id": None, "name": "v", "dim": 64}),
    "whole numbers": lambda value: value["metrics"]["mAP"].update(control=0),
}  # fmt: skip


@pytest.mark.parametrize("case", OLDER)
def test_certificates_without_optional_parts_are_read(case):
    value = stored()
    OLDER[case](value)
    again = Certificate.from_dict(value).to_dict()
    assert {key: again[key] for key in value if key != "metrics"} == {
        key: value[key] for key in value if key != "metrics"
    }
    assert list(again) == list(Certificate.load(STORED).to_dict())


MISTAKEN = {
    "at the top": (lambda v: v.update(sweeep=None), "certificate: unknown key 'sweeep'; did you mean 'sweep'?"),
    "in a metric": (
        lambda v: v["metrics"]["mAP"].update(crosss=1.0),
        "certificate: 'metrics': 'mAP': unknown key 'crosss'; did you mean 'cross'?",
    ),
    "in a stage": (
        lambda v: v["sweep"]["orders"]["distance"]["raw"]["points"][1].update(sahre=1.0),
        "'raw': 'points': unknown key 'sahre'; did you mean 'share'?",
    ),
    "kind": (lambda v: v["examples"][0].update(kind="mended"), "'examples': item 1: 'kind' should be one of 'fixed'"),
    "share": (
        lambda v: v["sweep"]["orders"]["distance"]["raw"]["points"][1].update(share="all"),
        "'sweep': order 'distance': 'raw': 'points': item 2: 'share' should be a number, got 'all'",
    ),
    "lacking": (lambda v: v["flips"]["cross"].pop("positive"), "flip 'cross': 'positive' should be a number, got None"),
    "calibration": (
        lambda v: v["calibrations"]["new"].update(slope=-1.0),
        "calibration 'new': a calibration needs a finite slope above 0",
    ),
    "mixed verdict": (lambda v: v["metrics"]["mAP"].update(compatible=False), "the verdict does not follow"),
}


@pytest.mark.parametrize("case", MISTAKEN)
def test_what_is_wrong_in_a_certificate_is_named_with_its_place(case):
    change, message = MISTAKEN[case]
    value = stored()
    change(value)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Certificate.from_dict(value)
    assert "\n" not in str(caught.value)


def test_a_certificate_without_the_spread_of_genuine_scores_is_read_and_written_without(certificate):
    value = certificate.to_dict()
    assert value["genuine"]["cross"].keys() == {"mean", "std"}
    del value["genuine"]
    older = Certificate.from_dict(value)
    assert older.genuine == {}
    assert older.to_dict() == value
