"""Ledgers that something else has written to: each is refused in one line, or answers; none ends in a traceback."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Gallery
from samespace.gallery.backfill.limits import Limits

from ..world import NEW, OLD, certificate, items, queries

ALTERED = [
    "UPDATE meta SET value = 'no JSON' WHERE key = 'settings'",
    "UPDATE meta SET value = '[1]' WHERE key = 'settings'",
    "UPDATE space SET description = 'no JSON'",
    "UPDATE space SET description = '7'",
    "UPDATE clock SET next_item = 1099511627776",
    "UPDATE clock SET next_item = 3",
    "DELETE FROM clock",
    "UPDATE clock SET query = 77",
    "UPDATE vector_1 SET item = 99999 WHERE no = 5",
    "UPDATE item SET no = 99999 WHERE no = 5",
    "UPDATE upgrade SET state = 'odd'",
    "UPDATE upgrade SET old = 2, new = 1",
    "UPDATE work_range SET last = 4611686018427387904",
    "UPDATE work_range SET tries = -3",
    "UPDATE upgrade SET plan = 'x', new = 9",
    "UPDATE link SET certificate = '[]'",
    "UPDATE calibration SET value = 'x'",
]
SQLITE_ONLY = [
    "UPDATE vector_1 SET value = 'text' WHERE no = 5",
    "UPDATE vector_1 SET value = CAST(value AS TEXT)",
    "UPDATE vector_1 SET no = -5 WHERE no = 5",
    "UPDATE item SET id = x'00ff' WHERE no = 5",
    "UPDATE item SET metadata = '[' WHERE no = 5",
    "UPDATE clock SET epoch = 'x'",
    "UPDATE clock SET next_vector = 1.5",
    "UPDATE clock SET next_vector = 'x'",
    "UPDATE work_range SET last = 'x'",
    "UPDATE work_range SET last = 9e999",
    "UPDATE work_range SET owner = x'00ff'",
    "UPDATE upgrade SET started = 'x'",
    "UPDATE space SET description = replace(hex(zeroblob(50000)), '00', '[')",
]


@pytest.fixture
def filled(place: str, request: pytest.FixtureRequest) -> str:
    """Two spaces, half backfilled; closed."""
    if place.startswith("postgres") and request.node.callspec.params.get("change") in SQLITE_ONLY:
        pytest.skip("PostgreSQL refuses the change itself")
    with Gallery.create(place, OLD) as gallery:
        gallery.add(items(OLD).subset(np.arange(40)))
        gallery.calibrate(queries(OLD), items(OLD))
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW).subset(np.arange(20, 40)))
    return place


def used(place: str) -> int:
    """How many of the ways to use a gallery were refused in one line."""
    refused: list[str] = []
    for use in (
        lambda gallery: gallery.search(queries(NEW), k=3),
        lambda gallery: gallery.search(queries(NEW), k=2**70, where={"year": (">", 10**400)}),
        lambda gallery: gallery.status(),
        lambda gallery: gallery.doctor(),
        lambda gallery: gallery.remove(["item-003"]),
        lambda gallery: gallery.backfill(vectors=items(NEW).subset(np.arange(40)), limits=Limits(seconds=30)),
    ):
        try:
            with Gallery.open(place) as gallery:
                use(gallery)
        except SamespaceError as error:
            refused.append(str(error))
    assert not [text for text in refused if "\n" in text or len(text) > 600]
    return len(refused)


@pytest.mark.parametrize("change", [*ALTERED, *SQLITE_ONLY], ids=lambda change: change[:50])
def test_an_altered_ledger_ends_in_one_line(filled: str, change: str) -> None:
    with Gallery.open(filled) as gallery, gallery.ledger.write() as writer:
        writer.session.run(change)
    assert used(filled) > 0 or "metadata" in change or "SET no = -5" in change or "next_vector" in change


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE work SET place = place + 100 WHERE item < 9",
        "DELETE FROM work WHERE item < 9",
        "INSERT INTO work_range VALUES (2, 500, 520, NULL, NULL, 0)",
        "INSERT INTO vector_2 (no, item, crc, content, value) SELECT 900 + no, no, 0, content, zeroblob(80) FROM item "
        "WHERE no < 9",
    ],
)
@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_a_backfill_does_not_wait_for_places_that_no_item_can_fill(filled: str, change: str) -> None:
    with Gallery.open(filled) as gallery:
        with gallery.ledger.write() as writer:
            writer.session.run(change)
        done = gallery.backfill(vectors=items(NEW).subset(np.arange(40)), limits=Limits(seconds=30))
        assert "seconds of this run" not in done.ended
        # whoever can embed any item takes the places of none off the list
        with gallery.ledger.claiming() as queue:
            claims = queue.claim(2, "another", 100, now=time.time(), lease=60)
            assert queue.work(2, time.time()).open == len(claims)


def test_an_unharmed_ledger_takes_any_k_and_any_number(filled: str) -> None:
    assert used(filled) == 0


@pytest.mark.parametrize(
    "foreign", ["CREATE VIEW extra AS SELECT * FROM item", "CREATE TRIGGER extra AFTER INSERT ON item {}"]
)
def test_the_doctor_names_what_is_not_the_gallerys(filled: str, foreign: str) -> None:
    postgres = filled.startswith("postgres")
    with Gallery.open(filled) as gallery:
        body = "EXECUTE FUNCTION suppress_redundant_updates_trigger()" if postgres else "BEGIN DELETE FROM item; END"
        if postgres:
            foreign = foreign.replace("AFTER INSERT ON item", "BEFORE UPDATE ON item FOR EACH ROW")
        with gallery.ledger.write() as writer:
            writer.session.run(foreign.format(body))
        wrong = [one.what for one in gallery.doctor().findings if one.level == "error"]
    assert any("'extra' is none of the gallery's" in what for what in wrong)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "gallery.db").write_bytes(b"\0" * 100)
    with pytest.raises(GalleryError):
        Gallery.open(tmp_path)


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "change", ["UPDATE vector_1 SET item = item + 0.5", "UPDATE clock SET next_vector = 9223372036854775807"]
)
def test_numbers_that_are_none_end_in_one_line(filled: str, change: str) -> None:
    with Gallery.open(filled) as gallery, gallery.ledger.write() as writer:
        # an index without its file is read from the ledger
        writer.session.run(change)
        writer.session.run("DELETE FROM meta WHERE key LIKE 'served%'")

    def use() -> None:
        with Gallery.open(filled) as gallery:
            gallery.add(items(NEW).subset(np.arange(41, 44)))
            gallery.search(queries(NEW), k=3)

    with pytest.raises(GalleryError, match="damaged"):
        use()


@pytest.mark.parametrize("place", ["sqlite"], indirect=True)
def test_rows_that_damage_leads_back_to_are_not_read_without_end(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Gallery.open(filled) as gallery, gallery.ledger.read() as reader:
        monkeypatch.setattr(reader.session, "all", lambda sql, values=(): [(3, 1)])
        with pytest.raises(GalleryError, match="in its order cannot be read"):
            reader.row_numbers(1)
