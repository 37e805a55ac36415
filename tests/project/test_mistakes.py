"""What a user can get wrong on the short way: one line, status 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from samespace import Embedder
from samespace.cli.main import run
from samespace.evaluate.diagnosis.commands import of_recipe
from samespace.models import EmbedderConfig, Preprocessing
from samespace.project.settings import Project, folder_of


def pictures(folder: Path, classes: int, images: int, channels: int = 3) -> None:
    random = np.random.default_rng(0)
    for name in range(classes):
        for number in range(images):
            place = folder / f"c{name:02}" / f"{number}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (16, 16, channels), dtype=np.uint8)).save(place)


def vectors(path: Path, ids: list[str], dim: int = 8) -> None:
    np.savez(path, vectors=np.random.default_rng(0).standard_normal((len(ids), dim)), ids=np.array(ids))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "images", 12, 3)
    return tmp_path


def refused(capsys, *arguments: str) -> str:
    assert run(list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len([line for line in lines if line.startswith("samespace: error: ")]) == 1, captured.err
    assert "Traceback" not in captured.err
    return lines[-1]


@pytest.mark.parametrize(
    ("classes", "images", "says"),
    [(1, 9, "1 class of two images or more"), (3, 1, "0 classes of two images or more"), (5, 2, "at least 6")],
    ids=["one class", "three images", "five classes"],
)
def test_too_few_classes(tmp_path, monkeypatch, capsys, classes, images, says):
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "few", classes, images)
    assert says in refused(capsys, "start", "few", "--quiet")
    assert not Path("project.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "'nowhere' does not exist"),
        (["images", "--old", "nowhere"], "is not a model folder"),
        (["images", "--old-vectors", "nowhere.npz"], "nowhere.npz does not exist"),
        (["images", "--old", "m8", "--old-vectors", "v.npz"], "not both"),
        (["images", "--old-vectors", "v.npz"], "none of the 3 ids in v.npz, such as 'x/1.png'"),
        (["images", "--old-vectors", "bare.npz"], "bare.npz has no ids"),
        (["images", "--old-vectors", "twice.npz"], "two ids in twice.npz name one image, 'c00/0.png'"),
        (["images", "--old-vectors", "few.npz"], "1 class of two images or more"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_start(here, capsys, arguments, says):
    Embedder(EmbedderConfig("convnet4", 8, Preprocessing(16, 1)), name="m8").save(here / "m8")
    vectors(here / "v.npz", ["x/1.png", "x/2.png", "y/1.png"])
    vectors(here / "twice.npz", ["a/c00/0.png", "b/c00/0.png"])
    vectors(here / "few.npz", ["c00/0.png", "c00/1.png"])
    np.savez(here / "bare.npz", vectors=np.eye(8))
    assert says in refused(capsys, "start", *arguments, "--quiet")
    assert not Path("project.yaml").exists()


GOOD = {"images": "images", "size": 16, "network": {"backbone": "convnet4", "dim": 8}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"imags": "x"}, "unknown project key 'imags'; did you mean 'images'?"),
        ({"budget": {"epoch": 3}}, "did you mean 'epochs'?"),
        ({"budget": {"epochs": "many"}}, "budget.epochs should be a whole number"),
        ({"budget": {"epochs": 0}}, "epochs should be at least 1"),
        ({"split": {"check": 1.5}}, "split.check must lie between 0 and 1"),
        ({"methods": ["match"]}, "unknown method 'match'"),
        ({"methods": ["none"]}, "'none' trains the paragon"),
        ({"methods": ["matched", "l2"], "split": {"validation": 0}}, "give it a share"),
        ({"metrics": ["rank@one"]}, "rank@one"),
        ({"metrics": []}, "metrics is empty"),
        ({"images": "nowhere"}, "'nowhere' does not exist"),
        ({"old": "m16"}, "network.dim is 8, but the old model's vectors have 16 dimensions"),
        ({"old": "grey"}, "set network.channels to 1"),
        ({"old": "m16", "old_vectors": "v.npz"}, "old and old_vectors are both given"),
        ({"old_vectors": "v.npz", "methods": ["bct"]}, "'bct' needs its classifier"),
        ({"network": {"backbone": "resnet"}}, "unknown backbone 'resnet'"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"size": 16.5}, "project.yaml: size should be a side in pixels"),
        ({"size": True}, "[height, width] of such, got True"),
        ({"size": -16}, "project.yaml: size should be a side in pixels"),
        ({"size": [16, 0]}, "got [16, 0]"),
        ({"out": "images"}, "out: images is or lies in the folder of the images"),
        ({"out": "images/../images/made"}, "name a folder outside of it"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_project_files(here, capsys, change, says):
    for name, dim, channels in (("m16", 16, 3), ("grey", 8, 1)):
        Embedder(EmbedderConfig("convnet4", dim, Preprocessing(16, channels)), name=name).save(here / name)
    vectors(here / "v.npz", [f"c{name:02}/{number}.png" for name in range(12) for number in range(3)])
    Path("project.yaml").write_text(yaml.safe_dump({**GOOD, **change}))
    assert says in refused(capsys, "build", "project.yaml", "--quiet")
    assert not Path("project").exists()


@pytest.mark.parametrize("text", ["images: [", "\x00", "- images\n", "just text", "", "images: null"])
def test_files_that_are_no_project(here, capsys, text):
    Path("project.yaml").write_text(text)
    assert "project.yaml" in refused(capsys, "build", "project.yaml")


def test_a_project_that_is_not_there(here, capsys):
    assert "project.yaml does not exist" in refused(capsys, "build", "project.yaml")
    assert "samespace start" in refused(capsys, "gallery", "upgrade", "live", "--from", "project.yaml")


def test_from_has_the_model_already(here, capsys):
    said = refused(capsys, "gallery", "upgrade", "live", "--from", "project.yaml", "--model", "m")
    assert "--from has the model and the certificate" in said


def test_start_keeps_what_is_made_out_of_the_images(here, capsys):
    for out in ("images/project.yaml", "images.yaml"):
        assert "lies in the folder of the images" in refused(capsys, "start", "images", "--out", out, "--quiet")
        assert not Path(out).exists()


def test_what_is_made_may_lie_around_or_beside_the_images(here):
    for out in (".", "images-made"):
        assert folder_of(Project("images", out=out), "project.yaml") == Path(out)


def test_advice_names_the_recipe_of_the_project():
    given = "samespace train recipe.yaml --out runs/closer --set compatibility.old_model=runs/v1/model"
    given += " --set compatibility.views=live"
    own = "samespace train p/recipes/new.yaml --out p/runs/closer"
    recipe, runs = Path("p/recipes/new.yaml"), Path("p/runs")
    assert of_recipe(given, recipe, runs, live=True) == f"{own} --set compatibility.views=live"
    assert of_recipe(given, recipe, runs, live=False) == own
    assert of_recipe("samespace check", recipe, runs, live=True) == "samespace check"


def test_a_file_in_the_way_of_the_folder(here, capsys):
    Path("project.yaml").write_text(yaml.safe_dump(GOOD))
    Path("project").write_text("mine")
    assert "project is a file" in refused(capsys, "build", "project.yaml", "--quiet")
    assert Path("project").read_text() == "mine"
