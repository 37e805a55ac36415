"""Files of approximate indexes: links in memory, vectors mapped, and what becomes of damage to either."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from samespace.gallery.doctor import examine
from samespace.gallery.index.local import compaction, hnsw
from samespace.gallery.index.local.graph_files import load_graph
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.search.search import search

from .made import Made, as_rows, half_way, made_vectors

faiss = pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")

QUERIES = made_vectors(20, 32, seed=9)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """1,500 items, half of them in each space, with graphs on disk."""
    monkeypatch.setattr(compaction, "FLUSH", 200)
    found = half_way(tmp_path, count=1500)
    opened(found, tmp_path).maintain()
    return found


def opened(made: Made, folder: Path) -> LocalSource:
    return LocalSource(made.ledger, folder / "index", graph_from=500)


def mapped(source: LocalSource) -> list[Path]:
    graphs = [vectors.graph for vectors in source.state().vectors.values()]
    return [graph.file for graph in graphs if graph is not None and graph.file is not None]


def test_vectors_of_a_graph_are_mapped_and_a_graph_that_grows_is_not(made: Made, tmp_path: Path) -> None:
    source = opened(made, tmp_path)
    files = mapped(source)
    assert len(files) == 2
    # one byte a dimension, and the range of each
    assert sorted(file.stat().st_size // 1000 for file in files) == [750 * 32 // 1000, 1500 * 16 // 1000]
    before = as_rows(search(source, QUERIES, made.spaces[2]))
    made.backfill(2, sorted(set(made.vectors[1]) - set(made.vectors[2]))[:400], made_vectors(400, 32, seed=5))
    source.maintain()
    assert source.coverage()[2] == {"indexed": 1150, "lag": 0, "kind": "hnsw"}
    assert set(mapped(source)) != set(files)
    after = as_rows(search(source, QUERIES, made.spaces[2]))
    assert after == as_rows(search(opened(made, tmp_path), QUERIES, made.spaces[2])) != before
    assert all(set(hits) <= set(truth) for hits, truth in zip(after, made.slow(QUERIES, 1500), strict=True))


def test_vectors_that_were_damaged_change_no_score_and_are_found_by_the_doctor(made: Made, tmp_path: Path) -> None:
    for file in mapped(opened(made, tmp_path)):
        data = bytearray(file.read_bytes())
        data[len(data) // 2 :] = os.urandom(len(data) - len(data) // 2)
        file.write_bytes(data)
    source = opened(made, tmp_path)
    assert len(mapped(source)) == 2
    found, truth = as_rows(search(source, QUERIES, made.spaces[2])), made.slow(QUERIES, 1500)
    assert all(set(hits) <= set(right) for hits, right in zip(found, truth, strict=True))
    assert not examine(made.ledger, source).healthy
    assert examine(made.ledger, source, repair=True).healthy
    assert examine(made.ledger, opened(made, tmp_path)).healthy


@pytest.mark.parametrize("bytes_left", [0, 40, 20_000])
def test_a_mapped_graph_that_loses_its_end_does_not_end_the_process(
    made: Made, tmp_path: Path, bytes_left: int
) -> None:
    source = opened(made, tmp_path)
    search(source, QUERIES, made.spaces[2])
    for file in mapped(source):
        os.truncate(file, bytes_left)
    assert as_rows(search(source, QUERIES, made.spaces[2])) == made.slow(QUERIES, 10)
    assert mapped(opened(made, tmp_path)) == []
    source.maintain()
    assert len(mapped(source)) == 2


def test_a_graph_of_one_file_as_earlier_versions_wrote_it_is_read(made: Made, tmp_path: Path) -> None:
    source = opened(made, tmp_path)
    state = source.state()
    folder = source._latest.segment_folder(state.gallery.spaces[2])
    graph = state.vectors[2].graph
    assert folder is not None
    assert graph is not None
    rows = folder.save_rows("graph-old", np.stack([graph.numbers, graph.items]).astype(np.int64))
    faiss.write_index(graph.index, str(folder.path / "graph-old.faiss"))
    crc = zlib.crc32((folder.path / "graph-old.faiss").read_bytes())
    loaded = load_graph(folder, {"name": "graph-old", "rows": len(graph.numbers), "crc": [rows, crc]})
    assert loaded is not None
    assert loaded.file is None
    some = QUERIES[:5]
    assert (loaded.index.search(some, 10)[1] == graph.index.search(some, 10)[1]).all()


def test_a_graph_in_half_precision_as_earlier_versions_made_it_is_read_and_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(dim: int, score: str, sample: np.ndarray) -> object:
        return faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_fp16, 16, faiss.METRIC_INNER_PRODUCT)

    monkeypatch.setattr(compaction, "FLUSH", 200)
    made = half_way(tmp_path, count=1500)
    with monkeypatch.context() as patch:
        patch.setattr(hnsw, "_empty_index", half)
        opened(made, tmp_path).maintain()
    source = opened(made, tmp_path)
    made.backfill(2, sorted(set(made.vectors[1]) - set(made.vectors[2]))[:400], made_vectors(400, 32, seed=5))
    source.maintain()
    graph = source.state().vectors[2].graph
    assert graph is not None
    assert len(graph.numbers) == 1150
    assert faiss.downcast_index(graph.index.storage).sq.qtype == faiss.ScalarQuantizer.QT_fp16
    found, truth = as_rows(search(source, QUERIES, made.spaces[2])), made.slow(QUERIES, 10)
    assert np.mean([len(set(some) & set(best)) / 10 for some, best in zip(found, truth, strict=True)]) >= 0.95


def test_a_graph_is_built_anew_where_new_vectors_lie_outside_of_its_ranges(made: Made, tmp_path: Path) -> None:
    source = opened(made, tmp_path)
    before = source.state().vectors[2].graph
    elsewhere = np.eye(32, dtype=np.float32)[[3] * 400] + 0.05 * made_vectors(400, 32, seed=5)
    elsewhere /= np.linalg.norm(elsewhere, axis=1, keepdims=True)
    made.backfill(2, sorted(set(made.vectors[1]) - set(made.vectors[2]))[:400], elsewhere)
    source.maintain()
    graph = source.state().vectors[2].graph
    assert before is not None
    assert graph is not None
    assert len(graph.numbers) == 1150
    ranges = [faiss.vector_to_array(faiss.downcast_index(one.index.storage).sq.trained) for one in (before, graph)]
    assert ranges[1].reshape(2, 32)[:, 3].sum() > 0.99 > ranges[0].reshape(2, 32)[:, 3].sum()
