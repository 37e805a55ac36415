"""Approximate search over several spaces: recall within each at every share, and scores equal to the exact ones."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.gallery.index.local import compaction, together
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.local.together import SpaceSearch
from samespace.gallery.index.local.walk import Walk
from samespace.gallery.search.search import search
from samespace.space import Score

from .made import Made, half_way, made_vectors, stretched

pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")

COUNT = 2_000


def near_items(count: int, seed: int = 9) -> np.ndarray:
    """Unit vectors beside those of items of `half_way`."""
    generator = np.random.default_rng(seed)
    items = made_vectors(COUNT, 32, seed=1)[generator.choice(COUNT, count, replace=False)]
    values = items + 0.1 * generator.standard_normal(items.shape)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


QUERIES = near_items(40)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "FLUSH", 200)


def opened(made: Made) -> LocalSource:
    source = LocalSource(made.ledger, None, graph_from=1_000)
    source.maintain()
    return source


def recalls(source: LocalSource, queries: np.ndarray, made: Made, **options: Any) -> dict[str, float]:
    """Share of the ten best hits of each space that were found; every hit found must be equal to the exact one."""
    hits: dict[str, list[bool]] = defaultdict(list)
    found = search(source, queries, made.spaces[2], **options)
    exact = search(source, queries, made.spaces[2], k=100, exact=True, **options)
    for some, every in zip(found.hits, exact.hits, strict=True):
        assert set(some) <= set(every)
        assert len(some) == min(10, len(every))
        for one in every[:10]:
            hits[one.space].append(one in some)
    return {space: float(np.mean(flags)) for space, flags in hits.items()}


@pytest.mark.parametrize("score", ["cosine", "ip", "l2"])
def test_recall_of_each_space_at_every_share(tmp_path: Path, score: Score) -> None:
    queries = QUERIES if score == "cosine" else stretched(QUERIES, seed=9)
    for share in (0.02, 0.1, 0.5, 0.9, 0.98) if score == "cosine" else (0.1, 0.5):
        made = half_way(tmp_path / f"{share}", count=COUNT, share=share, dims=(24, 32), score=score)
        source = opened(made)
        assert {value["kind"] for value in source.coverage().values()} == {"hnsw"}
        options: tuple[dict[str, Any], ...] = ({}, {"scale": "fmr"}, {"merge": "raw"}, {"min_score": 0.5})
        for one in options:
            assert min(recalls(source, queries, made, **one).values(), default=1.0) >= 0.97


def test_a_query_that_finds_most_in_a_small_space_is_walked_for_at_full_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.0, dims=(32, 32))
    subject = made_vectors(200, 32, seed=77, clusters=1)
    made.backfill(2, [f"item-{number:04d}" for number in range(200)], subject)
    source = opened(made)
    shares: list[float] = []
    proposed = Walk.proposed

    def watched(walk: Walk, queries: np.ndarray, k: int, share: float) -> object:
        shares.extend([share] * len(queries))
        return proposed(walk, queries, k, share)

    monkeypatch.setattr(Walk, "proposed", watched)
    assert min(recalls(source, np.concatenate([QUERIES[:3], subject[:2]]), made).values()) >= 0.97
    assert shares.count(1.0) == 2 * 2


def test_graphs_that_come_back_with_too_little_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT, dims=(24, 32))
    source = opened(made)
    proposed = Walk.proposed
    monkeypatch.setattr(Walk, "proposed", lambda *given: proposed(*given).take(slice(0, 2)))
    found, exact = (search(source, QUERIES, made.spaces[2], exact=exact) for exact in (False, True))
    assert found.hits == exact.hits


def test_many_queries_are_answered_as_each_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = half_way(tmp_path, count=COUNT, dims=(24, 32))
    source = opened(made)
    alone = [search(source, query[None], made.spaces[2]).hits[0] for query in QUERIES]
    monkeypatch.setattr(together, "_QUERIES", 7)
    assert list(search(source, QUERIES, made.spaces[2]).hits) == alone
    assert SpaceSearch(1, QUERIES, (), None).live == 0


def test_few_rows_that_still_serve_get_a_graph_of_their_own_and_a_rollback_finds_the_old_one(tmp_path: Path) -> None:
    made = half_way(tmp_path, count=COUNT, share=0.0, dims=(32, 32))
    source = LocalSource(made.ledger, tmp_path / "index", graph_from=1_000)
    source.maintain()
    ids = sorted(made.metadata)
    new = made_vectors(COUNT, 32, seed=1)
    sizes = []
    for share in (0.4, 0.7, 0.9, 0.98):
        done = len(made.vectors[2])
        made.backfill(2, ids[done : round(share * COUNT)], new[done : round(share * COUNT)])
        source.maintain()
        walk = source.state().walk(1)
        assert walk is not None
        sizes.append(len(walk.mask))
        again = LocalSource(made.ledger, tmp_path / "index", graph_from=1_000)
        assert min(recalls(again, QUERIES, made).values()) >= 0.97
    assert sizes == [COUNT, 600, 200, 40]
    assert not source.damaged()
    made.switch(1)
    walk = source.state().walk(1)
    assert walk is not None
    assert len(walk.mask) == walk.live == COUNT
    source.maintain()
    graph = source.state().vectors[1].graph
    assert graph is not None
    assert graph.served is None
    folder = tmp_path / "index" / made.spaces[1].id
    assert {file.name.split(".")[0] for file in folder.glob("graph-*")} == {graph.name}
