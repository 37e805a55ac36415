"""`samespace probe`: what it prints, writes and refuses; the output on its page is its output."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from samespace import VectorSet
from samespace.cli.main import run

PAGE = Path(__file__).resolve().parents[2] / "docs" / "probe.md"
QUICK = ["--replicates", "100"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Vectors of 40 classes by two models, as folders and as bare files."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(40), 6)
    ids = [f"i{row}" for row in range(240)]
    for name, noise in {"old": 0.5, "new": 0.3}.items():
        values = generator.standard_normal((40, 8))[labels] + noise * generator.standard_normal((240, 8))
        values = values.astype(np.float32)
        VectorSet.from_arrays(values, labels=labels, ids=ids).save(tmp_path / name)
        np.savez(tmp_path / f"{name}.npz", vectors=values, labels=labels, ids=ids)
    np.savez(tmp_path / "bare.npz", vectors=values)
    np.savez(tmp_path / "few.npz", vectors=values[:9], labels=labels[:9])
    np.savez(tmp_path / "half.npz", vectors=values[::2], labels=labels[::2], ids=ids[::2])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def test_folders_and_bare_files_say_the_same(here, capsys):
    assert run(["probe", "old", "--new", "new", "--json", "-", *QUICK]) == 0
    folder = json.loads(capsys.readouterr().out)
    assert run(["probe", "old.npz", "--new", "new.npz", "--json", "file.json", *QUICK]) == 0
    bare = json.loads(Path("file.json").read_text())
    assert folder["lead"] == bare["lead"]
    stay = {one["way"]: one for one in bare["ways"]}["stay"]
    assert stay["command"] == "samespace probe old.npz --new NEXT_VECTORS"
    assert [one["way"] for one in folder["ways"]] == [one["way"] for one in bare["ways"]]
    assert list(bare) == [
        "format", "samespace", "seed", "replicates", "confidence", "data", "old", "new", "lead", "mapped",
        "near_copies", "ways", "notes",
    ]  # fmt: skip


def test_the_table_and_the_ways_are_printed(here, capsys):
    assert run(["probe", "old", "--metric", "mAP", "--held-out", "0.8", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "240 items of 40 classes, 6 to 6 each (median 6); held out: 32 classes, 6 of them without a mate" in out
    rows = [line.split()[0] for line in out.splitlines() if " old " in line and "…" in line]
    assert rows == ["rank@1", "mAP"]
    places = [line.split()[1] for line in out.splitlines() if re.match(r"\d\. ", line)]
    assert sorted(place.strip(":,") for place in places) == ["bridge", "compatible", "re-embed", "stay"]
    assert out.count("   next: samespace ") == 4


def test_near_copies_are_printed_where_there_are_some(here, capsys):
    one, two = VectorSet.load("old"), VectorSet.load("new")
    twins = one.vectors.repeat(2, axis=0), two.vectors.repeat(2, axis=0)
    for name, values in zip(("old-twins", "new-twins"), twins, strict=True):
        values = values + np.random.default_rng(1).normal(0, 0.01, values.shape).astype(np.float32)
        VectorSet.from_arrays(values, labels=one.labels.repeat(2)).save(name)
    assert run(["probe", "old-twins", "--new", "new-twins", "--held-out", "1", *QUICK]) == 0
    out = capsys.readouterr().out
    assert "near copies, mates at a cosine or nearer by the new model; in %, of queries with a mate left" in out
    rows = [line.split() for line in out.splitlines() if line.startswith(("without", "(all", "0.9"))]
    assert [row[0] for row in rows] == ["without", "(all", "0.99", "0.95", "0.9"]
    assert rows[0][-8:] == ["rank@1", "old", "rank@1", "new", "mAP", "old", "mAP", "new"]
    assert float(rows[2][1]) > 40


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("probe", "Missing argument 'OLD_VECTORS'"),
        ("probe nowhere", "nowhere does not exist"),
        ("probe bare.npz", "bare.npz has no labels; a probe needs the class of every item"),
        ("probe few.npz", "at least 4 classes of 2 items or more; got 2 classes"),
        ("probe old --new half.npz", "240 expected, got 120"),
        ("probe old --new nowhere", "nowhere does not exist"),
        ("probe old --metric rank", "unknown metric 'rank'"),
        ("probe old --held-out 0", "above 0 and at most 1"),
        ("probe old --confidence 2", "confidence lies between 0 and 1"),
        ("probe old --replicates 5", "5 is not in the range"),
        ("probe old new", "unexpected extra argument"),
    ],
)
def test_what_is_refused_in_one_line(here, capsys, command, message):
    assert run(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert len(err.splitlines()) == 1


def test_the_output_on_the_page_is_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    page = PAGE.read_text(encoding="utf-8")
    made, command, shown = (
        re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL)[1] for kind in ("python", "console", "text")
    )
    exec(compile(made, "docs/probe.md", "exec"), {})
    assert run(command.removeprefix("$ samespace ").split()) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed == shown.splitlines()
