from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace.data import FolderSource, describe, listed, open_source
from samespace.errors import InputError


def write(path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (6, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "b" / "2.png", (0, 0, 255))
    write(tmp_path / "b" / "10.PNG", (0, 255, 0))
    write(tmp_path / "a" / "x.bmp", (255, 0, 0))
    return tmp_path


def truncate(path: Path, size: tuple[int, int] = (64, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_reads_classes_ids_and_colours_in_name_order(root: Path) -> None:
    source = FolderSource(root)
    assert source.classes == ("a", "b")
    assert source.ids.tolist() == ["a/x.bmp", "b/10.PNG", "b/2.png"]
    assert source.labels.tolist() == [0, 1, 1]
    assert source.image_shape == (3, 4, 6)
    images = source.load([2, 0])
    assert images.dtype == torch.uint8
    assert images[:, :, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


def test_decoding_on_demand_gives_the_same_images(root: Path) -> None:
    kept, on_demand = FolderSource(root), FolderSource(root, budget=0)
    assert torch.equal(kept.load([2, 0, 1]), on_demand.load([2, 0, 1]))
    assert on_demand.fingerprint() == kept.fingerprint()
    assert on_demand.load([]).shape == (0, 3, 4, 6)


def test_grey_and_resized(root: Path) -> None:
    source = open_source(root, image_size=(5, 7), channels=1)
    assert source.load([0]).shape == (1, 1, 5, 7)
    assert source.load([0]).unique().tolist() == [76]  # ITU-R 601 luma of pure red


def test_unlike_sizes_need_an_image_size(root: Path) -> None:
    write(root / "a" / "large.png", size=(40, 30))
    with pytest.raises(InputError, match=r"6x4 to 40x30 .* give an image_size"):
        FolderSource(root)
    assert FolderSource(root, image_size=8).image_shape == (3, 8, 8)


def test_orientation_is_applied(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    wide = np.zeros((4, 8, 3), dtype=np.uint8)
    wide[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(wide).save(tmp_path / "a" / "p.png", exif=exif)
    source = FolderSource(tmp_path)
    assert source.image_shape == (3, 8, 4)
    assert source.load([0])[0, 0, :, 0].tolist() == [255] * 4 + [0] * 4


def test_sixteen_bit_and_transparent_images(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(np.full((4, 4), 0x8000, dtype=np.uint16)).save(tmp_path / "a" / "1.png")
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a" / "2.png")
    source = FolderSource(tmp_path)
    assert source.load([0]).unique().tolist() == [0x80]
    assert source.load([1]).unique().tolist() == [255]


@pytest.mark.parametrize("budget", [0, 2**30])
def test_files_that_are_no_images_are_refused_by_name(root: Path, budget: int) -> None:
    (root / "b" / "bad.png").write_bytes(b"not a picture")
    (root / "b" / "zero.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"holds 2 that cannot be used: b/bad.png: .*; b/zero.jpg: ") as caught:
        FolderSource(root, budget=budget)
    assert "\n" not in str(caught.value)
    source = FolderSource(root, broken="skip", budget=budget)
    assert [path for path, _ in source.skipped] == ["b/bad.png", "b/zero.jpg"]
    assert len(source) == 3
    assert describe(source).to_dict()["skipped"][0]["path"] == "b/bad.png"


@pytest.mark.parametrize("budget", [0, 2**30])
def test_a_truncated_jpeg_is_broken(root: Path, budget: int) -> None:
    truncate(root / "a" / "cut.jpg")
    with pytest.raises(InputError, match=r"a/cut\.jpg: .*truncated"):
        FolderSource(root, image_size=8, budget=budget)
    source = FolderSource(root, image_size=8, broken="skip", budget=budget)
    assert [path for path, _ in source.skipped] == ["a/cut.jpg"]
    assert len(source.load(range(len(source)))) == 3


def test_an_image_that_breaks_after_the_scan_is_named(root: Path) -> None:
    write(root / "a" / "later.jpg")
    source = FolderSource(root, image_size=8, budget=0)
    truncate(root / "a" / "later.jpg")
    row = source.ids.tolist().index("a/later.jpg")
    with pytest.raises(InputError, match=r"later\.jpg cannot be read"):
        source.load([row])


def test_a_class_of_broken_images_alone_is_dropped_by_name(root: Path) -> None:
    (root / "c").mkdir()
    (root / "c" / "bad.jpg").write_bytes(b"\xff\xd8nothing")
    source = FolderSource(root, broken="skip")
    assert source.classes == ("a", "b")
    assert dict(source.skipped)["c"] == "a class whose images are all broken"


def test_an_empty_class_is_named(root: Path) -> None:
    (root / "empty").mkdir()
    with pytest.raises(InputError, match="empty: a class folder without images"):
        FolderSource(root)
    source = FolderSource(root, broken="skip")
    assert source.classes == ("a", "b")
    assert source.skipped == (("empty", "a class folder without images"),)


def test_other_files_and_nested_folders_are_ignored_and_listed(root: Path) -> None:
    (root / "notes.txt").write_text("x")
    (root / "b" / "list.csv").write_text("x")
    write(root / "b" / "deeper" / "y.png")
    source = FolderSource(root)
    assert len(source) == 3
    assert source.ignored == ("b/deeper", "b/list.csv", "notes.txt")


def test_folders_without_classes_or_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class folders"):
        FolderSource(tmp_path)
    write(tmp_path / "lonely.jpg")
    with pytest.raises(InputError, match="holds images but no class folders"):
        FolderSource(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="'c' is empty"):
        FolderSource(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        FolderSource(tmp_path / "absent")


def test_fingerprint_follows_the_files(root: Path) -> None:
    first = FolderSource(root).fingerprint()
    assert FolderSource(root).fingerprint() == first
    assert FolderSource(root, channels=1).fingerprint() != first
    os.utime(root / "a" / "x.bmp", ns=(1, 1))
    assert FolderSource(root).fingerprint() != first


@pytest.mark.parametrize("option", [{"image_size": 0}, {"image_size": (4, 4, 4)}, {"channels": 4}, {"broken": "fix"}])
def test_wrong_options_are_refused(root: Path, option: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(option))):
        FolderSource(root, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [0, 2**30])
def test_paths_are_handed_out_in_chunks_and_threads_end(root: Path, budget: int, monkeypatch) -> None:
    whole = FolderSource(root)
    handed: list[int] = []

    class Pool(listed.ThreadPoolExecutor):
        def map(self, fn, paths):
            handed.append(len(paths))
            return super().map(fn, paths)

    monkeypatch.setattr(listed, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(listed, "CHUNK", 2)
    rows = list(range(len(whole)))
    cut = FolderSource(root, budget=budget)
    assert torch.equal(cut.load(rows), whole.load(rows))
    assert max(handed) == 2
    assert sum(handed) == 2 * len(rows)  # headers, then pixels
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("samespace-decode")]
