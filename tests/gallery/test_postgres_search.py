"""Search inside PostgreSQL: the same answers as a slow search, to the bit, on every mixture of two spaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")

from samespace.gallery.index.base import Source
from samespace.gallery.index.found import Neighbours
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.pgvector import source as pgvector
from samespace.gallery.index.pgvector.source import PgvectorSource
from samespace.gallery.ledger.filters import conditions
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import NewItem
from samespace.space import Space

Opened = Callable[..., Ledger]

ITEMS = 400


def space(name: str, dim: int, *, normalized: bool = True) -> Space:
    return Space(weights=name, preprocessing="", dim=dim, normalized=normalized, name=name)


def vectors(count: int, dim: int, seed: int, *, normalized: bool = True) -> np.ndarray:
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((10, dim))
    values = centres[generator.integers(0, 10, count)] + 0.3 * generator.standard_normal((count, dim))
    # twins, and more that tie with them
    values[count // 2 : count // 2 + 20] = values[0]
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / lengths if normalized else values).astype(np.float32)


class Filled:
    """A ledger with a share of its items in a second space, and its vectors by generation and item."""

    def __init__(self, location: str, share: float, *, normalized: bool = True) -> None:
        self.spaces = {1: space("one", 16, normalized=normalized), 2: space("two", 24, normalized=normalized)}
        self.values = {
            generation: vectors(ITEMS, kept.dim, generation, normalized=normalized)
            for generation, kept in self.spaces.items()
        }
        self.ledger = Ledger.create(location, self.spaces[1], model=None, settings={})
        items = [NewItem(f"i{place}", "c", str(place % 3), {"n": place}) for place in range(ITEMS)]
        with self.ledger.write() as writer:
            numbers = writer.add_items(items)
            writer.put_vectors(1, numbers, ["c"] * ITEMS, self.values[1])
            writer.add_space(self.spaces[2], None)
            writer.add_upgrade(1, 2, order="random", plan={})
            writer.set_upgrade(writer.state().upgrades[-1], state="open")
            writer.set_query(2)
        self.moved = np.sort(np.random.default_rng(7).permutation(numbers)[: round(share * ITEMS)])
        with self.ledger.write() as writer:
            writer.put_vectors(2, self.moved, ["c"] * len(self.moved), self.values[2][self.moved - 1])

    def served(self, generation: int) -> np.ndarray:
        every = np.arange(1, ITEMS + 1)
        return self.moved if generation == 2 else np.setdiff1d(every, self.moved)

    def slowly(self, generation: int, query: np.ndarray, k: int, items: np.ndarray) -> list[tuple[int, float]]:
        rows = self.values[generation][items - 1]
        if not self.spaces[generation].normalized:
            wide = rows.astype(np.float64)
            rows = (wide / np.sqrt((wide * wide).sum(axis=1))[:, None]).astype(np.float32)
        raw = (rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
        order = np.lexsort((items, -raw))
        last = raw[order[min(k, len(order)) - 1]] if len(order) else 0.0
        return [(int(items[place]), float(raw[place])) for place in order if raw[place] >= last]


def as_pairs(found: Neighbours) -> list[tuple[int, float]]:
    return list(zip(found.items.tolist(), found.raw.tolist(), strict=True))


def answers(source: Source, queries: Sequence[np.ndarray], k: int = 10) -> list[list[tuple[int, float]]]:
    with source.snapshot() as snapshot:
        return [
            as_pairs(found)
            for generation in snapshot.generations()
            for found in snapshot.top(generation, queries[generation - 1], k, allowed=None, exact=True)
        ]


@pytest.mark.parametrize(("share", "normalized"), [(0.0, True), (0.1, True), (0.5, False), (1.0, True)])
def test_exact_search_equals_the_slow_one_to_the_bit(schema: str, share: float, normalized: bool) -> None:
    filled = Filled(schema, share, normalized=normalized)
    source = PgvectorSource(filled.ledger)
    with source.snapshot(conditions(["label=1", "n<200"])) as snapshot:
        assert snapshot.generations() == [generation for generation in (1, 2) if len(filled.served(generation))]
        assert snapshot.state.query == 2
        allowed = snapshot.allowed
        assert allowed is not None
        assert allowed.tolist() == [n + 1 for n in range(200) if n % 3 == 1]
        for generation in snapshot.generations():
            queries = vectors(20, filled.spaces[generation].dim, generation)
            queries[0] = vectors(1, filled.spaces[generation].dim, generation)[0]
            for k in (1, 10, ITEMS + 5):
                for some in (queries[:3], queries):
                    for chosen in (None, allowed, np.empty(0, np.int64)):
                        items = filled.served(generation)
                        items = items if chosen is None else np.intersect1d(items, chosen)
                        found = snapshot.top(generation, some, k, allowed=chosen, exact=False)
                        assert [as_pairs(one) for one in found] == [
                            filled.slowly(generation, q, k, items) for q in some
                        ]
    filled.ledger.close()


def test_ties_at_the_end_are_all_returned(schema: str) -> None:
    filled = Filled(schema, 0.0)
    with PgvectorSource(filled.ledger).snapshot() as snapshot:
        (found,) = snapshot.top(1, filled.values[1][:1], 1, allowed=None, exact=True)
        assert found.items.tolist() == [1, *range(ITEMS // 2 + 1, ITEMS // 2 + 21)]
        assert snapshot.ids(found.items[:2]) == ["i0", f"i{ITEMS // 2}"]
    filled.ledger.close()


def test_both_stores_give_the_same_bits(schema: str, tmp_path: Path) -> None:
    queries = [vectors(5, 16, 11), vectors(5, 24, 12)]
    both = []
    for location in (schema, str(tmp_path / "g")):
        filled = Filled(location, 0.4)
        source = PgvectorSource(filled.ledger) if location == schema else LocalSource(filled.ledger, None)
        both.append(answers(source, queries))
        source.close()
        filled.ledger.close()
    assert both[0] == both[1]


def test_a_rollback_brings_the_same_answers_back(schema: str) -> None:
    filled = Filled(schema, 0.0)
    source = PgvectorSource(filled.ledger)
    queries = [vectors(5, 16, 11), vectors(5, 24, 12)]

    def query_by(generation: int) -> None:
        with filled.ledger.write() as writer:
            writer.set_query(generation)

    query_by(1)
    before = answers(source, queries)
    query_by(2)
    with filled.ledger.write() as writer:
        writer.put_vectors(2, np.arange(1, 100), ["c"] * 99, filled.values[2][:99])
    assert answers(source, queries) != before
    query_by(1)
    assert answers(source, queries) == before
    filled.ledger.close()


def test_a_snapshot_stays_at_its_revision(schema: str) -> None:
    filled = Filled(schema, 0.5)
    source = PgvectorSource(filled.ledger)
    query = vectors(1, 16, 11)
    with source.snapshot() as snapshot:
        before = as_pairs(snapshot.top(1, query, 10, allowed=None, exact=True)[0])
        with filled.ledger.write() as writer:
            writer.remove_items(np.array([item for item, _ in before]))
            writer.put_vectors(2, np.arange(1, 0), [], np.empty((0, 24), np.float32))
        assert as_pairs(snapshot.top(1, query, 10, allowed=None, exact=True)[0]) == before
        assert snapshot.ids(np.array([before[0][0]]))
    with source.snapshot() as snapshot:
        after = snapshot.top(1, query, 10, allowed=None, exact=True)[0].items.tolist()
        assert not {item for item, _ in before} & set(after)
    filled.ledger.close()


@pytest.mark.parametrize("normalized", [True, False])
def test_an_index_finds_nearly_everything_in_each_space(schema: str, normalized: bool) -> None:
    filled = Filled(schema, 0.5, normalized=normalized)
    source = PgvectorSource(filled.ledger, exact_rows=50)
    assert source.coverage() == {
        generation: {"indexed": n, "lag": 0, "kind": "exact"} for generation, n in ((1, 400), (2, 200))
    }
    told: list[tuple[int, str]] = []
    source.maintain(lambda done, note: told.append((done, note)))
    assert [done for done, _ in told] == [0, 400, 0, 200]
    assert told[0][1].startswith("building the index of one in the server: 400 vectors")
    source.maintain(lambda done, note: told.append((done, note)))
    assert len(told) == 4
    assert {generation: covered["kind"] for generation, covered in source.coverage().items()} == {1: "hnsw", 2: "hnsw"}
    with source.snapshot() as snapshot:
        for generation in (1, 2):
            queries = vectors(10, filled.spaces[generation].dim, 20 + generation)
            plan = explained(snapshot, generation, queries[0])
            assert f"vector_{generation}_hnsw" in plan
            found = snapshot.top(generation, queries, 10, allowed=None, exact=False)
            exact = snapshot.top(generation, queries, 10, allowed=None, exact=True)
            right = [len(set(a.items[:10]) & set(b.items)) / 10 for a, b in zip(found, exact, strict=True)]
            assert np.mean(right) >= 0.95
            few = snapshot.top(generation, queries[:1], 10, allowed=np.arange(1, 30), exact=False)[0]
            assert as_pairs(few) == filled.slowly(
                generation, queries[0], 10, np.intersect1d(filled.served(generation), np.arange(1, 30))
            )
    assert list(filled.ledger.engine.check()) == []
    filled.ledger.close()


def test_a_filter_on_items_of_another_space_still_finds_k(schema: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = Filled(schema, 0.5)
    source = PgvectorSource(filled.ledger, exact_rows=50)
    source.maintain()
    # a small index is walked whole otherwise
    monkeypatch.setattr(pgvector, "_most_scanned", lambda effort: 1)
    few = np.sort(np.random.default_rng(3).choice(filled.served(1), 14, replace=False))
    allowed = np.union1d(filled.moved, few)
    walked: list[bool] = []
    near = pgvector.ServedVectors.near

    def watched(part: pgvector.ServedVectors, query: np.ndarray, k: int) -> Neighbours | None:
        found = near(part, query, k)
        walked.append(found is not None)
        return found

    monkeypatch.setattr(pgvector.ServedVectors, "near", watched)
    queries = vectors(5, 16, 21)
    with source.snapshot() as snapshot:
        for k in (10, 20):
            found = snapshot.top(1, queries, k, allowed=allowed, exact=False)
            assert [as_pairs(one) for one in found] == [filled.slowly(1, query, k, few) for query in queries]
        assert walked == [False] * 10
        snapshot.top(1, queries, 10, allowed=None, exact=False)
        assert walked[10:] == [True] * 5
    filled.ledger.close()


def explained(snapshot: object, generation: int, query: np.ndarray) -> str:
    """The server's plan of an approximate search."""
    part = pgvector.ServedVectors(snapshot._reader, snapshot.state, generation, None)  # type: ignore[attr-defined]
    with pgvector.following_index(part.reader, 10, 0.5):
        sql, values = part.near_sql(query, 10)
        return "\n".join(row[0] for row in part.reader.session.all(f"EXPLAIN {sql}", values))


