"""Image folders laid out as `root/class/image`."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import numpy as np

from samespace.data.listing import ListedOptions, ListedSource, Listing
from samespace.errors import InputError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}


class FolderSource(ListedSource):
    """Labelled images from `root/class/image`; the id of an image is its path relative to the root.

    Files and folders are read in the order of their names.

    Args:
        root: the folder.
        options: as `ListedSource`; `broken` also decides on classes without images.

    Attributes:
        ignored: files and folders that are no images or lie at another depth.

    Raises:
        InputError: no folder, no class, an empty class, a broken image, or unlike sizes without `image_size`.
    """

    def __init__(self, root: str | Path, **options: Unpack[ListedOptions]) -> None:
        self.root = Path(root)
        images, empty, self.ignored = _scan(self.root)
        if not images:
            raise InputError(_nothing(self.root, empty, self.ignored))
        ids = np.array([path.relative_to(self.root).as_posix() for path in images])
        classes = np.array([path.parent.name for path in images])
        bad = tuple((name, "a class folder without images") for name in empty)
        super().__init__(Listing.of_files(f"{self.root}/", ids, classes, images.__getitem__, bad=bad), **options)


def _scan(root: Path) -> tuple[list[Path], list[str], tuple[str, ...]]:
    """Image paths in order, names of classes without any, and everything else that lies there."""
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; expected images as root/class/image")
    images: list[Path] = []
    empty: list[str] = []
    ignored: list[str] = []
    for entry in sorted(root.iterdir(), key=lambda path: path.name):
        if entry.name.startswith("."):
            continue
        if not entry.is_dir():
            ignored.append(entry.name)
            continue
        inside = sorted((path for path in entry.iterdir() if not path.name.startswith(".")), key=lambda p: p.name)
        pictures = [path for path in inside if path.suffix.lower() in SUFFIXES and path.is_file()]
        usable = set(pictures)
        ignored += [path.relative_to(root).as_posix() for path in inside if path not in usable]
        images += pictures
        if not pictures:
            empty.append(entry.name)
    return images, empty, tuple(ignored)


def _nothing(root: Path, empty: list[str], ignored: tuple[str, ...]) -> str:
    if empty:
        return f"no images in {root}/: class folder {empty[0]!r} is empty; expected root/class/image"
    if any(Path(name).suffix.lower() in SUFFIXES for name in ignored):
        return f"{root}/ holds images but no class folders; expected root/class/image"
    return f"no class folders in {root}/; expected images as root/class/image"
