"""`samespace bridge`: learn a map from two vector sets, apply it, and what a user gets wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from samespace import VectorSet
from samespace.cli.main import run
from samespace.space import Space

QUICK = "--quiet --replicates 100 --steps 5"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Old and new vectors of twelve classes, the new ones a rotation of the old ones, as folders and as bare files."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(12), 6)
    old = generator.standard_normal((12, 8))[labels] + 0.5 * generator.standard_normal((72, 8))
    new = old @ np.linalg.qr(generator.standard_normal((8, 8)))[0]
    ids = [f"i{row}" for row in range(72)]
    for name, values in {"old": old, "new": new}.items():
        values = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
        space = Space(weights=name, preprocessing="none", dim=8, normalized=True, name=name)
        VectorSet.from_arrays(values, labels=labels, ids=ids, space=space).save(tmp_path / name)
        np.savez(tmp_path / f"{name}.npz", vectors=values, ids=ids)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", ["bridge", "bridge fit"])
def test_a_bridge_is_learnt_and_applied(here, capsys, form):
    assert run(f"{form} old new --out b --json - {QUICK}".split()) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["method"], made["direction"]) == ("procrustes", "gallery")
    assert made["support"]["values"]["procrustes"] == made["support"]["values"]["new"]
    assert run(["bridge", "apply", "b", "old", "--out", "mapped", "--json", "m.json", "--quiet"]) == 0
    mapped = VectorSet.load("mapped")
    assert json.loads(Path("m.json").read_text())["space"]["id"] == made["space"]["id"] == mapped.space.id
    assert np.allclose(mapped.vectors, VectorSet.load("new").vectors, atol=1e-4)


def test_options_may_come_first(here):
    assert run(f"bridge --out b --method affine {QUICK} old new".split()) == 0


def test_the_table_marks_the_method_taken_and_says_what_to_do_next(here, capsys):
    assert run(f"bridge old new --direction query --out b {QUICK}".split()) == 0
    out = capsys.readouterr().out
    assert "2 held-out classes, 6 queries, 6 items" in out
    assert "procrustes *" in out
    assert "b: procrustes, maps new vectors to the old space" in out


def test_bare_files_need_a_named_method(here, capsys):
    assert run(f"bridge old.npz new.npz --out b {QUICK}".split()) == 2
    assert "name a method" in capsys.readouterr().err
    assert run(f"bridge old.npz new.npz --method procrustes --out b {QUICK}".split()) == 0
    assert run(["bridge", "apply", "b", "old.npz", "--out", "mapped"]) == 0
    assert "mapping old.npz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bridge old", "Missing argument 'NEW_VECTORS'"),
        ("bridge old new", "Missing option '--out'"),
        ("bridge old nowhere --out x", "nowhere does not exist"),
        ("bridge old new --out x --method magic", "'magic' is not one of"),
        ("bridge old new --out x --held-out 1", "between 0 and 1"),
        ("bridge old new.npz --out old --method affine", "old is not a bridge"),
        ("bridge old new --out x --device gpu", "device 'gpu' cannot be used"),
        ("bridge apply old old --out x", "old is not a bridge"),
        ("bridge apply nowhere old --out x", "nowhere is not a bridge"),
    ],
)
def test_what_is_refused(here, capsys, command, message):
    assert run([*command.split(), "--quiet"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1
    assert not Path("x").exists()


def test_vectors_of_another_space_are_not_mapped(here, capsys):
    assert run(f"bridge old new --out b {QUICK}".split()) == 0
    capsys.readouterr()
    assert run(["bridge", "apply", "b", "new", "--out", "x", "--quiet"]) == 2
    assert "this bridge takes vectors of space" in capsys.readouterr().err
    assert run(["bridge", "apply", "b", "old", "--out", "old", "--quiet"]) == 2
    assert "which a rollback needs" in capsys.readouterr().err
