"""Where commands write: a place that cannot be is refused before any work, and what is there is not lost unasked."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from samespace import VectorSet
from samespace.cli.main import run
from samespace.errors import InputError
from samespace.gallery import Gallery
from samespace.space import Space

CHECK = "check --queries items.npz --gallery items.npz --baseline items.npz"


def made(rows: int, space: Space) -> VectorSet:
    values = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return VectorSet.from_arrays(values, labels=np.arange(rows) % 6, ids=list(map(str, range(rows))), space=space)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, rows in {"items": 24, "others": 30}.items():
        for side in ("old", "new"):
            made(rows, Space.declared(side, 4, "", normalized=True)).save(f"{side}-{name}")
        held = made(rows, Space.declared("old", 4, "", normalized=True))
        np.savez(f"{name}.npz", vectors=held.vectors, labels=held.labels, ids=held.ids)
    return tmp_path


def said(capsys, command: str, status: int = 2) -> str:
    capsys.readouterr()
    assert run(shlex.split(command)) == status, command
    err = capsys.readouterr().err
    assert status == 0 or (len(err.splitlines()) == 1 and err.startswith("samespace: error: "))
    return err


@pytest.mark.parametrize(
    "command",
    [
        "embed no-model images --out {}",
        "train no-recipe.yaml --out {}",
        "vectors import no.npz --out {}",
        "vectors export no-set --to {}.npz",
        "bridge no-old no-new --out {}",
        "bridge apply no-bridge no-set --out {}",
        "check --queries no --gallery no --baseline no --report {}",
        "benchmark lfw no --old no --new no --report {}",
        "probe no-set --json {}.json",
        "data allocate no-images --kind open-data --out {}.json",
        "start no-images --out {}.yaml",
        "demo --out {}",
        "reproduce bct --out {}",
        "export no-model {}.onnx",
        "serve key add {}.json shop",
        "gallery switch no-gallery --dropped {}.txt",
        "gallery create {} old-items",
    ],
)
def test_a_place_below_a_file_is_refused_before_anything_is_looked_at(here, capsys, command):
    err = said(capsys, command.format("items.npz/deep/x"))
    assert f"lies below {here / 'items.npz'}, which is a file; name a place in a folder" in err


def test_so_it_is_in_python(here):
    for write in (
        lambda place: made(3, VectorSet.load("old-items").space).save(place),
        lambda place: Gallery.create(place, VectorSet.load("old-items").space),
    ):
        with pytest.raises(InputError, match=r"items\.npz/x lies below .*items\.npz, which is a file"):
            write("items.npz/x")


def test_a_folder_is_no_file_and_a_file_no_folder(here, capsys):
    assert "items.npz is a file; name a folder" in said(capsys, f"{CHECK} --report items.npz")
    assert "old-items is a folder; name a file" in said(capsys, "data allocate x --kind open-data --out old-items")
    assert "there is no folder" in said(capsys, f"{CHECK} --json no/where.json")
    assert "out / is a folder; name a file" in said(capsys, "data allocate x --kind open-data --out /")
    assert "/ is not a bridge" in said(capsys, "bridge old-items new-items --out /")


def test_json_replaces_json_alone(here, capsys):
    before = Path("items.npz").read_bytes()
    for command in (f"{CHECK} --json items.npz", "probe old-items --json items.npz"):
        assert "--json items.npz is a file that is not JSON" in said(capsys, command)
    assert Path("items.npz").read_bytes() == before
    export = "vectors export old-items --to out.csv"
    assert run(shlex.split(f"{export} --json out.csv")) == 2
    assert Path("out.csv").read_text().startswith("id,")
    for _ in range(2):
        assert run([*shlex.split(export), "--force", "--json", "said.json"]) == 0


def test_an_import_replaces_what_the_same_source_made_and_nothing_else(here, capsys):
    begin = "vectors import items.npz --out set --quiet"
    assert run(begin.split()) == 0
    np.savez("items.npz", vectors=np.eye(3, dtype=np.float32), ids=["a", "b", "c"], labels=[0, 1, 2])
    assert run([*begin.split(), "--space-name", "clip"]) == 0
    assert VectorSet.load("set").ids.tolist() == ["a", "b", "c"]
    err = said(capsys, "vectors import others.npz --out set")
    assert "set is a vector set already, not known as an import of others.npz" in err
    assert "--force" in err
    assert "old-items is a vector set already, which every" in said(capsys, "vectors import old-items --out new")
    assert "old-items is a vector set already" in said(capsys, "vectors import others.npz --out old-items")
    assert len(VectorSet.load("set")) == 3
    assert run(["vectors", "import", "others.npz", "--out", "set", "--force", "--quiet"]) == 0
    assert len(VectorSet.load("set")) == 30
    Path("set/space.json").unlink()
    assert "replace it with --force" in said(capsys, "vectors import others.npz --out set")
    assert run(["vectors", "import", "others.npz", "--out", "set", "--force", "--quiet"]) == 0


def test_a_file_of_the_same_name_in_another_folder_is_another_source(here, capsys, monkeypatch):
    (here / "a").mkdir()
    (here / "b").mkdir()
    shutil.copy("items.npz", "a")
    shutil.copy("others.npz", "b/items.npz")
    monkeypatch.chdir(here / "a")
    assert run(f"vectors import items.npz --out {here / 'set'} --quiet".split()) == 0
    monkeypatch.chdir(here / "b")
    assert "set is a vector set already" in said(capsys, f"vectors import items.npz --out {here / 'set'}")
    # the same file, by another way to it
    assert run(["vectors", "import", str(here / "a" / "items.npz"), "--out", "../set", "--quiet"]) == 0


def test_the_former_name_of_the_option_still_declares_the_space(here):
    for name, option in {"now": "--space-name", "then": "--space"}.items():
        command = f"vectors import items.npz --out {name} {option} clip --revision v1 --quiet"
        assert run(command.split()) == 0
    assert VectorSet.load("now").space == VectorSet.load("then").space is not None


def test_an_allocation_is_kept_unless_it_is_made_again_as_it_is(here, capsys):
    command = "data allocate glyphs:classes=6,images=4,size=16 --kind open-data --out split.json --quiet"
    assert run(command.split()) == 0
    before = Path("split.json").read_bytes()
    assert run(command.split()) == 0
    assert "split.json is there already" in said(capsys, f"{command} --seed 1")
    assert Path("split.json").read_bytes() == before
    assert run(command.replace("split.json", "/dev/null").split()) == 0
    assert run([*command.split(), "--seed", "1", "--force"]) == 0
    assert Path("split.json").read_bytes() != before
    assert "items.npz is there already" in said(capsys, command.replace("split.json", "items.npz"))


def test_bridges_and_mapped_sets_are_left_alone_by_the_same_command_and_replaced_by_force_alone(here, capsys):
    fit = "bridge old-others new-others --method mean-shift --replicates 100 --out map --quiet"
    apply = "bridge apply map old-items --out mapped --quiet"
    for command, folder in ((fit, "map"), (apply, "mapped")):
        assert run(command.split()) == 0
        before = [file.stat().st_mtime_ns for file in Path(folder).iterdir()]
        capsys.readouterr()
        assert run(command.split()) == 0
        assert "; there already\n" in capsys.readouterr().out
        assert [file.stat().st_mtime_ns for file in Path(folder).iterdir()] == before
        assert run([*command.split(), "--force"]) == 0
    for other in (f"{fit} --seed 1", fit.replace("others", "items"), apply.replace("old-items", "old-others")):
        assert "already; choose another place, or replace it with --force" in said(capsys, other)
    made(24, Space.declared("old", 4, "", normalized=True)).save("old-items")  # other vectors, for all that is known
    assert "mapped is a vector set already" in said(capsys, apply)
    err = said(capsys, "bridge apply map old-items --out old-items --force")
    assert "holds the vectors to map, which a rollback needs" in err
    (here / "model").mkdir()
    (here / "model" / "config.json").write_text('{"format": "another"}')
    assert "expected 'samespace.bridge/1', a bridge" in said(capsys, f"{fit} --out model --force")
    assert "map is not a vector set, and is there already" in said(
        capsys, "bridge apply map old-items --out map --force"
    )
