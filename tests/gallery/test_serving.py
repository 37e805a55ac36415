"""The rule that decides which space serves an item: arrays, SQL and a slow definition agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samespace.gallery.ledger.state import State, StoredSpace, Upgrade
from samespace.gallery.serving import has_vector_sql, newer, served_sql, serving_generations
from samespace.space import Space

from .servers import Server

ITEMS = 6
Run = Callable[[str], list[tuple[Any, ...]]]


@dataclass
class Slow:
    """A gallery written down the slow way: the lineage is a stack, the vectors are sets of items."""

    lineage: list[int] = field(default_factory=lambda: [1])
    spaces: int = 1
    retired: set[int] = field(default_factory=set)
    rolled_back: list[Upgrade] = field(default_factory=list)
    under_way: list[Upgrade] = field(default_factory=list)
    sealed: list[Upgrade] = field(default_factory=list)
    vectors: dict[int, set[int]] = field(default_factory=lambda: {1: set()})
    deleted: set[int] = field(default_factory=set)
    clock: float = 0.0

    def upgrade(self, again: bool) -> None:
        """To a new space, or forward again to one that was rolled back from here."""
        before = [one for one in self.rolled_back if one.old == self.lineage[-1]]
        if again and before:
            self.rolled_back.remove(before[-1])
            new = before[-1].new
        else:
            self.spaces += 1
            new = self.spaces
            self.vectors[new] = set()
        self.clock += 1
        number = len(self.rolled_back) + len(self.under_way) + len(self.sealed) + 1
        self.under_way.append(Upgrade(number, self.lineage[-1], new, "open", started=self.clock))
        self.lineage.append(new)

    def rollback(self) -> None:
        """Back to the space before."""
        if self.under_way:
            last = self.under_way.pop()
            self.lineage.pop()
            self.rolled_back.append(Upgrade(last.number, last.old, last.new, "rolled-back", started=last.started))

    def seal(self) -> None:
        """Every space but the query space is retired, and its vectors go."""
        for one in self.under_way:
            self.sealed.append(Upgrade(one.number, one.old, one.new, "sealed", started=one.started))
        self.under_way.clear()
        for generation in set(self.vectors) - {self.lineage[-1]}:
            self.retired.add(generation)
            self.vectors[generation].clear()

    def state(self) -> State:
        """As a ledger would tell it."""
        spaces = {
            generation: StoredSpace(
                generation, Space(str(generation), "none", 2, True), None, generation in self.retired
            )
            for generation in range(1, self.spaces + 1)
        }
        upgrades = (*self.rolled_back, *self.sealed, *self.under_way)
        return State(1, 1, self.lineage[-1], spaces, {}, {}, upgrades, {})

    def servable(self) -> tuple[int, ...]:
        """The lineage without what is retired."""
        return tuple(generation for generation in self.lineage if generation not in self.retired)

    def serving(self, item: int) -> int:
        """The newest servable space with the item's vector, 0 for none."""
        having = [generation for generation in self.servable() if item in self.vectors[generation]]
        return having[-1] if having else 0


@st.composite
def galleries(draw: st.DrawFn) -> Slow:
    """Galleries after a few upgrades, roll-backs, seals, backfills and deletions, in any order."""
    gallery = Slow()
    steps = st.sampled_from(["upgrade", "upgrade", "again", "rollback", "seal", "vectors", "vectors", "delete", "lose"])
    for step in draw(st.lists(steps, max_size=14)):
        items = draw(st.sets(st.integers(1, ITEMS))) if step in ("vectors", "delete", "lose") else set()
        if step in ("upgrade", "again"):
            gallery.upgrade(step == "again")
        elif step == "rollback":
            gallery.rollback()
        elif step == "seal":
            gallery.seal()
        elif step == "vectors":
            generation = draw(st.sampled_from(sorted(set(gallery.vectors) - gallery.retired)))
            gallery.vectors[generation] |= items - gallery.deleted
        elif step == "delete":
            gallery.deleted |= items
            for kept in gallery.vectors.values():
                kept -= items
        else:
            gallery.vectors[draw(st.sampled_from(sorted(gallery.vectors)))] -= items
    return gallery


