from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from samespace.data import ArraySource, GlyphSource, ImageSource, describe, open_source, subset
from samespace.errors import InputError


@pytest.fixture
def source() -> ArraySource:
    images = np.arange(6 * 2 * 2, dtype=np.uint8).reshape(6, 2, 2)
    return ArraySource(images, ["b", "a", "c", "a", "c", "c"], ids=["u", "v", "w", "x", "y", "z"])


def test_sources_follow_the_protocol(source: ArraySource) -> None:
    assert isinstance(source, ImageSource)
    assert isinstance(GlyphSource(classes=2, images=2, size=16), ImageSource)
    assert isinstance(subset(source, [0]), ImageSource)


def test_subset_keeps_order_ids_and_names_and_renumbers_labels(source: ArraySource) -> None:
    view = subset(source, [5, 0, 4])
    assert view.ids.tolist() == ["z", "u", "y"]
    assert view.classes == ("b", "c")
    assert view.labels.tolist() == [1, 0, 1]
    assert view.labels.dtype == np.int64
    assert torch.equal(view.load([1, 0]), source.load([0, 5]))
    assert len(view) == 3


def test_subset_of_a_subset_reads_the_right_images(source: ArraySource) -> None:
    view = subset(subset(source, [5, 3, 1]), [2, 0])
    assert view.ids.tolist() == ["v", "z"]
    assert torch.equal(view.load([0, 1]), source.load([1, 5]))


def test_subset_fingerprint_depends_on_rows_and_contents(source: ArraySource) -> None:
    prints = {subset(source, rows).fingerprint() for rows in ([0, 1], [1, 0], [0, 2])}
    assert len(prints) == 3
    assert subset(source, [0, 1]).fingerprint() in prints
    other = ArraySource(np.zeros((6, 2, 2), np.uint8), source.labels, ids=source.ids)
    assert subset(other, [0, 1]).fingerprint() not in prints


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "no rows"), ([0, 0], "twice"), ([6], "0 to 5"), ([-1], "0 to 5"), ([0.5], "whole"), ([[0]], "one list")],
)
def test_subset_refuses_unusable_rows(source: ArraySource, rows: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        subset(source, rows)


def test_loading_no_rows_gives_an_empty_batch(source: ArraySource) -> None:
    assert source.load([]).shape == (0, 1, 2, 2)


def test_many_threads_read_the_same_as_one() -> None:
    rows = [np.random.default_rng(seed).integers(0, 200, 17) for seed in range(24)]
    alone = GlyphSource(classes=20, images=10, size=16)
    expected = [alone.load(row) for row in rows]
    shared = GlyphSource(classes=20, images=10, size=16)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(shared.load, rows))
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_open_source_reads_glyph_options() -> None:
    glyphs = open_source("glyphs:classes=3,images=2,size=20,seed=7,difficulty=0.25")
    assert glyphs.image_shape == (1, 20, 20)
    assert (len(glyphs), len(glyphs.classes)) == (6, 3)
    assert glyphs.name == "glyphs:classes=3,images=2,size=20,seed=7,difficulty=0.25"
    assert open_source("glyphs:classes=3", image_size=24, channels=3).image_shape == (3, 24, 24)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("glyphs:clases=3", "did you mean 'classes'"),
        ("glyphs:classes", "classes=NUMBER"),
        ("glyphs:classes=3,classes=4", "once"),
        ("glyphs:classes=many", "whole number"),
        ("glyphs:difficulty=hard", "must be a number"),
        ("glyphs:difficulty=2", "0 to 1"),
        ("glyphs:difficulty=nan", "0 to 1"),
        ("glyphs:classes=0", "1 to"),
        ("glyphs:size=4", "12 to 512"),
        ("glyfs", "did you mean 'glyphs'"),
        ("no/such/folder", "does not exist"),
        ("missing.npz", "does not exist"),
    ],
)
def test_open_source_refuses_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


def test_open_source_refuses_contradicting_glyph_sizes() -> None:
    with pytest.raises(InputError, match="size=32 exclude each other"):
        open_source("glyphs:size=32", image_size=28)
    with pytest.raises(InputError, match="square"):
        open_source("glyphs", image_size=(28, 32))
    with pytest.raises(InputError, match="channels"):
        open_source("glyphs", channels=2)


def test_a_path_is_never_taken_for_glyphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_source(Path("glyphs"))


def test_describe_counts(source: ArraySource) -> None:
    found = describe(source)
    assert (found.images, found.classes) == (6, 3)
    assert (found.smallest_class, found.median_class, found.largest_class) == (1, 2.0, 3)
    assert found.one_image_classes == 1
    assert found.to_dict()["image_shape"] == [1, 2, 2]
    assert found.fingerprint == source.fingerprint()
    assert found.skipped == ()
