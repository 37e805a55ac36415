"""The work list: claims, leases, failures, what becomes of vectors that are completed; on every kind of store."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Claim, NewItem, Work

from ..conftest import NEW


@pytest.fixture
def listed(ledger: Ledger) -> Ledger:
    """Ten items without a vector in the second space, the last one the most urgent."""
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(f"i{place}", f"c{place}") for place in range(1, 11)])
        writer.add_space(NEW, None)
        writer.put_work(2, numbers, list(range(10)))
    return ledger


def claim(ledger: Ledger, owner: str, count: int, now: float = 0.0, lease: float = 10.0) -> list[int]:
    return [got.item for got in claims(ledger, owner, count, now, lease)]


def claims(ledger: Ledger, owner: str, count: int, now: float = 0.0, lease: float = 10.0) -> list[Claim]:
    with ledger.claiming() as writer:
        return writer.claim(2, owner, count, now=now, lease=lease)


def work(ledger: Ledger, now: float = 0.0) -> Work:
    with ledger.read() as reader:
        return reader.work(2, now)


def some(count: int) -> np.ndarray:
    return np.tile(np.eye(1, NEW.dim, dtype=np.float32), (count, 1))


def outcome(ledger: Ledger, got: list[Claim], owner: str | None) -> dict[str, int]:
    with ledger.write() as writer:
        completed = writer.complete(2, got, some(len(got)), owner=owner)
    return {name: count for name, count in asdict(completed).items() if count}


def test_two_workers_never_hold_the_same_item(listed: Ledger) -> None:
    first, second, third = claim(listed, "a", 4), claim(listed, "b", 4), claim(listed, "c", 4)
    assert (first, second, third) == ([10, 9, 8, 7], [6, 5, 4, 3], [2, 1])
    assert claim(listed, "d", 4) == []
    assert work(listed) == Work(open=10, claimed=10, failed=0)
    with listed.read() as reader:
        assert reader.owners(2) == ["a", "b", "c"]


def test_a_lease_that_ran_out_frees_its_items(listed: Ledger) -> None:
    got = claims(listed, "a", 3, now=0.0, lease=10.0)
    assert claim(listed, "b", 3, now=10.0) == [7, 6, 5]
    assert work(listed, now=10.5).claimed == 3
    assert claim(listed, "b", 3, now=10.5) == [10, 9, 8]
    assert outcome(listed, got, "a") == {"lost": 3}


def test_an_item_that_always_ends_its_worker_fails_in_the_end(listed: Ledger) -> None:
    with listed.write() as writer:
        writer.clear_work(2)
        writer.put_work(2, np.array([5]), [0.0])
    tries = 0
    while claim(listed, f"w{tries}", 1, now=100.0 * tries):
        tries += 1
        assert tries < 50
    assert tries >= 3
    assert work(listed) == Work(open=0, claimed=0, failed=1)
    with listed.read() as reader:
        ((name, reason),) = reader.failures(2, 9)
    assert (name, str(tries) in reason) == ("i5", True)
    with listed.write() as writer:
        assert writer.retry(2) == 1
    assert claim(listed, "a", 1, now=1e6) == [5]


def test_an_item_that_is_given_up_does_not_take_the_place_of_another(listed: Ledger) -> None:
    for tries in range(10):
        assert claim(listed, f"w{tries}", 2, now=100.0 * tries) == [10, 9]
    # each alone once more, so that only what ends its workers fails
    assert claim(listed, "alone", 3, now=1e6) == [10]
    assert claim(listed, "alone", 3, now=1e6) == [9]
    assert claim(listed, "last", 3, now=2e6) == [8, 7, 6]
    assert work(listed).failed == 2


def test_a_worker_does_not_claim_again_what_it_has_in_hand(listed: Ledger) -> None:
    assert claim(listed, "a", 2, now=0.0, lease=10.0) == [10, 9]
    assert claim(listed, "a", 2, now=50.0, lease=10.0) == [8, 7]
    assert claim(listed, "b", 2, now=55.0, lease=10.0) == [10, 9]


def test_a_lease_can_be_renewed_by_its_owner_alone(listed: Ledger) -> None:
    claim(listed, "a", 2, now=0.0, lease=10.0)
    claim(listed, "b", 2, now=0.0, lease=10.0)
    with listed.claiming() as writer:
        writer.renew(2, "a", 100.0)
    assert work(listed, now=50.0).claimed == 2
    assert claim(listed, "c", 4, now=50.0) == [8, 7, 6, 5]


def test_a_worker_can_claim_among_some_items_only(listed: Ledger) -> None:
    with listed.claiming() as writer:
        assert [got.item for got in writer.claim(2, "a", 3, now=0, lease=9, among=[2, 7, 99])] == [7, 2]
        assert [got.item for got in writer.claim(2, "b", 3, now=0, lease=9, among=[2, 7, 3])] == [3]
    assert claim(listed, "b", 3) == [10, 9, 8]


def test_a_claim_reads_no_more_of_the_list_than_it_takes(listed: Ledger) -> None:
    if listed.engine.location.startswith("postgres"):
        pytest.skip("a plan of SQLite")
    seen: list[str] = []
    with listed.claiming() as writer:
        writer.session.connection.set_trace_callback(seen.append)  # type: ignore[attr-defined]
        writer.claim(2, "a", 3, now=0.0, lease=9.0)
        writer.session.connection.set_trace_callback(None)  # type: ignore[attr-defined]
        plans = [writer.session.all(f"EXPLAIN QUERY PLAN {sql}") for sql in seen if " work" in sql]
    text = str(plans)
    assert "SEARCH work_range USING PRIMARY KEY (space=? AND first>?)" in text
    assert "SEARCH w USING PRIMARY KEY (space=? AND place>? AND place<?)" in text
    assert "SCAN" not in text
    assert "TEMP B-TREE" not in text


def test_failures_are_listed_until_they_are_tried_again(listed: Ledger) -> None:
    claim(listed, "a", 3)
    with listed.write() as writer:
        writer.fail(2, "a", {10: "no such file", 9: "broken"})
        writer.fail(2, "b", {8: "not mine"})
    assert work(listed) == Work(open=8, claimed=1, failed=2)
    with listed.read() as reader:
        assert reader.failures(2, 9) == [("i9", "broken"), ("i10", "no such file")]
        assert reader.failures(2, 1) == [("i9", "broken")]
    assert claim(listed, "b", 9, now=99.0) == [8, 7, 6, 5, 4, 3, 2, 1]
    with listed.write() as writer:
        assert writer.retry(2) == 2
    assert claim(listed, "c", 9) == [10, 9]


def test_released_items_can_be_claimed_at_once_and_their_try_does_not_count(listed: Ledger) -> None:
    for _ in range(20):
        assert claim(listed, "a", 2) == [10, 9]
        with listed.claiming() as writer:
            writer.release(2, "b", [10, 9])
        assert claim(listed, "b", 1) == [8]
        with listed.claiming() as writer:
            writer.release(2, "a", [10, 9])
            writer.release(2, "b", [8])
    assert work(listed).failed == 0
    claim(listed, "a", 2)
    claim(listed, "b", 2)
    with listed.claiming() as writer:
        writer.release_owned(2, "a")
    assert claim(listed, "c", 3) == [10, 9, 6]
    with listed.write() as writer:
        writer.release_all(2)
    assert work(listed).claimed == 0


def test_completed_vectors_are_stored_only_while_their_items_are_unchanged(listed: Ledger) -> None:
    got = claims(listed, "a", 5)
    with listed.write() as writer:
        writer.remove_items(np.array([10]))
        writer.change_items(np.array([9]), [NewItem("i9", "other")])
        writer.complete(2, [got[2]], some(1), owner=None)
    assert outcome(listed, got, "a") == {"gone": 1, "changed": 1, "present": 1, "stored": 2}
    with listed.read() as reader:
        assert sorted(reader.rows_after(2, 0, 99).items.tolist()) == [6, 7, 8]
        assert reader.unserved([2]).tolist() == [1, 2, 3, 4, 5, 9]
        assert reader.orphans(2) == 0
    # the changed item was struck off with its old content; whoever lists it again gets it whole
    assert work(listed) == Work(open=5, claimed=0, failed=0)
    assert outcome(listed, got, "a") == {"gone": 1, "changed": 1, "present": 3}


def test_a_changed_item_that_stays_listed_is_given_back(listed: Ledger) -> None:
    got = claims(listed, "a", 1)
    with listed.write() as writer:
        writer.change_items(np.array([10]), [NewItem("i10", "other")])
        writer.put_work(2, np.array([10]), [99.0])
    assert outcome(listed, got, "a") == {"changed": 1}
    again = claims(listed, "b", 1)
    assert (again[0].item, again[0].content) == (10, "other")
    assert outcome(listed, again, "b") == {"stored": 1}


def test_an_item_removed_and_brought_back_does_not_take_its_old_vector(listed: Ledger) -> None:
    got = claims(listed, "a", 1)
    with listed.write() as writer:
        writer.remove_items(np.array([10]))
    with listed.write() as writer:
        writer.change_items(np.array([10]), [NewItem("i10", "c10-later")])
    assert outcome(listed, got, "a") == {"changed": 1}


def test_new_priorities_leave_claims_alone(listed: Ledger) -> None:
    got = claims(listed, "a", 2)
    with listed.write() as writer:
        writer.put_work(2, np.arange(1, 11), [float(-n) for n in range(10)])
    assert claim(listed, "b", 2) == [1, 2]
    assert outcome(listed, got, "a") == {"stored": 2}


def test_a_retired_space_has_no_work(listed: Ledger) -> None:
    claim(listed, "a", 2)
    with listed.write() as writer:
        writer.retire(2)
    assert work(listed) == Work(open=0, claimed=0, failed=0)
    assert claim(listed, "b", 2) == []


@pytest.fixture
def long(ledger: Ledger) -> Ledger:
    """3,000 items without a vector in the second space, in the order of their numbers."""
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(f"i{place}", "c") for place in range(1, 3001)])
        writer.add_space(NEW, None)
        writer.put_work(2, numbers, [0.0] * 3000)
    return ledger


def ranges(ledger: Ledger) -> list[tuple[int, int, str | None, int]]:
    """Ranges that are left: first and last place, owner, tries."""
    with ledger.read() as reader:
        return reader.session.all("SELECT first, last, owner, tries FROM work_range WHERE space = 2 ORDER BY first")


def test_a_claim_of_any_size_is_one_row_and_vectors_make_it_shorter(long: Ledger) -> None:
    got = claims(long, "a", 2500)
    assert [claim.item for claim in got] == list(range(1, 2501))
    held = [row for row in ranges(long) if row[2] == "a"]
    assert held == [(1, 2500, "a", 1)]
    assert outcome(long, got[:2000], "a") == {"stored": 2000}
    assert [row for row in ranges(long) if row[2] == "a"] == [(2001, 2500, "a", 1)]
    assert outcome(long, got[2100:2200], "a") == {"stored": 100}
    assert [row[:2] for row in ranges(long) if row[2] == "a"] == [(2001, 2100), (2201, 2500)]
    assert work(long) == Work(open=900, claimed=400, failed=0)


def test_a_list_that_is_done_leaves_nothing_behind(long: Ledger) -> None:
    assert outcome(long, claims(long, "a", 3000), "a") == {"stored": 3000}
    with long.read() as reader:
        for table in ("work", "work_range", "work_failed"):
            assert reader.session.all(f"SELECT COUNT(*) FROM {table}") == [(0,)]


def test_the_one_item_that_ends_its_workers_is_found_and_the_others_get_through(long: Ledger) -> None:
    killed = 0
    for turn in range(200):
        got = claims(long, f"w{turn}", 256, now=100.0 * turn)
        if not got:
            break
        if 777 in {claim.item for claim in got}:
            killed += 1
            continue
        assert "lost" not in outcome(long, got, f"w{turn}")
    # ten times with 255 others, once more each time that these are halved
    assert killed == 18
    assert work(long) == Work(open=0, claimed=0, failed=1)
    with long.read() as reader:
        assert reader.failures(2, 9) == [("i777", "given up after 10 claims that came to nothing")]
        assert reader.stored(2) == 2999


def test_a_claim_passes_over_items_that_are_gone(long: Ledger) -> None:
    with long.write() as writer:
        writer.session.run("DELETE FROM item WHERE no IN (2, 3)")
        writer.session.run("UPDATE item SET deleted = 1 WHERE no = 5")
    assert claim(long, "a", 4) == [1, 4, 6, 7]
    assert work(long) == Work(open=2997, claimed=4, failed=0)


def test_items_that_come_later_come_last_and_one_by_one_grow_one_range(long: Ledger) -> None:
    before = len(ranges(long))
    for place in range(30):
        with long.write() as writer:
            writer.append_work(2, writer.add_items([NewItem(f"later{place}", "c")]))
    assert len(ranges(long)) == before
    with long.read() as reader:
        assert reader.open_work(2).tolist() == list(range(1, 3031))
    with long.write() as writer:
        writer.append_work(2, np.array([3030, 7, 3001]))
    assert work(long).open == 3030


def test_a_new_order_keeps_what_is_claimed_tried_or_failed(long: Ledger) -> None:
    claim(long, "gone", 3, now=0.0, lease=1.0)
    held = claims(long, "a", 5, now=5.0, lease=100.0)
    assert [one.item for one in held] == [1, 2, 3, 4, 5]
    with long.write() as writer:
        writer.fail(2, "a", {4: "broken"})
        writer.put_work(2, np.arange(1, 2001), np.arange(2000.0).tolist())
    with long.read() as reader:
        assert reader.open_work(2).tolist() == [n for n in [*range(2000, 0, -1), *range(2001, 3001)] if n != 4]
        assert reader.failures(2, 9) == [("i4", "broken")]
    assert work(long, now=50.0) == Work(open=2999, claimed=4, failed=1)
    assert outcome(long, held, "a") == {"stored": 4, "lost": 1}
    assert sorted(row[3] for row in ranges(long) if row[3]) == []
