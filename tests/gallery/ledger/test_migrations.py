"""A ledger that the first release wrote: brought to the present tables, asked, and compared with its answers then."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from samespace.errors import GalleryError
from samespace.gallery import Gallery
from samespace.gallery.ledger import migrations
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.schema import FORMAT
from samespace.gallery.ledger.transactions.writer import LedgerWriter

from ..conftest import OLD
from .first_release.asked import everything
from .first_release.made import as_first_release

ANSWERS: dict[str, Any] = json.loads((Path(__file__).parent / "first_release" / "answers.json").read_text("utf-8"))


@pytest.fixture
def old(place: str) -> str:
    """A gallery as the first release left it, in mid-backfill."""
    as_first_release(place)
    return place


def test_whatever_is_asked_has_the_answer_that_it_had(old: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="samespace.gallery"):
        now = json.loads(json.dumps(everything(old)))
    assert [record.message for record in caplog.records] == [
        f"{old}: brought from format samespace.gallery/1 to {FORMAT}"
    ]
    assert now.keys() == ANSWERS.keys()
    for name, answer in ANSWERS.items():
        assert now[name] == answer, name
    with Gallery.open(old) as gallery, gallery.ledger.read() as reader:
        steps = [line for line in reader.audit(99) if line["action"] == "migrate"]
        assert steps[0]["now"] == reader.meta("format") == FORMAT
        assert steps[-1]["before"] == "samespace.gallery/1"


def test_a_ledger_made_without_the_index_of_steps_gets_it_once(place: str, opened: Callable[..., Ledger]) -> None:
    opened(place, create=True).close()
    with opened(place).write() as writer:
        writer.session.run("DROP INDEX audit_action")
        writer.session.run("DELETE FROM meta WHERE key = 'audit indexed'")
        writer.note("pause")
    # read-only it is read as it is
    with opened(place, read_only=True).read() as reader:
        assert (reader.steps_taken(), reader.meta("audit indexed")) == (1, None)
    # to open it waits for no writer
    with opened(place).read() as reader:
        assert reader.meta("audit indexed") is None
    for _ in range(2):
        ledger = opened(place)
        ledger.index_steps()
        with ledger.read() as reader:
            assert (reader.steps_taken(), reader.meta("audit indexed"), reader.meta("format")) == (1, "1", FORMAT)
    with opened(place).write() as writer:
        writer.session.run("DROP INDEX audit_action")


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_number_of_the_first_release_is_known(old: str, number: int) -> None:
    as_first_release(old, number)
    with Gallery.open(old) as gallery, gallery.ledger.read() as reader:
        assert reader.meta("format") == FORMAT


def test_a_ledger_brought_up_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    as_first_release(str(tmp_path / "old"))
    Ledger.open(tmp_path / "old").close()
    Ledger.create(tmp_path / "new", OLD, model=None, settings={}).close()
    assert tables(tmp_path / "old") - {"vector_2"} == tables(tmp_path / "new")


def test_killed_half_way_it_is_as_before_and_the_next_opening_goes_on(
    old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        child = os.fork()
        if not child:
            monkeypatch.setattr(LedgerWriter, "put_meta", lambda *given: os._exit(9))
            Ledger.open(old)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert json.loads(json.dumps(everything(old)))["order"] == ANSWERS["order"]


def test_read_only_it_says_what_to_do(old: str) -> None:
    with pytest.raises(GalleryError, match=r"of an earlier version, and cannot be written here; bring it") as caught:
        Ledger.open(old, read_only=True)
    assert "\n" not in str(caught.value)


def test_a_later_one_is_refused(old: str, opened: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch) -> None:
    opened(old).close()
    monkeypatch.setattr(migrations, "FORMAT", "samespace.gallery/3")
    with pytest.raises(GalleryError, match=r"this version reads 'samespace.gallery/1' to 'samespace.gallery/3'"):
        Ledger.open(old)


def tables(folder: Path) -> set[str]:
    with sqlite3.connect(folder / "gallery.db") as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name if name.startswith("vector_") else " ".join(sql.split()) for name, sql in rows}
