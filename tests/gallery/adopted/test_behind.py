"""A behind upgrade of an application's vectors that a gallery serves in place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery import Limits
from samespace.space import Space
from samespace.vectors import VectorSet

from .applications import World, made_world

OTHER = Space(weights="other", preprocessing="none", dim=9, normalized=False, name="other vendor")


@pytest.fixture(params=["postgres", "qdrant"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An application with 160 rows, adopted."""
    yield from made_world(request, tmp_path / "ledger")


def other(names: list[str]) -> VectorSet:
    """What the other model gives for rows, by the number in their ids."""
    values = np.random.default_rng(3).normal(size=(400, OTHER.dim)).astype(np.float32)
    return VectorSet.from_arrays(values[[int(name[-4:]) for name in names]], ids=names, space=OTHER)


def test_the_application_keeps_its_table_and_no_answer_mixes(world: World) -> None:
    gallery = world.gallery
    table, before = world.application.read(), world.found()
    gallery.begin_behind(OTHER, score="l2", grace=True)
    gallery.backfill(vectors=other(list(world.rows)), limits=Limits(items=100, batch_size=30))
    assert world.found() == before == world.expected()
    with pytest.raises(GalleryError, match="60 of 160 items have no vector"):
        gallery.switch()
    world.change(["row-0001"])
    world.delete(["row-0002"])
    world.add(["row-0300"])
    gallery.sync()
    gallery.backfill(vectors=other(list(world.rows)))
    gallery.switch()
    asked = other(["row-0003", "row-0300"])
    for exact in (True, False):
        answer = gallery.search(asked, k=400, exact=exact)
        assert [hits[0].item for hits in answer.hits] == asked.ids.tolist()
        for hits in answer.hits:
            assert {hit.item for hit in hits} == set(world.rows)
            assert {hit.space for hit in hits} == {OTHER.id}
    # queries of the old model, under grace, walk the application's own index
    assert world.found() == world.expected()
    assert world.found(exact=False) == world.expected()
    gallery.rollback()
    assert world.found() == world.expected()
    changed = ["row-0001", "row-0002", "row-0300"]
    after = world.application.read()
    assert {name: vector for name, vector in after.items() if name not in changed} == {
        name: vector for name, vector in table.items() if name not in changed
    }
