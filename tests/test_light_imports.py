"""Commands that need no model load no torch, which costs seconds and hundreds of megabytes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from samespace.gallery import Gallery
from samespace.space import Space
from samespace.vectors import VectorSet

SPACE = Space(weights="00" * 32, preprocessing="none", dim=8, normalized=True, name="v1")
HEAVY = ("torch", "torchvision", "matplotlib", "PIL", "jinja2")
NOT_FOR_HELP = (*HEAVY, "numpy", "pyarrow", "rich", "msgspec", "yaml")
LIGHT = ["samespace", "samespace.gallery", "samespace.vectors", "samespace.cli.main"]
LIGHT += ["samespace.metrics", "samespace.scoring.pairs", "samespace.scoring.ranking", "samespace.evaluate"]


def loaded_after(code: str, *arguments: str, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """Which heavy packages a fresh Python has loaded once it has run some code."""
    told = f"import sys\n{code}\nprint('loaded:', *(name for name in {heavy!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", told, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def loaded_by(*command: str, exit_code: int = 0, heavy: tuple[str, ...] = HEAVY) -> list[str]:
    """Which heavy packages a command has loaded at its end."""
    code = f"from samespace.cli.main import run\nassert run(sys.argv[1:]) == {exit_code}"
    return loaded_after(code, *command, heavy=heavy)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of vectors, and a set of queries."""
    place = tmp_path_factory.mktemp("light")
    values = np.random.default_rng(0).normal(size=(60, SPACE.dim))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    vectors = VectorSet.from_arrays(
        unit, ids=[f"item-{row}" for row in range(60)], labels=np.arange(60) % 12, space=SPACE
    )
    vectors.save(place / "vectors")
    with Gallery.create(place / "gallery", SPACE) as gallery:
        gallery.add(vectors)
    return place


@pytest.mark.parametrize("module", LIGHT)
def test_importing(module: str) -> None:
    assert loaded_after(f"import {module}") == []


@pytest.mark.parametrize("command", [["--help"], ["gallery", "status", "--help"]], ids=" ".join)
def test_asking_for_help(command: list[str]) -> None:
    assert loaded_by(*command, heavy=NOT_FOR_HELP) == []


def test_describing_and_allocating_images(tmp_path: Path) -> None:
    images = "glyphs:classes=8,images=3"
    assert loaded_by("data", "describe", images) == ["PIL"]
    assert loaded_by("data", "allocate", images, "--kind", "open-class", "--out", str(tmp_path / "a.json")) == ["PIL"]


def test_importing_vectors(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "vectors.npy", np.eye(4, dtype=np.float32))
    assert loaded_by("vectors", "import", str(tmp_path / "vectors.npy"), "--out", str(tmp_path / "imported")) == []


@pytest.mark.parametrize("command", ["status", "doctor"])
def test_looking_at_a_gallery(folder: Path, command: str) -> None:
    assert loaded_by("gallery", command, str(folder / "gallery")) == []


def test_searching_by_vectors(folder: Path) -> None:
    assert loaded_by("gallery", "search", str(folder / "gallery"), str(folder / "vectors")) == []


def test_adding_vectors(folder: Path) -> None:
    assert loaded_by("gallery", "add", str(folder / "gallery"), str(folder / "vectors")) == []


def test_checking_vectors(folder: Path) -> None:
    vectors = str(folder / "vectors")
    sides = [f"--{side}={vectors}" for side in ("queries", "gallery", "baseline", "new-gallery")]
    assert loaded_by("check", *sides, "--replicates", "100", exit_code=1) == []


def test_probing_vectors(folder: Path) -> None:
    assert loaded_by("probe", str(folder / "vectors"), "--replicates", "100") == []


def test_searching_vectors_does_not_load_what_judges_them(folder: Path) -> None:
    command = ("gallery", "search", str(folder / "gallery"), str(folder / "vectors"), "-k", "1", "--quiet")
    assert loaded_by(*command, heavy=("samespace.evaluate", "samespace.prototypes")) == []
