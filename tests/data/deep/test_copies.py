from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.data import ArraySource, FolderSource, open_source
from samespace.data.deep import copies, find_copies, look


def picture(seed: int, size: int = 64) -> Image.Image:
    """A smooth picture, as photographs are."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return small.resize((size, size), Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(12):
        save(picture(number), tmp_path / f"class{number % 3}" / f"{number}.png")
    save(picture(0), tmp_path / "class1" / "copy-of-0.bmp")
    save(picture(3), tmp_path / "class0" / "again-3.png")
    save(picture(4).resize((48, 48)), tmp_path / "class2" / "near-4.jpg", quality=75)
    return tmp_path


def named(pairs: tuple, source: FolderSource) -> set[tuple[str, str]]:
    return {(str(source.ids[pair.row]), str(source.ids[pair.other])) for pair in pairs}


def test_copies_are_found_whatever_the_file_format_and_near_copies_after_compression(folder):
    source = FolderSource(folder, image_size=32)
    found = find_copies(look(source), source.labels)
    assert named(found.across, source) == {
        ("class0/0.png", "class1/copy-of-0.bmp"),
        ("class1/copy-of-0.bmp", "class0/0.png"),
    }
    assert [{one, other} for one, other in named(found.within, source)] == [{"class0/again-3.png", "class0/3.png"}]
    assert named(found.near, source) == {("class1/4.png", "class2/near-4.jpg"), ("class2/near-4.jpg", "class1/4.png")}
    assert all(0.99 <= pair.likeness < 1 for pair in found.near)


def test_images_that_differ_only_at_their_own_size_are_near_copies_and_no_copies(tmp_path):
    one = np.asarray(picture(1, 128)).copy()
    other = one.copy()
    other[::2, ::2, 0] ^= 1
    for name, pixels in (("a", one), ("b", other)):
        save(Image.fromarray(pixels), tmp_path / name / "x.png")
    source = FolderSource(tmp_path, image_size=32)
    found = find_copies(look(source), source.labels)
    assert not found.across
    assert len(found.near) == 2


def test_arrays_by_slow_definition():
    random = np.random.default_rng(0)
    distinct = random.integers(0, 256, (6, 12, 12), dtype=np.uint8)
    images, labels = distinct[random.integers(0, 6, 40)], random.integers(0, 4, 40)
    source = ArraySource(images, labels)
    found = find_copies(look(source), source.labels)
    same = (images[:, None] == images[None]).all(axis=(2, 3))
    across = [row for row in range(40) if (same[row] & (labels != labels[row])).any()]
    within = [row for row in range(40) if (same[row] & (labels == labels[row]))[:row].any()]
    assert [pair.row for pair in found.across] == across
    assert [pair.row for pair in found.within] == within
    for pair in found.across:
        assert same[pair.row, pair.other]
        assert labels[pair.row] != labels[pair.other]


def test_images_of_one_colour_are_near_nothing():
    images = np.stack([np.full((16, 16), value, dtype=np.uint8) for value in (0, 10, 20)])
    source = ArraySource(images, np.array([0, 1, 2]))
    assert not find_copies(look(source), source.labels).near


def test_pictures_are_the_low_frequencies_of_scipy():
    from scipy.fft import dctn

    images = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    wanted = dctn(images.mean(axis=1), axes=(1, 2), norm="ortho")[:, :16, :16].reshape(3, -1)[:, 1:]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert copies.pictures(images) == pytest.approx(wanted, abs=1e-5)


def test_glyphs_hold_no_copies():
    source = open_source("glyphs:classes=40,images=8,size=32,difficulty=0.3")
    found = find_copies(look(source), source.labels)
    assert (found.across, found.within, found.near) == ((), (), ())
