from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.data import Allocation, ArraySource, allocate, open_source
from samespace.errors import InputError

GREY = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_grey_images_and_sparse_labels() -> None:
    source = ArraySource(GREY, [70, 2**40, 70])
    assert source.labels.tolist() == [0, 1, 0]
    assert source.classes == ("70", str(2**40))
    assert source.ids.tolist() == ["0", "1", "2"]
    assert source.image_shape == (1, 4, 5)
    assert np.array_equal(source.load([2, 0]).numpy()[:, 0], GREY[[2, 0]])


def test_labels_beyond_float_precision_stay_apart() -> None:
    assert ArraySource(GREY, [2**24, 2**24 + 1, 2**24]).labels.tolist() == [0, 1, 0]


def test_labels_sort_as_numbers() -> None:
    assert ArraySource(GREY, [10, 9, 10]).classes == ("9", "10")


def test_colour_images_become_planes() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    source = ArraySource(colour, ["x", "y", "x"])
    assert source.image_shape == (3, 4, 5)
    assert np.array_equal(source.load([1]).numpy()[0], colour[1].transpose(2, 0, 1))


def test_resizing_and_channels() -> None:
    source = ArraySource(GREY, [0, 0, 1], image_size=8, channels=3)
    images = source.load([0, 1, 2]).numpy()
    assert images.shape == (3, 3, 8, 8)
    assert np.array_equal(images[:, 0], images[:, 2])
    assert ArraySource(GREY, [0, 0, 1], image_size=(4, 5)).load([1]).numpy()[0, 0].tolist() == GREY[1].tolist()


def test_label_names_and_ids_from_npz(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=GREY, labels=[2, 0, 2], label_names=["ant", "bee", "cat"], ids=["p", "q", "r"], other=[1])
    source = open_source(str(path))
    assert source.classes == ("ant", "cat")
    assert source.labels.tolist() == [1, 0, 1]
    assert source.ids.tolist() == ["p", "q", "r"]


def test_fingerprint_covers_pixels_labels_names_and_ids() -> None:
    def mark(images: Any = GREY, labels: Any = (0, 1, 0), **more: Any) -> str:
        return ArraySource(images, labels, **more).fingerprint()

    changed = GREY.copy()
    changed[2, 3, 4] ^= 1
    prints = [
        mark(),
        mark(changed),
        mark(labels=(0, 1, 1)),
        mark(ids=["a", "b", "c"]),
        mark(label_names=["x", "y"]),
        mark(GREY.reshape(3, 5, 4)),
    ]
    assert len(set(prints)) == len(prints)
    assert mark(GREY.copy()) == prints[0]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": GREY.astype(np.float32)}, "float32; expected .* run from 0.0 to 59.0: save images.round"),
        ({"images": GREY.astype(np.float32) / 255}, r"float32; expected .*: save \(images \* 255\).round\(\).astype"),
        ({"images": GREY.astype(np.int32)}, r"int32; expected .*: save images.astype\('uint8'\)"),
        ({"images": GREY.astype(np.uint16) * 257}, r"uint16; expected .*: save \(images >> 8\).astype"),
        ({"images": GREY > 9}, r"bool; expected .*: save images.astype\('uint8'\) \* 255"),
        ({"images": GREY.astype(np.int32) - 9}, "int32; expected .* run from -9 to 50: bring them to 0"),
        ({"images": np.full((3, 4, 5), np.nan)}, "float64; expected .*NaN or infinity"),
        ({"images": np.zeros((3, 3, 5, 6), np.uint8)}, r"\(3, 3, 5, 6\); .* save images.transpose\(0, 2, 3, 1\)"),
        ({"images": GREY[0]}, r"shape \(4, 5\)"),
        ({"images": np.zeros((3, 4, 5, 4), np.uint8)}, r"\(3, 4, 5, 4\)"),
        ({"images": GREY[:0], "labels": np.empty(0, int)}, "no images"),
        ({"labels": [0, 1]}, "3 images and labels of shape"),
        ({"labels": [0.0, 1.0, 2.0]}, "whole numbers or strings"),
        ({"label_names": ["only"]}, "label_names has 1"),
        ({"labels": [-1, 0, 1], "label_names": ["a", "b"]}, "run from -1"),
        ({"label_names": ["same", "same"]}, "same name"),
        ({"labels": ["a", "b", "c"], "label_names": ["a", "b", "c"]}, "whole-number labels"),
        ({"ids": ["a", "b", "a"]}, "'a' is used 2 times"),
        ({"ids": ["a"]}, "expected 3"),
    ],
)
def test_wrong_arrays_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{"images": GREY, "labels": [0, 1, 0], **arrays})
    with pytest.raises(InputError, match=message) as caught:
        open_source(path)
    assert "\n" not in str(caught.value)


def test_missing_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, pictures=GREY, labels=[0, 1, 0])
    with pytest.raises(InputError, match="lacks images; it holds pictures, labels"):
        open_source(path)


def test_cut_and_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez_compressed(path, images=np.random.default_rng(0).integers(0, 256, (50, 9, 9), np.uint8), labels=range(50))
    whole = path.read_bytes()
    for keep in (0, 10, len(whole) // 2, len(whole) - 4):
        path.write_bytes(whole[:keep])
        with pytest.raises(InputError, match=r"set\.npz"):
            open_source(path)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(InputError, match=r"set\.npz"):
        open_source(path)
    path.write_text("hello")
    with pytest.raises(InputError, match=r"not an \.npz"):
        open_source(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, images=GREY, labels=np.array([{}, {}, {}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        open_source(path)


@pytest.mark.data
def test_omniglot_opens_whole(real_data: Callable[[str], Path]) -> None:
    source = open_source(real_data("omniglot.npz"))
    assert (len(source), len(source.classes)) == (32_460, 1_623)
    assert source.image_shape == (1, 32, 32)
    assert np.bincount(source.labels).tolist() == [20] * 1_623
    assert source.load([0]).max() == 255


@pytest.mark.data
def test_grocery_opens_in_colour_and_grey(real_data: Callable[[str], Path]) -> None:
    source = open_source(real_data("grocery.npz"))
    assert (len(source), len(source.classes), source.image_shape) == (5_421, 81, (3, 48, 48))
    assert open_source(real_data("grocery.npz"), image_size=32, channels=1).image_shape == (1, 32, 32)


@pytest.mark.data
def test_a_file_without_images_is_refused(real_data: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match="lacks images and labels"):
        open_source(real_data("protocolmeta.npz"))


def test_an_allocation_without_ids_holds_at_another_image_size(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(24) % 6)
    own, resized = (ArraySource.from_npz(tmp_path / "a.npz", image_size=size) for size in (None, 8))
    assert own.fingerprint() == resized.fingerprint()
    allocation = allocate(own, "extended-class", seed=0)
    allocation.save(tmp_path / "allocation.json", own)
    found = Allocation.load(tmp_path / "allocation.json", resized)
    assert np.array_equal(found.old_rows, allocation.old_rows)
    assert resized.image_shape == (1, 8, 8)
