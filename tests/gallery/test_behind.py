"""Upgrades to a model that is not compatible: filled behind the old one, switched to, rolled back, sealed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery.ledger.query_counts import query_counts
from samespace.space import Space
from samespace.vectors import VectorSet

from .world import NEW, OLD, THIRD, Projection, certificate, items, queries, source, vectors

OTHER = Space(weights="other", preprocessing="none", dim=7, normalized=False, name="other vendor")
"""What another vendor's model gives: another dimension, lengths that count."""


def other(given: VectorSet, noise: float = 0.0) -> VectorSet:
    """Vectors of the same items by the other model."""
    turn = np.random.default_rng(5).normal(size=(given.dim, OTHER.dim))
    values = given.take(np.arange(len(given))) @ turn
    values = values + noise * np.random.default_rng(6).normal(size=values.shape)
    return VectorSet.from_arrays(
        values.astype(np.float32), ids=given.ids, labels=given.labels, space=OTHER, name=f"other-{given.name}"
    )


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """All items in the old space."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        yield made


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Gallery]:
    """The same on SQLite, for what does not depend on the store."""
    with Gallery.create(tmp_path / "local", OLD) as made:
        made.add(items(OLD))
        yield made


def found(gallery: Gallery, asked: VectorSet) -> tuple[tuple[tuple[str, float, str], ...], ...]:
    answer = gallery.search(asked, k=300, count=False)
    return tuple(tuple((hit.item, hit.raw, hit.space) for hit in hits) for hits in answer.hits)


def some(given: VectorSet, start: int, stop: int) -> VectorSet:
    return given.subset(np.arange(start, stop))


class TestFilling:
    def test_vectors_of_the_side_that_lacks_none_are_told_of_the_other(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        done = local.backfill(vectors=items(OLD))
        assert (done.stored, done.ended) == (
            0, f"no item lacks a vector of {OLD}; {len(items(OLD)):,} lack one of {OTHER}"
        )  # fmt: skip

    def test_queries_stay_and_find_what_they_found(self, gallery: Gallery) -> None:
        before = found(gallery, queries(OLD))
        plan = gallery.begin_behind(OTHER, score="l2")
        assert plan.to_embed == 200
        gallery.backfill(vectors=other(items(OLD)), limits=Limits(items=120, batch_size=50))
        assert found(gallery, queries(OLD)) == before
        with pytest.raises(SpaceError, match="it is being filled, gallery\\.switch\\("):
            gallery.search(other(queries(OLD)))

    def test_the_switch_waits_until_all_are_embedded_and_rollback_and_switch_are_exact(self, gallery: Gallery) -> None:
        before = found(gallery, queries(OLD))
        gallery.begin_behind(OTHER, score="l2")
        gallery.backfill(vectors=other(items(OLD)), limits=Limits(items=120, batch_size=50))
        with pytest.raises(GalleryError, match=r"80 of 200 items have no vector of .*share=0\.6"):
            gallery.switch()
        done = gallery.backfill(vectors=other(items(OLD)))
        assert done.quality is not None
        assert set(done.quality.metrics) == {"rank@1", "mAP"}
        gallery.switch(accept_worse=True)
        after = found(gallery, other(queries(OLD)))
        assert all({hit[2] for hit in hits} == {OTHER.id} and len(hits) == 200 for hits in after)
        with pytest.raises(SpaceError, match="embed queries with the newer model"):
            gallery.search(queries(OLD))
        gallery.rollback()
        assert found(gallery, queries(OLD)) == before
        gallery.switch(accept_worse=True)
        assert found(gallery, other(queries(OLD))) == after
        sealed = gallery.seal()
        assert (sealed.deleted, sealed.removed) == (200, 0)
        assert found(gallery, other(queries(OLD))) == after
        with pytest.raises(GalleryError, match="no way back"):
            gallery.rollback()

    def test_what_is_left_is_dropped_by_name_and_comes_back(self, gallery: Gallery) -> None:
        before = found(gallery, queries(OLD))
        gallery.begin_behind(OTHER)
        gallery.backfill(vectors=some(other(items(OLD)), 0, 195))
        with pytest.raises(GalleryError, match=r"which is 97.50 % and not 98 %"):
            gallery.switch(share=0.98, accept_worse=True)
        switched = gallery.switch(share=0.975, accept_worse=True)
        assert switched.dropped == tuple(sorted(items(OLD).ids[195:].tolist()))
        assert gallery.doctor().healthy
        assert len(found(gallery, other(queries(OLD)))[0]) == 195
        gallery.rollback()
        assert found(gallery, queries(OLD)) == before
        gallery.switch(share=0.975, accept_worse=True)
        # one of them is embedded after all
        gallery.backfill(vectors=some(other(items(OLD)), 195, 196), retry=True)
        with pytest.raises(GalleryError, match="4 of 200 items have no vector"):
            gallery.seal()
        gallery.rollback()
        gallery.switch(share=0.975, accept_worse=True)
        assert gallery.seal().removed == 4
        assert len(gallery) == 196

    def test_a_rollback_before_the_switch_gives_it_up_and_it_can_begin_again(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        local.backfill(vectors=some(other(items(OLD)), 0, 50))
        given_up = local.rollback()
        assert given_up.query == given_up.before == OLD
        assert "50 vectors stay" in given_up.notes[0]
        with pytest.raises(GalleryError, match="no upgrade is being filled"):
            local.switch()
        assert local.begin_behind().to_embed == 150

    def test_another_upgrade_cannot_begin_meanwhile(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        with pytest.raises(GalleryError, match="is being filled; end it with gallery\\.switch\\("):
            local.upgrade(NEW, [certificate()])

    def test_vectors_of_a_third_space_fill_neither(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        with pytest.raises(SpaceError, match="does not know the space"):
            local.backfill(vectors=items(NEW))


class TestBothSides:
    def test_new_items_go_into_both_or_on_the_list(self, gallery: Gallery) -> None:
        gallery.begin_behind(OTHER)
        gallery.backfill(vectors=other(items(OLD)))
        new = vectors(Projection(OLD), source(3, "new"))
        both = gallery.add(some(new, 0, 4), also=[some(other(new), 0, 4)])
        assert both.listed == {}
        assert gallery.add(some(new, 4, 6)).listed == {str(OTHER): 2}
        assert gallery.add(some(other(new), 6, 9)).listed == {str(OLD): 3}
        assert len(found(gallery, queries(OLD))[0]) == 206
        with gallery.ledger.read() as reader:
            assert (reader.work(1, 0.0).open, reader.work(2, 0.0).open) == (3, 2)
        gallery.backfill(vectors=new)
        gallery.backfill(vectors=other(new))
        gallery.switch(accept_worse=True)
        assert len(found(gallery, other(queries(OLD)))[0]) == 209
        # after the switch as well
        assert gallery.add(some(new, 9, 11)).listed == {str(OTHER): 2}
        assert gallery.add(some(other(new), 11, 12)).listed == {str(OLD): 1}
        with pytest.raises(GalleryError, match=r"2 of 212 items have no vector of .* or remove these items"):
            gallery.seal()
        gallery.remove(new.ids[:3].tolist())
        gallery.rollback()
        assert len(found(gallery, queries(OLD))[0]) == 208

    def test_images_are_embedded_by_both_models(self, tmp_path: Path) -> None:
        from samespace.gallery import models

        old, new = Projection(OLD), Projection(THIRD, seed=9)
        with Gallery.create(tmp_path / "images", OLD) as gallery, pytest.MonkeyPatch.context() as patch:
            patch.setattr(models, "load_embedder", lambda given, device: {"old": old, "new": new}.get(given, given))
            with gallery.ledger.write() as writer:
                writer.set_model(1, "old")
            added = gallery.add_images(source())
            assert added.added == 200
            plan = gallery.begin_behind(new, images=source())
            assert plan.seconds is not None
            with gallery.ledger.write() as writer:
                writer.set_model(2, "new")
            assert gallery.backfill(images=source()).stored == 200
            added = gallery.add_images(source(4, "later"))
            assert (added.added, added.listed) == (200, {})
            with gallery.ledger.read() as reader:
                assert [reader.stored(1), reader.stored(2)] == [400, 400]


class TestQuality:
    def test_a_side_that_is_worse_is_not_switched_to_without_a_word(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        local.backfill(vectors=other(items(OLD), noise=30.0))
        with pytest.raises(GalleryError, match=r"the new side is worse: rank@1 .*accept_worse=True"):
            local.switch()
        assert local.space == OLD
        local.switch(accept_worse=True)
        assert local.status().audit[0]["accepted_worse"] is True

    def test_is_what_a_slow_reading_gives(self, local: Gallery) -> None:
        local.begin_behind(OTHER, score="l2")
        local.backfill(vectors=other(items(OLD)))
        measured = local.quality()
        held = other(items(OLD))
        values, labels = held.take(np.arange(len(held))).astype(np.float64), np.asarray(held.labels)
        right, precisions = [], []
        for row in range(len(values)):
            scores = -((values - values[row]) ** 2).sum(axis=1)
            keep = np.arange(len(values)) != row
            order = np.argsort(-scores[keep], kind="stable")
            hit = (labels[keep] == labels[row])[order]
            right.append(hit[0])
            precisions.append((np.cumsum(hit)[hit] / (np.flatnonzero(hit) + 1)).mean())
        assert measured.metrics["rank@1"].new == pytest.approx(np.mean(right))
        assert measured.metrics["mAP"].new == pytest.approx(np.mean(precisions))
        assert (measured.queries, measured.items, measured.classes) == (200, 200, 40)

    def test_by_queries_of_ones_own(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        local.backfill(vectors=other(items(OLD)))
        asked = queries(OLD)
        measured = local.quality((asked, other(asked)))
        assert measured.queries == len(asked)
        with pytest.raises(InputError, match="expected queries of space"):
            local.quality((other(asked), asked))
        with pytest.raises(InputError, match="are not of the same queries"):
            local.quality((asked, some(other(asked), 0, 3)))

    def test_without_labels_says_why_not(self, tmp_path: Path) -> None:
        with Gallery.create(tmp_path / "unlabelled", OLD) as gallery:
            gallery.add(replace(items(OLD), labels=None))
            gallery.begin_behind(OTHER)
            gallery.backfill(vectors=other(items(OLD)))
            assert "labelled" in gallery.switch().quality.reason


class TestGrace:
    def test_earlier_queries_find_their_own_side_until_the_seal(self, gallery: Gallery) -> None:
        before = found(gallery, queries(OLD))
        gallery.begin_behind(OTHER, grace=True)
        gallery.backfill(vectors=other(items(OLD)))
        gallery.switch(accept_worse=True)
        gallery.add(some(other(vectors(Projection(OLD), source(3, "new"))), 0, 2))
        assert found(gallery, queries(OLD)) == before
        assert "2 items have vectors of other spaces alone" in gallery.search(queries(OLD)).notes[0]
        assert len(found(gallery, other(queries(OLD)))[0]) == 202
        gallery.write_traffic()
        with gallery.ledger.read() as reader:
            counted = query_counts(reader, reader.state())
        assert counted[1].queries == 2 * len(queries(OLD))
        with pytest.raises(GalleryError, match=f"{counted[1].queries} so far, the last 0:0. ago"):
            gallery.seal()
        assert gallery.seal(unused_for=0.0).deleted == 200
        with pytest.raises(SpaceError, match="got vectors of its space"):
            gallery.search(queries(OLD))

    def test_of_a_mixed_upgrade(self, local: Gallery) -> None:
        local.calibrate(queries(OLD), items(OLD))
        before = found(local, queries(OLD))
        local.upgrade(NEW, [certificate()], grace=True)
        local.backfill(vectors=items(NEW), limits=Limits(items=90))
        assert found(local, queries(OLD)) == before
        assert {hit[2] for hit in found(local, queries(NEW))[0]} == {OLD.id, NEW.id}
        local.rollback()
        with pytest.raises(SpaceError, match="upgrade the gallery first"):
            local.search(queries(NEW))

    def test_a_seal_can_end_it(self, local: Gallery) -> None:
        local.begin_behind(OTHER)
        local.backfill(vectors=other(items(OLD)))
        local.switch(accept_worse=True, grace=True)
        local.search(queries(OLD))
        assert local.seal(end_grace=True).deleted == 200

    def test_images_may_be_embedded_by_the_earlier_model(self, local: Gallery) -> None:
        from samespace.gallery.search.queries import embed_queries

        local.begin_behind(OTHER, grace=True)
        local.backfill(vectors=other(items(OLD)))
        asked = source(1, "query")
        assert embed_queries(local.state, asked, model=Projection(OLD)).vectors.space == OLD
        local.switch(accept_worse=True)
        assert embed_queries(local.state, asked, model=Projection(OLD)).vectors.space == OLD
        with pytest.raises(SpaceError, match="expected one of"):
            embed_queries(local.state, asked, model=Projection(THIRD))


def test_an_index_in_qdrant_answers_for_one_side_alone(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="the extra 'qdrant' is not installed")
    from samespace.gallery.index.qdrant.source import QdrantSource
    from samespace.gallery.ledger.ledger import Ledger

    ledger = Ledger.create(tmp_path / "gallery", OLD, model=None, settings={})
    with Gallery(ledger, QdrantSource(ledger, ":memory:", scan_below=0)) as gallery:
        gallery.add(items(OLD))
        before = found(gallery, queries(OLD))
        gallery.begin_behind(OTHER, score="l2", grace=True)
        gallery.backfill(vectors=other(items(OLD)))
        gallery.maintain()
        assert found(gallery, queries(OLD)) == before
        gallery.switch(accept_worse=True)
        gallery.maintain()
        with gallery.source.snapshot() as snapshot:
            assert snapshot.generations() == [2]
        after = found(gallery, other(queries(OLD)))
        assert all({hit[2] for hit in hits} == {OTHER.id} and len(hits) == 200 for hits in after)
        assert found(gallery, queries(OLD)) == before
        gallery.rollback()
        assert found(gallery, queries(OLD)) == before
