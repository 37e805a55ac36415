"""`VectorSet`: vectors of one space with their item ids, labels and templates, on disk as a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError
from samespace.files import UNREADABLE, read_json, read_npz, replacing_folder, write_json
from samespace.names import require_names
from samespace.space import Links, Space, require_comparable
from samespace.vectors.declared import Declared, agreed
from samespace.vectors.npz import mapped_array, npz_space
from samespace.vectors.opening import source_of, split_address
from samespace.vectors.source import Source, float_of, item_arrays
from samespace.vectors.truncation import truncated

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.floating[Any]]

_CHECK_ROWS = 65_536
_COLUMNS = ("id", "label", "template")


@dataclass(frozen=True, eq=False)
class VectorSet:
    """Vectors of one space with their items.

    Attributes:
        vectors: (N, D) float32 or float16; a memory map where the set was loaded from a folder.
        ids: (N,) unique item ids, strings.
        labels: (N,) class of each item, int64 or strings; None where unlabelled.
        templates: (N,) template of each item, such as all images of one person's enrolment, which a check pools into
            one vector; None where items stand alone.
        space: the space of the vectors; None where the source declares none.
        has_ids: False where the source named no items: `ids` are then row numbers, meaningless across sets.
        name: where the set comes from, for messages.
        origin: which columns of a file were taken for what; empty where nothing had to be told.

    Example:
        >>> s = VectorSet.from_arrays(np.eye(2, dtype=np.float32), labels=["a", "b"], ids=["x", "y"])
        >>> len(s), s.dim, s.subset(np.array([1])).ids.tolist()
        (2, 2, ['y'])
    """

    vectors: Floats
    ids: Array
    labels: Array | None = None
    templates: Array | None = None
    space: Space | None = None
    has_ids: bool = True
    name: str = "vectors"
    origin: str = ""

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    @property
    def dim(self) -> int:
        """Dimensions of each vector."""
        return int(self.vectors.shape[1])

    def blocks(self, size: int = 8192) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (first row, float32 copy of at most `size` rows) in order, never holding more."""
        for start in range(0, len(self), size):
            yield start, np.array(self.vectors[start : start + size], dtype=np.float32)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float32]:
        """A float32 copy of the vectors of `rows`, (len(rows), D)."""
        return np.asarray(self.vectors[rows], dtype=np.float32)

    def rows_of(self, ids: Sequence[str] | Array) -> npt.NDArray[np.int64]:
        """The row of each of these ids, (len(ids),) int64; −1 where the set has no such item."""
        return find_ids(self.ids, self._order, ids)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self.ids, kind="stable")

    def scores(self, gallery: VectorSet, *, certificate: Links | None = None) -> npt.NDArray[np.float32]:
        """Cosine of each of these vectors, as queries, with each of a gallery: (len(self), len(gallery)) float32.

        Where a certificate links spaces of unlike dimension, the leading dimensions that both have are compared.

        Raises:
            SpaceError: the spaces differ and no certificate links them, or one is undeclared; or the certificate is of
                another score.
            InputError: a vector is zero in the dimensions compared.
        """
        require_comparable(self.space, gallery.space, certificate)
        if (judged := getattr(certificate, "score", "cosine")) != "cosine":
            raise SpaceError(f"the certificate is of searches by {judged}, and these scores are cosines")
        dim = min(self.dim, gallery.dim)
        return np.asarray(self._unit(dim) @ gallery._unit(dim).T, dtype=np.float32)

    def _unit(self, dim: int) -> npt.NDArray[np.float32]:
        vectors = np.array(self.vectors[:, :dim], dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not lengths.all():
            row = int(np.argmin(lengths))
            raise InputError(f"{self.name}: the vector of row {row} (id {self.ids[row]}) is zero and has no cosine")
        return np.asarray(vectors / lengths, dtype=np.float32)

    def truncated(self, dim: int) -> VectorSet:
        """The leading `dim` values of each vector, as Matryoshka models allow; their space is `Space.truncated`.

        Vectors of a space of unit vectors are scaled to length one again, which copies them.

        Raises:
            InputError: the vectors have fewer values, or one of a space of unit vectors is zero in the leading ones.
        """
        vectors, space = truncated(self.vectors, dim, self.space, self.name)
        return self if vectors is self.vectors else replace(self, vectors=vectors, space=space)

    def subset(self, rows: npt.NDArray[np.integer[Any]]) -> VectorSet:
        """The items of `rows`, in that order."""
        return replace(
            self,
            vectors=np.asarray(self.vectors[rows]),
            ids=self.ids[rows],
            labels=None if self.labels is None else self.labels[rows],
            templates=None if self.templates is None else self.templates[rows],
        )

    @classmethod
    def from_arrays(
        cls,
        vectors: Any,
        *,
        labels: Any = None,
        ids: Any = None,
        templates: Any = None,
        space: Space | None = None,
        name: str = "vectors",
    ) -> VectorSet:
        """Build a set from arrays, checked.

        Args:
            vectors: (N, D) floats; float16 is kept, anything else becomes float32.
            labels: (N,) integers or strings, optional.
            ids: (N,) unique integers or strings; row numbers stand in where absent.
            templates: (N,) integers or strings, optional.
            space: the space the vectors belong to, if known.
            name: what to call the set in messages.

        Raises:
            InputError: a wrong shape or count, a value that is not finite, ids that repeat, a space of another
                dimension.
        """
        values = np.asarray(vectors)
        if values.ndim != 2 or 0 in values.shape:
            raise InputError(f"{name}: vectors should be (items, dims) and not empty, got shape {values.shape}")
        if values.dtype.kind not in "fiu":
            raise InputError(f"{name}: vectors should be float32 or float16, got {values.dtype}")
        values = values.astype(float_of(values.dtype), copy=False)
        count = len(values)
        result = cls(
            vectors=values,
            ids=_column(ids, "ids", count, name).astype(str) if ids is not None else np.arange(count).astype(str),
            labels=None if labels is None else _column(labels, "labels", count, name),
            templates=None if templates is None else _column(templates, "templates", count, name),
            space=space,
            has_ids=ids is not None,
            name=name,
        )
        result._check()
        return result

    def save(self, folder: str | Path) -> None:
        """Write the set as a folder (`vectors.npy`, `items.parquet`, `space.json`), whole or not at all.

        Raises:
            InputError: `folder` exists and is not a vector set.
        """
        folder = Path(folder)
        if folder.exists() and not (folder / "vectors.npy").exists():
            raise InputError(f"{folder} exists and is not a vector set; choose another place")
        with replacing_folder(folder) as temporary:
            np.save(temporary / "vectors.npy", self.vectors)
            self.save_items(temporary)

    def save_items(self, folder: Path, made_from: Mapping[str, Any] | None = None) -> None:
        """Write `items.parquet` and `space.json`, with what they were made from, beside vectors that `folder` has."""
        import pyarrow
        import pyarrow.parquet

        columns = dict(zip(_COLUMNS, (self.ids, self.labels, self.templates), strict=True))
        present = {key: pyarrow.array(value) for key, value in columns.items() if value is not None}
        pyarrow.parquet.write_table(pyarrow.table(present), folder / "items.parquet")
        about = {
            "space": self.space.to_dict() if self.space else None,
            "count": len(self),
            "has_ids": self.has_ids,
        }
        write_json(folder / "space.json", about if made_from is None else {**about, "made_from": made_from})

    @classmethod
    def load(cls, path: str | Path, declared: Declared | None = None, *, mapped: bool = False) -> VectorSet:
        """Open a vector set: a folder written by `save` (memory-mapped) or a bare file, which is read whole.

        An `.npz` holds `vectors` and optionally `labels`, `ids` and `templates`; `.parquet`, `.arrow`, `.feather` and
        `.csv` hold a column of vectors and optionally ids, labels and templates; beside an `.npy` lies a file of ids.
        Columns go by their usual names, or by options after the path: `t.parquet,vector=new,id=sku`. What declares no
        space is said to be of a model by `declared`, or by its name after the path: `old.npz,space=clip,revision=v1`.

        With `mapped` vectors stay out of memory where they can: those of an uncompressed `.npz` are left in the file,
        which must then not be written to, those of a table are put into a temporary file.

        Raises:
            InputError: the path is missing, truncated or malformed, a vector is not finite, or a model is
                named although the space is declared.
        """
        source = source_of(path)
        text, _, after = split_address(path)
        found = cls._bare(Path(text), mapped) if source is None else cls._read(source, mapped)
        if (said := agreed(declared, after, text)) is None:
            return found
        said.require(found.dim, found.space, found.name)
        return replace(found, space=said.space((block for _, block in found.blocks()), found.dim))

    @classmethod
    def _bare(cls, path: Path, mapped: bool) -> VectorSet:
        if path.is_dir():
            return cls._load_folder(path)
        what = (
            "a vector set: a folder made by 'samespace embed' or 'samespace vectors import', an .npz with "
            "'vectors' and 'labels', or .parquet, .arrow, .feather, .csv, .npy"
        )
        wanted = ["labels", "ids", "templates", "space"]
        names = read_npz(path, (), what)[1] if mapped else []
        vectors = mapped_array(path, "vectors") if "vectors" in names else None
        arrays, names = read_npz(path, wanted if vectors is not None else ["vectors", *wanted], what)
        if vectors is not None:
            arrays["vectors"] = vectors
        if "vectors" not in arrays:
            held = ", ".join(names) or "nothing"
            raise InputError(f"{path} holds no array 'vectors' (it holds {held}); expected 'vectors' and 'labels'")
        space = npz_space(arrays, path)
        return cls.from_arrays(**{**arrays, "space": space}, name=str(path))

    @classmethod
    def _read(cls, source: Source, mapped: bool) -> VectorSet:
        vectors, items = source.read(mapped=mapped)
        made = cls.from_arrays(vectors, **item_arrays(items), space=source.space, name=source.name)
        return replace(made, origin=str(source.columns))

    @classmethod
    def _load_folder(cls, path: Path) -> VectorSet:
        import pyarrow
        import pyarrow.parquet

        for part in ("vectors.npy", "items.parquet", "space.json"):
            if not (path / part).is_file():
                raise InputError(
                    f"{path} is not a whole vector set: {part} is missing; make it with 'samespace embed' "
                    "or 'samespace vectors import'"
                )
        about = read_json(path / "space.json", "the space of a vector set")
        try:
            vectors = np.load(path / "vectors.npy", mmap_mode="r", allow_pickle=False)
            with pyarrow.parquet.ParquetFile(path / "items.parquet") as file:
                found = file.schema_arrow.names
                table = file.read(columns=[key for key in _COLUMNS if key in found])
        except (*UNREADABLE, pyarrow.ArrowException) as error:
            raise InputError(
                f"{path} is damaged: vectors.npy or items.parquet is cut short or foreign; make it again with "
                "'samespace embed' or 'samespace vectors import'"
            ) from error
        if vectors.ndim != 2 or vectors.dtype not in (np.float32, np.float16):
            raise InputError(f"{path}: vectors.npy should be (items, dims) float32 or float16, got {vectors.dtype}")
        if "id" not in found:
            raise InputError(f"{path}: items.parquet has no column 'id'; columns: {', '.join(found)}")
        count = len(vectors)
        columns = {key: _column(table.column(key).to_pylist(), key, count, str(path)) for key in table.column_names}
        result = cls(
            vectors=vectors,
            ids=columns["id"].astype(str),
            labels=columns.get("label"),
            templates=columns.get("template"),
            space=Space.from_dict(about["space"], f"{path}/space.json") if about.get("space") is not None else None,
            has_ids=bool(about.get("has_ids", True)),
            name=str(path),
        )
        result._check()
        return result

    def _check(self) -> None:
        if self.space is not None and self.space.dim != self.dim:
            raise InputError(f"{self.name}: vectors have {self.dim} dimensions but their space has {self.space.dim}")
        if self.has_ids and len(np.unique(self.ids)) != len(self):
            names, counts = np.unique(self.ids, return_counts=True)
            raise InputError(f"{self.name}: ids must be unique, '{names[counts > 1][0]}' occurs {counts.max()} times")
        for start in range(0, len(self), _CHECK_ROWS):
            finite = np.isfinite(self.vectors[start : start + _CHECK_ROWS]).all(axis=1)
            if not finite.all():
                row = start + int(np.argmin(finite))
                raise InputError(
                    f"{self.name}: the vector of row {row} (id {self.ids[row]}) holds NaN or infinity, or a number too "
                    "large for float32"
                )


def find_ids(ids: Array, order: npt.NDArray[np.int64], wanted: Sequence[str] | Array) -> npt.NDArray[np.int64]:
    """Where each wanted id is among unique `ids`, which `order` sorts: (len(wanted),) int64, −1 where it is not."""
    names = np.asarray(wanted, dtype=np.str_)
    if not len(ids):
        return np.full(len(names), -1, dtype=np.int64)
    rows = order[np.minimum(np.searchsorted(ids, names, sorter=order), len(ids) - 1)]
    return np.where(ids[rows] == names, rows, -1).astype(np.int64)


def _column(values: Any, what: str, count: int, name: str) -> Array:
    column = np.asarray(values)
    if column.shape != (count,):
        raise InputError(f"{name}: {what} should be one per vector ({count}), got shape {column.shape}")
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    if column.dtype.kind == "U":
        # numpy drops NULs at the end of a text
        require_names(map(str, values if isinstance(values, Sequence) else column.tolist()), what, name)
        return column
    if column.dtype.kind == "S":
        try:
            return np.asarray(np.char.decode(column, "utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"{name}: {what} are byte strings that are not UTF-8; store them as strings") from None
    raise InputError(f"{name}: {what} should be integers or strings, got {column.dtype}")
