from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace.data import Allocation, ArraySource, GlyphSource, allocate, class_map, holdout, open_source, part, subset
from samespace.data.allocations import KINDS, Kind
from samespace.errors import InputError

label_lists = st.lists(st.integers(0, 12), min_size=2, max_size=80).filter(lambda labels: len(set(labels)) > 1)
fractions = st.floats(0.05, 0.95)
seeds = st.integers(0, 2**40)
kinds = st.sampled_from(KINDS)
LABELS = np.repeat(np.arange(50), 20)


@settings(deadline=None)
@given(label_lists, kinds, fractions, seeds)
def test_parts_relate_as_table_1_says(labels: list[int], kind: Kind, fraction: float, seed: int) -> None:
    made = allocate(labels, kind, fraction=fraction, seed=seed)
    old, new, everything = set(made.old_rows.tolist()), set(made.new_rows.tolist()), set(range(len(labels)))
    assert old
    assert new
    assert made.old_rows.tolist() == sorted(old)
    assert made.new_rows.tolist() == sorted(new)
    match kind:
        case "extended-data" | "extended-class":
            assert new == everything
        case "open-data" | "open-class":
            assert not old & new
            assert old | new == everything
        case "identical-data":
            assert old == new
    old_labels, new_labels = {labels[row] for row in old}, {labels[row] for row in new}
    if kind == "open-class":
        assert not old_labels & new_labels
    if kind == "extended-class":
        assert old == {row for row in everything if labels[row] in old_labels}
    if kind in ("extended-class", "open-class"):
        assert len(old_labels) == min(max(round(fraction * len(set(labels))), 1), len(set(labels)) - 1)
    else:
        assert len(old) == min(max(round(fraction * len(labels)), 1), len(labels) - 1)


@settings(deadline=None)
@given(label_lists, kinds, fractions, seeds)
def test_class_maps_lead_back_to_the_same_class(labels: list[int], kind: Kind, fraction: float, seed: int) -> None:
    made = allocate(labels, kind, fraction=fraction, seed=seed)
    assert made.new_to_old.shape == made.new_classes.shape
    for new_label, old_label in enumerate(made.new_to_old):
        if old_label >= 0:
            assert made.old_classes[old_label] == made.new_classes[new_label]
        else:
            assert made.new_classes[new_label] not in made.old_classes
    if kind == "open-class":
        assert (made.new_to_old == -1).all()


@settings(deadline=None)
@given(label_lists, fractions, seeds)
def test_both_sides_keep_every_class_where_possible(labels: list[int], fraction: float, seed: int) -> None:
    made = allocate(labels, "open-data", fraction=fraction, seed=seed)
    sizes = np.bincount(labels)
    classes, pairs = int((sizes > 0).sum()), int((sizes > 1).sum())
    assert len(made.old_classes) == min(classes, len(made.old_rows))
    if len(made.old_rows) >= classes:
        assert len(made.new_classes) == min(pairs, len(made.new_rows))


def test_kinds_share_their_draws() -> None:
    by_image = [allocate(LABELS, kind).old_rows for kind in ("extended-data", "open-data", "identical-data")]
    assert all(np.array_equal(rows, by_image[0]) for rows in by_image)
    by_class = [allocate(LABELS, kind).old_rows for kind in ("extended-class", "open-class")]
    assert np.array_equal(*by_class)


@pytest.mark.parametrize(
    ("kind", "old_images", "old_classes", "new_images", "new_classes"),
    [
        ("extended-data", 300, 50, 1000, 50),
        ("open-data", 300, 50, 700, 50),
        ("extended-class", 300, 15, 1000, 50),
        ("open-class", 300, 15, 700, 35),
        ("identical-data", 300, 50, 300, 50),
    ],
)
def test_proportions_of_table_1(
    kind: Kind, old_images: int, old_classes: int, new_images: int, new_classes: int
) -> None:
    made = allocate(LABELS, kind)
    assert (made.seed, made.fraction) == (666, 0.3)
    assert (len(made.old_rows), len(made.old_classes)) == (old_images, old_classes)
    assert (len(made.new_rows), len(made.new_classes)) == (new_images, new_classes)


