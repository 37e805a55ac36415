"""Releases of a PostgreSQL table: without its old index, beside a row that is held, after a behind upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

from samespace.cli.main import run
from samespace.errors import GalleryError
from samespace.gallery.adoption import release
from samespace.gallery.index.adopted.store import store_of
from samespace.gallery.ledger.transactions.reader import LedgerReader

from ..servers import Server
from .applications import PostgresApplication, World
from .test_behind import OTHER, other


@pytest.fixture
def world(server: Server) -> Iterator[World]:
    """An application with 60 rows, adopted, and its upgrade begun."""
    application = PostgresApplication(server.address)
    made = World(application, 60)
    made.upgrade()
    made.backfill()
    yield made
    made.gallery.close()
    application.close()


def indexes(world: World) -> list[str]:
    """Names of the indexes on vectors that the application has."""
    return [
        row[0]
        for row in world.application.run(
            "SELECT indexname FROM pg_indexes WHERE tablename = %s AND indexdef LIKE '%%hnsw%%' ORDER BY 1",
            [world.application.table],
        )
    ]


def test_a_release_without_the_old_index_cut_short_still_makes_the_new_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, names, rows = world.found(), indexes(world), world.application.read()
    assert "DROP INDEX CONCURRENTLY" in "\n".join(world.gallery.release_sql(drop_index=True))
    assert "drop_index=True" in "\n".join(world.gallery.release_sql())

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(release, "_copy", cut)
        with pytest.raises(KeyboardInterrupt):
            world.gallery.seal(drop_index=True)
    assert indexes(world) == []
    assert world.application.read() == rows
    assert world.found() == before == world.found(exact=False)
    assert any("should you give up" in line for line in world.gallery.release_sql())
    world.gallery.seal()
    assert indexes(world) == names
    assert world.found() == before
    assert world.application.read() == {name: world.new[name].tolist() for name in world.rows}


def test_a_row_that_the_application_holds_is_waited_for_at_the_end_only(world: World) -> None:
    store = store_of(world.gallery.source)
    assert store is not None
    with world.gallery.ledger.write() as writer:
        writer.session.run(release.plan_release(store).add)
        writer.put_meta("adopted release", "an embedding_new")
    with psycopg.connect(world.application.address.partition("&")[0]) as other_session:
        held = f"UPDATE {world.application.quoted} SET price = 7 WHERE \"Article\" = 'row-0004'"
        other_session.execute(held.encode())
        with world.gallery.ledger.read() as reader:
            items, _ = reader.row_numbers(2)
        assert (len(items), store.put(2, np.sort(items))) == (60, 59)
    before = world.found()
    world.gallery.seal()
    assert world.found() == before
    assert world.application.read() == {name: world.new[name].tolist() for name in world.rows}


def test_what_the_application_writes_before_the_lock_is_seen_under_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, read = dict(world.rows), release._numbers
    writes = [lambda: world.add(["row-0090"]), lambda: world.change(["row-0004"])]

    def first(reader: LedgerReader, sql: str) -> list[int | None]:
        if writes and "side_2" in sql:
            writes.pop(0)()
        return read(reader, sql)

    monkeypatch.setattr(release, "_numbers", first)
    while writes:
        with pytest.raises(GalleryError, match="1 rows have no vector of"):
            world.gallery.seal()
        assert world.found() == world.expected()
        world.gallery.sync()
        world.backfill()
    # written, and its vector is the same
    writes.append(lambda: world.application.put({"row-0005": rows["row-0005"]}))
    before = world.found()
    world.gallery.seal()
    assert world.found() == before
    assert world.application.read() == {name: world.new[name].tolist() for name in world.rows}
    assert world.gallery.sync().changed == 0


def test_two_seals_at_once_are_one_and_a_refusal(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = release._copy

    def met(*given: Any) -> None:
        with world.application.open() as second, pytest.raises(GalleryError, match="another seal of this gallery"):
            second.seal()
        copy(*given)

    monkeypatch.setattr(release, "_copy", met)
    before = world.found()
    assert len(world.gallery.seal().retired) == 1
    assert world.found() == before
    with pytest.raises(GalleryError, match="nothing to seal"):
        world.gallery.seal()


def test_a_behind_upgrade_by_another_score_is_handed_over(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    application = PostgresApplication(server.address)
    world = World(application, 60)
    gallery, names = world.gallery, list(world.rows)
    gallery.begin_behind(OTHER, score="l2")
    gallery.backfill(vectors=other(names))
    gallery.switch()
    asked = other(names[:6])
    before = gallery.search(asked, k=9)
    gallery.close()
    assert run(["gallery", "seal", application.address, "--yes", "--quiet"]) == 0
    assert 'USING hnsw ("an embedding_new" vector_l2_ops)' in capsys.readouterr().out
    values = other(names).vectors
    stored = application.read()
    assert stored == {name: values[place].tolist() for place, name in enumerate(names)}
    world.gallery = application.open()
    for exact in (True, False):
        after = world.gallery.search(asked, k=9, exact=exact)
        assert [[(hit.item, hit.raw) for hit in hits] for hits in after.hits] == [
            [(hit.item, hit.raw) for hit in hits] for hits in before.hits
        ]
    # the application goes on by the new model
    application.put({"row-0200": other(["row-0200"]).vectors[0]})
    assert [hits[0].item for hits in world.gallery.search(other(["row-0200"]), k=1).hits] == ["row-0200"]
    assert world.gallery.sync().added == 1
    assert world.gallery.doctor().healthy
    world.gallery.close()
    application.close()
