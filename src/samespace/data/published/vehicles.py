"""PKU VehicleID, by its own lists."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.listing import Listing
from samespace.data.source import repeated
from samespace.errors import InputError, suggest

_LISTS = "train_test_split"
_TEST = re.compile(r"test_list_(\d+)\.txt")


def vehicles_listing(root: str | Path, *, part: str = "train") -> Listing:
    """The images of one list of VehicleID, `image/0000001.jpg`; the class of an image is its vehicle.

    `train_test_split/train_list.txt` and `test_list_800.txt`, `…_1600.txt`, `…_2400.txt` and so on have a line
    `name vehicle` for each image, the name without suffix. Source: Liu et al., Deep Relative Distance Learning: Tell
    the Difference Between Similar Vehicles, CVPR 2016.

    Args:
        root: folder of `image` and `train_test_split`.
        part: `train`, or the number of vehicles of a test list, such as `800`.

    Raises:
        InputError: no such folder or list, or a line of another form.
    """
    folder = Path(root)
    file = folder / _LISTS / ("train_list.txt" if part == "train" else f"test_list_{part}.txt")
    there = [
        match[1] for path in sorted((folder / _LISTS).glob("test_list_*.txt")) if (match := _TEST.match(path.name))
    ]
    if not file.is_file():
        raise InputError(
            f"vehicleid: {folder / _LISTS} has no list of part {part!r}; {suggest(part, ['train', *there])}"
        )
    names, vehicles = read_vehicles(file)
    ids = np.char.add(np.char.add("image/", names), ".jpg")

    def path_of(row: int) -> Path:
        return folder / str(ids[row])

    return Listing.of_files(f"vehicleid:{folder},part={part}", ids, vehicles, path_of, told=vehicles)


def read_vehicles(path: Path) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64]]:
    """Names without suffix, `(N,)`, and vehicles, `(N,)` int64, of a list of VehicleID.

    Raises:
        InputError: no such file, no line in it, a line of another form, or an image twice.
    """
    names, vehicles = [], []
    for number, line in text.lines(path, "a list of VehicleID, lines of an image and its vehicle"):
        words = line.split()
        if len(words) != 2 or not words[1].isdecimal() or len(words[1]) > 15:
            raise InputError(f"{path} line {number} is {line[:80]!r}; expected an image and its vehicle, 0000001 1")
        names.append(words[0].removesuffix(".jpg"))
        vehicles.append(int(words[1]))
    if not names:
        raise InputError(f"{path} names no images")
    found = np.array(names)
    if twice := repeated(found):
        raise InputError(f"{path} names image {twice[0]} {twice[1]} times; images must be unique")
    return found, np.array(vehicles, dtype=np.int64)
