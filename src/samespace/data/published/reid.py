"""Person re-identification sets: Market-1501, DukeMTMC-reID and MSMT17, by their own folder and file names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.listing import Listing, PassedOver
from samespace.data.source import repeated
from samespace.data.sources.kinds import entries, is_a, is_image, kind_of
from samespace.errors import InputError, suggest

Layout = Literal["market1501", "msmt17"]
Part = Literal["train", "query", "gallery", "test"]
JUNK, DISTRACTOR, OTHERS = -1, 0, -2
NO_PERSON = {JUNK: "junk images (person -1)", DISTRACTOR: "distractors (person 0)"}
MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)")
MSMT_LISTS = {
    "list_train.txt": "train",
    "list_val.txt": "train",
    "list_query.txt": "query",
    "list_gallery.txt": "gallery",
}
MSMT_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
MSMT_FROM = {"train": 10_000, "test": 20_000}
Row = tuple[str, int, int, str]


@dataclass(frozen=True, eq=False)
class ReidList:
    """The images of a re-identification set.

    Attributes:
        ids: path of each image relative to the root, with forward slashes, `(N,)`.
        identity: the person, `(N,)` int64; in Market-1501 and DukeMTMC-reID -1 is junk, and 0 a distractor where the
            gallery has it and the queries do not; otherwise people are counted from 0. MSMT17
            numbers its training and its test persons from 0 each; here they begin at 10000 and at 20000.
        camera: number of the camera, `(N,)` int64.
        part: `train`, `query` or `gallery`, `(N,)`.
        passed_over: name and kind of what lies among the images and is none.
    """

    ids: npt.NDArray[np.str_]
    identity: npt.NDArray[np.int64]
    camera: npt.NDArray[np.int64]
    part: npt.NDArray[np.str_]
    passed_over: PassedOver = ()

    @property
    def counts_from_zero(self) -> bool:
        """Whether 0 is a person: some image has it, and it is not in the gallery alone of the test parts."""
        zero = self.identity == DISTRACTOR
        asked, held = ((zero & (self.part == part)).any() for part in ("query", "gallery"))
        return bool(zero.any() and (asked or not held))


def read_reid(root: str | Path, *, layout: Layout | None = None) -> ReidList:
    """What the names of files and folders of a re-identification set say; no image is opened.

    Market-1501 and DukeMTMC-reID: folders `bounding_box_train`, `query` and `bounding_box_test`, names such as
    `0002_c1s1_000451_03.jpg`: person, camera. MSMT17: lists `list_train.txt`, `list_val.txt` (also training),
    `list_query.txt` and `list_gallery.txt` of lines `0000/0000_000_01_0303morning_0008_0.jpg 0`: the third part of
    the name is the camera, the number after the path the person; images in `train` and `test`, or `mask_train_v2`
    and `mask_test_v2`. Parts that are absent are left out.

    Args:
        root: folder of the set.
        layout: which of the two; by default, whichever is found.

    Raises:
        InputError: neither layout, no image, or a name or line that does not follow it.
    """
    folder = Path(root)
    chosen = layout or _layout(folder)
    if chosen is None or not _has(folder, chosen):
        raise InputError(_absent(folder, layout))
    passed_over: list[tuple[str, str]] = []
    rows = list(_msmt(folder) if chosen == "msmt17" else _market(folder, passed_over))
    if not rows:
        raise InputError(f"{folder} holds no images of {chosen}")
    ids, identity, camera, part = zip(*rows, strict=True)
    if twice := repeated(np.array(ids)):
        raise InputError(f"{folder} names {str(twice[0])!r} {twice[1]} times; images must be unique")
    return ReidList(
        np.array(ids),
        np.array(identity, dtype=np.int64),
        np.array(camera, dtype=np.int64),
        np.array(part),
        tuple(passed_over),
    )


def reid_listing(root: str | Path, *, part: str = "train", layout: Layout) -> Listing:
    """The images of one part of a re-identification set; the class of an image is its person.

    `test` is query and gallery together, junk (class `-1`) and distractors (class `0`) included; training images
    that are junk or distractors are left out.

    Raises:
        InputError: an unknown part, one without images, or what `read_reid` refuses.
    """
    if part not in get_args(Part):
        raise InputError(f"{layout} has no part {part!r}; {suggest(part, get_args(Part))}")
    folder = Path(root)
    every = read_reid(folder, layout=layout)
    passed_over = list(every.passed_over)
    if part == "train":
        no_person = every.identity == JUNK
        if not every.counts_from_zero:
            no_person |= every.identity == DISTRACTOR
        wanted = (every.part == "train") & ~no_person
        for row in np.flatnonzero((every.part == "train") & no_person):
            passed_over.append((str(every.ids[row]), NO_PERSON[int(every.identity[row])]))
    else:
        wanted = np.isin(every.part, ("query", "gallery") if part == "test" else (part,))
    present = np.unique(every.part).tolist()
    if not wanted.any() or (part == "test" and not {"query", "gallery"} <= set(present)):
        raise InputError(f"{folder} lacks images for part {part!r}; it holds {', '.join(present)}")
    ids = every.ids[wanted]

    def path_of(row: int) -> Path:
        return folder / str(ids[row])

    people = every.identity[wanted]
    return Listing.of_files(
        f"{layout}:{folder},part={part}", ids, people, path_of, told=people, passed_over=tuple(passed_over)
    )


def read_distractors(folder: str | Path) -> npt.NDArray[np.str_]:
    """The images of a folder of people nobody looks for, `images/….jpg`, `(N,)`: the 500k distractors of Market-1501.

    Their names say nothing. Source: Zheng et al., Scalable Person Re-identification, ICCV 2015, section 3.

    Raises:
        InputError: no such folder, or no image in it.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(f"{place} is not a folder; expected one of distractors, images of no person in the queries")
    named = [entry.name for entry in entries(place) if is_image(entry.name) and not entry.name.startswith(".")]
    if not named:
        raise InputError(f"{place} holds no images")
    return np.array([f"{place.absolute().name}/{name}" for name in sorted(named)])


