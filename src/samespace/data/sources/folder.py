"""Image folders laid out as `root/class/image`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import numpy as np

from samespace.data.listed import ListedOptions, ListedSource
from samespace.data.listing import Listing
from samespace.data.sources.kinds import (
    FOLDER_LINK,
    HIDDEN,
    NESTED,
    broken_link,
    counted,
    entries,
    is_a,
    is_image,
    kind_of,
    looks_like_image,
    nested,
)
from samespace.errors import InputError

EMPTY = "a class folder without images"


class FolderSource(ListedSource):
    """Labelled images from `root/class/image`; the id of an image is its path relative to the root.

    Files and folders are read in the order of their names. A file is an image by its suffix, whatever its case, where
    the installed Pillow can read such images; what it is inside is read from its contents.

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
        scan = _Scan(self.root).all()
        images, self.ignored = scan.images, tuple(sorted(scan.ignored))
        if not images:
            raise InputError(_nothing(self.root, scan))
        ids = np.array([path.relative_to(self.root).as_posix() for path in images])
        classes = np.array([path.parent.name for path in images])
        listing = Listing.of_files(
            f"{self.root}/",
            ids,
            classes,
            images.__getitem__,
            bad=tuple(scan.bad),
            passed_over=tuple(scan.passed_over),
        )
        super().__init__(listing, **options)


@dataclass
class _Scan:
    """What lies in a folder: image paths in order, what cannot be used and why, and what is passed over."""

    root: Path
    images: list[Path] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def all(self) -> _Scan:
        """Look through the whole folder."""
        if not self.root.is_dir():
            raise InputError(f"{self.root} is not a folder; expected images as root/class/image")
        for entry in entries(self.root):
            if not entry.name.startswith(".") and is_a("dir", entry):
                self._class(entry)
            else:
                outside = not entry.name.startswith(".") and is_image(entry.name) and is_a("file", entry)
                self._pass(entry, "images outside any class folder" if outside else kind_of(entry))
        return self

    def _class(self, folder: os.DirEntry[str]) -> None:
        before, deeper = len(self.images), len(self.passed_over)
        try:
            inside = entries(folder.path)
        except OSError as error:
            self.bad.append((folder.name, f"a class folder that cannot be read: {error.strerror}"))
            return
        for entry in inside:
            if entry.name.startswith("."):
                self._pass(entry, HIDDEN)
            elif is_image(entry.name) and is_a("file", entry):
                self.images.append(self.root / folder.name / entry.name)
            elif is_image(entry.name) and entry.is_symlink() and (broken := broken_link(entry)):
                self.bad.append((f"{folder.name}/{entry.name}", broken))
            elif is_a("dir", entry):
                self.ignored.append(f"{folder.name}/{entry.name}")
                deep = [(entry.path, FOLDER_LINK)] if entry.is_symlink() else nested(entry.path)
                self.passed_over += [(Path(path).relative_to(self.root).as_posix(), kind) for path, kind in deep]
            else:
                self._pass(entry, kind_of(entry))
        if len(self.images) == before:
            count = sum(kind == NESTED for _, kind in self.passed_over[deeper:])
            self.bad.append((folder.name, EMPTY + (f"; {count} lie deeper" if count else "")))

    def _pass(self, entry: os.DirEntry[str], kind: str) -> None:
        name = Path(entry.path).relative_to(self.root).as_posix()
        self.passed_over.append((name, kind))
        if kind != HIDDEN:
            self.ignored.append(name)


def _nothing(root: Path, scan: _Scan) -> str:
    kinds = "; ".join(map(str, counted(scan.passed_over)))
    there = f" (what lies there: {kinds})" if kinds else ""
    if scan.bad:
        name, reason = scan.bad[0]
        wrong = f"class folder {name!r} is empty" if reason == EMPTY else f"{name!r} is {reason}"
        return f"no images in {root}/: {wrong}; expected root/class/image{there}"
    if any(looks_like_image(name) for name in scan.ignored):
        return f"{root}/ holds images but no class folders; expected root/class/image"
    return f"no class folders in {root}/; expected images as root/class/image{there}"
