"""`samespace reproduce`: plans without images, one line for what a user gets wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samespace.cli.main import run
from samespace.studies import Plan, beyond, load_settings, shipped

GLYPHS = "glyphs:classes=12,images=4,size=16"


@pytest.mark.parametrize("study", ["bct", "unibct"])
@pytest.mark.parametrize("settings", shipped())
def test_a_dry_run_needs_no_images_and_makes_nothing(study, settings, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = ["--data", "nowhere"] if settings == "small" else []
    assert run(["reproduce", study, "--settings", settings, *data, "--dry-run", "--json", "plan.json"]) == 0
    plan = json.loads(Path("plan.json").read_text())
    assert len(plan["models"]) == {"bct": 20, "unibct": 28}[study]
    assert plan["comparisons"] == {"bct": 16, "unibct": 22}[study]
    shown = capsys.readouterr().out
    assert all(model["name"] in shown for model in plan["models"])
    assert "nothing was trained" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


def test_the_papers_networks_are_in_the_plan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert (
        run(["reproduce", "bct", "--settings", "imdb-face", "--table", "3b", "--dry-run", "--json", "plan.json"]) == 0
    )
    models = {model["name"]: model for model in json.loads(Path("plan.json").read_text())["models"]}
    assert (models["old"]["backbone"], models["old"]["embedding_dim"]) == ("iresnet100", 128)
    assert models["beta-deeper-wider"]["embedding_dim"] == 256
    assert models["old-softmax"]["head"] == "softmax"


def test_rows_choose_a_part_of_the_tables_with_the_models_it_needs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "beyond", "--settings", "omniglot-strong", "--table", "1", "--dry-run", "--json", "p.json"]
    assert run([*command, "--row", "fixed views", "--seed", "0", "--seed", "1"]) == 0
    plan = json.loads(Path("p.json").read_text())
    names = {model["name"] for model in plan["models"]}
    assert {"old-images", "old-classes", "paragon-all", "views-open-class"} < names
    assert not any(name.startswith(("matched", "mean")) for name in names)
    assert (len(names), plan["comparisons"], plan["trainings"], plan["trainings_there"]) == (11, 5, 22, 0)
    assert "22 trainings in all: runs/beyond-omniglot-strong" in capsys.readouterr().out
    for seed in (0, 1, 2):
        folder = Path("runs/beyond-omniglot-strong") / f"seed{seed}"
        for file in ("models/old-images/model/config.json", "vectors/old-images/queries/job.json",
                     "vectors/old-images/gallery/job.json"):  # fmt: skip
            (folder / file).parent.mkdir(parents=True)
            (folder / file).write_text("{}")
    assert run([*command, "--row", "open-data", "--row", "identical-data", "--seed", "0", "--seed", "1"]) == 0
    assert "18 trainings in all, of which 2 are there" in capsys.readouterr().out
    assert run(["reproduce", "beyond", "--settings", "glyphs-strong", "--table", "4", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "16 models and 29 comparisons" in shown
    plan = Plan(beyond(), load_settings("glyphs-strong"), "glyphs", Path("out"), (0,))
    tied = plan.recipe(beyond().model("every-100"), 0).compatibility
    names = [Path(str(one)).parent.name for one in (tied.old_model, *(old.old_model for old in tied.earlier))]
    assert names == ["every-80", "every-60", "chain-40", "chain-20"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["beyond", "--data", GLYPHS, "--row", "opn-class"], "no row of these tables contains 'opn-class'; "),
        (["bct"], "these settings name no images: add --data IMAGES."),
        (["bbt"], "'bbt' is not one of 'bct', 'unibct', 'beyond'."),
        (["bct", "--data", GLYPHS, "--settings", "omniglott"], "no settings 'omniglott'; did you mean 'omniglot'"),
        (
            ["bct", "--data", GLYPHS, "--settings", "mine.yaml"],
            "mine.yaml does not exist; expected settings of a study",
        ),
        (["bct", "--data", GLYPHS, "--table", "6"], "bct has no table '6'"),
        (
            ["bct", "--data", GLYPHS, "--set", "optim.epoch=2"],
            "unknown recipe key 'optim.epoch'; did you mean 'epochs'",
        ),
        (["bct", "--data", GLYPHS, "--set", "check.share=2"], "unknown settings key 'check.share'"),
        (["unibct", "--data", GLYPHS, "--table", "figure"], "unibct has no table 'figure'"),
        (["bct", "--data", GLYPHS, "--set", "data=images.npz"], "recipe.data should hold keys and values"),
        (["bct", "--data", GLYPHS, "--set", "model.backbone=iresnet20"], "unknown backbone 'iresnet20'"),
        (["bct", "--data", GLYPHS, "--set", "variants.wider=[model.embedding_dim=99]"], "'beta-deeper-wider' has 99"),
        (["bct", "--data", GLYPHS, "--set", "check.open_set=0"], "check.open_set=0 leaves no query without a mate"),
        (
            ["bct", "--data", GLYPHS, "--set", "metrics.map=null"],
            "the papers measure no 'map'; did you mean 'mAP'? legal: TAR@FAR",
        ),
        (["bct", "--settings", "market1501", "--table", "figure"], "nothing to compare"),
        (["bct", "--data", GLYPHS, "--seed", "-1"], "-1 is not in the range x>=0."),
        (["bct", "--data", "missing.npz"], "missing.npz does not exist"),
        (["bct", "--data", GLYPHS, "--set", "check.groups=coarse"], "check.classes and check.groups need one"),
        (["bct", "--data", GLYPHS, "--workers", "0"], "0 is not in the range x>=1."),
    ],
)
def test_a_mistake_is_one_line_and_makes_nothing(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["reproduce", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".html", ".json", ".safetensors")]


def test_a_small_study_prints_its_cross_tests_and_names_its_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "reproduce",
        "unibct",
        "--data",
        GLYPHS,
        "--table",
        "4",
        "--workers",
        "1",
        "--quiet",
        "--json",
        "out.json",
    ]
    arguments += ["--set", "optim.epochs=1", "--set", "check.replicates=100", "--out", "study"]
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert "study: study/study.html" in captured.out
    assert "AML · L_regress" in captured.out
    assert "[10/10] check" in captured.err
    assert json.loads(Path("out.json").read_text()) == json.loads(Path("study/study.json").read_text())
    assert run(arguments) == 0
    assert "everything is there, nothing to do" in capsys.readouterr().err
