"""Caltech-UCSD Birds 200-2011, by its own lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from samespace import text
from samespace.data.listing import Listing
from samespace.errors import InputError, suggest

_PARTS = ("train", "test", "train-classes", "test-classes", "all")
_FIRST_HALF = 100


def cub_listing(root: str | Path, *, part: str = "train-classes") -> Listing:
    """The images of one part of CUB-200-2011; the class of an image is the number of its species, 1 to 200.

    `images.txt` has a line `number path` for each image, `image_class_labels.txt` a line `number class`, and
    `train_test_split.txt` a line `number 1` (training) or `number 0` (test); images lie in `images`. Source: Wah et
    al., The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.

    Args:
        root: folder of the lists.
        part: `train-classes` (1 to 100) and `test-classes` (101 to 200), which share no class, as metric learning
            splits the set (Oh Song et al., CVPR 2016); `train` and `test` as `train_test_split.txt` says, which share
            all classes; or `all`.

    Raises:
        InputError: no such folder or part, a line of another form, or lists that do not fit each other.
    """
    folder = Path(root)
    if part not in _PARTS:
        raise InputError(f"cub has no part {part!r}; {suggest(part, _PARTS)}")
    paths = dict(_numbered(folder / "images.txt", "number and path"))
    classes = _whole(folder / "image_class_labels.txt", paths)
    if part in ("train", "test"):
        split = _whole(folder / "train_test_split.txt", paths)
        kept = [number for number in paths if split[number] == (part == "train")]
    else:
        sides = {"train-classes": (1, _FIRST_HALF), "test-classes": (_FIRST_HALF + 1, 10**9), "all": (0, 10**9)}
        low, high = sides[part]
        kept = [number for number in paths if low <= classes[number] <= high]
    if not kept:
        raise InputError(f"{folder} has no images of part {part!r}")
    ids = np.array([f"images/{paths[number]}" for number in kept])
    labels = np.array([classes[number] for number in kept], dtype=np.int64)

    def path_of(row: int) -> Path:
        return folder / str(ids[row])

    return Listing.of_files(f"cub:{folder},part={part}", ids, labels, path_of, told=labels)


def _numbered(path: Path, what: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for number, line in text.lines(path, f"lines of {what}, of CUB-200-2011"):
        image, _, value = line.strip(" ").partition(" ")
        if not image.isdecimal() or not value or image in seen:
            why = "names an image twice" if image in seen else f"is {line[:80]!r}"
            raise InputError(f"{path} line {number} {why}; expected {what}")
        seen.add(image)
        yield image, value.strip(" ")


def _whole(path: Path, images: dict[str, str]) -> dict[str, int]:
    found = dict(_numbered(path, "number and whole number"))
    if found.keys() != images.keys():
        odd = next(iter(found.keys() ^ images.keys()))
        raise InputError(f"{path} and images.txt list other images; image {odd} is in one of them alone")
    if bad := next((image for image, value in found.items() if not (value.isdecimal() and len(value) < 10)), None):
        raise InputError(f"{path} gives image {bad} {found[bad][:40]!r}; expected a whole number")
    return {image: int(value) for image, value in found.items()}
