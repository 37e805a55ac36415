"""Random changes to a ledger against the same changes to a few dictionaries, on every kind of store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Claim, NewItem
from samespace.gallery.ledger.transactions.reader import LedgerReader

from ..conftest import NEW, OLD

DIMS = {1: OLD.dim, 2: NEW.dim}
LEASE = 10.0


@dataclass
class Kept:
    """An item of the model."""

    number: int
    content: str
    label: str | None
    metadata: dict[str, Any]
    deleted: bool = False


@dataclass
class Model:
    """What a ledger should hold."""

    seed: int
    items: dict[str, Kept] = field(default_factory=dict)
    vectors: dict[int, dict[int, np.ndarray]] = field(default_factory=lambda: {1: {}, 2: {}})
    # item -> priority, owner, lease, tries
    work: dict[int, tuple[float, str | None, float, int]] = field(default_factory=dict)
    claims: list[tuple[str, Claim]] = field(default_factory=list)
    given: set[int] = field(default_factory=set)
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def ids(self, *, deleted: bool | None = False, most: int = 3) -> list[str]:
        some = [name for name, item in self.items.items() if deleted is None or item.deleted == deleted]
        return self.random.sample(some, min(len(some), self.random.randint(1, most)))

    def forget(self, number: int) -> None:
        self.work.pop(number, None)
        for generation in (1, 2):
            self.vectors[generation].pop(number, None)

    def vector(self, generation: int) -> np.ndarray:
        value = np.array([self.random.gauss(0, 1) for _ in range(DIMS[generation])])
        return (value / np.linalg.norm(value)).astype(np.float32)

    def new_item(self, name: str) -> NewItem:
        label = self.random.choice([None, "cat", "Żółw", ""])
        return NewItem(name, f"c{self.random.random()}", label, {"n": self.random.randint(0, 9), 'k"é.$': "x y"})


def add(ledger: Ledger, model: Model) -> None:
    names = [f"item-{len(model.items) + place}-日本" for place in range(model.random.randint(1, 5))]
    items = [model.new_item(name) for name in names]
    with ledger.write() as writer:
        numbers = writer.add_items(items)
        values = np.stack([model.vector(1) for _ in items])
        writer.put_vectors(1, numbers, [item.content for item in items], values)
    for number, item, value in zip(numbers.tolist(), items, values, strict=True):
        assert number not in model.given, "a number was given twice"
        model.given.add(number)
        model.items[item.id] = Kept(number, item.content, item.label, dict(item.metadata))
        model.vectors[1][number] = value


def change_some(ledger: Ledger, model: Model) -> None:
    names = model.ids(deleted=None)
    items = [model.new_item(name) for name in names]
    numbers = [model.items[name].number for name in names]
    with ledger.write() as writer:
        writer.change_items(np.array(numbers, dtype=np.int64), items)
    for number, item in zip(numbers, items, strict=True):
        model.items[item.id] = Kept(number, item.content, item.label, dict(item.metadata))
        model.forget(number)


def describe_some(ledger: Ledger, model: Model) -> None:
    for name in model.ids():
        item, kept = model.new_item(name), model.items[name]
        with ledger.write() as writer:
            writer.describe_items(np.array([kept.number]), [item])
        kept.label, kept.metadata = item.label, dict(item.metadata)


def remove_some(ledger: Ledger, model: Model) -> None:
    names = model.ids()
    with ledger.write() as writer:
        writer.remove_items(np.array([model.items[name].number for name in names], dtype=np.int64))
    for name in names:
        model.items[name].deleted = True
        model.forget(model.items[name].number)


def list_work(ledger: Ledger, model: Model) -> None:
    with ledger.write() as writer:
        items = writer.unserved([2])
        priorities = [model.random.choice([0.0, 0.5, 1.0]) for _ in items]
        writer.put_work(2, items, priorities)
    for number, priority in zip(items.tolist(), priorities, strict=True):
        _, owner, lease, tries = model.work.get(number, (0.0, None, 0.0, 0))
        model.work[number] = (priority, owner, lease, tries)


def claim(ledger: Ledger, model: Model) -> None:
    owner, count = model.random.choice("ab"), model.random.randint(1, 4)
    free = [
        n
        for n, (_, holder, lease, _) in model.work.items()
        if holder is None or (lease < model.now and holder != owner)
    ]
    # nobody gives up here: that is tested by itself
    if any(model.work[number][3] >= 9 for number in free):
        return
    expected = sorted(free, key=lambda number: (-model.work[number][0], number))[:count]
    with ledger.claiming() as writer:
        claims = writer.claim(2, owner, count, now=model.now, lease=LEASE)
    assert [claim.item for claim in claims] == expected
    for got in claims:
        assert model.items[got.id].content == got.content
        priority, _, _, tries = model.work[got.item]
        model.work[got.item] = (priority, owner, model.now + LEASE, tries + 1)
        model.claims.append((owner, got))


def complete(ledger: Ledger, model: Model) -> None:
    if not model.claims:
        return
    owner = model.claims[0][0]
    mine = [claim for who, claim in model.claims if who == owner]
    mine = list({claim.item: claim for claim in mine}.values())
    values = np.stack([model.vector(2) for _ in mine])
    with ledger.write() as writer:
        completed = writer.complete(2, mine, values, owner=owner)
    model.claims = [(who, claim) for who, claim in model.claims if who != owner]
    counts = dict.fromkeys(("stored", "present", "changed", "gone", "lost"), 0)
    for got, value in zip(mine, values, strict=True):
        outcome = expected_outcome(model, owner, got)
        counts[outcome] += 1
        if outcome == "stored":
            model.vectors[2][got.item] = value
            del model.work[got.item]
        elif outcome == "changed" and got.item in model.work and model.work[got.item][1] == owner:
            priority, _, _, tries = model.work[got.item]
            model.work[got.item] = (priority, None, 0.0, tries - 1)
    assert {name: getattr(completed, name) for name in counts} == counts


def expected_outcome(model: Model, owner: str, got: Claim) -> str:
    item = model.items[got.id]
    if item.deleted:
        return "gone"
    if item.content != got.content:
        return "changed"
    if got.item in model.vectors[2]:
        return "present"
    return "stored" if model.work.get(got.item, (0.0, None))[1] == owner else "lost"


def wait(ledger: Ledger, model: Model) -> None:
    model.now += model.random.choice([1.0, 6.0, 30.0])


def fail_midway(ledger: Ledger, model: Model) -> None:
    """A change that breaks leaves nothing behind, not even the numbers it took."""
    with pytest.raises(RuntimeError, match="by chance"):
        _break_off(ledger, model)


def _break_off(ledger: Ledger, model: Model) -> None:
    with ledger.write() as writer:
        numbers = writer.add_items([model.new_item("never")])
        writer.put_vectors(1, numbers, ["x"], model.vector(1)[None])
        writer.remove_items(np.array([item.number for item in model.items.values()], dtype=np.int64))
        writer.set_query(2)
        raise RuntimeError("by chance")


def assert_same(reader: LedgerReader, model: Model) -> None:
    known = reader.find(list(model.items))
    assert {name: (item.number, item.content, item.label, item.deleted) for name, item in known.items()} == {
        name: (item.number, item.content, item.label, item.deleted) for name, item in model.items.items()
    }
    assert reader.find(["never"]) == {}
    live = {item.number: item for item in model.items.values() if not item.deleted}
    assert reader.live() == len(live)
    found = reader.metadata(list(live))
    assert found == {number: item.metadata for number, item in live.items()}
    for generation in (1, 2):
        rows = reader.rows_after(generation, 0, 10_000)
        assert set(rows.items.tolist()) == set(model.vectors[generation])
        assert len(set(rows.items.tolist())) == reader.stored(generation) == len(rows.numbers)
        assert (np.diff(rows.numbers) > 0).all()
        for item, value, content in zip(rows.items.tolist(), rows.values, rows.contents, strict=True):
            assert value.tobytes() == model.vectors[generation][item].tobytes()
            assert live[item].content == content
        assert reader.orphans(generation) == 0
    newer, older = set(model.vectors[2]), set(model.vectors[1])
    assert reader.served([1, 2]) == {2: len(newer), 1: len(older - newer)}
    assert reader.served([1]) == {1: len(older)}
    assert reader.unserved([1, 2]).tolist() == sorted(set(live) - newer - older)
    assert reader.unserved([2]).tolist() == sorted(set(live) - newer)
    work = reader.work(2, model.now)
    held = [number for number, (_, owner, lease, _) in model.work.items() if owner and lease >= model.now]
    assert (work.open, work.claimed, work.failed) == (len(model.work), len(held), 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_changes_leave_what_dictionaries_would_hold(ledger: Ledger, seed: int) -> None:
    model = Model(seed)
    with ledger.write() as writer:
        writer.add_space(NEW, None)
        writer.add_upgrade(1, 2, order="random", plan={})
        writer.set_query(2)
    add(ledger, model)
    steps: list[Callable[[Ledger, Model], None]] = [
        add, change_some, describe_some, remove_some, list_work, claim, claim, complete, complete, wait, fail_midway,
    ]  # fmt: skip
    revisions = [0]
    before: dict[int, tuple[Any, ...]] = {}
    for _ in range(50):
        step = model.random.choice(steps)
        if step in (change_some, describe_some, remove_some) and not model.ids(deleted=None):
            continue
        if step in (describe_some, remove_some) and not model.ids():
            continue
        step(ledger, model)
        with ledger.read() as reader:
            assert_same(reader, model)
            after = everything(reader)
            moved, _, gone = reader.items_since(revisions[-1])
            changed = {number for number in after if after[number] != before.get(number)}
            assert changed <= set(moved.tolist()), f"{step.__name__} changed items that kept their revision"
            assert {number for number, mark in zip(moved.tolist(), gone.tolist(), strict=True) if mark} <= {
                item.number for item in model.items.values() if item.deleted
            }
            if step in (claim, wait, fail_midway, list_work):
                assert reader.revision() == revisions[-1] or not before
            revisions.append(reader.revision())
        before = after
    assert revisions == sorted(revisions)


def everything(reader: LedgerReader) -> dict[int, tuple[Any, ...]]:
    """Whatever a search could tell of each item."""
    rows = {generation: reader.row_numbers(generation) for generation in (1, 2)}
    numbers = {
        generation: dict(zip(items.tolist(), no.tolist(), strict=True)) for generation, (items, no) in rows.items()
    }
    items, ids, deleted = reader.items_since(-1)
    metadata = reader.metadata(items)
    known = reader.items(items)
    return {
        item: (
            name,
            mark,
            known[item].label,
            repr(sorted(metadata[item].items())),
            *(numbers[r].get(item) for r in (1, 2)),
        )
        for item, name, mark in zip(items.tolist(), ids, deleted.tolist(), strict=True)
    }
