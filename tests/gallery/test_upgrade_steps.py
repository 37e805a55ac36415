"""What a status says of the steps of an upgrade is what the steps themselves do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Gallery, Limits

from .world import NEW, OLD, Projection, certificate, items, source

MOVES: dict[str, Callable[[Gallery], object]] = {
    "rollback": lambda gallery: gallery.rollback(),
    "seal": lambda gallery: gallery.seal(),
    "switch": lambda gallery: gallery.switch(accept_worse=True),
}


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    with Gallery.create(tmp_path / "shop", OLD) as made:
        made.add(items(OLD))
        yield made


def allowed(gallery: Gallery) -> set[str]:
    """The steps that the status allows, each shown on a copy to be what the gallery does."""
    steps = {one.name: one for one in gallery.status().steps}
    state = gallery.state
    behind = any(
        one.state in ("planned", "rolled-back") and one.old == state.query and one.behind for one in state.upgrades
    )
    moves = MOVES | {"upgrade": lambda copy: copy.begin_behind() if behind else copy.upgrade()}
    for name, move in moves.items():
        if name not in steps:
            continue
        place = Path(gallery.location).with_name("copy")
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(gallery.location, place)
        with Gallery.open(place) as copy:
            if steps[name].allowed:
                move(copy)
                continue
            with pytest.raises(SamespaceError):
                move(copy)
    for one in steps.values():
        assert one.why, one
        assert "samespace gallery" not in one.why
    return {name for name, one in steps.items() if one.allowed}


def why(gallery: Gallery, name: str) -> str:
    return next(one.why for one in gallery.status().steps if one.name == name)


def test_a_certified_upgrade(gallery: Gallery) -> None:
    assert allowed(gallery) == {"plan"}
    assert why(gallery, "upgrade") == "nothing is planned; plan an upgrade to the new model first"
    gallery.plan(NEW)
    assert allowed(gallery) == {"plan"}
    assert why(gallery, "upgrade") == "no certificate allows queries of v2 on vectors of v1"
    gallery.plan(NEW, [certificate()])
    assert allowed(gallery) == {"plan", "upgrade"}
    gallery.upgrade()
    assert allowed(gallery) == {"plan", "backfill", "pause", "rollback"}
    assert why(gallery, "seal") == "200 of 200 items have no vector of v2 yet"
    gallery.backfill(vectors=items(NEW), limits=Limits(items=50))
    gallery.pause()
    assert allowed(gallery) == {"plan", "backfill", "resume", "rollback"}
    assert why(gallery, "rollback") == (
        "queries use v1 again; queries of v2 are refused; nothing is deleted; 50 vectors of v2 wait for the way forward"
    )
    gallery.resume()
    gallery.rollback()
    assert allowed(gallery) == {"plan", "upgrade"}
    gallery.upgrade()
    gallery.backfill(vectors=items(NEW))
    assert allowed(gallery) == {"plan", "pause", "seal", "rollback"}
    assert why(gallery, "seal") == "deletes the 200 vectors of v1; from then on there is no way back"
    gallery.seal()
    assert allowed(gallery) == {"plan"}
    assert why(gallery, "rollback") == "the upgrade is sealed: the old vectors are deleted"


def test_a_behind_upgrade(gallery: Gallery) -> None:
    gallery.plan(NEW, behind=True)
    assert allowed(gallery) == {"plan", "upgrade"}
    gallery.begin_behind()
    assert allowed(gallery) == {"backfill", "pause", "rollback"}
    assert why(gallery, "plan") == "v2 is being filled; switch to it, or roll back, first"
    gallery.backfill(vectors=items(NEW))
    assert allowed(gallery) == {"pause", "switch", "rollback"}
    gallery.switch(accept_worse=True)
    assert allowed(gallery) == {"plan", "pause", "seal", "rollback"}


def test_queries_of_the_old_space_hold_the_seal_up(gallery: Gallery) -> None:
    gallery.upgrade(NEW, [certificate()], grace=True)
    gallery.backfill(vectors=items(NEW))
    assert "seal" in allowed(gallery)
    gallery.search(items(OLD).subset(np.arange(3)))
    gallery.write_traffic()
    assert "seal" not in allowed(gallery)
    assert why(gallery, "seal").startswith("queries of v1 still come, the last ")


class TestCanaries:
    def test_measure_what_searches_give_at_every_share(self, gallery: Gallery) -> None:
        model = Projection(NEW)
        gallery.upgrade(model, [certificate()], images=source())
        shares, live = [0.0, 0.25, 0.6, 1.0], []
        for share in shares:
            to_do = round(200 * share) - stored(gallery)
            if to_do:
                gallery.backfill(model=model, images=source(), limits=Limits(items=to_do))
            live.append(by_searches(gallery))
        curve = gallery.canary_curve()
        assert (curve.queries, curve.items, curve.reason) == (32, 200, "")
        measured = {point.share: point.values["rank@1"] for point in curve.points}
        assert [measured[share] for share in shares] == live
        assert curve.before is not None
        assert 0 < curve.before["mAP"] <= 1

    def test_are_absent_without_a_model(self, gallery: Gallery) -> None:
        assert gallery.canary_curve().reason.startswith("no upgrade is under way")
        gallery.upgrade(NEW, [certificate()])
        assert "there are no canaries" in gallery.canary_curve().reason


def stored(gallery: Gallery) -> int:
    return next(one.vectors for one in gallery.status().spaces if one.space == NEW)


def by_searches(gallery: Gallery) -> float:
    """rank@1 of the canaries by searches of the gallery, each without itself."""
    with gallery.ledger.read() as reader:
        numbers, _ = reader.canaries(2)
        known = [reader.items(numbers)[number] for number in numbers.tolist()]
    label_of = dict(zip(items(NEW).ids.tolist(), items(NEW).labels.tolist(), strict=True))
    rows = items(NEW).rows_of(np.array([item.id for item in known]))
    answer = gallery.search(items(NEW).subset(rows), k=2, exact=True, count=False)
    right = 0
    for item, hits in zip(known, answer.hits, strict=True):
        first = next(hit.item for hit in hits if hit.item != item.id)
        right += label_of[first] == item.label
    return right / len(known)


def test_a_step_that_is_sent_twice_is_taken_once(gallery: Gallery) -> None:
    """Each step with `expect`, again with the same: refused, and nothing has changed by it."""

    def once(step: Callable[[int], object]) -> None:
        known = gallery.status().steps_taken
        step(known)
        assert gallery.status().steps_taken > known
        before = gallery.state
        with pytest.raises(GalleryError, match=f"not the {known} that were expected.*look at the status first"):
            step(known)
        assert gallery.state == before

    once(lambda known: gallery.begin_behind(NEW, expect=known))
    once(lambda known: gallery.pause(expect=known))
    once(lambda known: gallery.resume(expect=known))
    gallery.backfill(vectors=items(NEW))
    once(lambda known: gallery.switch(accept_worse=True, expect=known))
    # a second one would give the upgrade up
    once(lambda known: gallery.rollback(expect=known))
    assert gallery.state.filling is not None
    once(lambda known: gallery.rollback(expect=known))
    assert gallery.state.filling is None
    gallery.plan(NEW, [certificate()])
    once(lambda known: gallery.upgrade(expect=known))
    once(lambda known: gallery.rollback(expect=known))
    gallery.upgrade()
    once(lambda known: gallery.seal(expect=known))
    assert [one.state for one in gallery.state.upgrades] == ["sealed"]
