from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from samespace.errors import InputError, SpaceError
from samespace.evaluate import check
from samespace.evaluate.inputs import align
from samespace.scoring.sides import SideVectors
from samespace.scoring.units import random_rotation
from samespace.vectors import VectorSet

FAST = {"replicates": 200, "examples": 4}


def bare(source: VectorSet, **changes) -> VectorSet:
    """The set without ids and space, some of its parts changed."""
    parts = {"vectors": source.vectors, "labels": source.labels, "name": source.name, **changes}
    return VectorSet.from_arrays(parts.pop("vectors"), **parts)


def shuffled(source: VectorSet, seed: int) -> VectorSet:
    return source.subset(np.random.default_rng(seed).permutation(len(source)))


def flat(values: dict, path: str = "") -> list:
    """The numbers of nested values, each with its path."""
    found = []
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        if isinstance(value, dict | list):
            found += flat(value, f"{path}/{key}")
        elif value is not None:
            found.append((f"{path}/{key}", value))
    return found


def test_sets_in_another_order_are_aligned_by_id(world):
    straight = check(**world.sets("new_gallery", "paragon"), **FAST)
    mixed = world.but(
        baseline=shuffled(world.baseline, 1),
        new_gallery=shuffled(world.new_gallery, 2),
        paragon=(shuffled(world.paragon[0], 3), shuffled(world.paragon[1], 4)),
    )
    result = check(**mixed.sets("new_gallery", "paragon"), **FAST)
    assert result.metrics == straight.metrics
    assert result.backfill == straight.backfill


def test_the_order_of_gallery_and_queries_does_not_matter_to_any_value(world):
    straight = check(**world.sets("new_gallery"), **FAST)
    mixed = world.but(queries=shuffled(world.queries, 5), gallery=shuffled(world.gallery, 6))
    result = check(**mixed.sets("new_gallery"), **FAST)
    for name, metric in straight.metrics.items():
        assert dict(flat(result[name].to_dict())) == pytest.approx(dict(flat(metric.to_dict())), abs=1e-12)
    assert result.strict == straight.strict


def test_integers_and_text_name_the_same_classes(world):
    text = world.but(gallery=replace(world.gallery, labels=world.gallery.labels.astype(str)))
    assert check(**text.sets(), **FAST).metrics == check(**world.sets(), **FAST).metrics


def test_an_item_is_not_matched_with_itself(world):
    queries = VectorSet.from_arrays(np.eye(3), labels=["a", "a", "b"], ids=["1", "2", "3"])
    aligned = align(queries=queries, gallery=queries, baseline=queries)
    assert aligned.mates.counts.tolist() == [1, 1, 0]
    certificate = check(queries=queries, gallery=queries, baseline=queries, metrics=["rank@1"], replicates=20)
    assert certificate.data["self_matches_dropped"] == 3
    assert certificate.data["genuine_pairs"] == 2
    assert certificate.data["unmated_queries"] == 1
    note = next(note for note in certificate.notes if "by id" in note)
    assert note.startswith("3 of 3 queries are in the gallery by id, such as '1'")
    assert "make the ids unique" in note


def test_ids_that_do_not_meet_are_not_noted(world):
    assert not any("by id" in note for note in align(**world.sets()).notes)


def test_without_ids_equal_vectors_of_one_label_are_one_item_and_a_note_says_so():
    sets = VectorSet.from_arrays(np.eye(3) + 0.1, labels=["a", "a", "b"])
    certificate = check(queries=sets, gallery=sets, baseline=sets, metrics=["rank@1"], replicates=20)
    assert certificate.data["self_matches_dropped"] == 3
    assert certificate.data["genuine_pairs"] == 2
    note = next(note for note in certificate.notes if "the very vector and label" in note)
    assert note.startswith("3 of 3 queries")
    assert "give ids" in note


def test_without_ids_or_equal_vectors_identical_labels_are_noted():
    sets = VectorSet.from_arrays(np.eye(3) + 0.1, labels=["a", "a", "b"])
    other = VectorSet.from_arrays(np.eye(3) + 0.2, labels=["a", "a", "b"])
    certificate = check(queries=sets, gallery=other, baseline=sets, metrics=["rank@1"], replicates=20)
    assert certificate.data["self_matches_dropped"] == 0
    assert any("give ids" in note for note in certificate.notes)


def test_equal_vectors_of_another_label_are_noted():
    queries = VectorSet.from_arrays(np.eye(3) + 0.1, labels=["a", "a", "b"])
    gallery = VectorSet.from_arrays(np.eye(3) + 0.1, labels=["b", "a", "a"])
    notes = check(queries=queries, gallery=gallery, baseline=queries, metrics=["rank@1"], replicates=20).notes
    assert any(note.startswith("2 queries have the very vector of a gallery item of another label") for note in notes)


def test_lengths_that_vary_undeclared_spaces_and_labels_that_look_alike_are_noted(world):
    def notes(**sets):
        return check(**{**world.sets(), **sets}, **FAST).notes

    unit = {
        name: replace(part, vectors=part.vectors / np.linalg.norm(part.vectors, axis=1, keepdims=True))
        for name, part in world.sets().items()
    }
    plain = " ".join(notes(**unit))
    assert not any(words in plain for words in ("differ in length", "No space is declared", "look like one"))
    unit["gallery"] = replace(unit["gallery"], vectors=unit["gallery"].vectors * np.linspace(1, 3, 120)[:, None])
    assert any("Vectors differ in length (old item 1 to 3)" in note for note in notes(**unit))
    bare_sets = {name: replace(part, space=None, name=name) for name, part in unit.items()}
    assert any("No space is declared by gallery, queries" in note for note in notes(**bare_sets))
    labels = world.gallery.labels.astype("U12")
    labels[0] = "0" + labels[0]
    assert any(
        "1 pairs of labels look like one" in note for note in notes(gallery=replace(world.gallery, labels=labels))
    )


