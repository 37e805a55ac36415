"""What a ledger keeps and tells, on every kind of store."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError, SamespaceError
from samespace.gallery.ledger.filters import conditions
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.schema import FORMAT
from samespace.gallery.ledger.state import Link, NewItem, WorkerStatus
from samespace.metrics.calibration import Band, Calibration
from samespace.space import Space

from ..conftest import NEW, OLD

ODD = ['quo"te', "back\\slash", "dot.ted", "$", "[0]", "ключ", "a b", "'", "?", "%s", "𝄞", ""]


def unit(count: int, dim: int = OLD.dim, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def filled(ledger: Ledger, items: list[NewItem], seed: int = 0) -> np.ndarray:
    values = unit(len(items), seed=seed)
    with ledger.write() as writer:
        numbers = writer.add_items(items)
        writer.put_vectors(1, numbers, [item.content for item in items], values)
    return values


def selected(ledger: Ledger, where: Any) -> list[str]:
    with ledger.read() as reader:
        numbers = reader.select(conditions(where))
        assert (np.diff(numbers) > 0).all()
        items = reader.items(numbers)
    return [items[number].id for number in numbers.tolist()]


def test_what_is_made_can_be_opened_again(place: str, opened: Callable[..., Ledger]) -> None:
    made = opened(place, create=True)
    values = filled(made, [NewItem("ä/1.png", "h1", "кот", {"year": 2020, "fresh": True}), NewItem("'; --", "h2")])
    made.close()
    with opened(place).read() as reader:
        state = reader.state()
        assert (state.query, list(state.spaces), state.spaces[1].space) == (1, [1], OLD)
        assert reader.meta("format") == FORMAT
        assert len(reader.meta("gallery") or "") == 32
        assert reader.meta("none") is None
        found = reader.find(["ä/1.png", "'; --", "unknown"])
        assert {name: (item.number, item.label) for name, item in found.items()} == {
            "ä/1.png": (1, "кот"),
            "'; --": (2, None),
        }
        assert reader.metadata([1, 2]) == {1: {"year": 2020, "fresh": True}, 2: {}}
        rows = reader.rows_of(1, [2, 1, 99])
        assert rows.items.tolist() == [1, 2]
        assert rows.values.tobytes() == values.tobytes()
        assert rows.checksums.tolist() == [zlib.crc32(value.tobytes()) for value in values]
        assert rows.contents == ("h1", "h2")


def test_a_score_is_kept_with_its_space_and_other_versions_are_told(place: str, opened: Callable[..., Ledger]) -> None:
    made = Ledger.create(place, OLD, model=None, settings={}, score="ip")
    with made.write() as writer:
        assert writer.add_space(NEW, None, "l2") == 2
    made.close()
    ledger = opened(place)
    assert [kept.score for kept in ledger.state().spaces.values()] == ["ip", "l2"]
    assert [kept.space for kept in ledger.state().spaces.values()] == [OLD, NEW]
    with ledger.write() as writer:
        writer.session.run("UPDATE space SET description = REPLACE(description, '\"l2\"', '\"hamming\"')")
        writer.put_meta("other", "")
    with pytest.raises(GalleryError, match="searched by 'hamming', which this version does not know"):
        ledger.state()


def test_vectors_come_back_to_the_bit(ledger: Ledger) -> None:
    values = np.zeros((3, OLD.dim), np.float32)
    values[0] = np.array([0.0, -0.0, 1e-45, -1e-38, 3.4e38, 1 / 3, np.float32(0.1), 1], np.float32)
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(str(place), "") for place in range(3)])
        writer.put_vectors(1, numbers, ["", "", ""], values[:, ::1])
    with ledger.read() as reader:
        assert reader.rows_after(1, 0, 10).values.tobytes() == values.tobytes()
        assert [len(rows.numbers) for rows in reader.batches(1, 2)] == [2, 1]
        assert reader.rows_of(1, []).values.shape == (0, OLD.dim)


def test_no_gallery_is_made_over_another(place: str, opened: Callable[..., Ledger]) -> None:
    filled(opened(place, create=True), [NewItem("a", "1")])
    with pytest.raises(InputError, match="holds a gallery already") as caught:
        opened(place, create=True)
    assert "\n" not in str(caught.value)
    with opened(place).read() as reader:
        assert reader.live() == 1


def test_a_gallery_that_cannot_be_made_leaves_nothing(place: str, opened: Callable[..., Ledger]) -> None:
    with pytest.raises(TypeError):
        Ledger.create(place, OLD, model=None, settings={"not": object()})
    with pytest.raises(GalleryError, match="holds no gallery"):
        opened(place)
    opened(place, create=True)


def test_there_is_nothing_where_nothing_was_made(place: str) -> None:
    with pytest.raises(GalleryError, match="holds no gallery; make one with 'samespace gallery create"):
        Ledger.open(place)


def test_read_only_reads_and_refuses_to_write(place: str, opened: Callable[..., Ledger]) -> None:
    filled(opened(place, create=True), [NewItem("a", "1")])
    still = opened(place, read_only=True)
    with still.read() as reader:
        assert reader.live() == 1
    for writing in (still.write, still.claiming):
        with pytest.raises(GalleryError, match=r"read-only.*nothing was changed"), writing():
            pass


def test_ids_and_vectors_are_unique(ledger: Ledger) -> None:
    filled(ledger, [NewItem("a", "1"), NewItem("b", "1")])
    with pytest.raises(SamespaceError), ledger.write() as writer:
        writer.add_items([NewItem("c", "1"), NewItem("a", "2")])
    with pytest.raises(SamespaceError), ledger.write() as writer:
        writer.put_vectors(1, np.array([1]), ["1"], unit(1))
    with pytest.raises(SamespaceError), ledger.write() as writer:
        writer.add_space(OLD, None)
    with ledger.read() as reader:
        assert (reader.live(), reader.stored(1), list(reader.state().spaces)) == (2, 2, [1])
    # and the ledger goes on
    filled(ledger, [NewItem("c", "1")])


def test_numbers_are_never_given_twice(ledger: Ledger) -> None:
    filled(ledger, [NewItem(name, "1") for name in "abc"])
    with ledger.read() as reader:
        assert reader.next_numbers() == (4, 4)
    with ledger.write() as writer:
        writer.remove_items(np.array([1, 2, 3]))
    filled(ledger, [NewItem(name, "1") for name in "def"])
    with ledger.read() as reader:
        assert sorted(reader.items([4, 5, 6])) == [4, 5, 6]
        items, numbers = reader.row_numbers(1)
        assert dict(zip(items.tolist(), numbers.tolist(), strict=True)) == {4: 4, 5: 5, 6: 6}
        changed, later = reader.row_numbers(1, since=reader.revision() - 1)
        assert sorted(changed.tolist()) == sorted(later.tolist()) == [4, 5, 6]


def test_the_state_follows_every_change_of_configuration(ledger: Ledger) -> None:
    calibrations = [
        Calibration(slope, 0.0, (0.0, 1.0), (0.0, 3.0), 50, 500, Band((0.0, 1.0), (0.0, 1.0), 0.01))
        for slope in (1.0, 2.0)
    ]
    changes: list[Callable[[Any], Any]] = [
        lambda writer: writer.add_space(NEW, "models/new"),
        lambda writer: writer.set_model(1, "models/old"),
        lambda writer: writer.put_link(Link(2, 1, 8, {"verdict": "certified"})),
        lambda writer: writer.put_link(Link(2, 1, 8, None)),
        lambda writer: writer.put_calibration(2, 1, calibrations[0], "study"),
        lambda writer: writer.put_calibration(2, 1, calibrations[1], "study"),
        lambda writer: writer.add_upgrade(1, 2, order="random", plan={"hours": 1.5}),
        lambda writer: writer.set_query(2),
        lambda writer: writer.set_upgrade(writer.state().upgrades[0], state="open"),
        lambda writer: writer.set_upgrade(writer.state().upgrades[0], paused=True, order="traffic"),
        lambda writer: writer.put_meta("settings", '{"scale": "fmr"}'),
        lambda writer: writer.retire(1),
        lambda writer: writer.set_upgrade(writer.state().upgrades[0], state="sealed"),
    ]
    with ledger.read() as reader:
        state = reader.state()
    for make in changes:
        with ledger.write() as writer:
            make(writer)
        with ledger.read() as reader:
            fresh, known = reader.state(), reader.state(state)
        assert known == fresh != state
        assert fresh.revision == fresh.config == state.revision + 1
        state = fresh
    assert state.spaces[1].retired
    assert (state.spaces[1].model, state.spaces[2].model) == ("models/old", "models/new")
    assert state.links == {(2, 1): Link(2, 1, 8, None)}
    assert state.calibrations == {(2, 1): calibrations[1]}
    assert state.settings == {"scale": "fmr"}
    upgrade = state.upgrades[0]
    assert (upgrade.state, upgrade.paused, upgrade.order, upgrade.plan) == ("sealed", True, "traffic", {"hours": 1.5})
    assert upgrade.started is not None
    assert upgrade.ended is not None


def test_items_alone_leave_the_configuration_as_it_was(ledger: Ledger) -> None:
    with ledger.read() as reader:
        before = reader.state()
    filled(ledger, [NewItem("a", "1")])
    with ledger.read() as reader:
        after = reader.state(before)
    assert (after.revision, after.config) == (before.revision + 1, before.config)
    assert after.spaces is before.spaces


def test_filters_mean_the_same_on_every_store(ledger: Ledger) -> None:
    values: list[Any] = [
        1, 2, 2.0, 2.5, -1, 0.1, 0.30000000000000004, 2**53 + 1, 1e300, True, False,
        "1", "2", "a", "B", "ä", "𝄞", "\uffff", "", None,
    ]  # fmt: skip
    filled(ledger, [NewItem(f"{place:02}", "", None, {"k": value}) for place, value in enumerate(values)])
    filled(ledger, [NewItem("bare", "", "B")])

    def alike(value: Any, other: Any) -> bool:
        kinds = [type(x) if isinstance(x, (bool, str)) else float if x is not None else None for x in (value, other)]
        return kinds[0] is kinds[1]

    meaning: dict[str, Callable[[Any, Any], bool]] = {
        "=": lambda x, y: x == y, "!=": lambda x, y: x != y, "<": lambda x, y: x < y,
        "<=": lambda x, y: x <= y, ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
    }  # fmt: skip
    for other, (sign, holds) in itertools.product([v for v in values if v is not None], meaning.items()):
        expected = [
            f"{place:02}" for place, v in enumerate(values) if v is not None and alike(v, other) and holds(v, other)
        ]
        assert selected(ledger, {"k": (sign, other)}) == expected, (sign, other)
    assert selected(ledger, {"k": [1, "1", True]}) == ["00", "09", "11"]
    assert selected(ledger, {"k": (">", 2**70)}) == ["08"]
    assert selected(ledger, {"k": ("<", float("inf")), "label": "B"}) == []


def test_filters_take_odd_keys(ledger: Ledger) -> None:
    filled(ledger, [NewItem(str(place), "", None, {key: "yes", "n": place}) for place, key in enumerate(ODD)])
    for place, key in enumerate(ODD):
        assert selected(ledger, {key: "yes"}) == [str(place)], key
        assert selected(ledger, {key: "yes", "n": ("<", place)}) == []


def test_labels_compare_by_code_point_and_removed_items_are_left_out(ledger: Ledger) -> None:
    labels = ["a", "B", "Ä", "b", None, ""]
    filled(ledger, [NewItem(str(place), "", label) for place, label in enumerate(labels)])
    assert selected(ledger, {"label": (">=", "a")}) == ["0", "2", "3"]
    assert selected(ledger, {"label": ("!=", "a")}) == ["1", "2", "3", "5"]
    assert selected(ledger, ["label=B|b"]) == ["1", "3"]
    with ledger.write() as writer:
        writer.remove_items(np.array([2]))
    assert selected(ledger, ["label=B|b"]) == ["3"]
    assert selected(ledger, None) == ["0", "2", "3", "4", "5"]
    with ledger.read() as reader:
        numbers, kept = reader.labels()
        assert (numbers.tolist(), kept) == ([1, 3, 4, 5, 6], ["a", "Ä", "b", None, ""])


def test_traffic_canaries_and_audit_are_kept(ledger: Ledger) -> None:
    filled(ledger, [NewItem(name, "1") for name in "abc"])
    values = unit(2, seed=5)
    with ledger.write() as writer:
        writer.count_hits({3: 2, 1: 1})
        writer.count_hits({3: 5})
        writer.put_canaries(1, np.array([1, 2]), unit(2))
        writer.put_canaries(1, np.array([2, 3]), values)
        writer.note("add", actor="ann", items=3, why="test")
        writer.remove_items(np.array([2]))
    with ledger.read() as reader:
        items, hits = reader.traffic()
        assert (items.tolist(), hits.tolist()) == ([1, 3], [1, 7])
        items, found = reader.canaries(1)
        assert (items.tolist(), found.tobytes()) == ([3], values[1:].tobytes())
        audit = reader.audit()
        assert [line["action"] for line in audit] == ["add", "create"]
        assert (audit[0]["actor"], audit[0]["items"], audit[0]["why"]) == ("ann", 3, "test")
        assert len(reader.audit(1)) == 1


def test_workers_are_known_while_they_send_heartbeats(ledger: Ledger) -> None:
    worker = WorkerStatus("w", 1, 1.0, 100.0, 5, 0, "")
    with ledger.claiming() as writer:
        writer.heartbeat(worker)
        writer.heartbeat(WorkerStatus("w", 1, 1.0, 101.0, 6, 1, "paused"))
        writer.heartbeat(WorkerStatus("v", 1, 1.0, 102.0, 0, 0, ""))
    with ledger.read() as reader:
        assert [(found.owner, found.done) for found in reader.workers(50.0)] == [("v", 0), ("w", 6)]
        assert [found.owner for found in reader.workers(101.5)] == ["v"]
    with ledger.claiming() as writer:
        writer.end_worker("v")
    with ledger.read() as reader:
        assert [found.owner for found in reader.workers(50.0)] == ["w"]


def test_superseded_vectors_go_in_small_batches(ledger: Ledger) -> None:
    filled(ledger, [NewItem(str(place), "1") for place in range(10)])
    with ledger.write() as writer:
        writer.add_space(NEW, None)
        writer.put_vectors(2, np.arange(1, 8), ["1"] * 7, unit(7, NEW.dim))
    dropped = []
    for last in (0, 3, 6, 7):
        with ledger.write() as writer:
            dropped.append(writer.drop_superseded(1, 2, 3, after=last))
    assert dropped == [[1, 2, 3], [4, 5, 6], [7], []]
    with ledger.read() as reader:
        assert reader.rows_after(1, 0, 99).items.tolist() == [8, 9, 10]
        assert reader.stored(2) == 7


def test_batches_of_superseded_vectors_begin_where_the_last_ended(ledger: Ledger) -> None:
    filled(ledger, [NewItem(str(place), "1") for place in range(6)])
    with ledger.write() as writer:
        writer.add_space(NEW, None)
        writer.put_vectors(2, np.arange(1, 7), ["1"] * 6, unit(6, NEW.dim))
        assert writer.drop_superseded(1, 2, 2, after=3) == [4, 5]


def test_those_that_lack_a_vector_are_found_among_the_given(ledger: Ledger) -> None:
    filled(ledger, [NewItem(str(place), "1") for place in range(6)])
    with ledger.write() as writer:
        writer.add_space(NEW, None)
        writer.put_vectors(2, np.array([2, 5]), ["1"] * 2, unit(2, NEW.dim))
        writer.remove_items(np.array([3]))
        assert writer.lacking(2, np.array([6, 1, 2, 3, 99])).tolist() == [1, 6]


def test_a_swallowed_error_does_not_pass_for_success(place: str, opened: Callable[..., Ledger]) -> None:
    ledger = opened(place, create=True)
    filled(ledger, [NewItem("a", "1")])
    stored = True
    try:
        with ledger.write() as writer:
            writer.add_items([NewItem("b", "1")])
            with pytest.raises(SamespaceError):
                writer.add_items([NewItem("a", "1")])
    except SamespaceError:
        stored = False
    with ledger.read() as reader:
        assert bool(reader.find(["b"])) == stored


def test_many_spaces_and_long_names(ledger: Ledger) -> None:
    name = "ü" * 2000
    filled(ledger, [NewItem(name, "h" * 5000, "l" * 5000, {"k" * 300: "v" * 5000})])
    wide = Space(weights="07", preprocessing="", dim=3000, normalized=False)
    with ledger.write() as writer:
        assert [writer.add_space(wide, None), writer.add_space(NEW, None)] == [2, 3]
        writer.put_vectors(2, np.array([1]), ["h" * 5000], unit(1, 3000))
    with ledger.read() as reader:
        assert reader.find([name])[name].content == "h" * 5000
        assert reader.rows_of(2, [1]).values.shape == (1, 3000)
    assert ledger.engine.size() > 0
    assert list(ledger.engine.check()) == []
