"""`gallery upgrade --behind` and `gallery switch`: what they say, and what a user can get wrong, a line each."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from samespace import VectorSet
from samespace.cli.main import run
from samespace.gallery import Gallery
from samespace.space import Space

OLD = Space(weights="o", preprocessing="none", dim=8, normalized=True, name="old")
NEW = Space(weights="n", preprocessing="none", dim=12, normalized=True, name="new")
THIRD = Space(weights="t", preprocessing="none", dim=8, normalized=True, name="third")
BEGIN = "gallery upgrade g --behind --space new-items"
FILL = "gallery backfill g --vectors new-items --quiet"


def save(name: str, space: Space, rows: range) -> None:
    draw = np.random.default_rng(space.dim)
    centres, turn = draw.normal(size=(20, 6)), draw.normal(size=(6, space.dim))
    values = (centres[np.arange(100) % 20] + 0.3 * draw.normal(size=(100, 6))) @ turn
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    VectorSet.from_arrays(
        values[rows].astype(np.float32), ids=[f"i{row}" for row in rows], labels=[str(row % 20) for row in rows],
        space=space,
    ).save(name)  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of two models, queries, and a gallery of 60 items: `g`; further on the way `begun`, `filled`, `over`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("behind"))
        for name, space in (("old", OLD), ("new", NEW)):
            save(f"{name}-items", space, range(60))
            save(f"{name}-more", space, range(60, 70))
            save(f"{name}-queries", space, range(80, 100))
        save("third-items", THIRD, range(60))
        assert run(["gallery", "create", "g", "old-items", "--quiet"]) == 0
        for name, command in (("begun", BEGIN), ("filled", FILL), ("over", "gallery switch g --accept-worse")):
            shutil.copytree("g" if name == "begun" else "work", name)
            shutil.rmtree("work", ignore_errors=True)
            assert run(command.replace(" g ", f" {name} ").split()) == 0
            shutil.copytree(name, "work")
        return Path.cwd()


@pytest.fixture
def here(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to work in."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *commands: str, status: int = 0) -> str:
    """What the last of some commands prints."""
    for command in commands[:-1]:
        assert run(command.split()) == 0, (command, capsys.readouterr())
    capsys.readouterr()
    assert run(commands[-1].split()) == status
    out, error = capsys.readouterr()
    return error if status else out


def test_from_the_plan_to_the_seal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = json.loads(said(capsys, "gallery plan g --behind --space new-items --json -"))
    assert (plan["behind"], plan["to_embed"], plan["missing"]) == (True, 60, [])
    assert "is filled behind" in said(capsys, "gallery upgrade g --behind --grace")
    filled = said(capsys, FILL)
    assert "60 items embedded" in filled
    assert "quality of the new side: rank@1" in filled
    assert said(capsys, "gallery status g").splitlines()[1] == "upgrade 1: filled, 100 % of the items have a new vector"
    added = said(capsys, "gallery add g old-more --quiet")
    assert "note: 10 of them have no vector of" in added
    switch = "gallery switch g --share 0.8 --drop --dropped gone.txt --accept-worse --json -"
    switched = json.loads(said(capsys, switch))
    assert switched["dropped"] == [f"i{row}" for row in range(60, 70)]
    assert Path("gone.txt").read_text().split() == switched["dropped"]
    status = json.loads(said(capsys, "gallery search g old-queries --json old.json", "gallery status g --json -"))
    assert [one["role"] for one in status["spaces"]] == ["kept", "queries"]
    assert status["spaces"][0]["queries"]["queries"] == 20
    assert status["dropped"] == 10
    back = said(capsys, "gallery rollback g")
    assert "forward again: samespace gallery switch g" in back
    assert "still come: 20 so far" in said(capsys, switch, "gallery seal g --yes", status=2)
    assert "removed: 10 items" in said(capsys, "gallery seal g --yes --end-grace")


def test_a_bare_file_and_a_score(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = VectorSet.load("new-items")
    np.savez("bare.npz", vectors=vectors.take(np.arange(60)) * 3, ids=vectors.ids)
    begin = "gallery upgrade g --behind --space bare.npz --space-name vendor --revision 2 --score ip"
    fill = "gallery backfill g --vectors bare.npz --space-name vendor --revision 2 --quiet --json -"
    assert json.loads(said(capsys, begin, fill))["stored"] == 60


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("gallery switch g", "no upgrade is being filled, so there is nothing to switch to; begin one with"),
        ("gallery upgrade g --behind", "no upgrade is planned; name the new model with --model"),
        ("gallery upgrade g --behind --space old-items", "queries use .* already; there is nothing to upgrade"),
        ("gallery upgrade g --space new-items", "takes over with 'samespace gallery upgrade g --behind --model DIR'"),
        ("gallery upgrade begun --behind --space third-items", "is being filled; end it with"),
        ("gallery backfill begun --vectors third-items --quiet", "the gallery does not know the space"),
        ("gallery add begun third-items --quiet", "which the gallery does not know"),
        ("gallery search begun new-queries", "it is being filled, 'samespace gallery switch begun' lets queries"),
        (
            "gallery switch begun",
            "60 of 60 items have no vector of .* 'samespace gallery backfill begun --vectors VECTORS'\n",
        ),
        ("gallery switch filled --queries new-queries old-queries", "expected queries of space"),
        ("gallery switch filled --queries old-queries new-more", "are not of the same queries"),
        ("gallery switch filled --dropped no/where.txt", "cannot be written: there is no folder no"),
        ("gallery seal over --yes --partial", "is sealed as a whole"),
        ("gallery search over old-queries", "or roll the gallery back"),
    ],
)
def test_wrong_use_is_one_line_and_changes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    def spaces() -> list[tuple[str, int]]:
        with Gallery.open(command.split()[2]) as gallery:
            return [(one.role, one.vectors) for one in gallery.status().spaces]

    before = spaces()
    error = said(capsys, command, status=2)
    assert error.count("\n") == 1
    assert error.startswith("samespace: error: ")
    assert re.search(message, error), error
    # what was named for the upgrade may be known now, and serves nothing
    assert spaces()[: len(before)] == before


@pytest.mark.parametrize(
    "command",
    [
        "gallery switch g --share 0.9",
        "gallery switch g --drop",
        "gallery upgrade g --behind --space new-items --accept-uncertified",
        "gallery upgrade g --space new-items --score l2",
        "gallery upgrade g --behind --from project.yaml",
    ],
)
def test_options_that_do_not_go_together(here: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert "samespace: error: " in said(capsys, command, status=2)


def test_a_script_that_runs_twice_rolls_back_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    taken = json.loads(said(capsys, "gallery status over --json -"))["steps_taken"]
    said(capsys, f"gallery rollback over --expect {taken}")
    assert "was carried out already" in said(capsys, f"gallery rollback over --expect {taken}", status=2)
    for step in ("upgrade over --behind", "switch over", "pause over", "resume over", "seal over --yes"):
        assert "look at the status first" in said(capsys, f"gallery {step} --expect {taken}", status=2)
    assert "given up" in said(capsys, "gallery rollback over")
