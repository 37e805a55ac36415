"""Sets that hold more than a check needs: rows are chosen by id, and what is left out is counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.evaluate.selection import select
from samespace.space import Space
from samespace.vectors import VectorSet

FAST = {"replicates": 100, "examples": 2, "metrics": ["rank@1", "mAP"]}


def larger(source: VectorSet, more: int, seed: int = 0) -> VectorSet:
    """The set with further items of other ids, all of it in another order."""
    random = np.random.default_rng(seed)
    further = random.standard_normal((more, source.dim)).astype(np.float32)
    whole = replace(
        source,
        vectors=np.concatenate([source.vectors, further]),
        ids=np.concatenate([source.ids, [f"more-{row}" for row in range(more)]]),
        labels=np.concatenate([source.labels, source.labels[:more]]),
    )
    return whole.subset(random.permutation(len(whole)))


def test_what_more_a_set_holds_is_left_out_and_counted(world):
    straight = check(**world.sets("new_gallery", "paragon"), **FAST)
    wide = world.but(
        baseline=larger(world.baseline, 3),
        new_gallery=larger(world.new_gallery, 4),
        paragon=(larger(world.paragon[0], 5), larger(world.paragon[1], 6)),
    )
    found = check(**wide.sets("new_gallery", "paragon"), **FAST)
    assert found.metrics == straight.metrics
    assert found.sweep == straight.sweep
    added = [note for note in found.notes if note not in straight.notes]
    assert [(note.split(" (")[0], note.split(" has ")[1].split()[0]) for note in added] == [
        ("Baseline", "3"), ("Paragon queries", "5"), ("New gallery", "4"), ("Paragon gallery", "6"),
    ]  # fmt: skip


def test_halves_of_larger_sets_are_those_of_the_sets_themselves(world):
    straight = check(**world.sets(), fuse="auto", **FAST)
    assert (
        check(**world.but(baseline=larger(world.baseline, 3)).sets(), fuse="auto", **FAST).metrics == straight.metrics
    )


def test_without_ids_counts_must_agree(world):
    bare = VectorSet.from_arrays(larger(world.baseline, 3).vectors, name="bare")
    with pytest.raises(InputError, match="90 expected, got 93; where both have ids, more will do"):
        check(**world.but(baseline=bare).sets(), **FAST)


def test_items_are_selected_by_id(world):
    wanted = world.queries.ids[[5, 2]].tolist()
    assert select(world.queries, wanted, "queries of split.json", 90).ids.tolist() == wanted
    with pytest.raises(InputError, match=r"lacks 1 of 2 queries of split\.json, such as 'nobody'"):
        select(world.queries, [wanted[0], "nobody"], "queries of split.json", 90)


def test_rows_without_ids_are_selected_from_the_whole_alone():
    whole = VectorSet.from_arrays(np.eye(6))
    assert select(whole, ["4", "1"], "queries", 6).vectors.argmax(axis=1).tolist() == [4, 1]
    with pytest.raises(InputError, match="its 6 rows are not the 9 images"):
        select(whole, ["4", "1"], "queries", 9)


def mapped(world):
    """A world whose gallery holds vectors of a space of its own, as a bridge makes them."""
    space = Space(weights="cc" * 32, preprocessing="none", dim=world.gallery.dim, normalized=False, name="mapped")
    moved = world.gallery.vectors + 0.01 * np.random.default_rng(0).standard_normal(world.gallery.vectors.shape)
    return space, replace(world.gallery, vectors=moved.astype(np.float32), space=space)


def test_the_baseline_searches_a_gallery_of_its_own(world, tmp_path):
    straight = check(**world.sets("new_gallery"), **FAST)
    space, gallery = mapped(world)
    found = check(**world.but(gallery=gallery).sets("new_gallery"), baseline_gallery=larger(world.gallery, 2), **FAST)
    assert [one.old for one in found.metrics.values()] == [one.old for one in straight.metrics.values()]
    assert found.old_space.id == space.id
    assert found.baseline_space == straight.old_space
    assert "old" not in found.calibrations
    assert any("searches a gallery of its own" in note for note in found.notes)
    found.save(tmp_path / "c.json")
    assert Certificate.load(tmp_path / "c.json") == found
    assert "baseline_space" not in straight.to_dict()


def test_queries_of_two_galleries_are_not_fused(world):
    with pytest.raises(InputError, match="fused queries search one gallery"):
        check(**world.sets(), baseline_gallery=world.gallery, fuse=0.5, **FAST)


def test_a_baseline_gallery_is_of_the_baselines_model(world):
    with pytest.raises(InputError, match="baseline_gallery"):
        check(**world.sets(), baseline_gallery=replace(world.gallery, vectors=world.gallery.vectors[:, :5], space=None))
