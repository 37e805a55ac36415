"""A gallery on a disk that runs full: one line, nothing acknowledged lost, and on with it once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from samespace.errors import GalleryError
from samespace.gallery import Gallery
from samespace.gallery.backfill.worker import Worker
from samespace.metrics.calibration import Calibration
from samespace.space import Space
from samespace.vectors import VectorSet

from .world import certificate

SPACE = Space(weights="disk", preprocessing="none", dim=64, normalized=True, name="disk")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of three megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small tmpfs cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def made(count: int) -> VectorSet:
    """So many items."""
    values = np.random.default_rng(0).normal(size=(count, SPACE.dim))
    unit = (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)
    return VectorSet.from_arrays(unit, ids=[f"item-{row:05d}" for row in range(count)], space=SPACE)


def test_add_until_the_disk_is_full_and_go_on_when_there_is_room(small: Path) -> None:
    vectors = made(20_000)
    acknowledged = [0]

    def count(done: int, note: str = "") -> None:
        acknowledged[0] += done

    with Gallery.create(small / "gallery", SPACE) as gallery:
        with pytest.raises(GalleryError, match="disk is full; what was acknowledged is kept") as caught:
            gallery.add(vectors, advance=count)
        assert "\n" not in str(caught.value)
        assert 0 < acknowledged[0] < len(vectors)
        assert len(gallery) == acknowledged[0]
        hits = gallery.search(vectors.subset(np.arange(3)), k=1).hits
        assert [hit[0].item for hit in hits] == ["item-00000", "item-00001", "item-00002"]
    with Gallery.open(small / "gallery") as gallery:
        assert len(gallery) == acknowledged[0]
        subprocess.run(["mount", "-o", "remount,size=60m", str(small)], check=True)
        assert gallery.add(vectors).present == acknowledged[0]
        assert len(gallery) == len(vectors)
        assert gallery.doctor().healthy


def test_a_backfill_on_a_full_disk_keeps_what_is_done(small: Path) -> None:
    new = Space(weights="wider", preprocessing="none", dim=64, normalized=True, name="wider")
    vectors = made(1500)
    later = VectorSet.from_arrays(vectors.vectors, ids=vectors.ids, space=new)
    subprocess.run(["mount", "-o", "remount,size=8m", str(small)], check=True)
    with Gallery.create(small / "gallery", SPACE) as gallery:
        gallery.add(vectors)
        gallery.upgrade(new, accept_uncertified=True)
        with gallery.ledger.write() as writer:
            for other in (1, 2):
                writer.put_calibration(2, other, _calibration(), "made up")
        with (small / "ballast").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        with pytest.raises(GalleryError, match="disk is full"):
            gallery.backfill(vectors=later)
        stored = next(kept.vectors for kept in gallery.status().spaces if kept.space == new)
        (small / "ballast").unlink()
        assert gallery.backfill(vectors=later).stored == 1500 - stored
        assert gallery.doctor().healthy


def test_no_item_is_given_up_because_the_store_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Worker, *done: object) -> None:
        raise GalleryError("the disk is full")

    new = Space(weights="wider", preprocessing="none", dim=64, normalized=True, name="wider")
    vectors = made(2)
    later = VectorSet.from_arrays(vectors.vectors, ids=vectors.ids, space=new)
    with Gallery.create(tmp_path / "gallery", SPACE) as gallery:
        gallery.add(vectors)
        gallery.upgrade(new, accept_uncertified=True)
        with gallery.ledger.write() as writer:
            for other in (1, 2):
                writer.put_calibration(2, other, _calibration(), "made up")
        with monkeypatch.context() as patched:
            patched.setattr(Worker, "_store", full)
            for _ in range(14):
                with pytest.raises(GalleryError, match="disk is full"):
                    gallery.backfill(vectors=later)
        done = gallery.backfill(vectors=later)
        assert (done.stored, dict(done.failed)) == (2, {})


def _calibration() -> Calibration:
    return certificate().calibrations["new"]