def fill(run: Run, gallery: Slow, temporary: str = "") -> None:
    """The tables of a ledger, as far as the rule looks at them."""
    run(f"CREATE {temporary} TABLE item (no BIGINT PRIMARY KEY, deleted BIGINT NOT NULL)")
    for item in range(1, ITEMS + 1):
        run(f"INSERT INTO item VALUES ({item}, {int(item in gallery.deleted)})")
    for generation, items in gallery.vectors.items():
        run(f"CREATE {temporary} TABLE vector_{generation} (no BIGINT PRIMARY KEY, item BIGINT NOT NULL UNIQUE)")
        for item in sorted(items):
            run(f"INSERT INTO vector_{generation} VALUES ({100 * generation + item}, {item})")


def agree_in_sql(run: Run, gallery: Slow) -> None:
    """Whether the SQL picks the rows that the slow definition names."""
    servable = gallery.servable()
    everyone = range(1, ITEMS + 1)
    for generation in servable:
        rows = run(f"SELECT v.item FROM vector_{generation} v WHERE {served_sql(generation, servable)}")
        assert sorted(row[0] for row in rows) == [item for item in everyone if gallery.serving(item) == generation]
    rows = run(f"SELECT i.no FROM item i WHERE i.deleted = 0 AND NOT {has_vector_sql(servable, 'i.no')}")
    assert sorted(row[0] for row in rows) == [
        item for item in everyone if item not in gallery.deleted and not gallery.serving(item)
    ]


@given(galleries())
def test_the_lineage_is_the_stack_of_upgrades_without_retired_spaces(gallery: Slow) -> None:
    state = gallery.state()
    assert state.servable == gallery.servable()
    before = dict(zip(gallery.lineage[1:], gallery.lineage, strict=False))
    assert {generation: state.parent(generation) for generation in gallery.lineage} == {1: None, **before}


@given(galleries())
def test_arrays_say_what_the_definition_says(gallery: Slow) -> None:
    rows = {generation: np.zeros(ITEMS + 1, dtype=np.int64) for generation in gallery.vectors}
    for generation, items in gallery.vectors.items():
        rows[generation][sorted(items)] = [100 * generation + item for item in sorted(items)]
    found = serving_generations(rows, gallery.state().servable, ITEMS + 1)
    assert found.tolist() == [gallery.serving(item) for item in range(ITEMS + 1)]


@given(galleries())
def test_sqlite_says_what_the_definition_says(gallery: Slow) -> None:
    connection = sqlite3.connect(":memory:")
    try:

        def run(sql: str) -> list[tuple[Any, ...]]:
            return connection.execute(sql).fetchall()

        fill(run, gallery)
        agree_in_sql(run, gallery)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def cursor(server: Server) -> Iterator[Any]:
    """A connection to a real PostgreSQL server."""
    import psycopg

    with psycopg.connect(server.address) as connection, connection.cursor() as cursor:
        yield cursor


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(gallery=galleries())
def test_postgresql_says_what_the_definition_says(cursor: Any, gallery: Slow) -> None:
    def run(sql: str) -> list[tuple[Any, ...]]:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []

    try:
        fill(run, gallery, "TEMPORARY")
        agree_in_sql(run, gallery)
    finally:
        cursor.connection.rollback()


def test_newer_spaces_are_those_of_the_lineage_only() -> None:
    assert newer(2, (1, 2, 4)) == (4,)
    assert newer(3, (1, 2, 4)) == (4,)
    assert newer(4, (1, 2, 4)) == ()


def test_the_first_row_of_a_space_serves_as_any_other() -> None:
    rows = {1: np.array([0, 2, 1]), 2: np.array([0, 1, 0])}
    assert serving_generations(rows, (1, 2), 3).tolist() == [0, 2, 1]


def test_in_sql_no_space_at_all_has_a_vector() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        assert connection.execute(f"SELECT {has_vector_sql((), '1')}").fetchall() == [(0,)]
    finally:
        connection.close()
