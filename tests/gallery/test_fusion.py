"""Searching a gallery with queries fused of two models, for as long as items of the older one are served."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from samespace.data import ArraySource
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.evaluate import Certificate, check
from samespace.gallery import Gallery, Limits
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.search.calibration import pair_scores
from samespace.gallery.search.query_vectors import Fusion
from samespace.gallery.search.search import Answer, search
from samespace.metrics.calibration import calibrate
from samespace.models import Preprocessing
from samespace.space import Space
from samespace.vectors import VectorSet

from .made import Made, as_rows, half_way, made_calibration, made_space, made_vectors, prefix
from .world import NEW, OLD, SIDE, Projection, certificate, items, queries, source

ALPHA, LINE = 0.3, (9.0, -2.0)
A, B = made_space("a", 16), made_space("b", 32)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = half_way(tmp_path)
    with found.ledger.write() as writer:
        writer.put_fused_calibration(2, 1, ALPHA, made_calibration(*LINE))
    return found


NEW_QUERIES = made_vectors(20, 32, seed=7)
OLD_QUERIES = made_vectors(20, 16, seed=8)


def source_of(made: Made) -> LocalSource:
    return LocalSource(made.ledger, Path(made.ledger.location) / "index")


def asked(made: Made, alpha: float | None = None, *, old: np.ndarray | None = OLD_QUERIES, **more: Any) -> Answer:
    fusion = None if alpha is None else Fusion(alpha, old, None if old is None else A)
    return search(source_of(made), NEW_QUERIES, B, fusion=fusion, **more)


def slowly(made: Made, alpha: float, k: int) -> list[list[tuple[Any, ...]]]:
    """Item by item: old items by the fused query and its own calibration, new ones by the new query."""
    lists = []
    for old, new in zip(OLD_QUERIES.astype(np.float64), NEW_QUERIES.astype(np.float64), strict=True):
        cut = new[:16] / np.linalg.norm(new[:16])
        mixed = (1 - alpha) * old / np.linalg.norm(old) + alpha * cut
        mixed /= np.linalg.norm(mixed)
        rows = []
        for name, vector in made.vectors[1].items():
            if name in made.vectors[2]:
                raw, (slope, intercept), space = float(made.vectors[2][name] @ new), (14.0, -7.5), B.id
            else:
                raw, (slope, intercept), space = float(vector @ mixed), LINE, A.id
            rows.append((name, raw * slope + intercept, raw, space))
        lists.append(sorted(rows, key=lambda row: (-row[1], row[0]))[:k])
    return lists


def test_old_items_are_searched_with_fused_queries_and_new_ones_with_new_queries(made: Made) -> None:
    answer = asked(made, ALPHA, k=300)
    for found, expected in zip(as_rows(answer), slowly(made, ALPHA, 300), strict=True):
        assert {row[0] for row in found} == {row[0] for row in expected}
        by_id = {row[0]: row for row in expected}
        for name, score, raw, space in found:
            assert space == by_id[name][3]
            assert raw == pytest.approx(by_id[name][2], abs=1e-6)
            assert score == pytest.approx(by_id[name][1], abs=1e-5)
        assert [row[1] for row in found] == sorted((row[1] for row in found), reverse=True)
    assert any("fused with share 0.3" in note for note in answer.notes)


def test_new_items_keep_their_scores_to_the_bit(made: Made) -> None:
    plain, fused = asked(made, k=300), asked(made, ALPHA, k=300)
    for before, after in zip(plain.hits, fused.hits, strict=True):
        kept = {hit.item: hit for hit in before if hit.space == B.id}
        assert kept == {hit.item: hit for hit in after if hit.space == B.id}


def test_a_search_without_fusion_knows_nothing_of_it(tmp_path: Path, made: Made) -> None:
    other = half_way(tmp_path / "other")
    plain, untouched = asked(made), asked(other)
    assert (plain.hits, plain.pairs, plain.notes) == (untouched.hits, untouched.pairs, untouched.notes)


def test_share_1_is_the_new_query_alone(made: Made) -> None:
    assert asked(made, 1.0).hits == asked(made).hits


def test_share_0_finds_old_items_as_before_the_upgrade_to_the_bit(made: Made) -> None:
    fused = asked(made, 0.0, k=300)
    made.switch(1)
    before = search(source_of(made), OLD_QUERIES, A, k=300)
    for now, then in zip(fused.hits, before.hits, strict=True):
        known = {hit.item: hit for hit in then}
        old = [hit for hit in now if hit.space == A.id]
        assert old
        assert all(known[hit.item] == hit for hit in old)


def test_once_no_older_space_serves_fusion_changes_nothing_and_needs_no_old_query(tmp_path: Path) -> None:
    made = half_way(tmp_path, share=1.0)
    for old in (None, OLD_QUERIES):
        answer = asked(made, 0.7, old=old)
        assert answer.hits == asked(made).hits
        assert answer.notes == (
            "no item is served by an older space: nothing is fused, and the older model is not needed",
        )


def test_items_of_a_third_space_meet_new_queries_alone(tmp_path: Path) -> None:
    made = Made(tmp_path, [A, B, made_space("c", 32)])
    vectors = made_vectors(60, 32, seed=1)
    ids = [f"item-{number}" for number in range(60)]
    made.add(ids, prefix(vectors, 16))
    made.backfill(2, ids[:40], vectors[:40])
    made.backfill(3, ids[:20], vectors[:20])
    made.switch(3)
    with made.ledger.write() as writer:
        writer.put_fused_calibration(3, 2, 0.5, made_calibration(*LINE))
    source, asking = source_of(made), made_vectors(5, 32, seed=2)
    plain = search(source, asking, made.spaces[3], k=60)
    answer = search(source, asking, made.spaces[3], k=60, fusion=Fusion(0.5, made_vectors(5, 32, seed=3), B))
    for before, after in zip(plain.hits, answer.hits, strict=True):
        for space, same in ((A.id, True), (B.id, False), (made.spaces[3].id, True)):
            of_space = [{hit.item: hit for hit in hits if hit.space == space} for hits in (before, after)]
            assert (of_space[0] == of_space[1]) is same
    assert any("new queries alone" in note for note in answer.notes)


def test_what_is_refused(made: Made) -> None:
    with pytest.raises(GalleryError, match=r"fuse=0\.4, old_queries=…") as refused:
        asked(made, 0.4)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="old_queries=…"):
        asked(made, ALPHA, old=None)
    with pytest.raises(SpaceError, match="expected old queries of an older space of the gallery"):
        search(source_of(made), NEW_QUERIES, B, fusion=Fusion(ALPHA, NEW_QUERIES, B))
    with pytest.raises(InputError, match="length"):
        asked(made, ALPHA, old=2 * OLD_QUERIES)


def test_a_planned_space_that_is_forgotten_takes_its_fused_calibrations_along(made: Made) -> None:
    with made.ledger.write() as writer:
        third = writer.add_space(made_space("c", 32), None)
        writer.put_fused_calibration(third, 1, 0.5, made_calibration(*LINE))
        writer.put_fused_calibration(third, 2, 0.5, made_calibration(*LINE))
        writer.forget_space(third)
    assert set(made.ledger.state().fused) == {(2, 1, ALPHA)}


def by_hand(alpha: float) -> VectorSet:
    old, new = queries(OLD).vectors, queries(NEW).vectors[:, : OLD.dim]
    mixed = (1 - alpha) * old + alpha * new / np.linalg.norm(new, axis=1, keepdims=True)
    vectors = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
    return VectorSet.from_arrays(vectors, labels=queries(NEW).labels, ids=queries(NEW).ids, space=OLD)


def upgraded(place: str) -> Gallery:
    gallery = Gallery.create(place, OLD)
    gallery.add(items(OLD))
    gallery.upgrade(NEW, [certificate()])
    return gallery


def test_a_gallery_learns_fused_calibrations_by_share_and_keeps_them(place: str) -> None:
    with upgraded(place) as gallery:
        learnt = {
            alpha: gallery.calibrate(queries(NEW), items(OLD), fuse=alpha, old_queries=queries(OLD))
            for alpha in (0.25, 0.5)
        }
        scores = pair_scores(by_hand(0.5), items(OLD), None)
        expected = calibrate(scores.genuine, scores.impostor)
        assert (learnt[0.5].slope, learnt[0.5].intercept) == pytest.approx(
            (expected.slope, expected.intercept), rel=1e-3
        )
        before = gallery.search(queries(NEW), fuse=0.5, old_queries=queries(OLD))
        plain = gallery.search(queries(NEW))
    with Gallery.open(place) as gallery:
        assert gallery.state.fused == {(2, 1, alpha): found for alpha, found in learnt.items()}
        order = np.random.default_rng(0).permutation(len(queries(OLD)))
        shuffled = queries(OLD).subset(order)
        assert gallery.search(queries(NEW), fuse=0.5, old_queries=shuffled).hits == before.hits
        assert gallery.search(queries(NEW)).hits == plain.hits
        assert before.hits != plain.hits
        for hits, query in zip(before.hits, by_hand(0.5).vectors, strict=True):
            rows = items(OLD).rows_of([hit.item for hit in hits])
            assert [hit.raw for hit in hits] == pytest.approx((items(OLD).vectors[rows] @ query).tolist(), abs=1e-6)


def test_after_the_seal_the_old_model_is_not_needed(tmp_path: Path) -> None:
    with upgraded(str(tmp_path / "g")) as gallery:
        gallery.backfill(vectors=items(NEW))
        gallery.seal()
        answer = gallery.search(queries(NEW), fuse=0.5)
        assert answer.hits == gallery.search(queries(NEW)).hits
        assert "the older model is not needed" in answer.notes[-1]


def fused_certificate(*, compatible: bool) -> Certificate:
    found = check(
        queries=queries(NEW), gallery=items(OLD), baseline=queries(OLD), new_gallery=items(NEW), metrics=["mAP"],
        prefix=True, fuse=0.5, replicates=100,
    )  # fmt: skip
    metrics = {name: replace(one, compatible=compatible) for name, one in found.metrics.items()}
    return replace(found, compatible=compatible, metrics=metrics)


def test_a_certificate_of_fused_queries_opens_an_upgrade_to_searches_fused_the_same_way(tmp_path: Path) -> None:
    found = fused_certificate(compatible=True)
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        assert gallery.plan(NEW, [found]).missing == ()
        switched = gallery.upgrade()
        assert "only by queries fused with share 0.5 of the new one: fuse=0.5" in switched.pairs[0]
        answer = gallery.search(queries(NEW), fuse=0.5, old_queries=queries(OLD), max_fmr=0.1)
        assert answer.pairs[0].certified
        assert answer.pairs[0].calibrated
        for more in ({}, {"fuse": 0.4, "old_queries": queries(OLD)}, {"fuse": 0.0, "old_queries": queries(OLD)}):
            with pytest.raises((SpaceError, GalleryError), match=r"fuse=0\.[45]"):
                gallery.search(queries(NEW), **more)
        with pytest.raises(
            SpaceError, match=r"is of fused queries, 0\.5 of each by the new model, got the new model's"
        ):
            gallery.search(queries(NEW))
        by_itself = gallery.search(queries(NEW), old_queries=queries(OLD), max_fmr=0.1)
        assert by_itself.hits == answer.hits
        pictures = source(1, "query")
        files = [png(pictures, name) for name in queries(NEW).ids]
        models = {"model": Gray(NEW), "old_model": Gray(OLD)}
        assert gallery.search_images(files, max_fmr=0.1, **models).hits == answer.hits
        with pytest.raises(GalleryError, match=r"that cannot be used: the gallery remembers no model of space .*old_m"):
            gallery.search_images(files, model=Gray(NEW))
        with pytest.raises(InputError, match="image 1 cannot be read"):
            gallery.search_images([files[0], b"GIF89a"], **models)
        (old, _) = gallery.status().spaces
        assert (old.allowed, old.calibrated) == ("certificate, fused 0.5", True)
        assert gallery.doctor().healthy
        gallery.backfill(vectors=items(NEW))
        assert gallery.search(queries(NEW)).notes == ()
        assert gallery.search_images(files, model=Gray(NEW)).notes == ()


def test_a_certificate_of_share_1_needs_no_old_query(tmp_path: Path) -> None:
    found = replace(
        fused_certificate(compatible=True), fusion=replace(fused_certificate(compatible=True).fusion, alpha=1.0)
    )
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        gallery.upgrade(NEW, [found])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=90))
        answer = gallery.search(queries(NEW), max_fmr=0.5)
        assert all(pair.calibrated for pair in answer.pairs)
        assert answer.hits == gallery.search(queries(NEW), max_fmr=0.5, old_queries=queries(OLD)).hits


def test_old_queries_without_a_share_are_not_needed_once_no_older_space_is_left(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        gallery.upgrade(NEW, [fused_certificate(compatible=True)])
        gallery.backfill(vectors=items(NEW))
        gallery.seal()
        answer = gallery.search(queries(NEW), old_queries=queries(OLD))
        assert answer.hits == gallery.search(queries(NEW)).hits
        assert "nothing is fused" in answer.notes[0]


class Gray(Projection):
    """The same of image files."""

    preprocessing = Preprocessing(size=SIDE, channels=1)


def png(pictures: ArraySource, name: str) -> bytes:
    """The picture of an id as a file."""
    (row,) = np.flatnonzero(pictures.ids == name)
    file = io.BytesIO()
    Image.fromarray(pictures.load(np.array([row]))[0, 0].numpy()).save(file, "PNG")
    return file.getvalue()


def test_a_certificate_that_says_no_to_fused_queries_opens_nothing(tmp_path: Path) -> None:
    with Gallery.create(tmp_path / "g", OLD) as gallery:
        gallery.add(items(OLD))
        with pytest.raises(SpaceError, match="says no to fused queries"):
            gallery.upgrade(NEW, [fused_certificate(compatible=False)])


def test_what_a_gallery_refuses(tmp_path: Path) -> None:
    bare = VectorSet.from_arrays(queries(OLD).vectors, ids=queries(OLD).ids)
    other = Space(weights="other", preprocessing="none", dim=OLD.dim, normalized=True)
    foreign = VectorSet.from_arrays(queries(OLD).vectors, ids=queries(OLD).ids, space=other)
    with upgraded(str(tmp_path / "g")) as gallery:
        for more, error, told in (
            ({"fuse": 1.5}, InputError, "from 0 to 1, got 1.5"),
            ({"old_queries": queries(OLD)}, InputError, "give the share"),
            ({"fuse": 0.5}, InputError, "old_queries=…"),
            ({"fuse": 0.5, "old_queries": bare}, SpaceError, "declares no space"),
            ({"fuse": 0.5, "old_queries": foreign}, SpaceError, "expected old queries of an older space"),
            ({"fuse": 0.5, "old_queries": queries(OLD).subset(np.arange(3))}, InputError, "lack 'query-"),
            ({"fuse": 0.5, "old_queries": queries(OLD)}, GalleryError, r"gallery\.calibrate"),
        ):
            with pytest.raises(error, match=told) as refused:
                gallery.search(queries(NEW), **more)
            assert "\n" not in str(refused.value)
        with pytest.raises(InputError, match="old_queries=…"):
            gallery.calibrate(queries(NEW), items(OLD), fuse=0.5)
        with pytest.raises(SpaceError, match="of one space and queries of a newer one"):
            gallery.calibrate(queries(NEW), items(NEW), fuse=0.5, old_queries=queries(OLD))
