"""Readers throughout a backfill with two workers and a writer: every answer is of one snapshot."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from samespace.gallery import Gallery, Limits
from samespace.gallery.backfill.run import list_work
from samespace.gallery.backfill.vector_source import FromVectors
from samespace.gallery.backfill.worker import Worker
from samespace.vectors import VectorSet

from .world import NEW, OLD, certificate, items, queries

SEARCHES = {"sqlite": 1000, "postgres": 250}
COUNT = len(items(OLD))


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """Upgraded, nothing backfilled."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        made.upgrade(NEW, [certificate()])
        yield made


def test_answers_are_consistent_over_a_thousand_searches(gallery: Gallery, place: str) -> None:
    """Each item once and from one space, with the score of its vector there, at an revision that never goes back.

    The items that are backfilled only grow; a writer adds and removes items of its own meanwhile.
    """
    searches = SEARCHES["postgres" if place.startswith("postgres") else "sqlite"]
    list_work(gallery.ledger, "random")
    over, wrong = threading.Event(), list[str]()
    wanted = queries(NEW).subset(np.arange(2))
    true = {OLD.id: _scores(wanted, items(OLD)), NEW.id: _scores(wanted, items(NEW))}
    done = [0, 0]

    def read(slot: int) -> None:
        revision, backfilled = -1, set[str]()
        while not over.is_set() or done[slot] < searches // 2:
            answer = gallery.search(wanted, k=COUNT + 10, count=False)
            done[slot] += 1
            new = {hit.item for hit in answer.hits[0] if hit.space == NEW.id and hit.item.startswith("item")}
            for number, hits in enumerate(answer.hits):
                names = [hit.item for hit in hits]
                fixed = [hit for hit in hits if hit.item.startswith("item")]
                if len(set(names)) != len(names) or len(fixed) != COUNT:
                    wrong.append(f"{len(names)} hits, {len(set(names))} items")
                if {hit.item for hit in fixed if hit.space == NEW.id} != new:
                    wrong.append("queries of one search saw unlike snapshots")
                if any(abs(hit.raw - true[hit.space][number][hit.item]) > 1e-6 for hit in fixed):
                    wrong.append("a score is not that of the item's vector in its space")
            if answer.revision < revision or not backfilled <= new:
                wrong.append("time went back")
            revision, backfilled = answer.revision, new
            if wrong:
                return

    def write() -> None:
        rows = np.arange(3)
        while not over.is_set():
            names = ["extra-1", "extra-2", "extra-3"]
            fresh = VectorSet.from_arrays(items(NEW).take(rows), ids=names, space=NEW)
            gallery.add(fresh, also=[VectorSet.from_arrays(items(OLD).take(rows), ids=names, space=OLD)])
            gallery.remove(names)

    readers = [threading.Thread(target=read, args=(slot,)) for slot in range(2)]
    writer = threading.Thread(target=write)
    loops = [Worker(gallery.ledger, 2, FromVectors(items(NEW), NEW), Limits(batch_size=4, rate=40.0)) for _ in range(2)]
    workers = [threading.Thread(target=loop.run) for loop in loops]
    for thread in (*readers, writer, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    over.set()
    for thread in (*readers, writer):
        thread.join()
    assert wrong == []
    assert sum(done) >= searches
    assert gallery.status().backfilled == 1.0
    assert gallery.doctor().healthy


def test_two_writers_of_the_same_items_store_each_once(gallery: Gallery) -> None:
    rows = np.arange(120)
    fresh = VectorSet.from_arrays(items(NEW).take(rows), ids=[f"new-{row}" for row in rows], space=NEW)
    results = []
    threads = [threading.Thread(target=lambda: results.append(gallery.add(fresh))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.added for result in results) == 120
    assert sum(result.present for result in results) == 120
    assert len(gallery) == COUNT + 120


def _scores(wanted: VectorSet, stored: VectorSet) -> list[dict[str, float]]:
    values = wanted.take(np.arange(len(wanted)))[:, : stored.dim].astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    found = values @ stored.take(np.arange(len(stored))).astype(np.float64).T
    return [dict(zip(stored.ids.tolist(), row.tolist(), strict=True)) for row in found]
