"""The Google Landmarks Dataset v2: CSV files of images and landmarks, images three folders deep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.data.listing import Listing
from samespace.data.source import repeated
from samespace.errors import InputError, suggest
from samespace.files import require_file

if TYPE_CHECKING:
    import pyarrow as pa

PARTS = ("train", "index", "test")
EXPECTED = "id and landmark_id, or landmark_id and images"
BLOCK = 64 * 1024**2  # a landmark's images stand in one field, which must lie within a block


def landmark_listing(root: str | Path, *, part: str = "train", clean: bool = False) -> Listing:
    """The images of one part of GLDv2, `root/train/a/b/c/abc….jpg`; the class of an image is its landmark.

    The parts `index` and `test` name no landmarks: their images are all of the class `unlabelled`. The id of an
    image is its name, as in the ground truth.

    Args:
        root: folder of the CSV files and of the folders `train`, `index` and `test`.
        part: `train`, `index` or `test`.
        clean: read `train_clean.csv`, the images that agree with others of their landmark, for `train.csv`.

    Raises:
        InputError: no such file or part, a column is missing, a value of another form, or an image twice.
    """
    if part not in PARTS:
        raise InputError(f"gldv2 has no part {part!r}; {suggest(part, PARTS)}")
    if clean and part != "train":
        raise InputError(f"gldv2: clean=true goes with part=train, not with part={part}")
    folder = Path(root)
    names, landmarks = read_landmarks(folder / ("train_clean.csv" if clean else f"{part}.csv"), part == "train")

    def path_of(row: int) -> Path:
        name = str(names[row])
        return folder / part / name[0] / name[1] / name[2] / f"{name}.jpg"

    name = f"gldv2:{folder},part={part}{',clean=true' if clean else ''}"
    return Listing.of_files(name, names, landmarks, path_of, told=landmarks)


def read_landmarks(
    path: Path, labelled: bool = True
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64] | npt.NDArray[np.str_]]:
    """Images, `(N,)`, and their landmarks, `(N,)` int64, or `unlabelled` where the table need name none.

    Either one image per line, columns `id` and `landmark_id` (`train.csv` as published), or one landmark per line,
    columns `landmark_id` and `images`, parted by spaces (`train_clean.csv`); or the column `id` alone, unlabelled.
    Other columns are not read.

    Raises:
        InputError: no such file, a column is missing, a value of another form, or an image twice.
    """
    from pyarrow import compute

    require_file(path, f"a table of {EXPECTED if labelled else 'images, column id'}")
    table = _table(path, labelled)
    if "images" in table.column_names:
        lists = compute.split_pattern(compute.utf8_trim_whitespace(table.column("images")), " ").combine_chunks()
        names = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.str_)
        landmarks = np.repeat(table.column("landmark_id").to_numpy(), np.diff(lists.offsets.to_numpy()))
    else:
        names = np.asarray(table.column("id").to_numpy(), dtype=np.str_)
        landmarks = table.column("landmark_id").to_numpy() if labelled else np.full(len(names), "unlabelled")
    if not len(names):
        raise InputError(f"{path} names no images")
    _require_names(path, names)
    return names, landmarks


def _table(path: Path, labelled: bool) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    columns = _header(path)
    image = "images" if labelled and "images" in columns else "id"
    wanted = [image, "landmark_id"] if labelled else [image]
    if not set(wanted) <= set(columns):
        shown = ", ".join(columns)[:120] or "none"
        raise InputError(f"{path} has columns {shown}; expected {EXPECTED if labelled else 'id'}")
    types = {image: pa.string(), "landmark_id": pa.int64()}
    try:
        return csv.read_csv(
            path,
            read_options=csv.ReadOptions(block_size=BLOCK, use_threads=False),
            convert_options=csv.ConvertOptions(include_columns=wanted, column_types=types, null_values=[]),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0][:200]})") from None


def _header(path: Path) -> list[str]:
    with path.open("rb") as file:
        first = file.readline().split(b"\r")[0]
    try:
        return [name.strip() for _, row in text.split_rows(first.decode("utf-8-sig"), path, ",") for name in row]
    except UnicodeDecodeError:
        raise InputError(f"{path}, line 1: not UTF-8 text; save it as UTF-8") from None


def _require_names(path: Path, names: npt.NDArray[np.str_]) -> None:
    odd = next((name for name in names.tolist() if len(name) < 3 or not name.isalnum()), None)
    if odd is not None:
        raise InputError(f"{path} names image {odd[:80]!r}; expected letters and digits, such as 6e158a47eb2ca3f6")
    if twice := repeated(names):
        raise InputError(f"{path} names image {twice[0]} {twice[1]} times; images must be unique")
