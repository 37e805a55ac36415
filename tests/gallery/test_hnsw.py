"""Approximate search: what the graph proposes is scored exactly, and all that it lacks is scanned."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from samespace.gallery.index.exact import Candidates
from samespace.gallery.index.local import compaction, hnsw
from samespace.gallery.index.local import source as local
from samespace.gallery.index.local import state as local_state
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.local.walk import Walk
from samespace.gallery.search.search import Answer, search

from .made import Made, as_rows, half_way, made_vectors, prefix

pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")

QUERIES = made_vectors(20, 32, seed=9)
COUNT = 1500


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FLUSH", 200)
    monkeypatch.setattr(hnsw, "_ADDED_AT_ONCE", 300)


def recall(answer: Answer, made: Made, k: int = 10) -> float:
    """Share of the true best that was found; every score must be exact."""
    slow = made.slow(QUERIES, COUNT)
    found = as_rows(answer)
    assert all(set(hits) <= set(truth) for hits, truth in zip(found, slow, strict=True))
    assert all(hits == sorted(hits, key=lambda row: (-row[1], row[0])) for hits in found)
    return float(np.mean([len(set(hits) & set(truth[:k])) / k for hits, truth in zip(found, slow, strict=True)]))


def graphs(source: LocalSource) -> dict[int, str]:
    graphs = {generation: vectors.graph for generation, vectors in source.state().vectors.items()}
    return {generation: graph.name for generation, graph in graphs.items() if graph is not None}


@pytest.mark.parametrize("folder", [True, False])
def test_recall_at_a_half_and_while_rows_come_and_go(tmp_path: Path, folder: bool) -> None:
    made = half_way(tmp_path, count=COUNT)
    source = LocalSource(made.ledger, tmp_path / "index" if folder else None, graph_from=500)
    source.maintain()
    assert {generation: value["kind"] for generation, value in source.coverage().items()} == {1: "hnsw", 2: "hnsw"}
    assert recall(search(source, QUERIES, made.spaces[2]), made) >= 0.95
    lacking = sorted(set(made.vectors[1]) - set(made.vectors[2]))
    made.backfill(2, lacking[:100], made_vectors(100, 32, seed=5))
    made.remove(sorted(set(made.vectors[2]) - set(lacking))[:30])
    made.change(lacking[100:120], made_vectors(20, 32, seed=6), generation=2)
    assert source.coverage()[2]["lag"] == 120
    assert recall(search(source, QUERIES, made.spaces[2]), made) >= 0.95
    exact = search(source, QUERIES, made.spaces[2], exact=True)
    assert as_rows(exact) == made.slow(QUERIES, 10)
    best = [hits[0].item for hits in search(source, made_vectors(100, 32, seed=5), made.spaces[2], k=1).hits]
    assert len(set(best) & set(lacking[:100])) > 80


def test_a_graph_is_added_to_and_made_anew_when_most_of_it_is_gone(tmp_path: Path) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.4)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    source.maintain()
    first = graphs(source)
    source.maintain()
    assert graphs(source) == first
    lacking = sorted(set(made.vectors[1]) - set(made.vectors[2]))
    made.backfill(2, lacking[:300], made_vectors(300, 32, seed=5))
    source.maintain()
    second = graphs(source)
    assert second[1] == first[1]
    assert second[2] != first[2]
    assert source.coverage()[2] == {"indexed": 900, "lag": 0, "kind": "hnsw"}
    assert recall(search(source, QUERIES, made.spaces[2]), made) >= 0.95
    made.remove(sorted(made.vectors[2])[:350])
    source.maintain()
    graph = source.state().vectors[2].graph
    assert graph is not None
    assert graphs(source)[2] != second[2]
    assert len(graph.numbers) == 550
    assert recall(search(source, QUERIES, made.spaces[2]), made) >= 0.95
    names = {file.name.split(".")[0] for file in (tmp_path / "index" / made.spaces[2].id).glob("graph-*")}
    assert names == {graphs(source)[2]}


def test_another_process_reads_the_graph(tmp_path: Path) -> None:
    made = half_way(tmp_path, count=COUNT)
    one = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    two = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    two.state()
    one.maintain()
    made.remove(sorted(made.vectors[1])[:2])
    assert two.coverage() == one.coverage()
    assert graphs(two) == graphs(one) != {}
    assert as_rows(search(two, QUERIES, made.spaces[2])) == as_rows(search(one, QUERIES, made.spaces[2]))


def test_no_search_waits_for_the_graph_of_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT)
    one = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    two = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    monkeypatch.setattr(local_state, "_LOOK_SECONDS", 0.0)
    loading, load = threading.Event(), local_state.load_graph
    monkeypatch.setattr(local_state, "load_graph", lambda *given: (loading.wait(30), load(*given))[1])
    before = as_rows(search(two, QUERIES, made.spaces[2], exact=True))
    one.maintain()
    # nothing has changed that the ledger knows of, and then something has
    assert as_rows(search(two, QUERIES, made.spaces[2])) == before
    made.remove(sorted(made.vectors[1])[:2])
    assert as_rows(search(two, QUERIES, made.spaces[2])) == as_rows(search(one, QUERIES, made.spaces[2], exact=True))
    assert graphs(two) == {}
    loading.set()
    end = time.monotonic() + 30
    while graphs(two) != graphs(one) and time.monotonic() < end:
        time.sleep(0.01)
    assert graphs(two) == graphs(one) != {}
    two.close()


def test_rollback_gives_the_same_bits_through_the_graph(tmp_path: Path) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.0)
    made.switch(1)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    source.maintain()
    queries = prefix(QUERIES, 16)
    before = as_rows(search(source, queries, made.spaces[1]))
    made.switch(2)
    made.backfill(2, sorted(made.metadata)[:700], made_vectors(700, 32, seed=5))
    source.maintain()
    assert recall(search(source, QUERIES, made.spaces[2]), made) >= 0.95
    made.switch(1)
    assert as_rows(search(source, queries, made.spaces[1])) == before


@pytest.mark.parametrize("what", ["*.faiss", "graph-*.rows.npy"])
def test_a_damaged_graph_is_ignored(tmp_path: Path, what: str) -> None:
    made = half_way(tmp_path, count=COUNT)
    LocalSource(made.ledger, tmp_path / "index", graph_from=500).maintain()
    for file in (tmp_path / "index").glob(f"*/{what}"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 0xFF
        file.write_bytes(data)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    assert graphs(source) == {}
    assert as_rows(search(source, QUERIES, made.spaces[2])) == made.slow(QUERIES, 10)
    source.maintain()
    assert len(graphs(source)) == 2


def test_filters_and_small_minorities_are_scanned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.9)
    source = LocalSource(made.ledger, None, graph_from=100)
    source.maintain()
    walked: list[int] = []
    proposed = Walk.proposed

    def watched(walk: Walk, queries: np.ndarray, k: int, share: float) -> Candidates:
        walked.append(len(walk.mask))
        return proposed(walk, queries, k, share)

    monkeypatch.setattr(Walk, "proposed", watched)
    # of the old graph a tenth is served, which is too little to walk
    search(source, QUERIES, made.spaces[2])
    assert walked == [1350]
    found = search(source, QUERIES, made.spaces[2], where=["year<100"])
    assert walked == [1350]
    assert as_rows(found) == made.slow(QUERIES, 10, keep=lambda about: about["year"] < 100)
    half = search(source, QUERIES, made.spaces[2], where=["shop=paris"])
    assert walked == [1350, 1350]
    truth = made.slow(QUERIES, 10, keep=lambda about: about["shop"] == "paris")
    pairs = zip(as_rows(half), truth, strict=True)
    assert np.mean([len(set(hits) & set(best)) / 10 for hits, best in pairs]) >= 0.95


def test_without_faiss_search_stays_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT)
    LocalSource(made.ledger, tmp_path / "index", graph_from=500).maintain()
    monkeypatch.setitem(sys.modules, "faiss", None)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    source.maintain()
    assert graphs(source) == {}
    assert as_rows(search(source, QUERIES, made.spaces[2])) == made.slow(QUERIES, 10)
    assert local.GRAPH_FROM == 50_000


def test_what_a_graph_covers_is_known_before_anything_is_loaded(tmp_path: Path) -> None:
    made = half_way(tmp_path, 1200, share=0.5)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    source.maintain()
    made.add(["more"], made_vectors(1, 16, seed=3), shop=["x"], year=[1])
    loaded = source.coverage()
    fresh = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    assert fresh.coverage() == loaded
    assert {one["kind"] for one in loaded.values()} == {"hnsw"}
    assert fresh._latest.known is None
