"""The life of a gallery on both stores: search, upgrade, backfill, rollback, seal, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery.ledger.state import Work
from samespace.space import Space
from samespace.vectors import VectorSet

from .world import CLASSES, NEW, OLD, THIRD, certificate, items, queries

Maker = Callable[[], Gallery]


@pytest.fixture
def gallery(place: str) -> Iterator[Gallery]:
    """A gallery of all items in the old space, calibrated."""
    with Gallery.create(place, OLD) as made:
        made.add(items(OLD))
        made.calibrate(queries(OLD), items(OLD))
        yield made


def found(gallery: Gallery, space: Space, k: int = 8) -> list[list[tuple[str, float, str]]]:
    """What a search finds, to the bit."""
    answer = gallery.search(queries(space), k=k, count=False)
    return [[(hit.item, hit.raw, hit.space) for hit in hits] for hits in answer.hits]


def best_by_hand(space: Space, gallery_sets: list[VectorSet], k: int) -> list[set[str]]:
    """Items whose cosine, the leading dimensions compared, is among the k best of one space."""
    (only,) = gallery_sets
    values = queries(space).take(np.arange(len(queries(space))))[:, : only.dim].astype(np.float64)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    scores = values @ only.take(np.arange(len(only))).astype(np.float64).T
    return [set(only.ids[np.argsort(-row)[:k]].tolist()) for row in scores]


class TestUpgrade:
    def test_switches_queries_and_touches_no_vector(self, gallery: Gallery) -> None:
        gallery.plan(NEW, [certificate()])
        switched = gallery.upgrade()
        assert (switched.before, switched.query) == (OLD, NEW)
        assert gallery.space == NEW
        hits = found(gallery, NEW)
        assert {space for row in hits for _, _, space in row} == {OLD.id}
        assert [{item for item, _, _ in row} for row in hits] == best_by_hand(NEW, [items(OLD)], 8)

    def test_queries_of_the_old_model_are_refused_afterwards(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        with pytest.raises(SpaceError, match="the gallery is queried by"):
            gallery.search(queries(OLD))

    def test_needs_a_certificate(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match=r"no certificate allows queries of .*samespace check"):
            gallery.upgrade(NEW)
        assert gallery.space == OLD

    def test_needs_a_certificate_that_says_yes(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match="the certificate says no"):
            gallery.upgrade(NEW, [replace(certificate(), compatible=False)])
        assert gallery.space == OLD

    def test_a_certificate_of_other_spaces_does_not_count(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match="no certificate allows"):
            gallery.upgrade(NEW, [certificate(THIRD, NEW)])

    def test_unlike_dimensions_are_not_accepted_without_a_certificate(self, gallery: Gallery) -> None:
        with pytest.raises(SpaceError, match="their dimensions differ"):
            gallery.upgrade(NEW, accept_uncertified=True)

    def test_accepting_is_said_aloud_and_recorded(self, place: str) -> None:
        with Gallery.create(place, NEW) as gallery:
            gallery.add(items(NEW))
            switched = gallery.upgrade(THIRD, accept_uncertified=True)
            assert any("ACCEPTED WITHOUT A CERTIFICATE" in note for note in switched.notes)
            upgrade = next(line for line in gallery.status().audit if line["action"] == "upgrade")
            assert upgrade["accepted_uncertified"] == [[2, 1]]
            assert gallery.status().spaces[0].allowed == "accepted without certificate"
            with pytest.raises(GalleryError, match="cannot be searched without calibrations"):
                gallery.backfill(vectors=items(THIRD))

    def test_to_the_present_or_an_earlier_space_is_refused(self, gallery: Gallery) -> None:
        with pytest.raises(GalleryError, match="already"):
            gallery.upgrade(OLD)
        gallery.upgrade(NEW, [certificate()])
        with pytest.raises(GalleryError, match="rollback"):
            gallery.upgrade(OLD)

    def test_without_a_plan_or_a_model_there_is_nothing_to_do(self, gallery: Gallery) -> None:
        with pytest.raises(GalleryError, match="no upgrade is planned"):
            gallery.upgrade()


class TestPlan:
    def test_says_what_it_costs_and_what_to_expect(self, gallery: Gallery) -> None:
        plan = gallery.plan(NEW, [certificate()])
        assert (plan.items, plan.to_embed) == (len(items(OLD)), len(items(OLD)))
        assert plan.bytes == len(items(OLD)) * (4 * NEW.dim + 64)
        assert plan.metric == "rank@1"
        assert [point["share"] for point in plan.curve] == [0, 0.1, 0.25, 0.5, 0.75, 1]
        assert plan.missing == ()
        assert gallery.space == OLD

    def test_lists_what_is_missing(self, gallery: Gallery) -> None:
        plan = gallery.plan(NEW)
        assert any("no certificate" in line for line in plan.missing)
        assert any("calibrations" in line for line in plan.missing)

    def test_takes_the_best_order_of_the_sweep(self, gallery: Gallery) -> None:
        plan = gallery.plan(NEW, [certificate()])
        assert plan.areas
        assert plan.order == max(plan.areas, key=lambda name: plan.areas[name])

    def test_can_be_made_again(self, gallery: Gallery) -> None:
        first, second = gallery.plan(NEW), gallery.plan(NEW, [certificate()], order="random")
        assert first.upgrade == second.upgrade
        assert gallery.state.upgrades[0].order == "random"


class TestBackfill:
    def test_serves_each_item_by_its_newest_vector(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        done = gallery.backfill(vectors=items(NEW), limits=Limits(items=70, batch_size=16))
        assert (done.stored, done.left) == (70, len(items(OLD)) - 70)
        served = {kept.space.id: kept.served for kept in gallery.status().spaces}
        assert served == {OLD.id: len(items(OLD)) - 70, NEW.id: 70}
        whole = found(gallery, NEW, k=len(items(OLD)))
        for row in whole:
            assert len({item for item, _, _ in row}) == len(items(OLD))
            assert sum(space == NEW.id for _, _, space in row) == 70

    def test_ends_with_every_item_in_the_new_space(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        done = gallery.backfill(vectors=items(NEW))
        assert (done.stored, done.left, done.ended) == (len(items(OLD)), 0, "nothing is left")
        assert [{item for item, _, _ in row} for row in found(gallery, NEW)] == best_by_hand(NEW, [items(NEW)], 8)
        assert gallery.status().phase == "complete"

    def test_goes_on_where_it_ended(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        stored = [gallery.backfill(vectors=items(NEW), limits=Limits(items=60)).stored for _ in range(4)]
        assert stored == [60, 60, 60, 20]

    def test_leaves_what_a_set_has_no_vector_of_to_another_run(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        some = items(NEW).subset(np.arange(150))
        done = gallery.backfill(vectors=some, limits=Limits(batch_size=16))
        assert (done.stored, done.failed, done.left) == (150, {}, 50)
        assert done.ended == f"of the items that are left, 50 have no vector in {some.name}"
        assert gallery.status().work == Work(open=50, claimed=0, failed=0)
        done = gallery.backfill(vectors=items(NEW))
        assert (done.stored, done.ended) == (50, "nothing is left")

    def test_refuses_vectors_of_another_space(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        with pytest.raises(SpaceError, match="does not know the space"):
            gallery.backfill(vectors=items(THIRD))
        with pytest.raises(SpaceError, match="expected vectors of space"):
            gallery.backfill(vectors=items(OLD))

    def test_stops_when_the_gain_that_remains_is_small(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        done = gallery.backfill(vectors=items(NEW), epsilon=10.0)
        assert done.stored == 0
        assert "gain that remains is below 10" in done.ended

    @pytest.mark.parametrize(
        "limits", [{"items": 0}, {"rate": -1.0}, {"batch_size": 0}, {"rate": float("nan")}, {"lease": float("inf")}]
    )
    def test_refuses_limits_out_of_range(self, limits: dict[str, float]) -> None:
        with pytest.raises(InputError, match="should be above 0"):
            Limits(**limits)  # type: ignore[arg-type]


class TestRollback:
    def test_in_mid_backfill_gives_the_answers_of_before_to_the_bit(self, gallery: Gallery) -> None:
        before = found(gallery, OLD, k=len(items(OLD)))
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=90))
        rolled = gallery.rollback()
        assert (rolled.before, rolled.query, rolled.notes) == (NEW, OLD, ())
        assert found(gallery, OLD, k=len(items(OLD))) == before

    def test_after_a_complete_backfill_too(self, gallery: Gallery) -> None:
        before = found(gallery, OLD)
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW))
        gallery.rollback()
        assert found(gallery, OLD) == before

    def test_rolling_forward_keeps_what_was_embedded(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=90))
        during = found(gallery, NEW)
        gallery.rollback()
        gallery.upgrade()
        assert found(gallery, NEW) == during
        assert gallery.backfill(vectors=items(NEW)).stored == len(items(OLD)) - 90

    def test_without_an_upgrade_is_refused(self, gallery: Gallery) -> None:
        with pytest.raises(GalleryError, match="nothing to roll back"):
            gallery.rollback()

    def test_names_items_that_only_the_new_model_knows(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        fresh = VectorSet.from_arrays(items(NEW).take(np.arange(3)), ids=["x", "y", "z"], space=NEW)
        assert gallery.add(fresh).only_new == 3
        assert gallery.status().only_new == 3
        (note,) = gallery.rollback().notes
        assert note.startswith("3 items have no vector of")
        assert not gallery.doctor().healthy
        old = VectorSet.from_arrays(items(OLD).take(np.arange(3)), ids=["x", "y", "z"], space=OLD)
        assert gallery.backfill(vectors=old).stored == 3
        assert gallery.doctor().healthy

    def test_finds_new_items_that_were_written_in_both_spaces(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        rows = np.arange(3)
        fresh = VectorSet.from_arrays(items(NEW).take(rows), ids=["x", "y", "z"], space=NEW)
        old = VectorSet.from_arrays(items(OLD).take(rows), ids=["z", "y", "x"], space=OLD)
        assert gallery.add(fresh, also=[old]).only_new == 0
        assert gallery.rollback().notes == ()
        hits = {hit.item for row in gallery.search(queries(OLD), k=CLASSES * 5).hits for hit in row}
        assert {"x", "y", "z"} <= hits


class TestSeal:
    def complete(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW))

    def test_deletes_the_old_vectors_and_the_way_back(self, gallery: Gallery) -> None:
        self.complete(gallery)
        before = found(gallery, NEW)
        sealed = gallery.seal()
        assert (sealed.deleted, sealed.kept, sealed.retired) == (len(items(OLD)), 0, (OLD,))
        assert found(gallery, NEW) == before
        with pytest.raises(GalleryError, match="is sealed: the old vectors are deleted, so there is no way back"):
            gallery.rollback()
        with pytest.raises(GalleryError, match="sealed already"):
            gallery.seal()
        with pytest.raises(SpaceError, match="does not know"):
            gallery.add(items(OLD))

    def test_counts_first(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=190))
        with pytest.raises(GalleryError, match="10 of 200 items have no vector"):
            gallery.seal()
        assert gallery.rollback().query == OLD

    def test_in_part_keeps_old_vectors_of_items_without_a_new_one(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=190))
        before = found(gallery, NEW, k=200)
        sealed = gallery.seal(partial=True)
        assert (sealed.deleted, sealed.kept, sealed.retired) == (190, 10, ())
        assert found(gallery, NEW, k=200) == before
        assert gallery.backfill(vectors=items(NEW)).stored == 10
        again = gallery.seal()
        assert (again.deleted, again.retired) == (10, (OLD,))

    def test_without_an_upgrade_is_refused(self, gallery: Gallery) -> None:
        with pytest.raises(GalleryError, match="nothing to seal"):
            gallery.seal()


class TestSeveralVersions:
    def test_three_spaces_serve_at_once(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=100))
        with pytest.raises(SpaceError, match=f"on vectors of {OLD.id}"):
            gallery.upgrade(THIRD, [certificate(THIRD, NEW)])
        gallery.upgrade(THIRD, [certificate(THIRD, NEW), certificate(THIRD, OLD)])
        gallery.backfill(vectors=items(THIRD), limits=Limits(items=50))
        served = {kept.space.id: kept.served for kept in gallery.status().spaces}
        assert sum(served.values()) == 200
        assert served[THIRD.id] == 50
        assert len({space for row in found(gallery, THIRD, k=200) for _, _, space in row}) == 3
        gallery.rollback()
        assert gallery.space == NEW
        gallery.rollback()
        assert gallery.space == OLD

    def test_a_space_that_was_rolled_back_does_not_serve_under_its_successor(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=100))
        gallery.rollback()
        gallery.upgrade(THIRD, [certificate(THIRD, OLD)])
        assert {space for row in found(gallery, THIRD, k=200) for _, _, space in row} == {OLD.id}

    def test_sealing_the_last_ends_all_before_it(self, gallery: Gallery) -> None:
        gallery.upgrade(NEW, [certificate()])
        gallery.backfill(vectors=items(NEW), limits=Limits(items=100))
        gallery.upgrade(THIRD, [certificate(THIRD, NEW), certificate(THIRD, OLD)])
        gallery.backfill(vectors=items(THIRD))
        assert set(gallery.seal().retired) == {OLD, NEW}
        assert {upgrade.state for upgrade in gallery.state.upgrades} == {"sealed"}


class TestItems:
    def test_the_same_call_again_adds_nothing(self, gallery: Gallery) -> None:
        again = gallery.add(items(OLD))
        assert (again.added, again.present) == (0, 200)

    def test_an_id_with_another_content_is_refused_and_nothing_changes(self, gallery: Gallery) -> None:
        before = found(gallery, OLD)
        other = VectorSet.from_arrays(items(OLD).take(np.array([5])), ids=["item-000"], space=OLD)
        with pytest.raises(InputError, match="holds 'item-000' already, with another content"):
            gallery.add(other)
        assert found(gallery, OLD) == before

    def test_update_replaces_the_content(self, gallery: Gallery) -> None:
        other = VectorSet.from_arrays(items(OLD).take(np.array([5])), ids=["item-000"], space=OLD)
        assert gallery.add(other, update=True).updated == 1
        hit = gallery.search(VectorSet.from_arrays(items(OLD).take(np.array([5])), space=OLD), k=2).hits[0]
        assert {one.item for one in hit} == {"item-000", "item-005"}
        assert hit[0].raw == hit[1].raw

    def test_removed_items_are_not_found_and_can_come_back(self, gallery: Gallery) -> None:
        assert gallery.remove(["item-003", "item-004"]) == 2
        assert len(gallery) == 198
        hits = {hit.item for row in gallery.search(queries(OLD), k=200).hits for hit in row}
        assert not {"item-003", "item-004"} & hits
        assert gallery.add(items(OLD)).updated == 2
        assert len(gallery) == 200

    def test_an_unknown_id_removes_nothing(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="has no item 'nobody'; nothing was removed"):
            gallery.remove(["item-003", "nobody"])
        assert len(gallery) == 200

    def test_bad_vectors_are_refused_one_line_each(self, gallery: Gallery) -> None:
        wide = VectorSet.from_arrays(np.ones((1, 20), dtype=np.float32), ids=["a"], space=None)
        with pytest.raises(SpaceError, match="declares no space"):
            gallery.add(wide)
        long = VectorSet.from_arrays(2 * items(OLD).take(np.array([0])), ids=["a"], space=OLD)
        with pytest.raises(InputError, match="'a' has length 2"):
            gallery.add(long)
        zero = VectorSet.from_arrays(np.zeros((1, OLD.dim), dtype=np.float32), ids=["a"], space=OLD)
        with pytest.raises(InputError, match="'a' is zero"):
            gallery.add(zero)
        nameless = VectorSet.from_arrays(items(OLD).take(np.array([0])), space=OLD)
        with pytest.raises(InputError, match="has no ids"):
            gallery.add(nameless)
        assert len(gallery) == 200

    def test_metadata_and_labels_filter_searches(self, gallery: Gallery) -> None:
        given = {name: {"shop": "berlin" if place % 2 else "paris", "year": 2000 + place}
                 for place, name in enumerate(items(OLD).ids.tolist())}  # fmt: skip
        gallery.add(items(OLD), metadata=given, update=True)
        hits = gallery.search(queries(OLD), k=200, where={"shop": "berlin", "year": (">=", 2100)}).hits[0]
        assert sorted(hit.item for hit in hits) == [f"item-{place}" for place in range(101, 200, 2)]
        label = str(items(OLD).labels[0])
        only = gallery.search(queries(OLD), k=200, where=[f"label={label}"]).hits[0]
        assert sorted(hit.item for hit in only) == [f"item-{place:03d}" for place in range(0, 200, CLASSES)]


class TestCreate:
    def test_refuses_a_place_that_is_taken(self, gallery: Gallery) -> None:
        with pytest.raises(InputError, match="already"):
            Gallery.create(gallery.ledger.location, OLD)

    def test_needs_a_space(self, place: str) -> None:
        with pytest.raises(InputError, match="needs its first space"):
            Gallery.create(place)

    def test_opening_nothing_says_how_to_make_one(self, tmp_path) -> None:
        with pytest.raises(GalleryError, match="samespace gallery create"):
            Gallery.open(tmp_path / "nothing")
