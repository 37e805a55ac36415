"""Trainings taken from another study: only the very same ones, whatever they are called, with their vectors."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.studies import Plan, beyond, load_settings, reproduce, takeable, unibct
from samespace.studies.taken import take

GLYPHS = "glyphs:classes=30,images=6,size=16"
QUICK = ("optim.epochs=2", "optim.batch_size=64", "check.replicates=100")
ROW = "extended-data UniBCT, mean"


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Plan:
    """A finished part of UniBCT's study, which has three of the models of `mine`."""
    out = tmp_path_factory.mktemp("other") / "out"
    made = Plan(
        unibct(), load_settings("small", QUICK), GLYPHS, out, (0,), ("2",), ("extended-data base base 100 % L*_uniBCT",)
    )
    reproduce(made, say=lambda line: None, quiet=True)
    return made


@pytest.fixture
def mine(tmp_path) -> Plan:
    return Plan(beyond(), load_settings("small", QUICK), GLYPHS, tmp_path / "out", (0,), ("1",), (ROW,))


def names(plan: Plan, *studies: Path) -> list[str]:
    return [one.job.name for one in takeable(plan, studies)]


def test_the_same_trainings_are_taken_and_nothing_is_trained(other, mine, capsys):
    said: list[str] = []
    result = reproduce(mine, models_from=[other.out], say=said.append, quiet=True)
    assert said[0] == f"3 trainings taken from {other.out}"
    assert result.done == 1  # the check
    for folder in ("models/paragon-all", "vectors/paragon-all"):
        theirs, ours = (plan.out / "seed0" / folder for plan in (other, mine))
        files = [file for file in theirs.rglob("*") if file.is_file()]
        assert files
        assert all(os.path.samefile(file, ours / file.relative_to(theirs)) for file in files)
    certificates = [Certificate.load(plan.certificate(plan.shown.pairs()[0], 0)) for plan in (other, mine)]
    assert certificates[0]["rank@1"] == certificates[1]["rank@1"]
    said.clear()
    assert reproduce(mine, models_from=[other.out], say=said.append, quiet=True).done == 0
    assert said[0].startswith(f"{other.out} has no training that is missing here: recipe, run.precision")


def test_where_links_cannot_be_the_files_are_copied(other, mine, monkeypatch):
    def refuse(file: str, place: str) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    take(mine, takeable(mine, [other.out]))
    theirs, ours = (plan.vectors_folder("paragon-all", 0, "gallery") / "vectors.npy" for plan in (other, mine))
    assert theirs.read_bytes() == ours.read_bytes()
    assert not os.path.samefile(theirs, ours)
    assert names(mine, other.out) == []


def edit(file: Path, *path: str, to: object) -> None:
    tree = yaml.safe_load(file.read_text()) if file.suffix == ".yaml" else json.loads(file.read_text())
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    file.write_text(yaml.safe_dump(tree) if file.suffix == ".yaml" else json.dumps(tree))


@pytest.mark.parametrize(
    ("file", "path", "value", "left"),
    [
        ("models/paragon-all/recipe.yaml", ("optim", "lr"), 0.07, {"paragon-all"}),
        ("models/paragon-all/recipe.yaml", ("run", "precision"), "bf16", {"paragon-all"}),
        ("models/paragon-all/recipe.yaml", ("seed",), 11, {"paragon-all"}),
        ("models/paragon-all/training.json", ("source",), "others", {"paragon-all"}),
        ("vectors/paragon-all/gallery/job.json", ("source",), "others", {"paragon-all"}),
        ("vectors/paragon-all/queries/job.json", ("space",), "others", {"paragon-all"}),
        ("models/mean-extended-data/recipe.yaml", ("compatibility", "weight"), 7.0, {"mean-extended-data"}),
        # what is tied to a model that is not the same is not the same either
        ("models/old-images/recipe.yaml", ("optim", "lr"), 0.07, {"old-images", "mean-extended-data"}),
        # of no account
        ("models/paragon-all/recipe.yaml", ("model", "name"), "other", set()),
        ("models/paragon-all/recipe.yaml", ("data", "source"), "elsewhere", set()),
        ("models/paragon-all/recipe.yaml", ("run", "checkpoint_minutes"), 3.0, set()),
    ],
)
def test_what_differs_in_any_way_that_counts_is_not_taken(other, mine, tmp_path, file, path, value, left):
    moved = tmp_path / "moved"
    shutil.copytree(other.out, moved)
    edit(moved / "seed0" / file, *path, to=value)
    everything = {"old-images", "paragon-all", "mean-extended-data"}
    assert set(names(mine, moved)) == everything - left
    # a second study has the rest
    assert set(names(mine, moved, other.out)) == everything


def test_an_old_model_that_is_here_already_must_be_the_one_that_the_other_study_tied_to(other, mine):
    shutil.copytree(other.out / "seed0", mine.out / "seed0")
    shutil.rmtree(mine.model_folder("mean-extended-data", 0))
    assert names(mine, other.out) == ["mean-extended-data"]
    edit(mine.model_folder("old-images", 0) / "training.json", "space", "weights", to="others")
    assert names(mine, other.out) == []


def test_other_seeds_and_images_have_nothing_to_take(other, mine):
    assert names(replace(mine, seeds=(1,)), other.out) == []
    assert names(replace(mine, source=GLYPHS.replace("30", "31")), other.out) == []


def test_folders_that_are_no_other_study_are_refused(mine, tmp_path):
    with pytest.raises(InputError, match=r"holds no study, it has no settings\.json; give the --out of another"):
        takeable(mine, [tmp_path])
    mine.out.mkdir()
    (mine.out / "settings.json").write_text("{}")
    with pytest.raises(InputError, match="is the folder of this study itself"):
        takeable(mine, [mine.out])


def test_the_dry_run_says_what_can_be_taken(other, tmp_path, capsys):
    command = ["reproduce", "beyond", "--data", GLYPHS, "--table", "1", "--row", ROW, "--dry-run", "--seed", "0"]
    command += ["--out", str(tmp_path / "out"), "--models-from", str(other.out)]
    assert run([*command, *(part for one in QUICK for part in ("--set", one)), "--json", str(tmp_path / "p.json")]) == 0
    assert f"3 trainings in all, of which 3 can be taken from {other.out}: " in capsys.readouterr().out
    assert json.loads((tmp_path / "p.json").read_text())["trainings_to_take"] == {str(other.out): 3}
