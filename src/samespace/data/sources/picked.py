"""Single images that a user names: files, file:// addresses, folders of any depth, bytes of standard input."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from samespace.data.listing import Listing, Rows
from samespace.data.sources.kinds import is_image, readable_suffixes
from samespace.errors import InputError, counted

STANDARD_INPUT = "-"


@dataclass(frozen=True, eq=False)
class Picked:
    """Images that a user named one by one, or by their folder.

    Attributes:
        listing: the images in the order given; those of a folder by path. Their ids are the paths as written.
        named: ids of images that were named themselves, not found in a folder.
        notes: what was passed over, a line each.
    """

    listing: Listing
    named: frozenset[str]
    notes: tuple[str, ...]


def pick(given: Sequence[str], standard_input: Callable[[], bytes]) -> Picked:
    """Find the images that each of `given` names: a file, a file:// address, a folder, or `-`.

    Of a folder all images at any depth are taken; hidden files, and files of other kinds, are passed over.

    Args:
        given: what the user wrote.
        standard_input: reads the one image that `-` stands for.

    Raises:
        InputError: nothing is there, an address that only a network could open, or no image at all.
    """
    found: dict[str, Path | bytes] = {}
    named, repeated = set[str](), 0
    others = 0
    for text in given:
        if text == STANDARD_INPUT:
            if text not in found:
                found[text] = _bytes(standard_input)
            named.add(text)
            continue
        place = _place(text)
        inside, passed_over = _inside(place) if place.is_dir() else ([place], 0)
        others += passed_over
        if place.is_dir() and not inside:
            raise InputError(f"there is no image in {text}; files that end in {', '.join(readable_suffixes())} count")
        for path in inside:
            repeated += str(path) in found
            found[str(path)] = path
        if not place.is_dir():
            named.add(str(place))
    return Picked(listing_of(found), frozenset(named), tuple(_notes(repeated, others)))


def _place(text: str) -> Path:
    """The file or folder that a path or a file:// address names."""
    scheme, _, _ = text.partition("://")
    if "://" not in text:
        place = Path(text)
    elif scheme.lower() == "file":
        address = urlsplit(text)
        if address.netloc not in ("", "localhost"):
            raise InputError(f"{text} names a file of '{address.netloc}'; write file:///path for one of this machine")
        place = Path(unquote(address.path))
    else:
        raise InputError(f"samespace opens no network: download {text} first, and give the file")
    if not place.exists():
        raise InputError(f"{text}: there is no such file or folder")
    return place


def _inside(folder: Path) -> tuple[list[Path], int]:
    """Images in a folder at any depth, by path, and how many other files there are."""
    images, others = list[Path](), 0
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if name.startswith("."):
                continue
            path = Path(root, name)
            if is_image(path.name):
                images.append(path)
            else:
                others += 1
    return images, others


def _bytes(standard_input: Callable[[], bytes]) -> bytes:
    held = standard_input()
    if not held:
        raise InputError("standard input is empty; send one image, as in 'samespace … --image - < photo.jpg'")
    return held


def listing_of(found: Mapping[str, Path | bytes]) -> Listing:
    """A listing of images by id, each a file or its bytes."""
    held = list(found.values())

    def facts(rows: Rows) -> Iterable[bytes]:
        return _facts(held, rows)

    return Listing(
        name="standard input" if list(found) == [STANDARD_INPUT] else next(iter(found)),
        ids=np.array(list(found), dtype=np.str_),
        classes=np.zeros(len(found), dtype=np.int64),
        read=held.__getitem__,
        facts=facts,
    )


def _facts(held: Sequence[Path | bytes], rows: Rows) -> Iterator[bytes]:
    for row in rows.tolist():
        one = held[row]
        yield hashlib.sha256(one.read_bytes() if isinstance(one, Path) else one).digest()


def _notes(repeated: int, others: int) -> Iterator[str]:
    if repeated:
        yield f"{counted(repeated, 'image was', 'images were')} named more than once; each is taken once"
    if others:
        kind = "of a known kind and"
        one, many = f"file in the folders is no image {kind} was", f"files in the folders are no images {kind} were"
        yield f"{counted(others, one, many)} passed over"
