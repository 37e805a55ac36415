"""What holds for an application's vectors that a gallery serves in place, whatever store they lie in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery.index.adopted.store import AdoptedStore, store_of
from samespace.vectors import VectorSet

from ..servers import Server
from .applications import NEW, OLD, STORES, PostgresApplication, World, colour, made_world, price


@pytest.fixture(params=STORES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An application with 160 rows, adopted, on each kind of store in turn."""
    # the second form of a collection differs in how it is searched and released; all of it with SAMESPACE_EXAMPLES
    differs = ("slow_search", "next_search", "added_when", "release")
    short = not any(part in request.node.name for part in differs) and "SAMESPACE_EXAMPLES" not in os.environ
    if request.param == STORES[-1] and short:
        pytest.skip("runs with SAMESPACE_EXAMPLES set: the other form of a collection does the same here")
    yield from made_world(request, tmp_path / "ledger")


def store(world: World) -> AdoptedStore:
    found = store_of(world.gallery.source)
    assert found is not None
    return found


def some(world: World, count: int, *, new: bool) -> list[str]:
    """Ids of rows that have a new vector, or have none."""
    served = world.served_by_new()
    return list(islice((name for name in world.rows if (name in served) == new), count))


def test_searches_equal_a_slow_search_at_every_share(world: World) -> None:
    before = world.application.read()
    assert world.found() == world.expected()
    world.upgrade()
    for count in (0, 50, 60, None):
        if count != 0:
            world.backfill(count)
        assert world.found() == world.expected()
        assert world.found(exact=False) == world.expected()
    assert len(world.served_by_new()) == len(world.rows)
    assert world.application.read() == before


def test_what_the_application_does_shows_in_the_next_search(world: World) -> None:
    world.upgrade()
    world.backfill(80)
    embedded, waiting = some(world, 12, new=True), some(world, 12, new=False)
    world.change([*embedded[:6], *waiting[:6]])
    world.delete([*embedded[6:], *waiting[6:]])
    world.add(["row-0200", "row-0201", "row-0202"])
    for exact in (True, False):
        assert world.found(exact=exact) == world.expected()
    told = world.gallery.status().adopted
    assert told is not None
    assert (told.added, told.changed, told.gone) == (3, 12, 12)
    assert any("3 rows added, 12 changed, 12 gone" in one.what for one in world.gallery.doctor().findings)
    done = world.gallery.sync()
    assert (done.added, done.changed, done.gone) == (3, 12, 12)
    again = world.gallery.sync()
    assert (again.added, again.changed, again.gone) == (0, 0, 0)
    assert world.found() == world.expected()
    # what had its new vector before has none of its present content
    assert not set(embedded) & world.served_by_new()
    world.backfill()
    assert world.served_by_new() == set(world.rows)
    assert world.found() == world.expected()
    assert world.found(exact=False) == world.expected()


def test_a_row_added_when_all_are_embedded_is_found(world: World) -> None:
    world.upgrade()
    world.backfill()
    world.add(["row-0163"])
    world.change(["row-0003"])
    for exact in (True, False):
        assert world.found(exact=exact) == world.expected()


def test_a_row_that_comes_back_is_the_same_item(world: World) -> None:
    name = "row-0004"
    world.upgrade()
    world.backfill()
    vector = world.rows[name]
    world.delete([name])
    assert world.gallery.sync().gone == 1
    assert world.found() == world.expected()
    del world.made_from[name]
    world.application.put({name: vector})
    world.rows[name] = vector
    assert world.found() == world.expected()
    assert world.gallery.sync().changed == 1
    assert world.backfill() == 1
    assert world.found() == world.expected()


def test_a_vector_that_is_put_back_is_served_by_its_new_one(world: World) -> None:
    world.upgrade()
    world.backfill()
    vector = world.rows["row-0003"]
    world.change(["row-0003"])
    assert world.found() == world.expected()
    world.application.put({"row-0003": vector})
    world.rows["row-0003"] = vector
    assert world.found() == world.expected()
    assert world.gallery.sync().changed == 0
    assert "row-0003" in world.served_by_new()


