"""The same limits, errors and answers on both stores: long filters, large metadata, odd text; claims by index."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.gallery.ingest.store import Batch, store
from samespace.gallery.ledger.filters import MOST_OPTIONS, conditions
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem

from ..conftest import NEW


def added(ledger: Ledger, *items: NewItem) -> int:
    """Store items with vectors."""
    values = np.eye(8, dtype=np.float32)[np.arange(len(items)) % 8]
    batch = Batch(list(items), {1: values})
    return store(ledger, ledger.state(), [batch], update=False, advance=lambda *_: None).added


def named(ledger: Ledger, where: Any) -> list[str]:
    """Ids of the items that meet a filter."""
    with ledger.read() as reader:
        found = reader.items(reader.select(conditions(where)))
    return sorted(item.id for item in found.values())


def recorded(monkeypatch: pytest.MonkeyPatch, ledger: Ledger, method: str) -> list[tuple[str, Any, Any]]:
    """Every statement that the ledger's sessions execute from now on by a method, with its values and result."""
    with ledger.read() as reader:
        kind = type(reader.session)
    done: list[tuple[str, Any, Any]] = []
    execute = getattr(kind, method)

    def watched(session: Any, sql: str, values: Any = ()) -> Any:
        result = execute(session, sql, values)
        done.append((sql, values, result))
        return result

    monkeypatch.setattr(kind, method, watched)
    return done


def test_long_filters_of_every_type_are_one_comparison_each(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ["a", "b'", 'q"', "7", 7, 7.5, -3, 2**60, 0.1, True, False, "ü"]
    added(ledger, *(NewItem(f"i{n:02d}", "c", f"l{n}", {"k": v, 'odd "key"': v}) for n, v in enumerate(values)))
    statements = recorded(monkeypatch, ledger, "all")
    for key in ("k", 'odd "key"'):
        for wanted in (
            values,
            values[:3],
            values[3:5],
            [7.0, 0.1, False],
            [*values[:2], *range(400), *map(str, range(99))],
        ):
            # Python takes true for 1, no store does
            expected = [
                n for n, v in enumerate(values)
                if any(v == one and isinstance(v, bool) == isinstance(one, bool) for one in wanted)
            ]  # fmt: skip
            assert named(ledger, {key: wanted}) == [f"i{n:02d}" for n in expected]
    assert max(sql.count("metadata") for sql, _, _ in statements) <= 8
    assert named(ledger, {"label": [f"l{n}" for n in range(0, 900, 3)]}) == ["i00", "i03", "i06", "i09"]
    assert named(ledger, {"k": [10**400, -(10**5000), 2**64, float("inf")]}) == []
    assert len(named(ledger, {"k": ("<", 10**400)})) == 5
    with pytest.raises(InputError, match="lists 10,001 values; at most 10,000"):
        named(ledger, {"k": list(range(MOST_OPTIONS + 1))})
    assert named(ledger, {"k": list(range(MOST_OPTIONS))}) == ["i04"]


@pytest.mark.parametrize("where", [{"k": "a\0b"}, {"a\0": 1}, {"k": "\ud800"}, ["label=\0"], {"k": ["a", "\udfff"]}])
def test_filters_that_are_no_text_are_refused(ledger: Ledger, where: Any) -> None:
    with pytest.raises(InputError, match="which is no text"):
        named(ledger, where)


@pytest.mark.parametrize(
    "item",
    [
        NewItem("x" * 2**20, "c"),
        NewItem("ü" * 513, "c"),
        NewItem("x", "c", "a\0b"),
        NewItem("x", "c", "\ud800"),
        NewItem("x", "c", "l" * 20_000),
        NewItem("x", "c", None, {"k": "a\0b"}),
        NewItem("x", "c", None, {"k\0": 1}),
        NewItem("x", "c", None, {"k": "\ud800"}),
        NewItem("x", "c", None, {"k": 2**63}),
        NewItem("x", "c", None, {"k": 10**5000}),
        NewItem("x", "c", None, {"k": "v" * 17_000}),
        NewItem("x", "c", None, {f"k{n}": "v" * 90 for n in range(180)}),
        NewItem("x", "c", None, {"label": "cat"}),
    ],
    ids=lambda item: "",
)
def test_what_one_store_could_not_hold_neither_takes(ledger: Ledger, item: NewItem) -> None:
    with pytest.raises(InputError):
        added(ledger, NewItem("first", "c"), item)
    assert named(ledger, None) == []


def test_what_is_just_short_enough_is_taken(ledger: Ledger) -> None:
    random = np.random.default_rng(0)
    name, text = (bytes(random.integers(97, 123, size).astype(np.uint8)).decode() for size in (1024, 16_000))
    assert added(ledger, NewItem(name, "c", text, {"k": text, "n": -(2**63)})) == 1
    assert named(ledger, {"k": [text, "other"], "label": text}) == [name]


@pytest.fixture
def listed(ledger: Ledger) -> Ledger:
    """2,000 items on the work list of a second space."""
    items = [NewItem(f"i{n}", "c") for n in range(2000)]
    added(ledger, *items)
    with ledger.write() as writer:
        writer.add_space(NEW, None)
        writer.put_work(2, np.arange(1, 2001), np.random.default_rng(0).random(2000).tolist())
    return ledger


def test_claims_of_many_named_items_go_by_the_index_of_items(
    listed: Ledger, monkeypatch: pytest.MonkeyPatch, explained: Callable[[Any, str, Any], str]
) -> None:
    statements = recorded(monkeypatch, listed, "all")
    with listed.claiming() as queue:
        taken = queue.claim(2, "me", 700, now=1.0, lease=9.0, among=list(range(1, 1401, 2)))
    assert sorted(claim.item for claim in taken) == list(range(1, 1401, 2))
    asked = [(sql, values) for sql, values, _ in statements if sql.startswith("SELECT place, item FROM work ")]
    assert len(asked) == 2
    for sql, values in asked:
        with listed.read() as reader:
            plan = explained(reader.session, sql, values)
        assert "work_item" in plan, plan


@pytest.fixture
def explained() -> Callable[[Any, str, Any], str]:
    """What a store says of how it carries out a statement."""

    def ask(session: Any, sql: str, values: Any) -> str:
        how = "EXPLAIN QUERY PLAN" if "Sqlite" in type(session).__name__ else "EXPLAIN"
        return "\n".join(str(row[-1]) for row in session.all(f"{how} {sql}", values))

    return ask


def test_claims_are_taken_back_without_touching_the_other_rows(listed: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    with listed.claiming() as queue:
        queue.claim(2, "me", 5, now=1.0, lease=9.0)
    changed = recorded(monkeypatch, listed, "run")
    with listed.write() as writer:
        writer.release_all(2)
    assert sum(count for sql, _, count in changed if "work" in sql) == 1
