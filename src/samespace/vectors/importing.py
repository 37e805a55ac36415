"""Vectors from anywhere into a vector set on disk: batch by batch, and on from where it was cut off."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import InputError
from samespace.files import locked, read_json, replacing, swap_folder, write_json
from samespace.space import Space
from samespace.vectors.declared import Declared, agreed, are_unit
from samespace.vectors.source import Source, typed_items

if TYPE_CHECKING:
    import pyarrow

    from samespace.vectors import VectorSet

_ROWS_BETWEEN_MARKS = 262_144


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Attributes:
        folder: of the vector set.
        count: vectors.
        dim: dimensions.
        dtype: `float32` or `float16`.
        space: of the vectors; None where none is declared.
        columns: which columns were taken for what.
        metadata: names of the further columns that were kept.
        resumed: vectors that an earlier call had read already.
    """

    folder: Path
    count: int
    dim: int
    dtype: str
    space: Space | None
    columns: str
    metadata: tuple[str, ...]
    resumed: int


def import_vectors(
    source: Source,
    folder: Path,
    *,
    declared: Declared | None = None,
    prove: Callable[[VectorSet], Space] | None = None,
    force: bool = False,
    advance: Callable[[int], None] = lambda done: None,
) -> Imported:
    """Write the vectors of a source as a vector set, with all columns beside them.

    While it works the folder is called `NAME.partial`; a later call with the same source carries on after what was
    written safely. A second process with the same folder waits for the first.

    Args:
        source: where the vectors are.
        folder: to write; what an earlier import of the same source left there is replaced once the new one is whole.
        declared: what the vectors are, where the source does not say itself.
        prove: given all vectors, says their space or refuses them; what was read is kept for another try.
        force: replace any other vector set, too.
        advance: told how many more vectors are done.

    Raises:
        InputError: the source holds what is no vector, or an id twice; `folder` is there and no vector set, or one of
            another source; a space is declared that the source contradicts.
    """
    _require_place(folder, source, force)
    declared = agreed(declared, source.declared, source.name)
    if declared is not None:
        declared.require(source.dim, source.space, source.name)
    partial = folder.with_name(folder.name + ".partial")
    with locked(folder):
        work = _Work(partial, source, declared)
        resumed = work.rows
        advance(resumed)
        work.read(advance)
        space, metadata = work.finish(prove)
        swap_folder(partial, folder)
    return Imported(
        folder, work.rows, source.dim, np.dtype(source.dtype).name, space, str(source.columns), metadata, resumed
    )


def _require_place(folder: Path, source: Source, force: bool) -> None:
    """Refuse a folder that holds something else than an import of the same source."""
    if not folder.exists():
        return
    if not (folder / "vectors.npy").is_file():
        raise InputError(f"{folder} exists and is not a vector set; choose another place")
    if force:
        return
    try:
        made_from = read_json(folder / "space.json", "the space of a vector set").get("made_from")
    except InputError:
        made_from = None
    if made_from != _made_from(source, folder):
        raise InputError(
            f"{folder} is a vector set already, not known as an import of {source.name}; choose another place, or "
            "replace it with --force (force=True)"
        )


def _made_from(source: Source, folder: Path) -> dict[str, str]:
    """What tells the imports of a source from those of others, whatever it holds by now.

    A file goes by its place as seen from `folder`, so that both may be moved together and a command run from elsewhere.
    """
    place = os.path.relpath(source.name, folder) if Path(source.name).exists() else source.name
    return {"source": place, "column": source.columns.vector}