def test_unit_vectors_have_length_one_in_the_order_asked(world):
    order = np.array([4, 0, 2])
    unit = SideVectors(world.queries, order).read(0, 3)
    expected = world.queries.vectors[order].astype(float)
    np.testing.assert_allclose(unit, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-15)
    cut = SideVectors(world.queries, order, dim=5).read(0, 3)
    np.testing.assert_allclose(
        cut, expected[:, :5] / np.linalg.norm(expected[:, :5], axis=1, keepdims=True), atol=1e-15
    )


def test_a_rotation_keeps_angles_and_is_the_same_for_a_seed(world):
    rotation = random_rotation(16, 3)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(16), atol=1e-12)
    assert (rotation == random_rotation(16, 3)).all()
    assert not (rotation == random_rotation(16, 4)).all()
    rows = np.arange(10)
    plain = SideVectors(world.queries, rows).read(0, 10)
    turned = SideVectors(world.queries, rows, rotation=rotation).read(0, 10)
    np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=1e-12)


def with_vector(source: VectorSet, row: int, value: float) -> VectorSet:
    vectors = source.vectors.copy()
    vectors[row] = value
    return replace(source, vectors=vectors)


REFUSALS = {
    "no labels": (lambda w: {"queries": replace(w.queries, labels=None)}, InputError, "have no labels"),
    "no gallery labels": (lambda w: {"gallery": replace(w.gallery, labels=None)}, InputError, "have no labels"),
    "count": (lambda w: {"baseline": w.baseline.subset(np.arange(5))}, InputError, "90 expected, got 5"),
    "other items": (
        lambda w: {"baseline": replace(w.baseline, ids=np.char.add("x", w.baseline.ids))},
        InputError,
        "lacks 90 items of queries.*'query0'",
    ),
    "other gallery items": (
        lambda w: {"new_gallery": replace(w.new_gallery, ids=np.roll(np.char.add("x", w.new_gallery.ids), 1))},
        InputError,
        "new_gallery.*lacks 120 items",
    ),
    "other labels": (
        lambda w: {"baseline": replace(w.baseline, labels=np.roll(w.baseline.labels, 1))},
        InputError,
        "differs from queries.*item query0",
    ),
    "other rows": (
        lambda w: {"baseline": bare(w.baseline, labels=np.roll(w.baseline.labels, 1))},
        InputError,
        "label of row 0.*give both ids",
    ),
    "neither id nor label": (
        lambda w: {"baseline": bare(w.baseline, labels=None)},
        InputError,
        "neither ids nor labels",
    ),
    "one item, two labels": (
        lambda w: {"gallery": replace(w.gallery, ids=np.append(np.roll(w.queries.ids, 1), w.gallery.ids[90:]))},
        InputError,
        "one item has one identity",
    ),
    "old dimensions": (
        lambda w: {"baseline": bare(w.baseline, vectors=w.baseline.vectors[:, :8])},
        InputError,
        "one model and should agree in dimension, got 8 and 16",
    ),
    "longer new vectors": (
        lambda w: {
            "gallery": bare(w.gallery, vectors=w.gallery.vectors[:, :8]),
            "baseline": bare(w.baseline, vectors=w.baseline.vectors[:, :8]),
        },
        InputError,
        "use prefix",
    ),
    "shorter new vectors": (
        lambda w: {"queries": bare(w.queries, vectors=w.queries.vectors[:, :8])},
        InputError,
        "cannot be compared",
    ),
    "space of baseline": (
        lambda w: {"baseline": replace(w.baseline, space=w.queries.space)},
        SpaceError,
        "expected baseline in the space of gallery",
    ),
    "space of new gallery": (
        lambda w: {"new_gallery": replace(w.new_gallery, space=w.gallery.space)},
        SpaceError,
        "expected new_gallery in the space of queries",
    ),
    "space of paragon": (
        lambda w: {"paragon": (w.paragon[0], replace(w.paragon[1], space=w.gallery.space))},
        SpaceError,
        "paragon",
    ),
    "zero vector": (lambda w: {"queries": with_vector(w.queries, 7, 0.0)}, InputError, "row 7 .id query7. is zero"),
    "nan": (lambda w: {"gallery": with_vector(w.gallery, 9, np.nan)}, InputError, "row 9 .id item9."),
    "no mate": (
        lambda w: {"gallery": replace(w.gallery, labels=w.gallery.labels + 1000)},
        InputError,
        "no query has a mate",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_sets_that_do_not_fit_are_refused_in_one_line(world, case):
    change, error, message = REFUSALS[case]
    with pytest.raises(error, match=message) as caught:
        check(**{**world.sets(), **change(world)}, **FAST)
    assert "\n" not in str(caught.value)


def test_a_prefix_needs_longer_new_vectors(world):
    with pytest.raises(InputError, match="leave prefix out"):
        check(**world.sets(), prefix=True, **FAST)


def test_a_prefix_without_direction_is_refused(world):
    long = np.hstack([world.queries.vectors, np.ones((len(world.queries), 4), np.float32)])
    long[3, :16] = 0
    with pytest.raises(InputError, match=r"row 3 .*leading 16 values"):
        check(**{**world.sets(), "queries": bare(world.queries, vectors=long)}, prefix=True, **FAST)
