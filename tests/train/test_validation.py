"""Classes kept out of a training: what is measured on them, what is kept, and that nothing else changes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

import samespace.train.loop as loop
from samespace.cli.main import run as cli
from samespace.data import open_source
from samespace.data.source import subset
from samespace.errors import InputError
from samespace.metrics import tar_at_far
from samespace.models import Classifier, Embedder
from samespace.models.extract import embed_rows
from samespace.train import Interrupted, parse_recipe, run
from samespace.train.old_side import align
from samespace.train.sections import ValidationSection
from samespace.train.validation import validation_lines, validation_slice
from samespace.vectors import VectorSet

GLYPHS = "glyphs:classes=14,images=12,size=16,seed=3"


def plan(old: Path | None = None, **sections) -> dict:
    return {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": 16},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": {"epochs": 3, "batch_size": 32, "lr": 0.05},
        "augment": {"rotate": 10.0},
        "run": {"device": "cpu"},
        "validation": {"classes": 4, "every": 2, "metrics": ["rank@1", "TAR@FAR=1e-1"]},
        **({} if old is None else {"compatibility": {"old_model": str(old)}, "seed": 1}),
        **sections,
    }


@pytest.fixture(scope="module")
def old_model(tmp_path_factory) -> Path:
    return run(parse_recipe(plan(validation={})), tmp_path_factory.mktemp("old") / "v1", quiet=True).model


@pytest.fixture(scope="module")
def trained(old_model, tmp_path_factory) -> Path:
    recipe = parse_recipe(plan(old_model), ["validation.keep_best=true", "run.checkpoint_minutes=0"])
    return run(recipe, tmp_path_factory.mktemp("new") / "v2", quiet=True).model.parent


def lines_of(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "images_per_second", "validation_seconds")
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def measured(out: Path) -> list[dict]:
    return [line for line in lines_of(out) if line["kind"] == "validation"]


def vectors(model: Path, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
    source = open_source(GLYPHS)
    rows = np.array([source.ids.tolist().index(name) for name in ids])
    return embed_rows(Embedder.load(model), subset(source, rows)), source.labels[rows]


def test_the_values_are_those_of_the_metrics_on_the_named_images(old_model, trained):
    apart = json.loads((trained / "validation.json").read_text())
    (old_q, asked), (old_g, stored) = (vectors(old_model, apart[side]) for side in ("queries", "gallery"))
    (new_q, _), (new_g, _) = (vectors(trained / "model", apart[side]) for side in ("queries", "gallery"))
    kept = json.loads((trained / "training.json").read_text())["validation"]["kept"]
    (line,) = [line for line in measured(trained) if (line["epoch"], line["step"]) == (kept["epoch"], kept["step"])]
    mates = asked[:, None] == stored[None, :]
    for test, queries, gallery in (("old", old_q, old_g), ("cross", new_q, old_g), ("new", new_q, new_g)):
        scores = queries @ gallery.T
        right = asked == stored[scores.argmax(1)]
        assert line[f"rank@1/{test}"] == pytest.approx(right.mean(), abs=1e-6)
        assert line[f"TAR@FAR=1e-1/{test}"] == pytest.approx(tar_at_far(scores[mates], scores[~mates], 0.1), abs=1e-6)


def test_the_classes_are_disjoint_from_those_trained_on_and_recorded(trained):
    apart = json.loads((trained / "validation.json").read_text())
    about = json.loads((trained / "training.json").read_text())
    learnt = Classifier.load(trained / "model" / "classifier.safetensors").classes
    assert len(learnt) == about["classes"] == 10
    assert set(learnt) | set(apart["classes"]) == set(open_source(GLYPHS).classes)
    assert not set(learnt) & set(apart["classes"])
    assert about["validation"]["classes"] == apart["classes"]
    assert about["validation"]["classes_known_to_old"] == 4
    assert not set(apart["queries"]) & set(apart["gallery"])
    assert {name.rpartition("/")[0] for name in apart["queries"] + apart["gallery"]} == set(apart["classes"])


def test_the_best_model_by_the_cross_test_is_the_result(trained):
    kept = json.loads((trained / "training.json").read_text())["validation"]["kept"]
    values = [line["rank@1/cross"] for line in measured(trained)]
    assert (kept["metric"], kept["test"], kept["value"]) == ("rank@1", "cross", max(values))
    first = measured(trained)[values.index(max(values))]
    assert (kept["epoch"], kept["step"]) == (first["epoch"], first["step"])
    assert not (trained / "best.safetensors").exists()


@pytest.mark.parametrize("stop", ["interrupt", "kill"])
def test_a_stopped_training_ends_as_one_never_stopped(old_model, trained, tmp_path, monkeypatch, stop):
    """Also where the best model was written and the checkpoint of the same step was not."""
    recipe = parse_recipe(plan(old_model), ["validation.keep_best=true", "run.checkpoint_minutes=0"])
    real, calls = loop.save_checkpoint, []

    def stopped(*arguments, **options):
        calls.append(1)
        if len(calls) == 4 and stop == "kill":
            raise SystemExit(9)
        real(*arguments, **options)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "save_checkpoint", stopped)
    with pytest.raises((SystemExit, Interrupted)):
        run(recipe, tmp_path / "v2", quiet=True)
    monkeypatch.setattr(loop, "save_checkpoint", real)
    run(recipe, tmp_path / "v2", quiet=True)
    for name in ("model/model.safetensors", "model/classifier.safetensors", "validation.json"):
        assert (tmp_path / "v2" / name).read_bytes() == (trained / name).read_bytes()
    assert lines_of(tmp_path / "v2") == lines_of(trained)
    one, two = (json.loads((out / "training.json").read_text())["validation"] for out in (tmp_path / "v2", trained))
    assert one == two


def test_measuring_changes_no_weight(old_model, tmp_path):
    """Only the images differ where classes are kept apart: how often they are measured changes nothing."""
    often = run(parse_recipe(plan(old_model), ["validation.every=1"]), tmp_path / "often", quiet=True).model
    rarely = run(parse_recipe(plan(old_model), ["validation.every=1000"]), tmp_path / "rarely", quiet=True).model
    assert (often / "model.safetensors").read_bytes() == (rarely / "model.safetensors").read_bytes()
    assert len(measured(rarely.parent)) == 1, "the last step is always measured"
    assert measured(rarely.parent)[0] == measured(often.parent)[-1]


def test_without_an_old_model_only_the_model_itself_is_measured(tmp_path):
    trained = run(parse_recipe(plan(), ["validation.every=epoch"]), tmp_path / "v1", quiet=True)
    assert len(measured(tmp_path / "v1")) == 3
    tests = {name.rpartition("/")[2] for name in measured(tmp_path / "v1")[0] if "/" in name}
    assert tests == {"new"}
    assert trained.validation["kept"] is None


def test_a_paragon_is_measured_against_the_old_model_and_not_across(old_model, tmp_path):
    recipe = parse_recipe(plan(), [f"validation.old_model={old_model}", "optim.epochs=1", "validation.keep_best=true"])
    kept = run(recipe, tmp_path / "p", quiet=True).validation["kept"]
    assert {name.rpartition("/")[2] for name in measured(tmp_path / "p")[0] if "/" in name} == {"new", "old"}
    assert kept["test"] == "new"


def test_a_wider_model_is_compared_by_its_leading_dimensions(old_model, tmp_path):
    changes = ["model.embedding_dim=24", "compatibility.prefix=true", "optim.epochs=1"]
    out = run(parse_recipe(plan(old_model), changes), tmp_path / "wide", quiet=True).model.parent
    apart = json.loads((out / "validation.json").read_text())
    new, asked = vectors(out / "model", apart["queries"])
    old, stored = vectors(old_model, apart["gallery"])
    right = asked == stored[(new[:, :16] @ old.T).argmax(1)]
    assert measured(out)[-1]["rank@1/cross"] == pytest.approx(right.mean(), abs=1e-6)


def test_a_training_without_the_section_leaves_the_files_it_left_before(old_model):
    assert not (old_model.parent / "validation.json").exists()
    assert "validation" not in json.loads((old_model.parent / "training.json").read_text())
    assert not measured(old_model.parent)


def test_every_class_is_measured_before_any_gives_a_second_image():
    source = open_source("glyphs:classes=30,images=6,size=16")
    for images, each in ((20, 1), (44, 2), (2000, 3)):
        apart = validation_slice(source, ValidationSection(classes=10, images=images))
        counts = np.bincount(apart.images.labels[: apart.queries]), np.bincount(apart.images.labels[apart.queries :])
        assert len(apart.images) <= images
        assert {int(value) for side in counts for value in side} <= {each, each + 1}
        assert apart.apart == 60
        assert len(apart.training) == 120
    few = validation_slice(source, ValidationSection(classes=10, images=8))
    assert sorted(few.images.labels[:4]) == sorted(few.images.labels[4:]) == [0, 1, 2, 3]
    assert validation_slice(source, ValidationSection(classes=1 / 3)).classes == apart.classes


def test_stored_vectors_without_ids_may_be_of_the_whole_source():
    source = open_source(GLYPHS)
    values = np.random.default_rng(0).standard_normal((len(source), 4)).astype(np.float32)
    stored = VectorSet.from_arrays(values)
    part = subset(source, np.arange(10, 100))
    apart = validation_slice(part, ValidationSection(classes=3))
    taken = align(stored, apart.images)
    rows = [source.ids.tolist().index(name) for name in apart.images.ids]
    assert np.array_equal(taken.vectors, values[rows])


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"keep_best": True}, "does nothing without validation.classes"),
        ({"classes": 1.5}, "a share below 1 or a whole number from 2, got 1.5"),
        ({"classes": 0.1, "every": 0}, "validation.every should be at least 1"),
        ({"classes": 0.1, "metrics": []}, "no metric asked for"),
        ({"classes": 0.1, "metrics": ["rank1"]}, "unknown metric 'rank1'"),
        ({"classes": 0.1, "every": "day"}, r"validation.every is 'day'.*epoch"),
        ({"classes": 0.1, "old_model": "a"}, "remove it"),
    ],
)
def test_a_section_that_cannot_be_meant_is_refused(section, message):
    with pytest.raises(InputError, match=message):
        parse_recipe(plan(Path("v1"), validation=section))


def test_too_many_classes_or_none_with_two_images_are_refused(tmp_path):
    with pytest.raises(InputError, match="keeps 13 of 14 classes apart; both sides need at least 2"):
        run(parse_recipe(plan(), ["validation.classes=13"]), tmp_path / "a", quiet=True)
    single = plan(data={"source": "glyphs:classes=14,images=1,size=16"})
    with pytest.raises(InputError, match="none of the 4 classes kept apart has two images"):
        run(parse_recipe(single), tmp_path / "b", quiet=True)


def test_a_certificate_says_what_was_chosen_and_which_classes_were_trained_on(old_model, trained, tmp_path):
    for model, name in ((old_model, "old"), (trained, "new")):
        command = ["embed", str(model), GLYPHS, "--out", str(tmp_path / name), "--device", "cpu", "--quiet"]
        assert cli([*command, "--json", str(tmp_path / "embedded.json")]) == 0
    sets = {"--queries": "new", "--gallery": "old", "--baseline": "old"}
    arguments = [text for option, name in sets.items() for text in (option, str(tmp_path / name))]
    cli(["check", *arguments, "--replicates", "100", "--json", str(tmp_path / "c.json")])
    notes = " ".join(json.loads((tmp_path / "c.json").read_text())["notes"])
    assert "10 of the 14 checked classes have the names of classes that the new model was trained on" in notes
    assert "4 of the 14 checked classes have the names of classes that the new model was validated on" in notes
    assert "14 of the 14 checked classes have the names of classes that the old model was trained on" in notes
    assert "best by rank@1 cross was kept, chosen on 4 classes that it was not trained on." in notes


@pytest.mark.parametrize(
    ("cross", "new", "told"),
    [(0.6, 0.8, None), (0.5, 0.8, "train longer (twice optim.epochs)"), (0.4, 0.45, "nothing to pass on yet")],
)
def test_the_end_says_what_a_successor_lacks(cross, new, told):
    last = {"rank@1/cross": cross, "rank@1/new": new, "rank@1/old": 0.5, "mAP/cross": 0.1, "mAP/old": 0.2}
    summary = {"classes": ["a", "b"], "images": 8, "last": last, "kept": None}
    lines = validation_lines(summary)
    assert len(lines) == 1 + (told is not None)
    assert told is None or told in lines[1]
    assert len(validation_lines({**summary, "classes_known_to_old": 1})) == 2
