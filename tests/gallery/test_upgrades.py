"""Ways through several upgrades and back, and models that are not what they claim to be on the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from samespace.data import ArraySource
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery import Gallery, Limits
from samespace.space import Space
from samespace.vectors import VectorSet

from .world import NEW, OLD, THIRD, Projection, certificate, items, pixels, queries, source

PLAIN = Space(weights="plain", preprocessing="none", dim=12, normalized=False, name="plain")


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """A gallery of all items in the old space, calibrated."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        yield made


def all_found(gallery: Gallery, space: Space) -> int:
    return len(gallery.search(queries(space), k=1000, count=False).hits[0])


def only_in(gallery: Gallery, space: Space, names: list[str]) -> None:
    values = items(space).take(np.arange(len(names)))
    gallery.add(VectorSet.from_arrays(values, ids=names, space=space))


class TestTwoBackAndForward:
    def test_every_item_is_found_again(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        only_in(gallery, NEW, ["a", "b"])
        gallery.upgrade(THIRD, [certificate(THIRD, NEW), certificate(THIRD, OLD)])
        assert all_found(gallery, THIRD) == 202
        gallery.rollback()
        gallery.rollback()
        gallery.upgrade()
        assert gallery.space == NEW
        gallery.upgrade()
        assert gallery.space == THIRD
        assert gallery.state.servable == (1, 2, 3)
        assert all_found(gallery, THIRD) == 202

    def test_from_the_newest_space_there_is_nothing_to_go_to(self, gallery: Gallery) -> None:
        gallery.upgrade(THIRD, [certificate(THIRD, OLD)])
        gallery.rollback()
        gallery.upgrade()
        with pytest.raises(GalleryError, match="no upgrade is planned"):
            gallery.upgrade()

    def test_without_a_model_takes_the_one_planned_from_here(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.plan(THIRD, [certificate(THIRD, NEW), certificate(THIRD, OLD)])
        gallery.rollback()
        gallery.upgrade()
        assert gallery.space == NEW


class TestPlans:
    def test_a_plan_that_was_overtaken_can_still_be_taken(self, gallery: Gallery) -> None:
        gallery.plan(NEW, [certificate()])
        gallery.upgrade(THIRD, [certificate(THIRD, OLD)])
        gallery.backfill(vectors=items(THIRD), limits=Limits(items=20))
        gallery.upgrade(NEW, [certificate(NEW, OLD), certificate(NEW, THIRD)])
        assert gallery.space == NEW
        gallery.backfill(vectors=items(NEW), limits=Limits(items=50))
        served = {kept.space.name: kept.served for kept in gallery.status().spaces}
        assert served["v2"] == 50
        assert sum(served.values()) == 200

    def test_what_was_rolled_back_below_another_says_why_it_cannot(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.rollback()
        gallery.upgrade(THIRD, [certificate(THIRD, OLD)])
        with pytest.raises(GalleryError, match="was rolled back before queries went over to"):
            gallery.upgrade(NEW, [certificate(NEW, OLD)])

    def test_are_stored_with_their_number(self, gallery: Gallery) -> None:
        plan = gallery.plan(NEW, [certificate()])
        assert gallery.state.upgrades[0].plan["upgrade"] == plan.upgrade == 1

    def test_an_unknown_order_is_refused_before_queries_switch(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="there is no order 'foo'"):
            gallery.upgrade(NEW, [certificate()], order="foo")  # type: ignore[arg-type]
        assert gallery.space == OLD


class TestCertificates:
    def test_a_no_takes_back_an_earlier_yes_and_brings_no_calibration(self, gallery: Gallery) -> None:
        gallery.plan(NEW, [certificate()])
        before = gallery.state.calibrations[2, 1]
        steeper = {**certificate().calibrations, "cross": replace(certificate().calibrations["cross"], slope=99.0)}
        no = replace(certificate(), compatible=False, calibrations=steeper)
        assert gallery.plan(NEW, [no]).missing
        assert gallery.state.calibrations[2, 1] == before
        with pytest.raises(SpaceError, match="no certificate allows"):
            gallery.upgrade()

    def test_a_no_at_the_upgrade_itself_is_remembered(self, gallery: Gallery) -> None:
        gallery.plan(NEW, [certificate()])
        with pytest.raises(SpaceError, match="the certificate says no"):
            gallery.upgrade(NEW, [replace(certificate(), compatible=False)])
        with pytest.raises(SpaceError, match="no certificate allows"):
            gallery.upgrade()
        assert gallery.space == OLD

    def test_a_certificate_of_another_pair_is_named(self, gallery: Gallery) -> None:
        other = replace(certificate(), new_space=replace(NEW, weights="cc" * 32, name="v9"))
        with pytest.raises(SpaceError, match=r"no certificate .* \(given: that of \w+ \(v9\) on \w+ \(v1\)\)"):
            gallery.upgrade(NEW, [other])


class TestUncalibrated:
    def test_nothing_is_added_that_would_end_all_searches(self, place: str) -> None:
        with Gallery.create(place, NEW) as gallery:
            gallery.add(items(NEW))
            gallery.upgrade(THIRD, accept_uncertified=True)
            with pytest.raises(GalleryError, match="cannot be searched without calibrations"):
                only_in(gallery, THIRD, ["a"])
            with pytest.raises(GalleryError, match="cannot be searched without calibrations"):
                gallery.rerank(queries(THIRD), k=2, depth=3, model=Projection(THIRD), images=source())
            assert all_found(gallery, THIRD) == 200


class TestModels:
    """A model that claims a space whose vectors it does not make."""

    @pytest.fixture
    def images(self, gallery: Gallery) -> Gallery:
        gallery.upgrade(Projection(NEW), [certificate()], images=source())
        return gallery

    def test_is_refused_before_queries_switch(self, images: Gallery) -> None:
        images.rollback()
        with pytest.raises(SpaceError, match="is not the one that made its vectors"):
            images.upgrade(Projection(NEW, seed=5), [certificate()], images=source())
        assert images.space == OLD

    def test_cannot_slip_vectors_in_by_a_second_stage(self, images: Gallery) -> None:
        with pytest.raises(SpaceError, match="is not the one that made its vectors"):
            images.rerank(queries(NEW), k=2, depth=5, model=Projection(NEW, seed=5), images=source())
        with images.ledger.read() as reader:
            assert reader.stored(2) == 0

    def test_is_found_by_stored_vectors_of_the_canaries_too(self, images: Gallery) -> None:
        wrong = VectorSet.from_arrays(
            Projection(NEW, seed=5).embed(source().load(np.arange(200))).numpy(), ids=items(NEW).ids, space=NEW
        )
        images.backfill(vectors=wrong)
        with pytest.raises(SpaceError, match="is not the one that made its vectors"):
            images.rerank(queries(NEW), k=2, depth=5, model=Projection(NEW), images=source())


class TestUnnormalised:
    def test_second_stage_scores_as_the_first_would(self, place: str) -> None:
        model = Projection(OLD)

        class Plain(Projection):
            def __init__(self) -> None:
                super().__init__(OLD)
                self.space = PLAIN

            def embed(self, images):  # type: ignore[no-untyped-def]
                return 3.0 * super().embed(images)

        values = model.embed(source().load(np.arange(200))).numpy()
        labels = items(OLD).labels
        long = VectorSet.from_arrays(3 * values, ids=items(OLD).ids, labels=labels, space=PLAIN)
        asked = VectorSet.from_arrays(5 * queries(OLD).take(np.arange(4)), space=PLAIN)
        with Gallery.create(place, PLAIN) as gallery:
            gallery.add(long)
            first = gallery.search(asked, k=5).hits
            second = gallery.rerank(asked, k=5, depth=5, model=Plain(), images=source()).hits
            assert [[(hit.item, hit.raw) for hit in row] for row in second] == [
                [(hit.item, hit.raw) for hit in row] for row in first
            ]
            assert gallery.doctor().healthy


class TestItemsDuringAnUpgrade:
    def test_old_vectors_given_later_are_stored(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        rows = np.arange(3)
        new = VectorSet.from_arrays(items(NEW).take(rows), ids=["x", "y", "z"], space=NEW)
        old = VectorSet.from_arrays(items(OLD).take(rows), ids=["x", "y", "z"], space=OLD)
        assert gallery.add(new).only_new == 3
        assert gallery.add(new, also=[old]).filled == 3
        assert gallery.status().only_new == 0

    def test_items_that_are_there_can_be_given_new_vectors_beside_their_old_ones(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        with pytest.raises(InputError, match=r"without a vector of .* to compare; .*gallery\.backfill\(vectors=…"):
            gallery.add(items(NEW))
        assert gallery.add(items(NEW), also=[items(OLD)]).filled == 200
        assert gallery.status().backfilled == 1.0
        assert gallery.doctor().healthy

    def test_labels_and_metadata_that_are_not_given_stay(self, gallery: Gallery) -> None:
        given = {name: {"shop": "b"} for name in items(OLD).ids.tolist()}
        assert gallery.add(items(OLD), metadata=given, update=True).updated == 200
        bare = VectorSet.from_arrays(items(OLD).vectors, ids=items(OLD).ids, space=OLD)
        assert gallery.add(bare, update=True).updated == 0
        hits = gallery.search(queries(OLD), k=300, where=["shop=b", f"label={items(OLD).labels[0]}"]).hits[0]
        assert len(hits) == 5

    def test_images_are_the_same_to_a_model_that_sees_them_at_another_size(self, gallery: Gallery) -> None:
        from samespace.gallery.ingest.add import add_images
        from samespace.gallery.ingest.images import Images, ItemEmbedder

        images, labels = pixels()
        small = ArraySource(images, labels, ids=[f"photo-{row}" for row in range(200)])
        large = ArraySource(images.repeat(2, axis=1).repeat(2, axis=2), labels, ids=small.ids.tolist())
        model = Projection(OLD)
        add_images(gallery.ledger, {1: ItemEmbedder(model, Images(small))}, labelled=True)
        again = add_images(gallery.ledger, {1: ItemEmbedder(model, Images(large))}, labelled=True)
        assert (again.added, again.updated, again.present) == (0, 0, 200)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), [1], None, np.int64(3)])
    def test_metadata_that_no_filter_could_read_is_refused(self, gallery: Gallery, value: object) -> None:
        with pytest.raises(InputError, match="metadata 'x' of 'item-000' should be"):
            gallery.add(items(OLD), metadata={"item-000": {"x": value}}, update=True)
        gallery.search(queries(OLD), where={"x": 1})

    @pytest.mark.parametrize("name", ["", "a\0b", "\ud800"])
    def test_ids_that_no_store_could_hold_are_refused(self, gallery: Gallery, name: str) -> None:
        with pytest.raises(InputError, match="id"):
            gallery.add(VectorSet.from_arrays(items(OLD).take(np.array([0])), ids=np.array([name, ""])[:1], space=OLD))
        assert len(gallery) == 200


class TestTraffic:
    def test_a_search_neither_waits_nor_fails_when_counts_cannot_be_written(
        self, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full() -> None:
            raise GalleryError("the disk is full")

        monkeypatch.setattr("samespace.gallery.search.traffic._HITS_AT_ONCE", 1)
        monkeypatch.setattr(gallery.ledger, "claiming", full)
        gallery.search(queries(OLD).subset(np.array([0])), k=3)
        assert gallery._traffic._writing is not None
        gallery._traffic._writing.join()
        monkeypatch.undo()
        gallery.write_traffic()
        with gallery.ledger.read() as reader:
            assert reader.traffic()[1].sum() == 3
