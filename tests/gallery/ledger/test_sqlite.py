"""What only the ledger on SQLite can meet: full disks, damaged files, folders that cannot be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.sqlite import engine as sqlite_module
from samespace.gallery.ledger.sqlite.file import FILE
from samespace.gallery.ledger.state import NewItem

from ..conftest import OLD


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("mounting a small file system needs rights that this process lacks")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def created(folder: Path) -> Ledger:
    return Ledger.create(folder, OLD, model=None, settings={})


def add(ledger: Ledger, prefix: str, count: int = 50) -> None:
    values = np.random.default_rng(0).standard_normal((count, OLD.dim)).astype(np.float32)
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(f"{prefix}-{place}", "c" * 100) for place in range(count)])
        writer.put_vectors(1, numbers, ["c" * 100] * count, values)


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_commits_are_flushed_and_pages_are_large(tmp_path: Path) -> None:
    for ledger in (created(tmp_path / "g"), Ledger.open(tmp_path / "g")):
        with ledger.write() as writer:
            assert writer.session.all("PRAGMA synchronous") == [(2,)]
            assert writer.session.all("PRAGMA journal_mode") == [("wal",)]
            assert writer.session.all("PRAGMA page_size") == [(16384,)]
        ledger.close()


def test_a_full_disk_loses_nothing_that_was_acknowledged(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    ledger = created(small_disk / "g")
    batches = iter(range(1000))
    with pytest.raises(GalleryError) as caught:
        any(add(ledger, f"b{batch}") for batch in batches)
    # the batch that found no room is gone from the iterator too
    acknowledged = next(batches) - 1
    text = one_line(caught)
    assert "the disk is full" in text
    assert "make room" in text
    assert acknowledged > 0
    with ledger.read() as reader:
        assert (reader.live(), reader.stored(1)) == (50 * acknowledged, 50 * acknowledged)
    ballast.unlink()
    add(ledger, "later")
    ledger.close()
    again = Ledger.open(small_disk / "g")
    with again.read() as reader:
        assert reader.live() == 50 * (acknowledged + 1)
        assert reader.orphans(1) == 0
    assert list(again.engine.check()) == []
    again.close()


def test_no_gallery_is_left_half_made_on_a_full_disk(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(1_000_000))
    with pytest.raises(GalleryError, match="the disk is full") as caught:
        created(small_disk / "g")
    one_line(caught)
    (small_disk / "ballast").unlink()
    created(small_disk / "g").close()


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """The file of a closed gallery of 2,000 items."""
    ledger = created(tmp_path / "g")
    for batch in range(4):
        add(ledger, f"b{batch}", 500)
    ledger.close()
    return tmp_path / "g" / FILE


def test_a_file_that_is_no_database_is_refused(closed: Path) -> None:
    closed.write_bytes(b"this is not a database, it is a text of some length\n" * 400)
    with pytest.raises(GalleryError, match=r"is damaged; restore it from a backup") as caught:
        Ledger.open(closed.parent)
    one_line(caught)


def test_a_truncated_database_is_noticed(closed: Path) -> None:
    data = closed.read_bytes()
    closed.write_bytes(data[: len(data) // 2])
    with pytest.raises(GalleryError, match="is damaged") as caught:
        _read_all(closed.parent)
    one_line(caught)


def test_an_empty_file_is_no_gallery(closed: Path) -> None:
    closed.write_bytes(b"")
    with pytest.raises(GalleryError, match="is damaged") as caught:
        Ledger.open(closed.parent)
    one_line(caught)


def test_garbage_in_the_middle_is_noticed_and_never_served(closed: Path) -> None:
    data = bytearray(closed.read_bytes())
    start = len(data) // 2 // 16384 * 16384
    data[start : start + 65536] = b"\xff" * 65536
    closed.write_bytes(bytes(data))
    with pytest.raises(GalleryError, match="is damaged") as caught:
        _read_all(closed.parent)
    one_line(caught)
    ledger = Ledger.open(closed.parent)
    try:
        found = list(ledger.engine.check())
    except GalleryError as error:
        found = [str(error)]
    ledger.close()
    assert found


def _read_all(folder: Path) -> None:
    ledger = Ledger.open(folder)
    try:
        with ledger.read() as reader:
            items, ids, _ = reader.items_since(-1)
            reader.metadata(items)
            reader.find(ids)
            for _ in reader.batches(1, 100):
                pass
    finally:
        ledger.close()


def test_a_read_only_disk_can_be_searched_and_not_written(small_disk: Path) -> None:
    ledger = created(small_disk / "g")
    add(ledger, "a")
    ledger.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    still = Ledger.open(small_disk / "g")
    assert still.read_only
    with still.read() as reader:
        assert reader.live() == 50
    with pytest.raises(GalleryError, match="cannot be written; nothing was changed") as caught:
        add(still, "b")
    one_line(caught)
    still.close()
    with pytest.raises(GalleryError) as caught:
        created(small_disk / "other")
    one_line(caught)


def test_read_only_touches_no_file(closed: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in closed.parent.iterdir()}
    content = closed.read_bytes()
    _ledger = Ledger.open(closed.parent, read_only=True)
    with _ledger.read() as reader:
        assert reader.live() == 2000
    _ledger.close()
    assert closed.read_bytes() == content
    assert before.items() <= {file.name: file.stat().st_mtime_ns for file in closed.parent.iterdir()}.items()


def test_another_version_of_the_format_is_refused(closed: Path) -> None:
    with sqlite3.connect(closed) as connection:
        connection.execute("UPDATE meta SET value = 'samespace.gallery/99' WHERE key = 'format'")
    connection.close()
    with pytest.raises(GalleryError, match=r"has format 'samespace.gallery/99'; this version reads") as caught:
        Ledger.open(closed.parent)
    one_line(caught)


def test_one_writer_waits_for_another_and_then_says_so(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samespace.gallery.ledger.sqlite.engine._BUSY_SECONDS", 0.2)
    one, other = Ledger.open(closed.parent), Ledger.open(closed.parent)
    with one.write() as writer:
        writer.put_meta("a", "b")
        with pytest.raises(GalleryError, match=r"another process has been writing .* try again") as caught:
            add(other, "x")
    one_line(caught)
    add(other, "x")
    one.close()
    other.close()


def test_of_several_that_make_a_gallery_at_once_one_does_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, together = sqlite_module.require_empty, threading.Barrier(4)

    def all_look_first(folder: Path) -> None:
        looked(folder)
        together.wait(timeout=10)

    monkeypatch.setattr(sqlite_module, "require_empty", all_look_first)

    def make(_: int) -> Ledger | str:
        try:
            return created(tmp_path / "g")
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(make, range(4)))
    (winner,) = [result for result in results if isinstance(result, Ledger)]
    assert all("holds a gallery already" in result for result in results if isinstance(result, str))
    add(winner, "a")
    winner.close()
    again = Ledger.open(tmp_path / "g")
    with again.read() as reader:
        assert reader.live() == 50
    again.close()


def test_a_new_gallery_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object) -> None:
        raise GalleryError("on purpose")

    monkeypatch.setattr("samespace.gallery.ledger.sqlite.engine.SqliteEngine.create_tables", fails)
    with pytest.raises(GalleryError, match="on purpose"):
        created(tmp_path / "g")
    assert list((tmp_path / "g").iterdir()) == []


def test_threads_that_come_and_go_leave_few_connections(closed: Path) -> None:
    ledger = Ledger.open(closed.parent)
    together = threading.Barrier(12)

    def serve() -> None:
        with ledger.read() as reader:
            assert reader.live() == 2000
            together.wait(timeout=10)

    for _ in range(3):
        threads = [threading.Thread(target=serve) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(ledger.engine._pool) <= 4  # type: ignore[attr-defined]
    ledger.close()
    assert len(ledger.engine._pool) == 0  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_has_locks_of_its_own(closed: Path) -> None:
    ledger = Ledger.open(closed.parent)
    add(ledger, "before")
    reading, begun = os.pipe()
    child = os.fork()
    if not child:
        try:
            with ledger.read() as reader:
                live = reader.live()
                os.write(begun, b"x")
                time.sleep(1.0)
                os._exit(0 if live == reader.live() == 2050 else 1)
        finally:
            os._exit(2)
    assert os.read(reading, 1) == b"x"
    add(ledger, "after")
    ledger.close()
    # the last one out would have folded the log into the file: the child still reads
    assert (closed.parent / f"{FILE}-wal").stat().st_size > 0
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    os.close(begun)
    again = Ledger.open(closed.parent)
    with again.read() as reader:
        assert reader.live() == 2100
    again.close()
