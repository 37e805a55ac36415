"""The doctor: what is healthy, what it finds, what it says to do; read-only and damaged galleries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from samespace.errors import GalleryError
from samespace.gallery import Gallery, Limits
from samespace.gallery.index.local import compaction

from .world import NEW, OLD, certificate, items, queries


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """Half backfilled."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        made.upgrade(NEW, [certificate()])
        made.backfill(vectors=items(NEW), limits=Limits(items=100))
        yield made


def errors(gallery: Gallery) -> list[str]:
    return [finding.what for finding in gallery.doctor().findings if finding.level == "error"]


def test_a_healthy_gallery(gallery: Gallery) -> None:
    diagnosis = gallery.doctor()
    assert diagnosis.healthy
    assert any("200 items; served: 100 by" in finding.what for finding in diagnosis.findings)
    assert any("100 items are on the work list" in finding.what for finding in diagnosis.findings)
    assert diagnosis.to_dict()["healthy"] is True


def test_finds_a_vector_that_is_not_what_was_written(gallery: Gallery) -> None:
    with gallery.ledger.write() as writer:
        writer.session.run("UPDATE vector_1 SET crc = crc + 1 WHERE no = 17")
    assert any("1 of 200 vectors are not what was written" in what for what in errors(gallery))
    # the old vectors are about to go anyway; the new ones are whole
    gallery.backfill(vectors=items(NEW))
    with gallery.ledger.write() as writer:
        writer.session.run("UPDATE vector_2 SET crc = crc + 1")
    with pytest.raises(GalleryError, match="is damaged in the store; nothing was deleted"):
        gallery.seal()
    assert gallery.state.upgrade is not None
    assert gallery.state.upgrade.state == "open"


def test_finds_orphans_and_items_that_nothing_serves(gallery: Gallery) -> None:
    with gallery.ledger.write() as writer:
        writer.session.run("UPDATE item SET content = 'other' WHERE id = 'item-000'")
        writer.session.run("DELETE FROM vector_1 WHERE item = 2")
        writer.session.run("DELETE FROM vector_2 WHERE item = 2")
    found = errors(gallery)
    assert any("of items that are gone or have changed" in what for what in found)
    assert any("1 item has no vector that serves, such as 'item-001'" in what for what in found)


def test_finds_pairs_that_nothing_allows(gallery: Gallery) -> None:
    with gallery.ledger.write() as writer:
        writer.session.run("DELETE FROM link")
        writer.session.run("DELETE FROM calibration WHERE query = 2 AND gallery = 1")
        writer.put_meta("settings", "{}")
    found = errors(gallery)
    assert any("no certificate" in what for what in found)
    assert any("no calibration" in what for what in found)


def test_repairs_indexes_and_nothing_else(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        before = [[hit.item for hit in row] for row in gallery.search(queries(OLD)).hits]
        shutil.rmtree(tmp_path / "g" / "index", ignore_errors=True)
        assert [[hit.item for hit in row] for row in gallery.search(queries(OLD)).hits] == before
        assert gallery.doctor(repair=True).healthy
    with Gallery.open(tmp_path / "g") as gallery:
        assert [[hit.item for hit in row] for row in gallery.search(queries(OLD)).hits] == before


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def displaced(file: Path) -> None:
    file.unlink()
    (file / "kept").mkdir(parents=True)


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [("manifest.json", cut), ("manifest.json", displaced), ("served-*", Path.unlink), ("served-*", cut)],
    ids=["manifest cut", "manifest displaced", "served rows gone", "served rows cut"],
)
def test_what_opening_an_index_needs_is_found_and_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, harm: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(compaction, "FLUSH", 40)
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        gallery.maintain()
        before = gallery.search(queries(OLD)).hits
    (file,) = (tmp_path / "g" / "index").rglob(pattern)
    harm(file)
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.search(queries(OLD)).hits == before
        (found,) = errors(gallery)
        assert f"1 index file is not what was written: {file.name.partition('.')[0]}" in found
        if file.is_dir():
            again = gallery.doctor(repair=True)
            assert any("move away what is there and maintain again" in one.what for one in again.findings)
            assert not again.healthy
            shutil.rmtree(file)
        assert gallery.doctor(repair=True).healthy
    with Gallery.open(tmp_path / "g") as gallery:
        assert errors(gallery) == []
        assert gallery.search(queries(OLD)).hits == before


def test_a_read_only_gallery_answers_and_refuses_to_change(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
    with Gallery.open(tmp_path / "g", read_only=True) as gallery:
        assert len(gallery.search(queries(OLD), k=3).hits[0]) == 3
        assert gallery.doctor().healthy
        assert gallery.status().items == 200
        for writer in (lambda: gallery.remove(["item-000"]), lambda: gallery.plan(NEW), gallery.rollback):
            with pytest.raises(GalleryError, match=r"read-only or cannot be written; nothing was changed"):
                writer()


def test_a_damaged_database_is_one_line(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
    file = tmp_path / "g" / "gallery.db"
    whole = file.read_bytes()
    file.write_bytes(whole[:100] + b"\xff" * 20_000 + whole[20_100:])
    with pytest.raises(GalleryError, match="is damaged") as caught, Gallery.open(tmp_path / "g") as gallery:
        gallery.search(queries(OLD))
    assert "\n" not in str(caught.value)
