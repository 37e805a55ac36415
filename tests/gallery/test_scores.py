"""Galleries that are searched by inner product or by L2 distance: each store answers as a slow search does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from samespace.cli.main import run
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.evaluate import Certificate, check
from samespace.gallery import Gallery
from samespace.gallery.index.base import Source
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.search.calibration import pair_scores
from samespace.gallery.search.search import Answer, search
from samespace.space import Score
from samespace.vectors import VectorSet

from . import world
from .made import HONEST, Made, as_rows, half_way, made_calibration, made_space, made_vectors, stretched

QUERIES = stretched(made_vectors(6, 32, seed=9), seed=4)
SCORES: list[Score] = ["ip", "l2"]


@pytest.fixture(params=["sqlite", "postgres", "qdrant"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Made], Source]]:
    """Opens the index of a gallery, small enough for graphs; `place` is where the gallery lies."""
    opened: list[Any] = []

    def source(made: Made, *, graph_from: int = 40) -> Source:
        if request.param == "postgres":
            from samespace.gallery.index.pgvector.source import PgvectorSource

            one: Any = PgvectorSource(made.ledger, exact_rows=graph_from)
        elif request.param == "qdrant":
            from samespace.gallery.index.qdrant.source import QdrantSource

            one = QdrantSource(made.ledger, ":memory:", scan_below=20)
        else:
            one = LocalSource(made.ledger, tmp_path / "index", graph_from=graph_from)
        opened.extend((one, made.ledger))
        return one

    if request.param == "qdrant":
        pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
    source.place = request.getfixturevalue("schema") if request.param == "postgres" else tmp_path  # type: ignore[attr-defined]
    yield source
    for one in opened:
        one.close()


def agree(source: Source, made: Made, queries: np.ndarray = QUERIES, k: int = 10, *, exact: bool = True) -> None:
    """To the bit, with a filter and with thresholds, too; through a graph, what is found is scored exactly."""
    space = made.spaces[made.query]
    asked = queries[:, : space.dim]
    found = as_rows(search(source, asked, space, k=k, exact=exact))
    every = made.slow(asked, 1000)
    if not exact:
        assert all(set(hits) <= set(truth) for hits, truth in zip(found, every, strict=True))
        shares = [len(set(hits) & set(truth[:k])) / k for hits, truth in zip(found, every, strict=True)]
        assert np.mean(shares) >= 0.95
        return
    assert found == [truth[:k] for truth in every]
    by_raw = [sorted(truth, key=lambda row: (-row[2], row[0]))[:k] for truth in every]
    assert as_rows(search(source, asked, space, k=k, exact=True, merge="raw")) == by_raw
    shops = [[row for row in truth if made.metadata[row[0]].get("shop") == "berlin"][:k] for truth in every]
    assert as_rows(search(source, asked, space, k=k, exact=True, where="shop=berlin")) == shops
    least = every[0][3][1]
    passing = [[row for row in truth if row[1] >= least][:k] for truth in every]
    assert as_rows(search(source, asked, space, k=k, exact=True, min_score=least)) == passing
    level = {
        made.spaces[generation].id: made_calibration(*HONEST[made.query, generation]).level
        for generation in range(1, made.query + 1)
    }
    strict = [[row for row in truth if level[row[3]](row[2]) >= 2][:k] for truth in every]
    assert as_rows(search(source, asked, space, k=k, exact=True, max_fmr=1e-2)) == strict


@pytest.mark.parametrize("score", SCORES)
def test_mixed_search_equals_brute_force(store: Any, score: Score) -> None:
    made = half_way(store.place, count=160, score=score)
    ids = sorted(made.metadata)
    # ties to the bit in either space
    with made.ledger.write() as writer:
        assert [kept.score for kept in writer.state().spaces.values()] == [score, score]
    made.change(ids[:6], np.repeat(made_vectors(1, 16, seed=5), 6, axis=0))
    made.change(ids[10:14], np.repeat(QUERIES[:1], 4, axis=0), generation=2)
    source = store(made)
    agree(source, made)
    source.maintain()
    assert search(source, QUERIES, made.spaces[2]).score == score
    for k in (1, 10, 500):
        agree(source, made, k=k)
    # a vector far longer than all others, and a zero one
    made.change([ids[20], ids[21]], np.stack([1e6 * QUERIES[1], 0 * QUERIES[1]]), generation=2)
    agree(source, made)
    agree(source, made, np.vstack([QUERIES, 1e-3 * QUERIES[:1], 0 * QUERIES[:1]]))
    made.switch(1)
    agree(source, made)
    made.switch(2)
    source.maintain()
    agree(source, made)


@pytest.mark.parametrize("score", SCORES)
def test_graphs_find_what_is_best_by_the_score(store: Any, score: Score) -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    made = half_way(store.place, count=600, score=score)
    source = store(made, graph_from=50)
    source.maintain()
    kinds = {value["kind"] for value in source.coverage().values()}
    assert kinds in ({"hnsw"}, {"qdrant"})
    agree(source, made, exact=False)
    agree(source, made)
    made.switch(1)
    agree(source, made, exact=False)
    if kinds == {"hnsw"} and isinstance(source, LocalSource):
        made.switch(2)
        again = LocalSource(made.ledger, source._latest.folder, graph_from=50)
        graph = again.state().vectors[2].graph
        assert graph is not None
        assert graph.index.metric_type == source.state().vectors[2].graph.index.metric_type  # type: ignore[union-attr]


@pytest.mark.parametrize("score", SCORES)
def test_index_files_of_another_score_do_not_count(tmp_path: Path, score: Score) -> None:
    made = half_way(tmp_path, count=40, score=score)
    LocalSource(made.ledger, tmp_path / "index").maintain()
    manifests = list((tmp_path / "index").rglob("manifest.json"))
    for manifest in manifests:
        value = json.loads(manifest.read_text())
        assert value.pop("score") == score
        manifest.write_text(json.dumps(value))
    source = LocalSource(made.ledger, tmp_path / "index")
    assert all(not vectors.segments for vectors in source.state().vectors.values())
    agree(source, made)


def whole(score: Score, folder: Path | str) -> tuple[Gallery, VectorSet, VectorSet]:
    """A gallery of labelled items in one space without unit length, and queries."""
    space = made_space("a", 12, normalized=False)
    centres = np.repeat(made_vectors(40, 12, seed=1, clusters=40), 5, axis=0)
    items, asked = (
        VectorSet.from_arrays(
            stretched(centres + 0.1 * np.random.default_rng(seed).standard_normal(centres.shape), seed),
            ids=[f"{name}-{number}" for number in range(200)],
            labels=np.repeat(np.arange(40), 5).astype(str),
            space=space,
        )
        for name, seed in (("item", 2), ("query", 3))
    )
    gallery = Gallery.create(folder, space, score=score)
    return gallery, items, asked


@pytest.mark.parametrize("score", SCORES)
def test_calibrations_are_of_the_score(tmp_path: Path, score: Score) -> None:
    gallery, items, asked = whole(score, tmp_path / "g")
    with gallery:
        added = gallery.add(items)
        assert (added.added, added.notes) == (200, ())
        wide = asked.vectors[:, None].astype(np.float64), items.vectors[None].astype(np.float64)
        raw = -((wide[0] - wide[1]) ** 2).sum(axis=2) if score == "l2" else (wide[0] * wide[1]).sum(axis=2)
        same = asked.labels[:, None] == items.labels[None]  # type: ignore[index]
        scores = pair_scores(asked, items, None, score)
        np.testing.assert_allclose(np.sort(scores.genuine), np.sort(raw[same]), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(np.sort(scores.impostor), np.sort(raw[~same]), rtol=1e-6, atol=1e-6)
        calibration = gallery.calibrate(asked, items)
        found = gallery.search(asked, k=3)
        for row, hits in enumerate(found.hits):
            best = np.argsort(-raw[row], kind="stable")[:3]
            assert [hit.item for hit in hits] == [f"item-{place}" for place in best]
            assert [hit.score for hit in hits] == [float(calibration.log_odds(hit.raw)) for hit in hits]
        assert gallery.status().spaces[0].score == score
        assert gallery.doctor().healthy


def test_the_score_is_asked_for_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gallery, items, asked = whole("ip", tmp_path / "other")
    gallery.close()
    items.save(tmp_path / "items")
    asked.save(tmp_path / "queries")
    place = str(tmp_path / "g")
    assert run(["gallery", "create", place, "--space", str(tmp_path / "items"), "--score", "l2"]) == 0
    assert "searched by" in capsys.readouterr().out
    assert run(["gallery", "add", place, str(tmp_path / "items")]) == 0
    assert run(["gallery", "search", place, str(tmp_path / "queries"), "-k", "2"]) == 0
    assert "-distance²" in capsys.readouterr().out
    assert run(["gallery", "search", place, str(tmp_path / "queries"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["score"] == "l2"
    assert run(["gallery", "status", place]) == 0
    assert "distance" in capsys.readouterr().out.splitlines()[0]
    assert run(["gallery", "status", place, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["spaces"][0]["score"] == "l2"
    assert run(["gallery", "create", str(tmp_path / "h"), "--space", str(tmp_path / "items"), "--score", "dot"]) == 2
    assert not (tmp_path / "h").exists()


@pytest.mark.parametrize("score", SCORES)
def test_what_a_score_cannot_do_is_refused_by_name(tmp_path: Path, score: Score) -> None:
    with pytest.raises(InputError, match="no score 'dot'; legal: cosine, ip, l2"):
        Gallery.create(tmp_path / "h", made_space("a", 12), score="dot")  # type: ignore[arg-type]
    assert not (tmp_path / "h").exists()
    gallery, items, asked = whole(score, tmp_path / "g")
    with gallery:
        gallery.add(items)
        with pytest.raises(InputError, match=r"fused queries.*unit length.*leave out fuse"):
            gallery.search(asked, fuse=0.5, old_queries=asked)
        with pytest.raises(InputError, match=r"length 1.039e\+20; at most 1e\+18"):
            gallery.search(replace(asked, vectors=np.full_like(asked.vectors, 3e19)))
        with pytest.raises(InputError, match=r"'item-0' has length 3.*at most 1e\+18"):
            gallery.add(replace(items, vectors=np.full_like(items.vectors, 1e18)))
    mixed = half_way(tmp_path, count=20, score=score)
    with mixed.ledger.write() as writer:
        text = writer.session.all("SELECT description FROM space WHERE rank = 1")[0][0].replace(
            f'"{score}"', '"cosine"'
        )
        writer.session.run("UPDATE space SET description = ? WHERE rank = 1", [text])
        writer.put_meta("other", "")
    with pytest.raises(SpaceError, match="the two are never one list"):
        search(LocalSource(mixed.ledger, None), QUERIES, mixed.spaces[2])


def test_a_certificate_of_another_score_is_refused(tmp_path: Path) -> None:
    certificate: Certificate = world.certificate()
    with Gallery.create(tmp_path / "g", world.OLD, score="ip") as gallery:
        gallery.add(world.items(world.OLD))
        for step in (gallery.plan, gallery.upgrade):
            with pytest.raises(SpaceError, match=r"is by cosine, and the gallery is searched by inner.*--score ip"):
                step(world.NEW, [certificate], accept_uncertified=True)
        with pytest.raises(SpaceError, match="of vectors kept as int8, and a gallery keeps float32"):
            gallery.plan(world.NEW, [replace(certificate, score="ip", stored_as="int8")])
        cut = replace(certificate.old_space, id="0" * 12, dim=4)
        with pytest.raises(SpaceError, match=r"of the first 4 values of each vector.*pair without --truncate"):
            gallery.plan(world.NEW, [replace(certificate, truncate=4, old_space=cut)])
        assert gallery.state.generation_of(world.NEW) is None
        gallery.plan(world.THIRD)
        assert [kept.score for kept in gallery.state.spaces.values()] == ["ip", "ip"]


class Lengthy(world.Projection):
    """A model whose vectors keep their lengths."""

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        return ((images.double().flatten(1) / 255 - 0.5) @ self.matrix / 8).float()


LENGTHY = [replace(space, normalized=False) for space in (world.OLD, world.NEW)]


@pytest.mark.parametrize("score", SCORES)
def test_an_upgrade_from_its_certificate_to_its_rollback(tmp_path: Path, score: Score) -> None:
    models = [Lengthy(space) for space in LENGTHY]
    items = [world.vectors(model, world.source()) for model in models]
    asked = [world.vectors(model, world.source(1, "query")) for model in models]
    found = check(
        queries=asked[1], gallery=items[0], baseline=asked[0], new_gallery=items[1],
        metrics=["rank@1"], prefix=True, replicates=50, score=score,
    )  # fmt: skip
    some, fewer = (one.subset(np.arange(0, 200, 9)) for one in reversed(asked))

    def slow(generation_of: list[int]) -> list[list[tuple[str, float, float]]]:
        """The five best by the calibrations of the certificate, by item id, score, raw score."""
        lists = []
        for query in some.vectors:
            rows = []
            for place, generation in enumerate(generation_of):
                row = items[generation].vectors[place].astype(np.float64)
                wide = query[: len(row)].astype(np.float64)
                raw = 0.0 - ((wide - row) ** 2).sum() if score == "l2" else (wide * row).sum()
                scale = found.calibrations[("cross", "new")[generation]]
                rows.append((str(items[0].ids[place]), float(scale.log_odds(raw)), float(raw)))
            lists.append(sorted(rows, key=lambda row: (-row[1], row[0]))[:5])
        return lists

    def rows(answer: Answer) -> list[list[tuple[str, float | None, float]]]:
        return [[(hit.item, hit.score, hit.raw) for hit in hits] for hits in answer.hits]

    with Gallery.create(tmp_path / "g", LENGTHY[0], score=score) as gallery:
        gallery.add(items[0])
        before = rows(gallery.search(fewer, k=5))
        gallery.upgrade(LENGTHY[1], [replace(found, compatible=True)])
        assert rows(gallery.search(some, k=5)) == slow([0] * 200)
        gallery.backfill(vectors=items[1].subset(np.arange(0, 200, 3)))
        assert rows(gallery.search(some, k=5)) == slow([int(place % 3 == 0) for place in range(200)])
        gallery.rollback()
        assert [[row[0] for row in hits] for hits in rows(gallery.search(fewer, k=5))] == [
            [row[0] for row in hits] for hits in before
        ]
        gallery.upgrade()
        reranked = gallery.rerank(some, k=5, depth=200, model=models[1], images=world.source())
        assert rows(reranked) == rows(gallery.search(some, k=5)) == slow([1] * 200)
        assert gallery.doctor().healthy


def test_the_ledger_keeps_the_greatest_length_for_inner_products(tmp_path: Path) -> None:
    made = Made(tmp_path, [made_space("a", 8, normalized=False)], score="ip")
    made.add(["x", "y"], np.array([[3, 4, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]], dtype=np.float32))
    with made.ledger.read() as reader:
        assert reader.longest(1) == 5.0
        assert reader.longest(2) == np.inf
    made.add(["z"], np.full((1, 8), 0.1, dtype=np.float32))
    with made.ledger.read() as reader:
        assert reader.longest(1) == 5.0
    with made.ledger.write() as writer:
        writer.put_meta("longest 1", "4.0")
    with Gallery(Ledger.open(tmp_path / "gallery")) as gallery:
        assert [one.what for one in gallery.doctor().findings if "longer than" in one.what]
    with pytest.raises(GalleryError):
        Ledger.open(tmp_path / "none")
