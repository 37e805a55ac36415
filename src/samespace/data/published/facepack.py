"""Face verification packs, `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`, `calfw.bin`: pairs of images with yes or no."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data.listing import Listing
from samespace.data.published.safe_pickle import load_plain
from samespace.errors import InputError

_WHAT = "a face pack, a pickle of encoded images and of whether each pair is one person"


@dataclass(frozen=True, eq=False)
class FacePack:
    """What a pack says.

    Attributes:
        images: encoded, (2P,): the images of pair `p` are `2 p` and `2 p + 1`.
        same: (P,) bool, whether they are of one person.
        person: (2P,) int64, number of the person of each image, as far as the pack tells: images of a pair of one
            person, and images of equal bytes, are of one.
    """

    images: list[bytes]
    same: npt.NDArray[np.bool_]
    person: npt.NDArray[np.int64]


def read_face_pack(path: str | Path) -> FacePack:
    """Read a pack without running its pickle; memory is about twice the file.

    A pack is `(images, same)`: a list of encoded images and a list of half as many booleans. Source: the verification
    packs that InsightFace distributes with its training sets (Deng et al., ArcFace, CVPR 2019).

    Raises:
        InputError: no such file, more than plain data in it, or lists that do not fit each other.
    """
    file = Path(path)
    found = load_plain(file, _WHAT)
    if not isinstance(found, list | tuple) or len(found) != 2 or not all(isinstance(part, _LISTS) for part in found):
        raise InputError(f"{file} does not hold a list of images and a list of pairs; expected {_WHAT}")
    images = [_encoded(image, row, file) for row, image in enumerate(found[0])]
    same = np.array([_truth(value, row, file) for row, value in enumerate(found[1])], dtype=np.bool_)
    if not len(same) or len(images) != 2 * len(same):
        raise InputError(f"{file} holds {len(images)} images and {len(same)} pairs; expected two images for each pair")
    return FacePack(images, same, _people(images, same))


def face_pack_listing(path: str | Path) -> Listing:
    """The images of a pack in its order; ids are their places, the class of an image is its person as `FacePack` says.

    Raises:
        InputError: what `read_face_pack` refuses.
    """
    pack = read_face_pack(path)

    def facts(rows: npt.NDArray[np.int64]) -> Iterator[bytes]:
        for row in rows.tolist():
            yield sha256(pack.images[row]).digest() + bytes([pack.same[row // 2]])

    return Listing(
        name=f"facepack:{path}",
        ids=np.arange(len(pack.images)).astype(np.str_),
        classes=pack.person,
        read=lambda row: pack.images[row],
        facts=facts,
        named=False,
        item="image",
        notes=("people: images of a pair of one person, and equal images, are of one; the pack says no more",),
    )


_LISTS = (list, tuple, np.ndarray)


def _encoded(image: Any, row: int, file: Path) -> bytes:
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if isinstance(image, str):
        # Python 2 pickled bytes as text
        return image.encode("latin1", errors="replace")
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1:
        return image.tobytes()
    raise InputError(f"{file}: image {row} is {type(image).__name__}; expected an encoded image")


def _truth(value: Any, row: int, file: Path) -> bool:
    if isinstance(value, bool | int | np.bool_ | np.integer) and value in (0, 1):
        return bool(value)
    raise InputError(f"{file}: pair {row} is {str(value)[:40]!r}; expected true or false")


def _people(images: Iterable[bytes], same: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number of each image's person, by joining equal images and pairs of one person."""
    first: dict[bytes, int] = {}
    root = [first.setdefault(sha256(image).digest(), row) for row, image in enumerate(images)]

    def found(row: int) -> int:
        while root[row] != row:
            root[row] = row = root[root[row]]
        return row

    for pair in np.flatnonzero(same).tolist():
        one, other = found(2 * pair), found(2 * pair + 1)
        root[max(one, other)] = min(one, other)
    return np.unique([found(row) for row in range(len(root))], return_inverse=True)[1].astype(np.int64)