def test_an_index_left_half_built_is_reported_and_built_anew(schema: str) -> None:
    filled = Filled(schema, 0.0)
    source = PgvectorSource(filled.ledger, exact_rows=50)
    source.maintain()
    with filled.ledger.write() as writer:
        writer.session.run("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'vector_1_hnsw'::regclass")
    assert "half-built" in next(iter(filled.ledger.engine.check()))
    assert source.coverage()[1]["kind"] == "exact"
    source.maintain()
    assert source.coverage()[1]["kind"] == "hnsw"
    assert list(filled.ledger.engine.check()) == []
    filled.ledger.close()


def test_more_dimensions_than_an_index_takes_stay_exact(schema: str) -> None:
    ledger = Ledger.create(schema, space("wide", 2100), model=None, settings={})
    values = vectors(60, 2100, 1)
    with ledger.write() as writer:
        numbers = writer.add_items([NewItem(str(place), "c") for place in range(60)])
        writer.put_vectors(1, numbers, ["c"] * 60, values)
    source = PgvectorSource(ledger, exact_rows=50)
    source.maintain()
    assert source.coverage()[1]["kind"] == "exact (pgvector indexes at most 2000 dimensions)"
    with source.snapshot() as snapshot:
        assert snapshot.top(1, values[3:4], 1, allowed=None, exact=False)[0].items.tolist() == [4]
    ledger.close()