def test_a_rollback_answers_as_before(world: World) -> None:
    before, rows = world.found(), world.application.read()
    world.upgrade()
    world.backfill(70)
    world.gallery.rollback()
    world.upgraded = False
    assert [[row[0] for row in one] for one in world.found()] == [[row[0] for row in one] for one in before]
    assert [[row[2] for row in one] for one in world.found()] == [[row[2] for row in one] for one in before]
    assert world.application.read() == rows


def test_filters_are_on_the_rows_as_they_are(world: World) -> None:
    world.upgrade()
    world.backfill(80)
    world.add(["row-0201", "row-0203"])
    for where, keep in {
        "label=red": lambda name: colour(name) == "red",
        "price>=100": lambda name: price(name) >= 100,
    }.items():
        for exact in (True, False):
            assert world.found(where=[where], exact=exact) == world.expected(keep=keep)


def test_items_are_added_and_removed_in_the_application_only(world: World) -> None:
    for change in (lambda: world.gallery.add(world.queries()), lambda: world.gallery.remove(["row-0001"])):
        with pytest.raises(GalleryError, match=r"its items are the rows of .* there, gallery\.sync\(\) lists"):
            change()


def test_the_store_tells_vectors_as_they_are_now(world: World) -> None:
    world.change(["row-0001"])
    world.delete(["row-0002"])
    with world.gallery.ledger.read() as reader:
        known = reader.find(["row-0001", "row-0002", "row-0005"])
        numbers = np.array(sorted(item.number for item in known.values()), dtype=np.int64)
        rows = store(world).get(reader, numbers)
    assert {known["row-0001"].number, known["row-0005"].number} == set(rows.items.tolist())
    for name in ("row-0001", "row-0005"):
        place = rows.items.tolist().index(known[name].number)
        assert rows.values[place].tobytes() == world.rows[name].tobytes()
    assert rows.values.shape == (2, OLD.dim)


def test_a_scan_tells_only_what_differs(world: World) -> None:
    assert list(store(world).scan()) == []
    world.add(["row-0200"])
    found = [row.id for page in store(world).scan() for row in page.added]
    assert found == ["row-0200"]


def test_a_release_gives_the_application_its_new_vectors(world: World) -> None:
    world.upgrade()
    world.backfill(100)
    with pytest.raises(GalleryError, match=r"60 (rows|points) have no vector of"):
        world.gallery.seal()
    world.backfill()
    world.change(["row-0003"])
    with pytest.raises(GalleryError, match=r"1 (rows|points) have no vector of"):
        world.gallery.seal()
    world.backfill()
    if not world.application.handing:
        with pytest.raises(
            GalleryError, match="its vectors have no name, and Qdrant adds others only beside named ones"
        ):
            world.gallery.seal()
        assert world.found() == world.expected()
        return
    assert world.application.handing in "".join(world.gallery.release_sql())
    before = world.found()
    world.gallery.seal()
    world.application.follow()
    assert world.found() == before == world.expected()
    assert world.found(exact=False) == before
    assert world.application.read() == {name: world.new[name].tolist() for name in world.rows}
    done = world.gallery.sync()
    assert (done.added, done.changed, done.gone) == (0, 0, 0)
    assert world.gallery.doctor().healthy
    world.application.put({"row-0170": world.new["row-0170"]})
    query = VectorSet.from_arrays(world.new["row-0170"][None], ids=["q"], space=NEW)
    assert world.gallery.search(query, k=1).hits[0][0].item == "row-0170"
    with pytest.raises(GalleryError, match="there is no way back"):
        world.gallery.rollback()


def test_a_database_restored_on_another_server_trusts_no_row_version(server: Server) -> None:
    """Row versions are transaction numbers, which begin anew there and may come to the same."""
    application = PostgresApplication(server.address)
    world = World(application, 60)
    world.upgrade()
    world.backfill()
    schema = f"ledger_{application.number}"
    world.gallery.close()
    application.run(f"UPDATE {schema}.meta SET value = '1' WHERE key = 'adopted server'")
    world.change(["row-0003"])
    application.run(
        f'UPDATE {schema}.adopted a SET version = t.xmin FROM {application.quoted} t WHERE t."Article" = a.key'
    )
    world.gallery = application.open()
    assert world.found() == world.expected()
    assert world.gallery.sync().changed == 1
    world.backfill()
    assert world.found() == world.expected()
    world.gallery.close()
    application.close()
