"""What is refused at once, in words that are true of what was given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.gallery import Gallery
from samespace.project import live
from samespace.space import Space


@pytest.fixture
def bare(tmp_path: Path) -> str:
    np.savez(tmp_path / "x.npz", vectors=np.eye(4, dtype=np.float32), ids=np.array(list("abcd")))
    return str(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("after", "options", "said"),
    [
        (",space=foo", ["--space-name", "clip"], "space foo"),
        ("", ["--space", "clip", "--space-name", "clap"], "differ"),
        ("", ["--space-name", ""], "--space-name is empty"),
        (",spce=clip", [], "there is no option 'spce' after a comma; did you mean 'space'?"),
    ],
)
def test_import_refuses(bare: str, tmp_path: Path, capsys: Any, after: str, options: list[str], said: str) -> None:
    assert run(["vectors", "import", bare + after, "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words", [["start", ""], ["start", "x", "--out", ""], ["check", "--queries", ""], ["check", "--report", ""]]
)
def test_an_empty_path_is_refused(words: list[str], capsys: Any) -> None:
    assert run(words) == 2
    assert "is empty" in capsys.readouterr().err


def test_places_of_galleries_come_first(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    space = Space.declared("clip", 4, "", normalized=True)
    Gallery.create(tmp_path / "g", space).close()
    monkeypatch.setattr("samespace.gallery.creation.require_index", lambda *_: pytest.fail("the index was asked first"))
    with pytest.raises(InputError, match="holds a gallery already"):
        Gallery.create(tmp_path / "g", space, index="http://127.0.0.1:1")
    (tmp_path / "file").touch()
    monkeypatch.setattr(live, "_old_items", lambda *_: pytest.fail("embedded first"))
    build: Any = SimpleNamespace(out=tmp_path)
    with pytest.raises(InputError, match="lies below"):
        live.open_filled(str(tmp_path / "file" / "x"), build, progress=lambda *_: None)  # type: ignore[arg-type, return-value]
    assert run(["gallery", "add", str(tmp_path / "g")]) == 2
    said = capsys.readouterr().err
    assert "give VECTORS" in said
    assert "--model" not in said
