"""Texts as items: rows of JSON lines, CSV or Parquet with an id, a text and perhaps a class."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samespace.errors import InputError, suggest
from samespace.files import require_file, split_options
from samespace.names import require_names
from samespace.text import json_lines, require_names_once, typed_column
from samespace.text import rows as table_rows

ENDINGS = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".pq")
_OPTION = re.compile(r",(id|text|title|label)=([^,]+)$")
# the first name that is there counts, whatever its case
_USUAL = {
    "id": ("id", "_id", "ids", "doc_id", "docid", "docno", "document_id", "query_id", "qid", "pid", "item_id", "key"),
    "text": ("text", "contents", "content", "body", "passage", "document", "query", "question", "sentence"),
    "title": ("title",),
    "label": ("label", "class", "category", "target"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts with their ids.

    Attributes:
        texts: (N,) of them.
        ids: (N,) their ids; None where the file has none.
        labels: (N,) their classes, whole numbers or text; None where there are none.
        name: where they come from.
        origin: which columns were taken for what.
        left_out: the lines of texts that were empty, where these are skipped; of Parquet their rows, from 0.
        unit: which of the two.
    """

    texts: list[str]
    ids: list[str] | None
    labels: np.ndarray[Any, Any] | None
    name: str
    origin: str
    left_out: tuple[int, ...] = ()
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.texts)

    def fingerprint(self) -> str:
        """A digest of texts, ids and classes in their order."""
        digest = hashlib.sha256()
        labels = [] if self.labels is None else self.labels.tolist()
        for part in (self.texts, self.ids or [], labels):
            digest.update(json.dumps(part).encode())
        return digest.hexdigest()


def are_texts(address: str | os.PathLike[str]) -> bool:
    """Whether an address is of a form that `read_texts` reads."""
    return _split(address)[0].suffix.lower() in ENDINGS


def read_texts(address: str | os.PathLike[str], *, skip_empty: bool = False) -> Texts:
    """Read the texts of a file of JSON lines (an object a line), CSV, TSV or Parquet.

    Columns are those with the usual names (`id`, `_id`, `text`, `label`, …), or named after the path, as in
    `items.parquet,text=body,id=sku`. A `title` stands before its text, with a space between, as in BEIR.

    Args:
        address: a path, and columns after it.
        skip_empty: leave out rows whose text is missing or blank, rather than refuse them.

    Raises:
        InputError: no such file or column, a row without a text, an id that is missing or repeats.
    """
    path, named = _split(address)
    require_file(path, "a file of texts: " + ", ".join(ENDINGS))
    if path.suffix.lower() not in ENDINGS:
        raise InputError(f"{path}: texts are read from files that end in {', '.join(ENDINGS)}")
    header, rows, unit = _rows(path)
    columns = _columns(header, named, str(path))
    texts: list[str] = []
    ids: list[str | int] = []
    labels: list[str | int] = []
    lines: list[int] = []
    empty: list[int] = []
    for number, row in rows:
        whole = _joined(row, columns, path, unit, number)
        if not whole or whole.isspace():
            empty.append(number)
            continue
        texts.append(whole)
        lines.append(number)
        for role, into in (("id", ids), ("label", labels)):
            if role in columns:
                into.append(_name(row.get(columns[role]), role, columns[role], f"{path}, {place_in(unit, number)}"))
    if empty and not skip_empty:
        raise InputError(
            f"{path}, {place_in(unit, empty[0])}: no text in column '{columns['text']}' ({len(empty):,} such); "
            "fill it, or leave such rows out with --broken skip"
        )
    if not texts:
        raise InputError(f"{path} holds no text")
    if "id" in columns:
        _require_unique(ids, lines, path, unit)
    taken = ", ".join(f"{role}s from '{name}'" for role, name in columns.items())
    return Texts(
        texts=texts,
        ids=[str(name) for name in ids] if "id" in columns else None,
        labels=_labels(labels, str(path)) if "label" in columns else None,
        name=str(path),
        origin=taken if "id" in columns else f"{taken}, no ids",
        left_out=tuple(empty),
        unit=unit,
    )


