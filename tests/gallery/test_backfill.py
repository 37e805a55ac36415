"""The worker loop: limits, pauses, other workers, dead workers, errors, orders, throttles; several processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError
from samespace.gallery import Gallery, Limits
from samespace.gallery.backfill.limits import LatencyBudget, RateLimit
from samespace.gallery.backfill.order import priorities, read_order
from samespace.gallery.backfill.run import Job, list_work, run_many, shares_of
from samespace.gallery.backfill.vector_source import FromVectors, Prepared
from samespace.gallery.backfill.worker import Worker, release_dead
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Claim, WorkerStatus
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.prototypes.outliers import distance_to_centre, turn_in_class

from .world import NEW, OLD, certificate, items, queries

COUNT = len(items(OLD))


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    """Upgraded, nothing backfilled."""
    with Gallery.create(tmp_path / "gallery", OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        made.upgrade(NEW, [certificate()], order="random")
        yield made


def loop(gallery: Gallery, **more: object) -> Worker:
    limits = Limits(**{"batch_size": 16, **more})  # type: ignore[arg-type]
    return Worker(gallery.ledger, 2, FromVectors(items(NEW), NEW), limits)


def stored(gallery: Gallery) -> int:
    with gallery.ledger.read() as reader:
        return reader.stored(2)


class TestLoop:
    def test_two_workers_share_the_list(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        loops = [loop(gallery), loop(gallery)]
        results = []
        threads = [threading.Thread(target=lambda one=one: results.append(one.run())) for one in loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(result.completed.stored for result in results) == COUNT
        assert all(result.completed.present == result.completed.lost == 0 for result in results)
        assert stored(gallery) == COUNT

    def test_ends_after_so_many_items(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        done = loop(gallery, items=50).run()
        assert (done.completed.stored, done.ended) == (50, "the 50 items of this run are done")

    def test_ends_after_so_many_seconds(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        done = loop(gallery, seconds=0.3, rate=100.0).run()
        assert 0 < done.completed.stored < COUNT
        assert "seconds of this run are over" in done.ended

    def test_keeps_to_the_rate(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        began = time.monotonic()
        loop(gallery, items=64, rate=80.0).run()
        assert time.monotonic() - began >= (64 - 16) / 80.0

    def test_waits_while_paused_and_goes_on(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        gallery.pause()
        results = []
        thread = threading.Thread(target=lambda: results.append(loop(gallery).run()))
        thread.start()
        deadline = time.monotonic() + 10
        while not gallery.status().workers and time.monotonic() < deadline:
            time.sleep(0.01)
        assert gallery.status().workers[0].note == "paused"
        assert stored(gallery) == 0
        gallery.resume()
        thread.join(timeout=20)
        assert results[0].completed.stored == COUNT
        assert gallery.status().workers == ()

    def test_ends_when_the_upgrade_is_rolled_back(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        gallery.rollback()
        done = loop(gallery).run()
        assert (done.completed.stored, done.ended) == (0, "the gallery is queried by another space now")

    def test_stops_between_batches_when_told_and_gives_back_its_claims(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        stop = threading.Event()
        stop.set()
        one = Worker(gallery.ledger, 2, FromVectors(items(NEW), NEW), Limits(), stop=stop)
        assert one.run().completed.stored == 0
        assert gallery.status().work.claimed == 0

    @pytest.mark.parametrize("part", ["take", "embed"])
    def test_an_error_ends_the_run_and_frees_the_claims(self, gallery: Gallery, part: str) -> None:
        class Failing:
            def take(self, claims: list[Claim]) -> Prepared:
                if part == "take":
                    raise InputError("the disk of the images is gone")
                return Prepared(claims, self.embed, {})

            def embed(self) -> np.ndarray:
                raise InputError("the disk of the images is gone")

        list_work(gallery.ledger, "random")
        with pytest.raises(InputError, match="the disk of the images is gone"):
            Worker(gallery.ledger, 2, Failing(), Limits(batch_size=16)).run()
        assert gallery.status().work.claimed == 0
        assert loop(gallery).run().completed.stored == COUNT

    def test_an_error_of_the_writer_ends_the_run(self, gallery: Gallery) -> None:
        class Wrong:
            def take(self, claims: list[Claim]) -> Prepared:
                return Prepared(claims, lambda: np.zeros((len(claims), 3), dtype=np.float32)[:0], {})

        list_work(gallery.ledger, "random")
        with pytest.raises((ValueError, IndexError)):
            Worker(gallery.ledger, 2, Wrong(), Limits(batch_size=16)).run()
        assert gallery.status().work.claimed == 0

    def test_claims_of_a_dead_process_are_taken_back_at_once(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        dead = f"{socket.gethostname()}-{gone.pid}-abcdef"
        with gallery.ledger.claiming() as writer:
            writer.claim(2, dead, 40, now=time.time(), lease=3600)
            writer.claim(2, "elsewhere-1-abcdef", 40, now=time.time(), lease=3600)
            writer.claim(2, f"{socket.gethostname()}-{os.getpid()}-abcdef", 40, now=time.time(), lease=3600)
        assert release_dead(gallery.ledger, 2) == 1
        assert gallery.status().work.claimed == 80

    def test_claims_of_another_machine_are_taken_when_their_lease_ends(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        with gallery.ledger.claiming() as writer:
            writer.claim(2, "elsewhere-1-abcdef", 40, now=time.time() - 100, lease=100.4)
        assert loop(gallery).run().completed.stored == COUNT

    def test_claims_nothing_while_it_waits_for_its_rate(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        stop = threading.Event()
        limits = Limits(batch_size=10, rate=5.0)
        one = Worker(gallery.ledger, 2, FromVectors(items(NEW), NEW), limits, stop=stop)
        thread = threading.Thread(target=one.run)
        thread.start()
        deadline = time.monotonic() + 10
        while not stored(gallery) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        work = gallery.status().work
        stop.set()
        thread.join()
        assert (work.claimed, work.open) == (0, COUNT - 10)

    def test_holds_its_claims_and_shows_as_alive_however_long_a_batch_takes(
        self, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Slow:
            def __init__(self) -> None:
                self.seen: list[int] = []
                self.vector_source = FromVectors(items(NEW), NEW)

            def take(self, claims: list[Claim]) -> Prepared:
                self.seen += [claim.item for claim in claims]
                return Prepared(claims, lambda: self.embed(claims), {})

            def embed(self, claims: list[Claim]) -> np.ndarray:
                time.sleep(1.2)
                return self.vector_source.take(claims).embed()

        monkeypatch.setattr("samespace.gallery.backfill.worker._HEARTBEAT_SECONDS", 0.1)
        list_work(gallery.ledger, "random")
        vector_source, results = Slow(), []
        one = Worker(gallery.ledger, 2, vector_source, Limits(batch_size=50, lease=0.4, items=100))
        thread = threading.Thread(target=lambda: results.append(one.run()))
        thread.start()
        time.sleep(1.0)
        with gallery.ledger.claiming() as writer:
            others = [claim.item for claim in writer.claim(2, "other", COUNT, now=time.time(), lease=60)]
            alive = writer.workers(time.time() - 0.5)
        thread.join()
        assert [worker.owner for worker in alive] == [one.owner]
        assert (len(others), set(others) & set(vector_source.seen)) == (COUNT - 100, set())
        assert (results[0].completed.stored, results[0].completed.lost) == (100, 0)
        assert len(vector_source.seen) == len(set(vector_source.seen)) == 100

    def test_says_when_only_failed_items_are_left(self, gallery: Gallery) -> None:
        class Broken:
            def take(self, claims: list[Claim]) -> Prepared:
                return Prepared([], lambda: np.empty((0, 0), np.float32), {claim.item: "broken" for claim in claims})

        list_work(gallery.ledger, "random")
        done = Worker(gallery.ledger, 2, Broken(), Limits()).run()
        assert (
            done.ended
            == f"nothing is left but {COUNT} items that could not be embedded; try them again with retry=True"
        )

    def test_what_a_vector_source_leaves_out_fails(self, gallery: Gallery) -> None:
        whole = FromVectors(items(NEW), NEW)

        class Sparing:
            def take(self, claims: list[Claim]) -> Prepared:
                return whole.take(claims[1:])

        list_work(gallery.ledger, "random")
        done = Worker(gallery.ledger, 2, Sparing(), Limits(batch_size=100)).run()
        assert (done.completed.stored, list(done.failed.values())) == (COUNT - 2, ["no vector was supplied"] * 2)

    def test_workers_with_parts_of_the_vectors_each_take_theirs_and_end(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        parts = [items(NEW).subset(np.arange(first, first + 90)) for first in (0, 90)]
        loops = [Worker(gallery.ledger, 2, FromVectors(part, NEW), Limits(batch_size=16)) for part in parts]
        results = []
        threads = [threading.Thread(target=lambda one=one: results.append(one.run())) for one in loops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        assert [result.completed.stored for result in results] == [90, 90]
        # which of two that end together is heard of last is chance; the one that stored last counted 20
        assert any(result.ended.startswith("of the items that are left, 20 have no vector in") for result in results)
        with gallery.ledger.read() as reader:
            assert reader.session.all("SELECT SUM(last - first + 1), MAX(tries) FROM work_range") == [(20, 0)]

    def test_vectors_that_another_worker_lets_go_of_are_taken_in_the_end(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, "random")
        with gallery.ledger.claiming() as writer:
            writer.claim(2, "elsewhere-1-abcdef", 40, now=time.time(), lease=0.6)
        assert loop(gallery).run().completed.stored == COUNT


class TestList:
    def test_looks_at_each_item_once(self, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
        looked: list[int] = []
        lacking = LedgerWriter.lacking

        def counted(writer: LedgerWriter, generation: int, part: np.ndarray) -> np.ndarray:
            looked.extend(part.tolist())
            return lacking(writer, generation, part)

        def whole(writer: LedgerWriter, generations: object) -> None:
            raise AssertionError("the whole gallery was looked at within a change")

        monkeypatch.setattr(LedgerWriter, "unserved", whole)
        monkeypatch.setattr(LedgerWriter, "lacking", counted)
        monkeypatch.setattr("samespace.gallery.backfill.run._LISTED_AT_ONCE", 30)
        assert list_work(gallery.ledger, "random") == COUNT
        assert looked == list(range(1, COUNT + 1))

    def test_holds_what_lacks_a_vector_in_order(self, gallery: Gallery) -> None:
        values = {name: float(place) for place, name in enumerate(items(OLD).ids.tolist())}
        assert list_work(gallery.ledger, values) == COUNT
        with gallery.ledger.claiming() as writer:
            claims = writer.claim(2, "w", 3, now=time.time(), lease=60)
        assert [claim.id for claim in claims] == ["item-199", "item-198", "item-197"]

    def test_without_an_order_keeps_the_one_it_has(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, {"item-005": 1.0})
        list_work(gallery.ledger, None)
        with gallery.ledger.claiming() as writer:
            (claim,) = writer.claim(2, "w", 1, now=time.time(), lease=60)
        assert claim.id == "item-005"

    def test_new_items_join_it(self, gallery: Gallery) -> None:
        list_work(gallery.ledger, None)
        gallery.rollback()
        more = items(OLD).subset(np.arange(4))
        from samespace.vectors import VectorSet

        gallery.add(VectorSet.from_arrays(more.take(np.arange(4)), ids=list("abcd"), space=OLD))
        gallery.upgrade()
        assert list_work(gallery.ledger, None) == COUNT + 4


class TestOrders:
    def order(self, gallery: Gallery, order: object, seed: int = 0) -> np.ndarray:
        with gallery.ledger.read() as reader:
            state = reader.state()
            items = reader.unserved([2])
        return priorities(gallery.ledger, state, items, order, seed=seed)  # type: ignore[arg-type]

    def test_random_is_drawn_from_the_seed(self, gallery: Gallery) -> None:
        first, second = self.order(gallery, "random"), self.order(gallery, "random")
        np.testing.assert_array_equal(first, second)
        assert (self.order(gallery, "random", seed=1) != first).any()

    def test_distance_is_that_of_the_old_vector_to_its_class(self, gallery: Gallery) -> None:
        expected = distance_to_centre(items(OLD).vectors, items(OLD).labels)
        np.testing.assert_allclose(self.order(gallery, "distance"), expected, rtol=1e-6)

    def test_centre_takes_one_of_each_class_first(self, gallery: Gallery) -> None:
        turns = turn_in_class(items(OLD).vectors, items(OLD).labels)
        order = np.argsort(-self.order(gallery, "centre"))
        assert (np.diff(turns[order]) >= 0).all()

    def test_stays_the_same_while_the_backfill_goes_on(self, gallery: Gallery) -> None:
        whole = self.order(gallery, "distance")
        gallery.backfill(vectors=items(NEW), order="distance", limits=Limits(items=50))
        with gallery.ledger.read() as reader:
            left = reader.unserved([2])
        np.testing.assert_allclose(self.order(gallery, "distance"), whole[left - 1], rtol=1e-6)
        assert whole[left - 1].max() <= np.sort(whole)[-50]

    def test_traffic_counts_what_searches_returned(self, gallery: Gallery) -> None:
        wanted = queries(NEW).subset(np.array([0]))
        for _ in range(3):
            gallery.search(wanted, k=2)
        gallery.write_traffic()
        hits = {hit.item for hit in gallery.search(wanted, k=2, count=False).hits[0]}
        values = self.order(gallery, "traffic")
        best = {items(OLD).ids[place] for place in np.argsort(-values)[:2]}
        assert best == hits
        assert sorted(values)[-2] >= 3 > sorted(values)[-3]

    def test_both_weighs_the_turn_in_the_class_by_the_traffic_of_the_class(self, gallery: Gallery) -> None:
        gallery.search(queries(NEW), k=3)
        gallery.write_traffic()
        with gallery.ledger.read() as reader:
            numbers, hits = reader.traffic()
        labels = items(OLD).labels.astype(int)
        traffic = np.zeros(labels.max() + 1)
        np.add.at(traffic, labels[numbers - 1], hits)
        expected = (1 + traffic[labels]) / (1 + turn_in_class(items(OLD).vectors, items(OLD).labels))
        np.testing.assert_allclose(self.order(gallery, "both"), expected, rtol=1e-9)

    def test_items_without_labels_are_clustered(self, tmp_path: Path) -> None:
        from samespace.vectors import VectorSet

        with Gallery.create(tmp_path / "plain", OLD) as gallery:
            plain = VectorSet.from_arrays(items(OLD).vectors, ids=items(OLD).ids, space=OLD)
            gallery.add(plain)
            gallery.plan(NEW, [certificate()])
            values = self.order(gallery, "distance")
        np.testing.assert_allclose(values, distance_to_centre(items(OLD).vectors, None), rtol=1e-6)

    def test_the_users_own(self, gallery: Gallery, tmp_path: Path) -> None:
        file = tmp_path / "order.csv"
        file.write_text("id,priority\nitem-003,5\nitem-001,7.5\n")
        values = self.order(gallery, read_order(file))
        assert [items(OLD).ids[place] for place in np.argsort(-values)[:2]] == ["item-001", "item-003"]
        np.testing.assert_array_equal(self.order(gallery, lambda ids: np.arange(len(ids))), np.arange(COUNT))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a,b,c\n", "line 1: expected id,priority"),
            ("a,1\nb,soon\n", "priority of 'b' should be a finite number, got \"soon\""),
            ("id,priority\n", "holds no priorities"),
        ],
    )
    def test_a_file_that_is_no_order_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "order.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_order(tmp_path / "order.csv")

    def test_nothing_is_held_open_while_an_order_is_worked_out(
        self, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reading = gallery.ledger.engine.reading
        depth, depths = [0], []

        @contextmanager
        def counted() -> Iterator[object]:
            with reading() as session:
                depth[0] += 1
                yield session
                depth[0] -= 1

        def watched(*given: object, **more: object) -> np.ndarray:
            depths.append(depth[0])
            return np.zeros(COUNT)

        monkeypatch.setattr(gallery.ledger.engine, "reading", counted)
        for name in ("distance_to_centre", "turn_in_class"):
            monkeypatch.setattr(f"samespace.prototypes.outliers.{name}", watched)
        for order in ("distance", "both", watched):
            list_work(gallery.ledger, order)  # type: ignore[arg-type]
        assert depths == [0, 0, 0]

    def test_an_unknown_order_lists_the_legal_ones(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="did you mean 'random'"):
            self.order(gallery, "randon")


class TestThrottle:
    def test_a_rate_spreads_work_evenly(self) -> None:
        now = [0.0]
        limit = RateLimit(10.0, clock=lambda: now[0])
        for expected in (0.0, 0.5, 1.0):
            assert limit.wait() == expected
            limit.begin(5)
        now[0] = 100.0
        assert limit.wait() == 0.0
        limit.begin(5)
        assert limit.wait() == 0.5
        unlimited = RateLimit(None)
        unlimited.begin(10**9)
        assert unlimited.wait() == 0.0

    def test_slow_searches_hold_work_back_until_they_are_fast(self) -> None:
        now, cost = [0.0], [0.005]

        def probe() -> None:
            now[0] += cost[0]

        budget = LatencyBudget(20.0, probe, clock=lambda: now[0])
        assert not budget.exceeded()
        cost[0] = 0.1
        assert not budget.exceeded()
        now[0] += 2
        assert budget.exceeded()
        cost[0] = 0.005
        waited = 0
        while budget.exceeded():
            waited += 1
        assert 1 <= waited < 20

    def test_a_backfill_waits_for_searches(self, gallery: Gallery) -> None:
        notes = []
        list_work(gallery.ledger, "random")
        one = Worker(
            gallery.ledger, 2, FromVectors(items(NEW), NEW), Limits(p95=1.0, seconds=1.0),
            probe=lambda: time.sleep(0.01), advance=lambda done, note: notes.append(note),
        )  # fmt: skip
        assert one.run().completed.stored == 0
        assert any(note.startswith("waiting for searches (p95") for note in notes)


class TestProcesses:
    def test_share_the_work_and_end_with_the_same_gallery(self, job: Job) -> None:
        with Gallery.open(job.location) as gallery:
            done = run_many(gallery.ledger, job, 2, source=gallery.source)
            assert (done.stored, done.left) == (96, 0)
            assert gallery.doctor(models=True).healthy

    def test_failing_workers_give_one_reason(self, job: Job, tmp_path: Path) -> None:
        (tmp_path / "new" / "model.safetensors").unlink()
        ledger = Ledger.open(job.location)
        with Gallery(ledger) as gallery, pytest.raises(GalleryError, match=r"model\.safetensors"):
            run_many(ledger, job, 2, source=gallery.source)

    def test_need_models_and_images_by_name(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="several workers each load the model"):
            gallery.backfill(vectors=items(NEW), workers=2)

    def test_split_budget_and_rate(self) -> None:
        jobs = shares_of(Job("g", "m", "i", Limits(items=101, rate=10.0)), 4)
        assert [job.limits.items for job in jobs] == [26, 25, 25, 25]
        assert {job.limits.rate for job in jobs} == {2.5}
        few = shares_of(Job("g", "m", "i", Limits(items=3, rate=9.0)), 8)
        assert [(job.limits.items, job.limits.rate) for job in few] == [(1, 3.0)] * 3
        assert len(shares_of(Job("g", "m", "i", Limits()), 8)) == 8


class TestWorkers:
    def test_status_adds_up_their_rates(self, gallery: Gallery) -> None:
        now = time.time()
        with gallery.ledger.claiming() as writer:
            writer.heartbeat(WorkerStatus("a", 2, now - 10, now, done=100, note="embedding"))
            writer.heartbeat(WorkerStatus("b", 2, now - 10, now, done=50, note="embedding"))
            writer.heartbeat(WorkerStatus("gone", 2, now - 500, now - 400, done=50))
        status = gallery.status()
        assert status.rate == pytest.approx(15, rel=0.01)
        assert status.seconds_left == pytest.approx(COUNT / 15, rel=0.01)
        assert [worker.owner for worker in status.workers] == ["a", "b"]
