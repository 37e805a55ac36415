"""start, build and gallery upgrade --from, on small made-up images, through the command line."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from samespace import Embedder, Gallery, VectorSet
from samespace.cli.main import run
from samespace.data import GlyphSource
from samespace.evaluate import Certificate
from samespace.gallery.upgrade import upgrade
from samespace.project.cost import Pace
from samespace.project.plan import Plan
from samespace.report import page

SETTINGS = {"network": {"backbone": "convnet4", "dim": 8, "channels": 1}, "budget": {"epochs": 1, "batch_size": 32}}


def pictures(folder: Path, classes: int = 30, images: int = 6) -> None:
    glyphs = GlyphSource(classes=classes, images=images, size=16)
    for row, pixels in enumerate(glyphs.load(range(len(glyphs))).numpy()):
        name = folder / glyphs.classes[glyphs.labels[row]] / f"{row % images}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(name)


def edit(path: Path, **changes: object) -> None:
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def started(*more: str) -> None:
    assert run(["start", "images", "--quiet", *more]) == 0
    edit(Path("project.yaml"), **SETTINGS)


def values(path: str) -> dict[str, object]:
    return {**Certificate.load(path).to_dict(), "created": ""}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with images, where reports are blank pages and nothing is timed; `built` has both in earnest."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Plan, "pace", lambda *given: Pace(0.01, 0.01, 0.001, 4096))
    monkeypatch.setattr(page, "render_report", lambda *given, **options: "")
    pictures(tmp_path / "images")
    return tmp_path


@pytest.fixture
def no_canaries(monkeypatch) -> None:
    """Let a gallery take a model of three steps, whose vectors have nothing to do with the old ones yet."""
    monkeypatch.setattr(upgrade, "_require_right_model", lambda *given: [])


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder after start and build; to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("built")
        patch.chdir(folder)
        pictures(folder / "images")
        started()
        assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    return folder


def test_start_writes_each_choice_with_its_reason(here, capsys):
    assert run(["start", "images", "--quiet"]) == 0
    said = capsys.readouterr().out
    text = Path("project.yaml").read_text()
    assert text in said
    assert "# 180 images of 30 classes, 6 of each; 16x16 pixels" in text
    assert "in grey" in text
    assert "size: 16" in text
    assert "stand-in is trained first" in text
    assert "cost: about" in said
    assert said.endswith("next: samespace build project.yaml\n")
    assert list(yaml.safe_load(text)) == ["images", "old", "split", "size", "network", "budget", "augment"]
    assert run(["start", "images", "--quiet"]) == 2
    assert Path("project.yaml").read_text() == text
    assert "--force" in capsys.readouterr().err
    assert run(["start", "images", "--quiet", "--force"]) == 0


def test_a_build_leaves_models_vectors_certificate_and_report(built, monkeypatch, capsys):
    monkeypatch.chdir(built)
    for name in ("old", "paragon", "new"):
        assert Embedder.load(f"project/runs/{name}/model").name == name
        assert len(VectorSet.load(f"project/vectors/{name}-queries"))
    certificate = Certificate.load("project/report/certificate.json")
    assert list(certificate.metrics) == ["rank@1", "mAP"]
    assert any("rehearsal" in note for note in certificate.notes)
    assert any("none of which is judged here" in note for note in certificate.notes)
    assert "data:image/png" in Path("project/report/report.html").read_text()


def test_no_class_is_in_two_parts(built):
    parts = json.loads((built / "project/split.json").read_text())["parts"]
    chosen = json.loads((built / "project/validation.json").read_text())["parts"]
    classes = {name: {item.split("/")[0] for item in items} for name, items in parts.items()}
    held = {item.split("/")[0] for side in ("queries", "gallery") for item in chosen[side]}
    assert classes["queries"] == classes["gallery"]
    assert not classes["queries"] & (classes["new"] | held)
    trained = {
        name: set(json.loads((built / f"project/runs/{name}/training.json").read_text()).get("validation", {}).get(
            "classes", held))
        for name in ("paragon", "new")
    }  # fmt: skip
    assert all(classes_apart >= held for classes_apart in trained.values())
    assert not classes["old"] & held


def test_a_second_build_has_nothing_to_do(built, monkeypatch, capsys):
    monkeypatch.chdir(built)
    stamp = Path("project/runs/new/model/model.safetensors").stat().st_mtime_ns
    run(["build", "project.yaml", "--anyway", "--quiet"])
    said = capsys.readouterr().out
    assert "everything is there, nothing to do" in said
    assert "[1/" not in said
    assert Path("project/runs/new/model/model.safetensors").stat().st_mtime_ns == stamp


def test_the_long_commands_give_the_same_certificate(built, here, capsys):
    started()
    capsys.readouterr()
    assert run(["build", "project.yaml", "--dry-run", "--quiet"]) == 0
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  samespace ")]
    assert [shlex.split(line)[1] for line in commands].count("train") == 3
    assert not Path("project/runs").exists()
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "samespace"
        assert run(arguments) in (0, 1), command
    mine, theirs = values("project/report/certificate.json"), values(str(built / "project/report/certificate.json"))
    assert mine["metrics"] == theirs["metrics"]
    assert mine == theirs
    # and what the long way made, the short way takes over
    stamp = Path("project/runs/new/model/model.safetensors").stat().st_mtime_ns
    assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    assert Path("project/runs/new/model/model.safetensors").stat().st_mtime_ns == stamp


def test_an_edited_file_makes_anew_what_it_affects_and_keeps_the_earlier(here, capsys):
    started()
    run(["build", "project.yaml", "--anyway", "--quiet"])
    stamp = {name: Path(f"project/runs/{name}/model/model.safetensors").read_bytes() for name in ("old", "new")}
    first = values("project/report/certificate.json")
    capsys.readouterr()
    edit(Path("project.yaml"), metrics=["rank@1"])
    run(["build", "project.yaml", "--anyway", "--quiet"])
    said = capsys.readouterr().out
    assert "made anew, from other settings or images: certificate;" in said
    assert list(Certificate.load("project/report/certificate.json").metrics) == ["rank@1"]
    edit(Path("project.yaml"), metrics=["rank@1", "mAP"], seed=1)
    run(["build", "project.yaml", "--anyway", "--quiet"])
    assert Path("project/runs/new/model/model.safetensors").read_bytes() != stamp["new"]
    edit(Path("project.yaml"), seed=0)
    run(["build", "project.yaml", "--anyway", "--quiet"])
    for name, weights in stamp.items():
        assert Path(f"project/runs/{name}/model/model.safetensors").read_bytes() == weights
    assert values("project/report/certificate.json")["metrics"] == first["metrics"]


@pytest.mark.parametrize("stage", ["new", "certificate"])
def test_an_interrupted_build_carries_on_and_ends_the_same(built, here, monkeypatch, capsys, stage):
    from samespace.project import stages

    started()
    begin = stages.Record.begin

    def cut(self, one):
        begin(self, one)
        if one.name == stage:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages.Record, "begin", cut)
        assert run(["build", "project.yaml", "--anyway", "--quiet"]) == 130
    assert "run the same command to carry on" in capsys.readouterr().err
    assert run(["gallery", "upgrade", "live", "--from", "project.yaml"]) == 2
    assert "is not built" in capsys.readouterr().err
    run(["build", "project.yaml", "--anyway", "--quiet"])
    assert values("project/report/certificate.json") == values(str(built / "project/report/certificate.json"))


def test_it_stops_where_the_paragon_is_not_ahead(here, monkeypatch, capsys):
    from samespace.project import make
    from samespace.project.choosing import Lead, Outlook

    started()
    behind = Outlook(False, (Lead("rank@1", 0.8, 0.7, -0.2, 0.01),), 40)
    monkeypatch.setattr(make, "outlook", lambda *given: behind)
    capsys.readouterr()
    assert run(["build", "project.yaml", "--quiet"]) == 1
    said = capsys.readouterr().out
    assert "Stopped: the paragon" in said
    assert "rank@1 70.0 % against 80.0 % (-20.0 … +1.0 points)" in said
    assert "--anyway" in said
    assert not Path("project/runs/new").exists()
    assert run(["build", "project.yaml", "--quiet", "--anyway"]) in (0, 1)
    assert Path("project/report/report.html").exists()


def test_several_methods_are_chosen_between_by_the_validation_classes(here, capsys):
    started()
    assert run(["build", "project.yaml", "--anyway", "--quiet", "--methods", "matched,l2"]) in (0, 1)
    found = json.loads(Path("project/chosen.json").read_text())
    assert set(found["gains"]) == {"new-matched", "new-l2"}
    certificate = Certificate.load("project/report/certificate.json")
    method = found["chosen"].removeprefix("new-")
    assert any(note.startswith(f"The method '{method}' was chosen from matched, l2") for note in certificate.notes)
    chosen = Embedder.load(f"project/runs/{found['chosen']}/model").space
    assert VectorSet.load("project/vectors/new-queries").space == chosen


def test_json_tells_cost_stages_and_certificate(here, capsys):
    started()
    capsys.readouterr()
    assert run(["build", "project.yaml", "--dry-run", "--quiet", "--json", "-"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in plan["stages"]][:3] == ["old", "paragon", "ahead"]
    assert plan["seconds"] > 0
    code = run(["build", "project.yaml", "--anyway", "--quiet", "--json", "-"])
    done = json.loads(capsys.readouterr().out)
    assert code == (0 if done["certificate"]["compatible"] else 1)
    assert done["done"] == len(done["stages"])


@pytest.mark.usefixtures("no_canaries")
def test_a_gallery_is_made_of_the_old_vectors_and_upgraded(built, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(built)
    live = str(tmp_path / "live")
    if not Certificate.load("project/report/certificate.json").compatible:
        assert run(["gallery", "upgrade", live, "--from", "project.yaml"]) == 2
        assert "says no" in capsys.readouterr().err
        assert not Path(live).exists()
    assert run(["gallery", "upgrade", live, "--from", "project.yaml", "--accept-uncertified"]) == 0
    said = capsys.readouterr().out
    assert "made, with the old vectors of 180 items" in said
    for line in said.splitlines():
        _, _, command = line.partition(": samespace ")
        if command:
            assert run(shlex.split(command)) == 0, line
    with Gallery.open(live) as gallery:
        assert len(gallery) == 180
        assert gallery.space.name == "old"  # the last of the commands was the rollback


@pytest.mark.usefixtures("no_canaries")
def test_a_gallery_that_was_cut_off_while_it_was_filled_is_filled_by_the_same_command(built, tmp_path, monkeypatch):
    monkeypatch.chdir(built)
    live = str(tmp_path / "live")
    command = ["gallery", "upgrade", live, "--from", "project.yaml", "--accept-uncertified"]
    with monkeypatch.context() as patch:
        patch.setattr(Gallery, "add", lambda *given, **options: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(command) == 130
    assert run(command) == 0
    with Gallery.open(live) as gallery:
        assert len(gallery) == 180


def test_an_edited_file_must_be_built_before_a_gallery_is_upgraded(built, tmp_path, capsys):
    edited = tmp_path / "project.yaml"
    edited.write_text((built / "project.yaml").read_text())
    edit(edited, images=str(built / "images"), out=str(built / "project"))
    assert run(["gallery", "upgrade", str(tmp_path / "live"), "--from", str(edited)]) == 2
    assert "has changed since it was built" in capsys.readouterr().err


def test_an_old_model_is_taken_as_it_is(built, here, capsys):
    assert run(["start", "images", "--quiet", "--old", str(built / "project/runs/old")]) == 0
    text = Path("project.yaml").read_text()
    assert "8 dimensions" in text
    assert yaml.safe_load(text)["network"]["dim"] == 8
    edit(Path("project.yaml"), **SETTINGS)
    assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    certificate = Certificate.load("project/report/certificate.json")
    assert certificate.old_space.id == Embedder.load(built / "project/runs/old/model").space.id
    assert not any("rehearsal" in note for note in certificate.notes)
    known = {item.split("/")[0] for item in json.loads((built / "project/split.json").read_text())["parts"]["old"]}
    parts = json.loads(Path("project/split.json").read_text())["parts"]
    # the old model says which classes it knows: others are certified
    assert not known & {item.split("/")[0] for item in parts["queries"]}


def stored_vectors(built: Path, form: str) -> None:
    """old.npz: one image without a vector, one vector without an image, lengths that are not one."""
    assert run(["embed", str(built / "project/runs/old"), "images", "--out", "stored", "--quiet"]) == 0
    vectors = VectorSet.load("stored")
    names = {
        "other folder": [f"/srv/pictures/{name}" for name in vectors.ids],
        "digests": [hashlib.sha256(Path("images", name).read_bytes()).hexdigest() for name in vectors.ids],
    }[form]
    rows = np.r_[1 : len(vectors), 0]
    np.savez("old.npz", vectors=3 * vectors.take(rows), ids=np.array([*names[1:], "gone/1.png"]))


@pytest.mark.usefixtures("no_canaries")
def test_old_vectors_alone_are_enough(built, here, capsys):
    stored_vectors(built, "other folder")
    assert run(["start", "images", "--quiet", "--old-vectors", "old.npz"]) == 0
    said = capsys.readouterr().out
    assert "1 of 180 images have no vector" in said
    assert "'gone/1.png'" in said
    assert "differ in length" in said
    edit(Path("project.yaml"), **SETTINGS)
    assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    assert run(["gallery", "upgrade", "live", "--from", "project.yaml", "--accept-uncertified"]) == 0
    with Gallery.open("live") as gallery:
        assert len(gallery) == 180


def test_ids_may_be_digests_of_the_files(built, here, capsys):
    stored_vectors(built, "digests")
    assert run(["start", "images", "--quiet", "--old-vectors", "old.npz"]) == 0
    assert "name the images by the sha256 of the file" in " ".join(capsys.readouterr().out.split())
