"""Several threads and processes on one ledger, on every kind of store."""

from __future__ import annotations

import multiprocessing
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.queues import Queue

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem, WorkerStatus

from ..conftest import NEW, OLD


def write_some(location: str, name: str, count: int, said: Queue[tuple[int, list[int]]]) -> None:
    """What another process does."""
    ledger = Ledger.open(location)
    for place in range(count):
        with ledger.write() as writer:
            numbers = writer.add_items([NewItem(f"{name}-{place}-{part}", "c") for part in range(3)])
            writer.put_vectors(1, numbers, ["c"] * 3, np.eye(3, OLD.dim, dtype=np.float32))
            revision = writer.revision()
        said.put((revision, numbers.tolist()))
    ledger.close()


def add(ledger: Ledger, prefix: str, count: int) -> list[int]:
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(f"{prefix}-{place}", "c") for place in range(count)])
        writer.put_vectors(1, numbers, ["c"] * count, np.eye(count, OLD.dim, dtype=np.float32))
    return [int(number) for number in numbers]


def test_a_reader_stays_at_its_revision_while_others_write(place: str, opened: Callable[..., Ledger]) -> None:
    ledger, other = opened(place, create=True), opened(place)
    add(ledger, "before", 3)
    with ledger.read() as reader:
        revision = reader.revision()
        add(other, "during", 3)
        with other.write() as writer:
            writer.remove_items(np.array([1]))
            writer.add_space(NEW, None)
        assert (reader.revision(), reader.live(), reader.stored(1)) == (revision, 3, 3)
        assert list(reader.state().spaces) == [1]
    with ledger.read() as reader:
        assert (reader.revision(), reader.live(), reader.stored(1)) == (revision + 2, 5, 5)


def test_what_is_not_committed_is_seen_by_nobody(place: str, opened: Callable[..., Ledger]) -> None:
    ledger, other = opened(place, create=True), opened(place)
    with ledger.write() as writer:
        writer.add_items([NewItem("a", "c")])
        with other.read() as reader:
            assert (reader.live(), reader.revision()) == (0, 1)
        assert writer.live() == 1


def test_threads_write_in_turn(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(lambda place: add(ledger, f"t{place}", 2), range(20)))
    numbers = [number for some in given for number in some]
    assert sorted(numbers) == list(range(1, 41))
    with ledger.read() as reader:
        assert (reader.live(), reader.stored(1), reader.revision()) == (40, 40, 21)


def test_workers_in_threads_embed_everything_once(ledger: Ledger) -> None:
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(str(place), "c") for place in range(60)])
        writer.add_space(NEW, None)
        writer.put_work(2, numbers, [0.0] * 60)
    taken: list[int] = []

    def worker(name: str) -> int:
        stored = 0
        while True:
            with ledger.claiming() as writer:
                got = writer.claim(2, name, 5, now=time.time(), lease=60.0)
            if not got:
                return stored
            taken.extend(claim.item for claim in got)
            values = np.tile(np.eye(1, NEW.dim, dtype=np.float32), (len(got), 1))
            with ledger.write() as writer:
                stored += writer.complete(2, got, values, owner=name).stored

    with ThreadPoolExecutor(3) as pool:
        assert sum(pool.map(worker, "abc")) == 60
    assert sorted(taken) == numbers.tolist()
    with ledger.read() as reader:
        assert reader.unserved([2]).tolist() == []


def test_the_threads_of_a_worker_say_that_it_is_alive_at_the_same_moment(ledger: Ledger) -> None:
    def say(done: int) -> None:
        for turn in range(10):
            with ledger.claiming() as writer:
                writer.heartbeat(WorkerStatus(f"worker-{turn}", 1, 1.0, 100.0 + done, done, 0, ""))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(say, range(8)))
    with ledger.read() as reader:
        assert len(reader.workers(0.0)) == 10


def test_revisions_rise_in_the_order_of_commits(ledger: Ledger) -> None:
    """A reader that has seen a revision has seen every change up to it: nothing slips in below later."""
    stop = threading.Event()
    seen: dict[int, int] = {}
    slips: list[tuple[int, int]] = []

    def reader() -> None:
        while not stop.is_set():
            with ledger.read() as reader:
                revision, live = reader.revision(), reader.live()
            if seen.setdefault(revision, live) != live:
                slips.append((revision, live))

    with ThreadPoolExecutor(3) as pool:
        watching = pool.submit(reader)
        list(pool.map(lambda place: add(ledger, f"t{place}", 1), range(25)))
        stop.set()
        watching.result()
    assert slips == []


@pytest.mark.parametrize("writers", [2])
def test_processes_write_in_turn(ledger: Ledger, place: str, writers: int) -> None:
    # forked, for a new interpreter takes seconds to import what this one has
    forked = multiprocessing.get_context("fork")
    said: Queue[tuple[int, list[int]]] = forked.Queue()
    running = [forked.Process(target=write_some, args=(place, f"p{number}", 8, said)) for number in range(writers)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for process in running:
            process.start()
    told = [said.get(timeout=60) for _ in range(8 * writers)]
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0] * writers
    revisions = sorted(revision for revision, _ in told)
    numbers = sorted(number for _, some in told for number in some)
    assert revisions == list(range(2, 2 + 8 * writers))
    assert numbers == list(range(1, 1 + 24 * writers))
    with ledger.read() as reader:
        assert (reader.live(), reader.stored(1), reader.revision()) == (24 * writers, 24 * writers, revisions[-1])


def test_reads_within_reads_and_writes_see_what_is_stored(ledger: Ledger) -> None:
    add(ledger, "a", 2)
    with ledger.read() as outer, ledger.read() as inner:
        assert (outer.live(), inner.live()) == (2, 2)
    with ledger.write() as writer:
        writer.remove_items(np.array([1]))
        with ledger.read() as reader:
            assert (writer.live(), reader.live()) == (1, 2)
    with ledger.read() as reader:
        assert reader.live() == 1


def test_a_change_within_a_change_fails_at_once(ledger: Ledger) -> None:
    began = time.monotonic()
    with ledger.write() as writer:
        writer.add_items([NewItem("a", "c")])
        with pytest.raises(GalleryError, match="begun within another of the same thread"), ledger.write():
            pass
    assert time.monotonic() - began < 5
    with ledger.read() as reader:
        assert reader.live() == 1
    add(ledger, "b", 1)
