"""Galleries of images: adding, canaries, backfills with a model, images that are gone or have changed, re-ranking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace.data import ArraySource, FolderSource
from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery import Added, Gallery, Limits
from samespace.gallery.ingest.add import add_images
from samespace.gallery.ingest.images import Images, ItemEmbedder, another_image, content_of
from samespace.gallery.upgrade.model_check import canary_drift, require_lineage, require_same_model

from .world import CLASSES, EACH, NEW, OLD, THIRD, Projection, certificate, items, pixels, queries, source

COUNT = CLASSES * EACH


def put(gallery: Gallery, *models: Projection, images: ArraySource | FolderSource | None = None, **more: bool) -> Added:
    """Add images by models that are at hand as objects."""
    opened = Images(images or source())
    state = gallery.state
    embedders = {state.generation_of(model.space): ItemEmbedder(model, opened) for model in models}
    return add_images(gallery.ledger, embedders, labelled=True, **more)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    """A gallery of images in the old space."""
    with Gallery.create(tmp_path / "gallery", OLD) as made:
        put(made, Projection(OLD))
        made.calibrate(queries(OLD), items(OLD))
        yield made


class Doubt(Projection):
    """A model that claims a space whose vectors it does not make."""

    def __init__(self) -> None:
        super().__init__(NEW, seed=5)


class TestAdding:
    def test_gives_the_vectors_of_the_model(self, gallery: Gallery) -> None:
        with gallery.ledger.read() as reader:
            rows = reader.rows_after(1, 0, COUNT)
        np.testing.assert_array_equal(rows.values, items(OLD).take(np.arange(COUNT)))

    def test_again_embeds_nothing(self, gallery: Gallery) -> None:
        model = Projection(OLD)
        assert put(gallery, model).present == COUNT
        assert model.calls == 0

    def test_goes_on_after_a_part(self, tmp_path: Path) -> None:
        model = Projection(OLD)
        with Gallery.create(tmp_path / "part", OLD) as gallery:
            put(gallery, model, images=_first(30))
            model.calls = 0
            found = put(gallery, model)
            assert (found.added, found.present, model.calls) == (COUNT - 30, 30, COUNT - 30)

    def test_a_changed_image_is_refused_unless_told_otherwise(self, gallery: Gallery) -> None:
        images, labels = pixels()
        images[7] = 255 - images[7]
        changed = ArraySource(images, labels, ids=source().ids.tolist())
        with pytest.raises(InputError, match="holds 'item-007' already"):
            put(gallery, Projection(OLD), images=changed)
        assert put(gallery, Projection(OLD), images=changed, update=True).updated == 1

    def test_during_an_upgrade_both_models_write(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        more = source(7, "more")
        assert put(gallery, Projection(NEW), Projection(OLD), images=more).only_new == 0
        only = source(8, "late")
        assert put(gallery, Projection(NEW), images=only).only_new == COUNT
        assert gallery.status().only_new == COUNT

    def test_without_a_model_says_so(self, gallery: Gallery) -> None:
        with pytest.raises(GalleryError, match="remembers no model"):
            gallery.add_images(source())


class TestCanaries:
    def test_are_recorded_and_compared(self, gallery: Gallery) -> None:
        images = Images(source())
        first = require_same_model(gallery.ledger, 1, ItemEmbedder(Projection(OLD), images))
        assert (first.checked, first.recorded) == (32, 32)
        again = require_same_model(gallery.ledger, 1, ItemEmbedder(Projection(OLD), images))
        assert (again.checked, again.recorded) == (32, 0)
        assert again.worst == pytest.approx(1, abs=1e-6)

    def test_catch_a_model_that_is_not_what_it_claims(self, gallery: Gallery) -> None:
        impostor = Projection(OLD, seed=5)
        with pytest.raises(SpaceError, match="is not the one that made its vectors"):
            require_same_model(gallery.ledger, 1, ItemEmbedder(impostor, Images(source())))

    def test_drift_is_how_far_the_worst_is_off(self, gallery: Gallery) -> None:
        images = Images(source())
        assert canary_drift(gallery.ledger, 1, ItemEmbedder(Projection(OLD), images)) == pytest.approx(0, abs=1e-6)
        impostor = ItemEmbedder(Projection(OLD, seed=1), images)
        made = impostor.vectors(torch.from_numpy(pixels()[0])[:, None])
        cosines = (made * items(OLD).take(np.arange(COUNT))).sum(axis=1)
        assert 1 - cosines.max() < canary_drift(gallery.ledger, 1, impostor) <= 1 - cosines.min() + 1e-6

    def test_a_model_of_another_space_is_refused_by_name(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match="expected the model of space"):
            require_same_model(gallery.ledger, 1, ItemEmbedder(Projection(NEW), Images(source())))

    def test_leave_out_images_that_are_gone(self, gallery: Gallery) -> None:
        found = require_same_model(gallery.ledger, 1, ItemEmbedder(Projection(OLD), Images(_first(50))))
        assert 0 < found.checked < 32

    def test_a_foreign_model_of_the_certified_name_is_refused_at_the_upgrade(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match="do not go with the stored ones"):
            gallery.upgrade(Doubt(), [certificate()], images=source())
        assert gallery.space == OLD

    def test_lineage_of_the_true_successor_is_whole(self, gallery: Gallery) -> None:
        share = require_lineage(gallery.ledger, 1, ItemEmbedder(Projection(NEW), Images(source())), OLD.dim)
        assert share is not None
        assert share > 0.9

    def test_a_backfill_begins_with_them(self, gallery: Gallery) -> None:
        gallery.upgrade(Projection(NEW), [certificate()], images=source())
        with pytest.raises(SpaceError, match="is not the one that made its vectors"):
            gallery.backfill(model=Doubt(), images=source())


class TestBackfill:
    def test_by_the_model(self, gallery: Gallery) -> None:
        gallery.upgrade(Projection(NEW), [certificate()], images=source())
        done = gallery.backfill(model=Projection(NEW), images=source(), limits=Limits(batch_size=32))
        assert (done.stored, done.failed) == (COUNT, {})
        with gallery.ledger.read() as reader:
            stored = reader.rows_of(2, reader.find(["item-042"])["item-042"].number * np.ones(1, dtype=np.int64))
        np.testing.assert_array_equal(stored.values, items(NEW).take(np.array([42])))

    def test_skips_and_reports_images_that_are_gone_or_broken(self, tmp_path: Path) -> None:
        folder = tmp_path / "photos"
        images, labels = pixels()
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            (folder / f"c{label:02d}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"c{label:02d}" / f"{number:03d}.png")
        with Gallery.create(tmp_path / "gallery", OLD) as gallery:
            opened = FolderSource(folder, channels=1)
            put(gallery, Projection(OLD), images=opened)
            gallery.calibrate(queries(OLD), items(OLD))
            gallery.upgrade(NEW, [certificate()])
            lazy = FolderSource(folder, channels=1, budget=0)
            (folder / "c00" / "000.png").unlink()
            (folder / "c01" / "001.png").write_bytes(b"no picture")
            done = gallery.backfill(model=Projection(NEW), images=lazy)
            assert done.stored == COUNT - 2
            assert sorted(done.failed) == ["c00/000.png", "c01/001.png"]
            assert all("\n" not in reason for reason in done.failed.values())
            assert gallery.status().work.failed == 2
            with pytest.raises(GalleryError, match="2 of 200 items have no vector"):
                gallery.seal()
            served = {hit.item for row in gallery.search(queries(NEW), k=COUNT).hits for hit in row}
            assert "c00/000.png" in served

    def test_refuses_an_image_that_is_not_the_one_added(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        images, labels = pixels()
        images[7] = 255 - images[7]
        swapped = ArraySource(images, labels, ids=source().ids.tolist())
        done = gallery.backfill(model=Projection(NEW), images=swapped)
        assert done.stored == COUNT - 1
        assert "not the one that was added" in done.failed["item-007"]

    def test_an_item_that_changes_or_goes_while_it_is_embedded(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        images, labels = pixels()
        images[7] = 255 - images[7]
        later = ArraySource(images[7:8], labels[7:8], ids=["item-007"])

        class Busy(Projection):
            """While it embeds, others change the gallery."""

            def embed(self, given: torch.Tensor) -> torch.Tensor:
                if not self.calls:
                    gallery.remove(["item-009"])
                    put(gallery, Projection(NEW), Projection(OLD), images=later, update=True)
                return super().embed(given)

        from samespace.gallery.backfill.run import list_work, run_one
        from samespace.gallery.backfill.vector_source import FromImages

        list_work(gallery.ledger, "random")
        vector_source = FromImages(ItemEmbedder(Busy(NEW), Images(source())))
        done = run_one(gallery.ledger, vector_source, Limits(batch_size=COUNT), source=gallery.source)
        assert (done.stored, done.changed, done.left) == (COUNT - 2, 1, 0)
        with gallery.ledger.read() as reader:
            number = reader.find(["item-007"])["item-007"].number
            rows = reader.rows_of(2, np.array([number]))
        expected = Projection(NEW).embed(later.load([0])).numpy()
        np.testing.assert_array_equal(rows.values, expected)
        assert gallery.doctor().healthy
        assert "item-009" not in {hit.item for row in gallery.search(queries(NEW), k=COUNT).hits for hit in row}


class TestRerank:
    def test_scores_the_best_in_the_new_space_and_stores_their_vectors(self, gallery: Gallery) -> None:
        gallery.upgrade(Projection(NEW), [certificate()], images=source())
        answer = gallery.rerank(queries(NEW), k=5, depth=20, model=Projection(NEW), images=source())
        assert {hit.space for row in answer.hits for hit in row} == {NEW.id}
        stored = next(kept.vectors for kept in gallery.status().spaces if kept.space == NEW)
        assert 20 <= stored <= COUNT
        whole = Gallery.open(gallery.ledger.location)
        whole.backfill(vectors=items(NEW))
        finished = whole.search(queries(NEW), k=20)
        first = gallery.search(queries(NEW), k=20)
        for reranked, complete, stage in zip(answer.hits, finished.hits, first.hits, strict=True):
            seen = {hit.item for hit in stage}
            # among items of the first stage, the order is that of the finished backfill
            order = [hit.item for hit in complete if hit.item in {one.item for one in reranked}]
            assert [hit.item for hit in reranked if hit.item in order] == order
            assert {hit.item for hit in reranked} & seen
        whole.close()

    def test_needs_a_first_stage_as_deep_as_the_answer(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="at least the 10 hits"):
            gallery.rerank(queries(OLD), k=10, depth=5)

    def test_keeps_the_first_score_where_an_image_is_gone(self, gallery: Gallery) -> None:
        gallery.upgrade(Projection(NEW), [certificate()], images=source())
        answer = gallery.rerank(queries(NEW), k=10, depth=COUNT, model=Projection(NEW), images=_first(100))
        assert {hit.space for row in answer.hits for hit in row} == {OLD.id, NEW.id}


class TestContent:
    def test_stands_for_the_pixels(self) -> None:
        images = source().load([0, 1])
        assert content_of(images[0]) != content_of(images[1])
        assert another_image(content_of(images[0]), content_of(images[1]))
        assert not another_image(content_of(images[0]), content_of(images[0]))

    def test_images_of_unlike_sizes_or_from_vectors_cannot_be_told_apart(self) -> None:
        small, large = torch.zeros(1, 4, 4, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)
        assert not another_image(content_of(small), content_of(large))
        assert not another_image("vector:0123", content_of(small))

    def test_a_model_that_gives_another_shape_is_refused(self) -> None:
        class Short(Projection):
            def embed(self, images: torch.Tensor) -> torch.Tensor:
                return super().embed(images)[:, :5]

        with pytest.raises(InputError, match="gave vectors of shape"):
            ItemEmbedder(Short(THIRD), Images(source())).vectors(source().load([0]))


def _first(count: int) -> ArraySource:
    images, labels = pixels()
    return ArraySource(images[:count], labels[:count], ids=source().ids[:count].tolist())
