"""Which file names are images that can be read, and what everything else in an image folder is called."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from typing import Literal

from PIL import Image

from samespace.data.decoding.pixels import prepare_pillow

ALWAYS = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"]
)
IF_INSTALLED = frozenset(
    [".webp", ".tif", ".tiff", ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c",
     ".jpc", ".jxl", ".tga", ".qoi"]
)  # fmt: skip
SUFFIXES = ALWAYS | IF_INSTALLED
HIDDEN = "hidden files and folders"
NESTED = "images in nested folders"
LINK, LINKS = "a link to nothing", "links to nothing"
LOOP, LOOPS = "a link that leads in a circle", "links that lead in a circle"
FOLDER_LINK = "links to folders, not followed"


def is_image(name: str) -> bool:
    """Whether a file of this name is an image that the installed libraries can read, by its suffix."""
    suffix = PurePath(name).suffix.lower()
    return suffix in ALWAYS or (suffix in IF_INSTALLED and suffix in _registered())


def readable_suffixes() -> list[str]:
    """The suffixes of images that the installed libraries can read, in order."""
    return sorted(ALWAYS | IF_INSTALLED & _registered())


def looks_like_image(name: str) -> bool:
    """Whether a file of this name is an image, readable or not, by its suffix."""
    return PurePath(name).suffix.lower() in SUFFIXES


def entries(folder: str | Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, in the order of the names."""
    with os.scandir(folder) as found:
        return sorted(found, key=lambda entry: entry.name)


def kind_of(entry: os.DirEntry[str]) -> str:
    """What to call something that lies in an image folder and is not used."""
    suffix = PurePath(entry.name).suffix.lower()
    if entry.name.startswith("."):
        return HIDDEN
    if entry.is_symlink() and (broken := broken_link(entry)):
        return LINKS if broken == LINK else LOOPS
    if not is_a("dir", entry) and not is_a("file", entry):
        return "special files"
    if suffix in IF_INSTALLED and not is_image(entry.name):
        return f"{suffix} images, which the installed Pillow cannot read"
    return f"{suffix} files" if suffix else "files without a suffix"


def is_a(what: Literal["file", "dir"], entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file or folder, or a link to one; a link that leads nowhere is neither."""
    try:
        return entry.is_file() if what == "file" else entry.is_dir()
    except OSError:
        return False


def broken_link(entry: os.DirEntry[str]) -> str | None:
    """What is wrong with a link that leads nowhere; None where it leads to something."""
    try:
        os.stat(entry.path)
    except FileNotFoundError:
        return LINK
    except OSError:
        return LOOP
    return None


def nested(folder: str) -> Iterator[tuple[str, str]]:
    """Path and kind of what lies in a folder that is not looked into for images; links are not followed."""
    found = False
    for place, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if looks_like_image(name) and not name.startswith("."):
                found = True
                yield os.path.join(place, name), NESTED
    if not found:
        yield folder, "nested folders without images"


@dataclass(frozen=True)
class Kind:
    """Things of one kind that were passed over.

    Attributes:
        kind: what they are, such as `.db files`.
        count: how many.
        first: the name of the first.
    """

    kind: str
    count: int
    first: str

    def __str__(self) -> str:
        """A phrase for messages."""
        return f"{self.kind}: {self.count:,}, such as {self.first}"


def counted(passed_over: Iterable[tuple[str, str]]) -> tuple[Kind, ...]:
    """Names and kinds of things by kind, the most frequent first.

    Example:
        >>> [str(kind) for kind in counted([("x.db", ".db files"), ("y.db", ".db files")])]
        ['.db files: 2, such as x.db']
    """
    names: dict[str, list[str]] = {}
    for name, kind in passed_over:
        names.setdefault(kind, []).append(name)
    kinds = [Kind(kind, len(held), held[0]) for kind, held in names.items()]
    return tuple(sorted(kinds, key=lambda kind: -kind.count))


@cache
def _registered() -> frozenset[str]:
    prepare_pillow()
    Image.init()
    return frozenset(Image.EXTENSION)
