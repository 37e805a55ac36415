"""Index files that change under a reader: a flipped byte, a lost end, a row that is no number."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from samespace.gallery.doctor import examine
from samespace.gallery.index import segments
from samespace.gallery.index.local import compaction
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.search.search import search

from .made import Made, as_rows, made_space, made_vectors, stretched

DIM = 16


@pytest.fixture(params=[(True, "cosine"), (False, "cosine"), (False, "l2")], ids=["unit", "lengths", "l2"])
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """300 items in an index file."""
    normalized, score = request.param
    monkeypatch.setattr(compaction, "FLUSH", 40)
    found = Made(tmp_path, [made_space("a", DIM, normalized=normalized)], score=score)
    values = made_vectors(300, DIM, seed=3)
    found.add([f"i-{place:03d}" for place in range(300)], values if normalized else stretched(values, 4))
    LocalSource(found.ledger, tmp_path / "index").maintain()
    return found


def query(made: Made, item: str) -> np.ndarray:
    """The vector of an item, as a query."""
    value = made.vectors[1][item].astype(np.float64)
    if made.score == "cosine":
        value /= np.linalg.norm(value)
    return value[None].astype(np.float32)


def overwrite(folder: Path, row: int, value: float) -> None:
    """Change a row in place, as a failing disk does; a reader that has mapped the file sees it."""
    (file,) = (folder / "index").glob("*/*.vectors.npy")
    np.load(file, mmap_mode="r+")[row, 2] = value


@pytest.mark.parametrize("value", [0.97, 1e30, float("nan"), float("inf")])
@pytest.mark.parametrize("before", [True, False], ids=["before it is opened", "while it is mapped"])
def test_a_row_that_is_not_what_was_written_is_never_answered(
    made: Made, tmp_path: Path, value: float, before: bool
) -> None:
    asked, space = query(made, "i-017"), made.spaces[1]
    right = as_rows(search(LocalSource(made.ledger, None), asked, space, k=5))
    source = LocalSource(made.ledger, tmp_path / "index")
    if before:
        overwrite(tmp_path, 17, value)
    else:
        assert as_rows(search(source, asked, space, k=5)) == right
        overwrite(tmp_path, 17, value)
        (diagnosis,) = [one for one in examine(made.ledger, source).findings if "not what was written" in one.what]
        assert diagnosis.level == "error"
    everything = as_rows(search(LocalSource(made.ledger, None), asked, space, k=300))
    # a row whose damage puts it far from the query is not looked at
    (found,) = as_rows(search(source, asked, space, k=5))
    assert len(found) == 5
    assert set(found) <= set(everything[0])
    assert as_rows(search(source, asked, space, k=300)) == everything
    assert examine(made.ledger, source, repair=True).healthy
    assert as_rows(search(source, asked, space, k=5)) == right
    assert examine(made.ledger, LocalSource(made.ledger, tmp_path / "index")).healthy


def test_a_mapped_file_that_loses_its_end_does_not_end_the_process(made: Made, tmp_path: Path) -> None:
    asked, space = query(made, "i-017"), made.spaces[1]
    source = LocalSource(made.ledger, tmp_path / "index")
    right = as_rows(search(source, asked, space, k=300))
    (file,) = (tmp_path / "index").glob("*/*.vectors.npy")
    os.truncate(file, 200)
    assert not examine(made.ledger, source).healthy
    assert as_rows(search(source, asked, space, k=300)) == right
    source.maintain()
    assert as_rows(search(source, asked, space, k=300)) == right
    assert examine(made.ledger, source).healthy


def test_files_without_checksums_of_unit_rows_are_still_read(tmp_path: Path) -> None:
    space = made_space("a", DIM, normalized=False)
    folder = segments.SegmentFolder(tmp_path, "gallery", space)
    values = segments.unit(stretched(made_vectors(30, DIM, seed=1), 2), space)
    numbers = np.arange(1, 31)
    with folder.locked():
        # what earlier versions wrote
        _, entry = folder.save(segments.Segment(numbers, numbers, 3 * numbers, values))
        folder.write([entry], None)
    loaded = folder.load(entry)
    assert loaded is not None
    assert not loaded.damaged(np.arange(30))
    overwritten = np.load(tmp_path / f"{entry['name']}.vectors.npy", mmap_mode="r+")
    overwritten[5, 1] += 0.25
    assert loaded.damaged(np.array([5]))
    assert folder.load(entry) is None