class _Work:
    """The folder in which an import gathers: `vectors.npy`, a file of items for each mark, and `progress.json`."""

    def __init__(self, folder: Path, source: Source, declared: Declared | None) -> None:
        self.folder, self.source, self.declared = folder, source, declared
        about = (source.name, source.stamp, str(source.columns), list(source.columns.metadata))
        self.job = json.loads(json.dumps([*about, source.dim, np.dtype(source.dtype).name]))
        try:
            mark = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            mark = {}
        if mark.get("job") != self.job:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            mark = {}
        self.rows, self.unit = int(mark.get("rows", 0)), bool(mark.get("unit", True))
        self.parts: list[str] = list(mark.get("parts", []))

    def read(self, advance: Callable[[int], None]) -> None:
        """Read what is still missing."""
        place = self.folder / "vectors.npy"
        with place.open("r+b" if self.rows else "w+b") as file:
            self._header(file, self.rows)
            row_bytes = self.source.dim * np.dtype(self.source.dtype).itemsize
            file.truncate(file.tell() + self.rows * row_bytes)
            file.seek(0, os.SEEK_END)
            pending: list[pyarrow.Table] = []
            ahead = 0
            for batch in self.source.batches(self.rows):
                file.write(np.ascontiguousarray(batch.vectors).data.cast("B"))
                self.unit = self.unit and are_unit(batch.vectors)
                pending.append(batch.items)
                ahead += len(batch.vectors)
                if ahead >= _ROWS_BETWEEN_MARKS:
                    self._mark(file, pending, ahead)
                    pending, ahead = [], 0
                advance(len(batch.vectors))
            if ahead:
                self._mark(file, pending, ahead)
            if not self.rows:
                raise InputError(f"{self.source.name} holds no vectors")
            file.seek(0)
            self._header(file, self.rows)
            file.flush()
            os.fsync(file.fileno())

    def finish(self, prove: Callable[[VectorSet], Space] | None) -> tuple[Space | None, tuple[str, ...]]:
        """Join the items, check that no id comes twice, and write the space; the space and the names of metadata."""
        import pyarrow.parquet

        from samespace.vectors.vectorset import VectorSet

        items = pyarrow.concat_tables([pyarrow.parquet.read_table(self.folder / part) for part in self.parts])
        if "id" in items.column_names:
            require_unique(items.column("id"), self.source.named_by or self.source.name)
        else:
            items = items.add_column(0, "id", pyarrow.array(np.arange(self.rows).astype(str)))
        if "row" in items.column_names and self.source.columns.id is None and items.num_columns == 2:
            items = items.select(["id"])
        items = typed_items(items, self.source.textual)
        with replacing(self.folder / "items.parquet") as temporary:
            pyarrow.parquet.write_table(items, temporary)
        space = self.source.space
        if prove is not None:
            vectors = np.load(self.folder / "vectors.npy", mmap_mode="r")
            ids, named = np.asarray(items.column("id").to_pylist()), self.source.columns.id is not None
            space = prove(VectorSet(vectors, ids, has_ids=named, name=self.source.name))
        elif self.declared is not None and space is None:
            space = Space.declared(self.declared.name, self.source.dim, self.declared.revision, normalized=self.unit)
        about = {
            "space": space.to_dict() if space else None,
            "count": self.rows,
            "has_ids": self.source.columns.id is not None,
            "made_from": _made_from(self.source, self.folder),
        }
        write_json(self.folder / "space.json", about)
        for name in (*self.parts, "progress.json"):
            (self.folder / name).unlink()
        return space, tuple(name for name in items.column_names if name not in ("id", "label", "template"))

    def _header(self, file: Any, rows: int) -> None:
        # the header leaves room for the number of rows to grow, so that it never changes its length
        about = {"descr": np.dtype(self.source.dtype).str, "fortran_order": False, "shape": (rows, self.source.dim)}
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, about)

    def _mark(self, file: Any, pending: Sequence[pyarrow.Table], ahead: int) -> None:
        import pyarrow.parquet

        file.flush()
        os.fsync(file.fileno())
        name = f"items-{self.rows:012d}.parquet"
        with replacing(self.folder / name) as temporary:
            pyarrow.parquet.write_table(pyarrow.concat_tables(pending), temporary)
        self.parts.append(name)
        self.rows += ahead
        mark = {"job": self.job, "rows": self.rows, "unit": self.unit, "parts": self.parts}
        write_json(self.folder / "progress.json", mark)


def require_unique(ids: pyarrow.ChunkedArray, name: str) -> None:
    """Refuse ids of which one comes twice, by an InputError that shows it."""
    import pyarrow.compute as compute

    if compute.count_distinct(ids).as_py() == len(ids):
        return
    counts = compute.value_counts(ids)
    place = int(np.argmax(counts.field("counts").to_numpy()))
    entry = counts[place].as_py()
    raise InputError(f"{name}: ids must be unique, '{entry['values']}' occurs {entry['counts']} times")
