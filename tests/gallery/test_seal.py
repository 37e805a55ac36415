"""The seal: what it checks each time, what goes with it, in what steps; on every kind of store."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery import Gallery, Limits
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade import seal as seal_module
from samespace.space import Space
from samespace.vectors import VectorSet

from .world import NEW, OLD, THIRD, certificate, items, queries

COUNT = len(items(OLD))


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """Of one space, calibrated."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        yield made


def stored(gallery: Gallery, generation: int) -> int:
    with gallery.ledger.read() as reader:
        return reader.stored(generation)


def damage(gallery: Gallery) -> None:
    with gallery.ledger.write() as writer:
        writer.session.run("UPDATE vector_2 SET crc = crc + 1 WHERE no = (SELECT MIN(no) FROM vector_2)")


def test_damaged_new_vectors_are_found_before_old_ones_go(gallery: Gallery) -> None:
    gallery.upgrade(NEW, [certificate()])
    gallery.backfill(vectors=items(NEW))
    damage(gallery)
    with pytest.raises(GalleryError, match="is damaged in the store; nothing was deleted"):
        gallery.seal()
    assert stored(gallery, 1) == COUNT
    assert gallery.rollback().query == OLD


def test_the_rest_after_a_seal_in_part_is_checked_too(gallery: Gallery) -> None:
    gallery.upgrade(NEW, [certificate()])
    gallery.backfill(vectors=items(NEW), limits=Limits(items=150))
    gallery.seal(partial=True)
    gallery.backfill(vectors=items(NEW))
    damage(gallery)
    with pytest.raises(GalleryError, match="is damaged in the store"):
        gallery.seal()
    assert stored(gallery, 1) == 50


def test_a_space_that_was_rolled_back_goes_with_those_before_it(gallery: Gallery) -> None:
    gallery.upgrade(NEW, [certificate()])
    gallery.backfill(vectors=items(NEW), limits=Limits(items=100))
    gallery.rollback()
    gallery.upgrade(THIRD, [certificate(THIRD, OLD)])
    gallery.backfill(vectors=items(THIRD))
    sealed = gallery.seal()
    assert (sealed.deleted, sealed.kept, sealed.retired) == (COUNT + 100, 0, (OLD, NEW))
    assert [stored(gallery, generation) for generation in (1, 2, 3)] == [0, 0, COUNT]
    assert [(one.new, one.state) for one in gallery.state.upgrades] == [(2, "rolled-back"), (3, "sealed")]
    with pytest.raises(GalleryError, match="sealed already"):
        gallery.seal()


def test_a_space_that_is_only_planned_stays(gallery: Gallery) -> None:
    gallery.upgrade(NEW, [certificate()])
    gallery.backfill(vectors=items(NEW))
    gallery.plan(THIRD, [certificate(THIRD, NEW), certificate(THIRD, OLD)])
    assert gallery.seal().retired == (OLD,)
    assert not gallery.state.spaces[3].retired
    assert gallery.upgrade().query == THIRD


def test_each_batch_begins_where_the_last_ended(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery.upgrade(NEW, [certificate()])
    gallery.backfill(vectors=items(NEW))
    begun: list[int] = []
    drop = LedgerWriter.drop_superseded

    def watched(writer: LedgerWriter, generation: int, by: int, limit: int, *, after: int = 0) -> list[int]:
        begun.append(after)
        return drop(writer, generation, by, limit, after=after)

    monkeypatch.setattr(LedgerWriter, "drop_superseded", watched)
    monkeypatch.setattr(seal_module, "_BATCH", 50)
    said: list[int] = []
    seal_module.seal(gallery.ledger, advance=said.append)
    assert said == [50] * 4
    assert begun == np.arange(0, COUNT + 1, 50).tolist()


@pytest.mark.parametrize("incremental", [True, False], ids=["new", "of an earlier version"])
def test_the_room_of_old_vectors_is_given_back(tmp_path: Path, incremental: bool) -> None:
    spaces = [Space(weights=name * 64, preprocessing="none", dim=1024, normalized=True, name=name) for name in "ab"]
    values = np.random.default_rng(0).standard_normal((600, 1024)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    ids = [f"item-{place:03d}" for place in range(600)]
    sets = [VectorSet.from_arrays(values, ids=ids, space=space) for space in spaces]
    Gallery.create(tmp_path / "g", spaces[0]).close()
    database = tmp_path / "g" / "gallery.db"
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        if not incremental:
            connection.executescript("PRAGMA auto_vacuum = 0; VACUUM")
    with Gallery.open(tmp_path / "g") as gallery:
        gallery.add(sets[0])
        gallery.begin_behind(spaces[1])
        gallery.backfill(vectors=sets[1])
        gallery.switch()
        before = sum(file.stat().st_size for file in (tmp_path / "g").rglob("*"))
        sealed = gallery.seal()
        after = sum(file.stat().st_size for file in (tmp_path / "g").rglob("*"))
        assert sealed.deleted == 600
        assert abs(sealed.freed - (before - after)) < 65_536
        assert gallery.doctor().healthy
        found = gallery.search(sets[1].subset(np.arange(3)), k=1)
    assert [hits[0].item for hits in found.hits] == ids[:3]
    if incremental:
        assert sealed.freed > 2_000_000
        assert sealed.advice == ""
    else:
        command = f"sqlite3 {database} 'PRAGMA auto_vacuum = 2; VACUUM'"
        assert re.fullmatch(f"[23] MiB are kept for new rows; to give them back, run {command}", sealed.advice)
    with closing(sqlite3.connect(database)) as connection:
        assert (connection.execute("PRAGMA freelist_count").fetchone() == (0,)) is incremental