def place_in(unit: str, number: int) -> str:
    """A line, counted from 1, or a row, from 0, for a message."""
    return f"row {number} (from 0)" if unit == "row" else f"{unit} {number}"


def _split(address: str | os.PathLike[str]) -> tuple[Path, dict[str, str]]:
    """A path and the columns named after it."""
    path, named = split_options(os.fspath(address), _OPTION)
    return Path(path), named


def _rows(path: Path) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]], str]:
    """Names of the columns, the rows with their numbers, and what is counted: lines or rows."""
    ending = path.suffix.lower()
    if ending in (".jsonl", ".ndjson"):
        rows = list(json_lines(path, "texts"))
        return list(dict.fromkeys(key for _, row in rows for key in row)), iter(rows), "line"
    if ending in (".csv", ".tsv"):
        return _table(path, "\t" if ending == ".tsv" else ",")
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            require_names_once(header, path)
            # bytes that are no text come to light only where they are looked at
            rows = file.read().to_pylist()
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise InputError(f"{path} cannot be read as Parquet ({reason})") from None
    return header, enumerate(rows), "row"


def _table(path: Path, delimiter: str) -> tuple[list[str], Iterator[tuple[int, dict[str, Any]]], str]:
    found = table_rows(path, "texts", delimiter)
    _, header = next(found, (1, []))
    require_names_once(header, path)

    def rows() -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in found:
            if len(row) != len(header):
                raise InputError(f"{path}, line {number}: {len(row)} fields; the first line names {len(header)}")
            yield number, dict(zip(header, row, strict=True))

    return header, rows(), "line"


def _columns(header: Sequence[str], named: dict[str, str], where: str) -> dict[str, str]:
    """The column of each role that there is."""
    lower = {name.lower(): name for name in reversed(header)}
    columns = {}
    for role, usual in _USUAL.items():
        if role in named:
            if named[role] not in header:
                raise InputError(f"{where} has no column '{named[role]}' ({role}); {suggest(named[role], header)}")
            columns[role] = named[role]
        elif found := next(
            (lower[name] for name in usual if name in lower and lower[name] not in named.values()), None
        ):
            columns[role] = found
    if "text" not in columns:
        held = ", ".join(header)[:200] or "nothing"
        raise InputError(f"{where} has no column 'text' or the like; it has {held}; say which: '{where},text=NAME'")
    return columns


def _joined(row: dict[str, Any], columns: dict[str, str], path: Path, unit: str, number: int) -> str:
    parts = []
    for role in ("title", "text"):
        value = row.get(columns[role]) if role in columns else None
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"{path}, {place_in(unit, number)}: column '{columns[role]}' holds {str(value)[:60]!r}, no text"
            )
        parts.append(value or "")
    title, body = parts
    if not body.strip():
        return title if title.strip() else ""
    return f"{title} {body}" if title else body


def _name(value: Any, role: str, column: str, where: str) -> str | int:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f"{where}: the {role} (column '{column}') is {value!r}; expected text or a whole number")
    return value


def _require_unique(ids: list[Any], lines: list[int], path: Path, unit: str) -> None:
    require_names(map(str, ids), "ids", str(path))
    first: dict[str, int] = {}
    for name, number in zip(map(str, ids), lines, strict=True):
        if first.setdefault(name, number) != number:
            raise InputError(
                f"{path}, {place_in(unit, number)}: the id '{name}' was on {place_in(unit, first[name])}; ids "
                "must be unique"
            )


def _labels(labels: list[Any], where: str) -> np.ndarray[Any, Any]:
    """Classes as whole numbers of 64 bits where all are, else as text."""
    if all(isinstance(label, int) and -(2**63) <= label < 2**63 for label in labels):
        return np.array(labels, dtype=np.int64)
    names = [str(label) for label in labels]
    require_names(names, "labels", where)
    values, _ = typed_column(names)
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return np.array(values, dtype=np.int64)
    return np.array(names)
