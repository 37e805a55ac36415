"""Row numbers that are kept beside index files: read instead of the ledger's tables, and never against the ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samespace.gallery.doctor import examine
from samespace.gallery.index.local import compaction, loading
from samespace.gallery.index.local.served_files import save_served
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.served import RowNumbers, ServedRows
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.search.search import search

from .made import Made, as_rows, half_way, made_vectors

QUERIES = made_vectors(5, 32, seed=9)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """300 items in index files, half of them with a vector of the newer space."""
    monkeypatch.setattr(compaction, "FLUSH", 40)
    found = half_way(tmp_path)
    LocalSource(found.ledger, tmp_path / "index").maintain()
    return found


@pytest.fixture
def since(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Revisions since which rows were asked for; -1 for all."""
    asked: list[int] = []
    row_numbers = LedgerReader.row_numbers

    def watched(reader: LedgerReader, generation: int, since: int = -1) -> object:
        asked.append(since)
        return row_numbers(reader, generation, since)

    monkeypatch.setattr(LedgerReader, "row_numbers", watched)
    return asked


def check(made: Made, folder: Path) -> LocalSource:
    source = LocalSource(made.ledger, folder / "index")
    assert as_rows(search(source, QUERIES, made.spaces[2], k=20)) == made.slow(QUERIES, 20)
    return source


def test_opening_reads_what_changed(made: Made, tmp_path: Path, since: list[int]) -> None:
    made.remove(sorted(made.metadata)[:7])
    made.add(["late"], made_vectors(1, 16, seed=4))
    check(made, tmp_path)
    assert len(since) == 2
    assert min(since) > 0


def test_few_changes_do_not_write_it_anew_and_many_do(made: Made, tmp_path: Path) -> None:
    source, files = LocalSource(made.ledger, tmp_path / "index"), "*/served-*"
    before = sorted((tmp_path / "index").glob(files))
    assert len(before) == 2
    made.add(["late"], made_vectors(1, 16, seed=4))
    source.maintain()
    assert sorted((tmp_path / "index").glob(files)) == before
    made.add([f"late-{place}" for place in range(50)], made_vectors(50, 16, seed=4))
    source.maintain()
    after = sorted((tmp_path / "index").glob(files))
    assert len(after) == 2
    assert not set(after) & set(before)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-9] ^= 1
    file.write_bytes(data)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("harm", [_flip, _cut])
def test_what_is_damaged_is_not_read_and_made_anew(
    made: Made, tmp_path: Path, since: list[int], harm: Callable[[Path], None]
) -> None:
    for file in (tmp_path / "index").glob("*/served-*"):
        harm(file)
    source = check(made, tmp_path)
    assert since == [-1, -1]
    assert not examine(made.ledger, source).healthy
    assert examine(made.ledger, source, repair=True).healthy
    since.clear()
    check(made, tmp_path)
    assert since == []


def test_what_contradicts_the_ledger_is_found_by_the_doctor(made: Made, tmp_path: Path) -> None:
    source = LocalSource(made.ledger, tmp_path / "index")
    state = source.state()
    folder = source._latest.segment_folder(state.gallery.spaces[1])
    assert folder is not None
    wrong = state.served.rows[1].all().copy()
    wrong[5] = 0
    served = ServedRows(state.served.revision, {1: RowNumbers.whole(wrong)}, np.empty(0, dtype=np.int64), len(wrong))
    with folder.locked():
        save_served(folder, made.ledger, served, 1, 1)
    source = LocalSource(made.ledger, tmp_path / "index")
    (finding,) = [one for one in examine(made.ledger, source).findings if one.level == "error"]
    assert "1 index file is not what was written: served-" in finding.what
    assert examine(made.ledger, source, repair=True).healthy
    check(made, tmp_path)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "served-x 1 2", "served-x 1 2 3 4", "served-x -5 9999999 1", "../a 0 1 1"]
)
def test_a_note_that_is_none_is_passed_over(made: Made, tmp_path: Path, since: list[int], text: str) -> None:
    with made.ledger.write() as writer:
        writer.put_mark("served 1", text)
    check(made, tmp_path)
    assert since == [-1]


def test_rows_that_a_seal_deleted_are_read_anew(made: Made, tmp_path: Path, since: list[int]) -> None:
    opened = check(made, tmp_path)
    with made.ledger.write() as writer:
        writer.drop_superseded(1, 2, 1000)
        writer.note_rows_deleted()
    since.clear()
    check(made, tmp_path)
    assert since == [-1, -1]
    assert opened.state().stored(1) == LocalSource(made.ledger, tmp_path / "index").state().stored(1) == 150


def test_a_seal_that_was_killed_leaves_no_row_numbers_that_count(
    made: Made, tmp_path: Path, since: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_SPILL", 10)
    opened = check(made, tmp_path)
    with made.ledger.write() as writer:
        writer.drop_superseded(1, 2, 50)
    for file in (tmp_path / "index").glob("*/segment-*"):
        file.unlink()
    since.clear()
    source = check(made, tmp_path)
    assert since == [-1, -1]
    assert source.state().stored(1) == 250
    made.add(["late"], made_vectors(1, 16, seed=4))
    assert opened.state().stored(1) == 251
    with made.ledger.write() as writer:
        writer.drop_superseded(1, 2, 1000)
        writer.note_rows_deleted()
    assert opened.state().stored(1) == LocalSource(made.ledger, tmp_path / "index").state().stored(1) == 151