def _market(root: Path, passed_over: list[tuple[str, str]]) -> Iterator[Row]:
    for part, name in MARKET.items():
        folder = root / name
        for entry in entries(folder) if folder.is_dir() else []:
            if entry.name.startswith(".") or not is_image(entry.name) or not is_a("file", entry):
                passed_over.append((f"{name}/{entry.name}", kind_of(entry)))
                continue
            match = MARKET_NAME.match(entry.name)
            if match is None:
                raise InputError(f"{entry.path} is not named as PERSON_cCAMERA…, such as 0002_c1s1_000451_03.jpg")
            yield f"{name}/{entry.name}", int(match[1]), int(match[2]), part


def _msmt(root: Path) -> Iterator[Row]:
    for name, part in MSMT_LISTS.items():
        path = root / name
        if not path.exists():
            continue
        side = "train" if part == "train" else "test"
        folder = next((place for place in MSMT_FOLDERS[side] if (root / place).is_dir()), None)
        if folder is None:
            raise InputError(f"{path} lists images, but {root} has no folder {' or '.join(MSMT_FOLDERS[side])}")
        for image, person, camera in _msmt_lines(path):
            yield f"{folder}/{image}", MSMT_FROM[side] + person, camera, part


def _msmt_lines(path: Path) -> Iterator[tuple[str, int, int]]:
    for number, line in text.lines(path, "a list of MSMT17 images"):
        image, _, person = line.strip().rpartition(" ")
        fields = image.rsplit("/", 1)[-1].split("_")
        if not person.isdecimal() or int(person) >= MSMT_FROM["train"] or len(fields) < 4 or not fields[2].isdecimal():
            raise InputError(
                f"{path} line {number} is {line[:80]!r}; expected PERSON/PERSON_SEQUENCE_CAMERA_….jpg and the person's "
                "number, such as 0000/0000_000_01_0303morning_0008_0.jpg 0"
            )
        yield image, int(person), int(fields[2])


def _has(folder: Path, layout: Layout) -> bool:
    if layout == "msmt17":
        return any((folder / name).is_file() for name in MSMT_LISTS)
    # `query` alone says little: any image folder may have a class of that name
    return any((folder / name).is_dir() for name in (MARKET["train"], MARKET["gallery"]))


def _layout(folder: Path) -> Layout | None:
    return next((layout for layout in get_args(Layout) if _has(folder, layout)), None)


def _absent(folder: Path, layout: Layout | None) -> str:
    shapes = {
        "market1501": f"folders {', '.join(MARKET.values())}",
        "msmt17": f"lists {', '.join(MSMT_LISTS)}",
    }
    wanted = shapes[layout] if layout else " or ".join(shapes.values())
    if not folder.is_dir():
        return f"{folder} is not a folder; expected one with {wanted}"
    inside = next((path for path in sorted(folder.iterdir()) if path.is_dir() and _layout(path)), None)
    hint = f"; did you mean {inside}?" if inside else ""
    other = _layout(folder)
    if layout and other:
        hint = f"; it looks like {other}"
    return f"{folder} does not hold {wanted}{hint}"
