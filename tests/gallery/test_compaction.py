"""Maintaining an index reports its progress, and coverage reports only what is lacking."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from samespace.gallery.index.local import hnsw
from samespace.gallery.index.local.source import LocalSource

from .made import half_way, made_vectors

COUNT = 700


def test_building_a_graph_is_reported_chunk_by_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    monkeypatch.setattr(hnsw, "_ADDED_AT_ONCE", 300)
    made = half_way(tmp_path, count=COUNT, share=0.0)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    reports: list[tuple[int, str]] = []
    source.maintain(lambda done, note: reports.append((done, note)))
    name = made.spaces[1].name
    assert reports == [
        (more, f"building the index of {name}: {done} of 700 vectors")
        for more, done in ((0, 0), (300, 300), (300, 600), (100, 700))
    ]
    reports.clear()
    source.maintain(lambda done, note: reports.append((done, note)))
    assert reports == []


def test_writing_to_qdrant_is_reported_batch_by_batch(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
    from qdrant_client import QdrantClient

    from samespace.gallery.index.qdrant.source import QdrantSource

    made = half_way(tmp_path, count=COUNT, share=0.5)
    reports: list[tuple[int, str]] = []
    QdrantSource(made.ledger, QdrantClient(":memory:"), collection="c").maintain(lambda *report: reports.append(report))
    assert sum(done for done, _ in reports) == COUNT + COUNT // 2
    assert reports[0][1] == "writing the collection 'c': 256 of 700 items"
    assert reports[-1][1] == "writing the collection 'c': 700 of 700 items"


@pytest.mark.parametrize("folder", [True, False])
def test_rows_that_need_no_graph_are_covered(tmp_path: Path, folder: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.5)
    source = LocalSource(made.ledger, tmp_path / "index" if folder else None)
    small = {1: {"indexed": COUNT, "lag": 0, "kind": "exact"}, 2: {"indexed": COUNT // 2, "lag": 0, "kind": "exact"}}
    assert source.coverage() == small
    source.maintain()
    assert source.coverage() == small
    made.remove(sorted(made.metadata)[:7])
    assert source.coverage()[1] == {"indexed": COUNT - 7, "lag": 0, "kind": "exact"}


def test_rows_lag_where_a_graph_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    made = half_way(tmp_path, count=COUNT, share=0.0)
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=500)
    assert source.coverage()[1] == {"indexed": 0, "lag": COUNT, "kind": "exact"}
    source.maintain()
    assert source.coverage()[1] == {"indexed": COUNT, "lag": 0, "kind": "hnsw"}
    made.add(["late-1", "late-2"], made_vectors(2, made.spaces[1].dim, seed=3))
    assert source.coverage()[1] == {"indexed": COUNT, "lag": 2, "kind": "hnsw"}
    # without FAISS every row is scanned, which is all there can be
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert source.coverage()[1] == {"indexed": COUNT + 2, "lag": 0, "kind": "exact"}
