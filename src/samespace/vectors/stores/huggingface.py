"""Vectors in a Hugging Face data set saved to disk: a folder of Arrow streams, read without the library `datasets`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from samespace.errors import InputError, suggest
from samespace.files import read_json, replacing_folder, write_json
from samespace.vectors.columns import Names
from samespace.vectors.files import after, file_stamp
from samespace.vectors.source import Source
from samespace.vectors.tables import readable, table_source

if TYPE_CHECKING:
    import pyarrow

    from samespace.vectors.stored import Advance, Stored

STATE, SPLITS = "state.json", "dataset_dict.json"
_WHAT = "a data set that save_to_disk wrote"


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (folder / STATE).is_file() or (folder / SPLITS).is_file()


def huggingface_source(address: str, names: Names, *, metadata: bool) -> Source:
    """The vectors of a saved data set, or of one split of several: `hf:FOLDER,split=NAME`; classes by their names.

    Raises:
        InputError: the folder is no saved data set or is damaged, or it has several splits and none is named.
    """
    folder = _split(Path(address.removeprefix("hf:")), names.split)
    state = read_json(folder / STATE, _WHAT)
    files = state.get("_data_files") if isinstance(state, dict) else None
    held = [part.get("filename") if isinstance(part, dict) else None for part in files or ()]
    if not held or not all(isinstance(part, str) for part in held) or state.get("_indices_data_files"):
        raise InputError(f"{folder / STATE} does not say which files hold the rows; save it again with save_to_disk")
    places = [folder / str(part) for part in held]
    if gone := [place for place in places if not place.is_file()]:
        raise InputError(f"{folder} is not whole: {gone[0].name} is missing; save it again with save_to_disk")
    name = str(folder)
    with readable(name):
        schema = _opened(places[0]).schema
    classes = _classes(schema)

    def read(start: int, columns: list[str]) -> Iterator[pyarrow.RecordBatch]:
        batches = (batch.select(columns) for place in places for batch in _opened(place))
        for batch in after(batches, start):
            yield _named(batch, classes, name)

    return table_source(
        name, _named(schema.empty_table(), classes, name).schema, read, names, count=None,
        stamp="; ".join(map(file_stamp, places)), metadata=metadata,
    )  # fmt: skip


def write_saved(stored: Stored, address: str, table: str | None, advance: Advance) -> None:
    """Write a folder that `datasets.load_from_disk` opens, whose Arrow metadata hold the space.

    Raises:
        InputError: the folder is there and is no saved data set.
    """
    import pyarrow

    folder = Path(address.removeprefix("hf:"))
    if folder.exists() and not is_saved(folder):
        raise InputError(f"{folder} exists and is not {_WHAT}; choose another place")
    with replacing_folder(folder) as temporary:
        name = "data-00000-of-00001.arrow"
        with pyarrow.ipc.new_stream(str(temporary / name), next(stored.tables()).schema) as out:
            for part in stored.tables():
                out.write_table(part)
                advance(part.num_rows)
        write_json(temporary / "dataset_info.json", {"citation": "", "description": "", "homepage": "", "license": ""})
        state: dict[str, object] = {
            "_data_files": [{"filename": name}],
            "_fingerprint": uuid.uuid4().hex[:16],
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        write_json(temporary / STATE, state)


def _split(folder: Path, wanted: str | None) -> Path:
    """The folder of the wanted split, or the data set itself where it has none."""
    if not is_saved(folder):
        what = "there is no such folder" if not folder.is_dir() else f"it has no {STATE} or {SPLITS}"
        raise InputError(f"{folder} is not {_WHAT}: {what}")
    if not (folder / SPLITS).is_file():
        own = read_json(folder / STATE, _WHAT).get("_split")
        if wanted is not None and wanted != own:
            raise InputError(f"{folder} holds one split, {own or 'without a name'}; leave ',split={wanted}' out")
        return folder
    splits = read_json(folder / SPLITS, _WHAT).get("splits")
    if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
        raise InputError(f"{folder / SPLITS} does not list the splits; save it again with save_to_disk")
    if wanted is None and len(splits) != 1:
        raise InputError(f"{folder} has the splits {', '.join(splits)}; say which: 'hf:{folder},split={splits[0]}'")
    if wanted is not None and wanted not in splits:
        raise InputError(f"{folder} has no split '{wanted}'; {suggest(wanted, splits)}")
    if not (folder / (wanted or splits[0]) / STATE).is_file():
        raise InputError(f"{folder} is not whole: the split '{wanted or splits[0]}' is missing")
    return folder / (wanted or splits[0])


def _opened(place: Path) -> Any:
    import pyarrow

    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(place)))


def _classes(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """The names of classes of each column whose numbers stand for classes, as the library's own metadata say."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        columns = {name: about for name, about in features.items() if about.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {name: about["names"] for name, about in columns.items() if isinstance(about.get("names"), list)}


def _named(batch: Any, classes: dict[str, list[str]], name: str) -> Any:
    """A batch or table with the names of classes in place of their numbers; −1 means that a row has none."""
    import pyarrow
    import pyarrow.compute as compute

    for place, column in enumerate(batch.schema.names):
        if column not in classes:
            continue
        numbers = batch.column(column)
        numbers = compute.if_else(compute.less(numbers, 0), pyarrow.scalar(None, numbers.type), numbers)
        try:
            texts = pyarrow.array(classes[column], pyarrow.string()).take(numbers)
        except pyarrow.ArrowException:
            raise InputError(f"{name}: the column '{column}' has numbers that are none of its classes") from None
        batch = batch.set_column(place, column, texts)
    return batch
