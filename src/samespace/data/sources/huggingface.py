"""Data sets of the Hugging Face `datasets` library: from the hub, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data.listing import Listing, Rows
from samespace.errors import InputError, suggest

SAVED = ("dataset_dict.json", "state.json")


def huggingface_listing(
    place: str | Path, *, split: str = "train", image: str = "image", label: str = "label"
) -> Listing:
    """The images of one split of a data set; ids are row numbers, class names those of its label column.

    A folder is read where it lies, without network. Anything else is the name of a data set on the hub, which the
    library downloads; code that comes with a data set is never run.

    Args:
        place: a folder that `save_to_disk` wrote, or a name such as `cifar100` or `owner/name`.
        split: name of the split.
        image: column of images.
        label: column of labels: whole numbers, strings or class labels.

    Raises:
        InputError: the extra `huggingface` is not installed, there is no such data set, split or column, or the
            column is of another kind.
    """
    library = _library()
    name = f"hf:{place},split={split}"
    rows = _split(library, place, split, name)
    _require_column(rows, image, name, "image")
    _require_column(rows, label, name, "label")
    if not isinstance(rows.features[image], library.Image):
        raise InputError(f"column {image!r} of {name} holds no images but {rows.features[image]}; name it with image=")
    classes = _classes(list(rows[label]), getattr(rows.features[label], "names", None), label, name)
    encoded = rows.cast_column(image, library.Image(decode=False))
    ids = np.arange(len(classes)).astype(f"U{len(str(len(classes)))}")
    state = str(getattr(rows, "_fingerprint", ""))
    return Listing(
        name,
        ids,
        classes,
        partial(_read, encoded, image),
        partial(_facts, state, image, classes),
        named=False,
        item="row",
    )


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise InputError(
            "hf: needs the Hugging Face library 'datasets'; install it with: pip install 'samespace[huggingface]'"
        ) from None
    return datasets


def _split(library: Any, place: str | Path, split: str, name: str) -> Any:
    folder = Path(place)
    if not folder.exists():
        if isinstance(place, Path) or place.startswith((".", "/", "~")) or place.count("/") > 1:
            raise InputError(f"{place} does not exist; expected a folder that save_to_disk wrote, or a name on the hub")
        # from release 4 on there is no such code to run, nor the option
        trust = {"trust_remote_code": False} if int(library.__version__.split(".")[0]) < 4 else {}
        return _opened(partial(library.load_dataset, str(place), split=split, **trust), name)
    if not any((folder / file).is_file() for file in SAVED):
        raise InputError(f"{place} is not a data set that save_to_disk wrote (no {' or '.join(SAVED)} in it)")
    held = _opened(partial(library.load_from_disk, str(folder)), name)
    if isinstance(held, dict):
        if split not in held:
            raise InputError(f"{place} has no split {split!r}; {suggest(split, held)}")
        return held[split]
    if held.split is not None and str(held.split) != split:
        raise InputError(f"{place} holds split {str(held.split)!r}, not {split!r}; say split={held.split}")
    return held


def _opened(load: Any, name: str) -> Any:
    try:
        return load()
    except Exception as error:  # the library raises whatever its storage and network layers raise
        lines = str(error).splitlines()
        raise InputError(f"{name} cannot be opened" + (f" ({lines[0][:300]})" if lines else "")) from None


def _require_column(rows: Any, column: str, name: str, option: str) -> None:
    if column not in rows.features:
        raise InputError(f"{name} has no column {column!r}; name it with {option}=; {suggest(column, rows.features)}")


def _classes(
    labels: list[Any], names: list[str] | None, column: str, name: str
) -> npt.NDArray[np.int64] | npt.NDArray[np.str_]:
    if not labels:
        raise InputError(f"{name} holds no rows")
    odd = next((row for row, label in enumerate(labels) if not isinstance(label, int | str)), None)
    if odd is not None or len({isinstance(label, str) for label in labels}) > 1:
        shown = f"{labels[odd or 0]!r} in row {odd or 0}"
        raise InputError(
            f"column {column!r} of {name} holds {shown}; expected whole numbers or strings alone (rows count from 0)"
        )
    if isinstance(labels[0], str):
        return np.array(labels, dtype=np.str_)
    values = np.array(labels, dtype=np.int64)
    if names is None:
        return values
    if values.min() < 0:
        row = int(values.argmin())
        raise InputError(f"row {row} of {name} has no label ({values[row]}; rows count from 0)")
    return np.array([names[value] for value in values], dtype=np.str_)


def _read(rows: Any, column: str, row: int) -> Path | bytes:
    held = rows[row][column]
    if held is None or (held["bytes"] is None and held["path"] is None):
        raise InputError("no image")
    return Path(held["path"]) if held["bytes"] is None else bytes(held["bytes"])


def _facts(state: str, column: str, classes: npt.NDArray[np.generic], rows: Rows) -> Iterator[bytes]:
    """What the library says of the contents, the rows and their labels."""
    yield f"{state} {column}".encode()
    yield rows.astype("<i8").tobytes()
    yield "\n".join(map(str, classes[rows].tolist())).encode()