def test_the_draw_by_image_is_uniform_where_no_class_would_be_lost() -> None:
    order = np.random.default_rng(np.random.SeedSequence([666, 0])).permutation(1000)
    assert allocate(LABELS, "open-data").old_rows.tolist() == sorted(order[:300].tolist())


def test_seeds_reproduce_and_differ() -> None:
    for kind in KINDS:
        first, again, other = (allocate(LABELS, kind, seed=seed).old_rows for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_a_class_of_one_image_goes_to_the_old_side() -> None:
    labels = [0] * 10 + [1] + [2] * 10
    for seed in range(20):
        assert 10 in allocate(labels, "open-data", seed=seed).old_rows


def test_string_and_huge_labels() -> None:
    words = allocate(np.array(["ant", "bee", "cat", "dog"] * 5), "extended-class", fraction=0.5)
    assert [words.new_classes[i] for i in np.flatnonzero(words.new_to_old >= 0)] == words.old_classes.tolist()
    huge = allocate(np.array([2**24, 2**24 + 1] * 10), "open-data")
    assert huge.new_to_old.tolist() == [0, 1]


def test_class_map_by_name() -> None:
    assert class_map(("b", "x", "a"), ("a", "b")).tolist() == [1, -1, 0]


@settings(deadline=None)
@given(label_lists, fractions, seeds, st.floats(0, 0.9), st.one_of(st.integers(1, 5), st.floats(0.1, 0.9)))
def test_holdout_keeps_classes_apart(
    labels: list[int], fraction: float, seed: int, open_set: float, queries: int | float
) -> None:
    held = holdout(labels, fraction=fraction, seed=seed, open_set=open_set, queries_per_class=queries)
    train, query, gallery = (set(rows.tolist()) for rows in (held.train_rows, held.query_rows, held.gallery_rows))
    assert len(train) + len(query) + len(gallery) == len(train | query | gallery) == len(labels)
    check_labels = {labels[row] for row in query | gallery}
    assert not check_labels & {labels[row] for row in train}
    assert len(check_labels) == min(max(round(fraction * len(set(labels))), 1), len(set(labels)) - 1)
    unmated = {labels[row] for row in query} - {labels[row] for row in gallery}
    assert len(unmated) == min(round(open_set * len(check_labels)), len(check_labels) - 1)
    for label in check_labels - unmated:
        size, asked = labels.count(label), sum(labels[row] == label for row in query)
        wanted = queries if isinstance(queries, int) else round(size * queries)
        assert asked == min(max(wanted, 1), size - 1)


def test_holdout_of_given_classes() -> None:
    held = holdout(LABELS, check_classes=[3, 49], queries_per_class=5)
    assert set(LABELS[held.gallery_rows]) == {3, 49}
    assert (len(held.query_rows), len(held.gallery_rows), len(held.train_rows)) == (10, 30, 960)
    with pytest.raises(InputError, match="77 is not a label"):
        holdout(LABELS, check_classes=[3, 77])


def test_allocating_what_a_holdout_leaves() -> None:
    held = holdout(LABELS, open_set=0.2)
    made = allocate(LABELS, "extended-class", holdout=held)
    assert np.array_equal(made.new_rows, held.train_rows)
    assert len(made.old_classes) == 12
    assert np.array_equal(made.rows("queries"), held.query_rows)
    assert np.array_equal(made.rows("gallery"), held.gallery_rows)


def test_an_allocation_fits_a_shuffled_source_by_id(tmp_path: Path) -> None:
    source = GlyphSource(classes=10, images=4, size=16)
    made = allocate(source, "extended-class", holdout=holdout(source))
    made.save(tmp_path / "split.json", source)
    shuffled = subset(source, np.random.default_rng(0).permutation(40))
    loaded = Allocation.load(tmp_path / "split.json", shuffled)
    for name in ("old", "new", "queries", "gallery"):
        assert sorted(part(shuffled, loaded, name).ids) == sorted(part(source, made, name).ids)
        assert part(shuffled, loaded, name).classes == part(source, made, name).classes
    assert (loaded.kind, loaded.seed, loaded.fraction) == (made.kind, made.seed, made.fraction)
    assert np.array_equal(loaded.new_to_old, made.new_to_old)
    held = json.loads((tmp_path / "split.json").read_text())
    assert held["format"] == "samespace.allocation/1"
    assert held["source"] == {"name": source.name, "fingerprint": source.fingerprint(), "images": 40, "classes": 10}


def test_part_views_have_the_labels_the_class_map_speaks_of() -> None:
    source = GlyphSource(classes=10, images=4, size=16)
    made = allocate(source, "extended-class")
    old, new = part(source, made, "old"), part(source, made, "new")
    assert class_map(new.classes, old.classes).tolist() == made.new_to_old.tolist()


def test_foreign_ids_are_refused(tmp_path: Path) -> None:
    source = GlyphSource(classes=6, images=2, size=16)
    path = tmp_path / "split.json"
    allocate(source, "open-data").save(path, source)
    with pytest.raises(InputError, match=r"ids of 'old' in .* are not in glyphs:.*seed=1.*, such as 'glyph-0-0000"):
        Allocation.load(path, GlyphSource(classes=6, images=2, size=16, seed=1))


def test_bare_row_numbers_do_not_fit_other_contents(tmp_path: Path) -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    source = ArraySource(images, [0, 0, 0, 1, 1, 1])
    path = tmp_path / "split.json"
    allocate(source, "open-data").save(path, source)
    assert len(Allocation.load(path, source).old_rows) == 2
    with pytest.raises(InputError, match="row numbers"):
        Allocation.load(path, ArraySource(images[::-1], [0, 0, 0, 1, 1, 1]))


def test_broken_files_are_refused(tmp_path: Path) -> None:
    source = GlyphSource(classes=6, images=2, size=16)
    path = tmp_path / "split.json"
    allocate(source, "open-data").save(path, source)
    whole = json.loads(path.read_text())

    def refused(message: str, text: str) -> None:
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            Allocation.load(path, source)

    refused("not valid JSON", json.dumps(whole)[:-20])
    refused("expected an allocation", json.dumps({**whole, "format": "other/1"}))
    refused("not a whole allocation", json.dumps({key: whole[key] for key in whole if key != "parts"}))
    refused("did you mean 'open-data'", json.dumps({**whole, "kind": "opendata"}))
    ids = whole["parts"]["old"]
    refused("twice", json.dumps({**whole, "parts": {**whole["parts"], "old": [ids[0], ids[0]]}}))


def test_wrong_use_is_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'extended-class'"):
        allocate(LABELS, "extend-class")  # type: ignore[arg-type]
    for fraction in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="fraction"):
            allocate(LABELS, "open-data", fraction=fraction)
    with pytest.raises(InputError, match="1 classes"):
        allocate([0, 0, 0], "open-class")
    with pytest.raises(InputError, match="whole numbers or strings"):
        allocate([0.5, 1.0], "open-data")
    with pytest.raises(InputError, match="seed"):
        allocate(LABELS, "open-data", seed=-1)
    with pytest.raises(InputError, match="queries_per_class"):
        holdout(LABELS, queries_per_class=1.5)
    with pytest.raises(InputError, match="open_set"):
        holdout(LABELS, open_set=1.0)
    source = GlyphSource(classes=6, images=2, size=16)
    made = allocate(source, "open-data")
    with pytest.raises(InputError, match="has no queries"):
        part(source, made, "queries")
    with pytest.raises(InputError, match="no part 'galery'; did you mean 'gallery'"):
        part(source, made, "galery")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has 2 images"):
        made.save("unused.json", subset(source, [0, 1]))


@pytest.mark.data
def test_omniglot_alphabets_can_be_held_out(real_data: Callable[[str], Path]) -> None:
    path = real_data("omniglot.npz")
    source = open_source(path)
    with np.load(path, allow_pickle=False) as file:
        evaluation = np.flatnonzero(file["class_is_evaluation"])
    made = allocate(source, "extended-class", holdout=holdout(source, check_classes=evaluation))
    assert (len(made.new_classes), len(made.old_classes)) == (964, 289)
    assert len(part(source, made, "queries")) == len(part(source, made, "gallery")) == 6_590
