"""Metadata of items from a file: JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.files import require_file
from samespace.gallery.ledger.filters import typed


def read_metadata(path: str | Path) -> dict[str, dict[str, Any]]:
    """Metadata by item id from a file with one item per line.

    `.csv`: a header with a column `id`; what looks like a number is one, `true` and `false` are booleans, empty cells
    are left out. Everything else is read as JSON lines: `{"id": "a.jpg", "shop": "berlin", "year": 2024}`.

    Raises:
        InputError: the file is missing or malformed, an id comes twice, or a value is no string, number or boolean.
    """
    place = Path(path)
    require_file(place, "metadata: JSON lines or a CSV, with an id and columns")
    rows = _csv(place) if place.suffix == ".csv" else _json_lines(place)
    metadata: dict[str, dict[str, Any]] = {}
    for number, row in rows:
        name = row.pop("id", None)
        if not isinstance(name, str) or not name:
            raise InputError(f"{place}, line {number}: expected an id, a string, got {name!r}")
        if name in metadata:
            raise InputError(f"{place}, line {number}: the id '{name}' comes twice")
        for key, value in row.items():
            if not isinstance(value, (str, int, float)) or (isinstance(value, float) and not math.isfinite(value)):
                raise InputError(
                    f"{place}, line {number}: '{key}' of '{name}' should be a string, a finite number, true or false, "
                    f"got {value!r}"
                )
        metadata[name] = row
    if not metadata:
        raise InputError(f"{place} holds no metadata")
    return metadata


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if not line.strip():
                continue
            value = json.loads(line)
            if not isinstance(value, dict):
                raise InputError(f"{path}, line {number}: expected an object with an id, got {line[:40]!r}")
            yield number, value
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON lines: {error.msg}") from None


def _csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if "id" not in (reader.fieldnames or ()):
                raise InputError(f"{path}: expected a header with a column 'id', got {reader.fieldnames or 'nothing'}")
            for row in reader:
                if None in row or None in row.values():
                    raise InputError(f"{path}, line {reader.line_num}: expected {len(reader.fieldnames or ())} values")
                yield (
                    reader.line_num,
                    {key: text if key in ("id", "label") else typed(text) for key, text in row.items() if text != ""},
                )
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except csv.Error as error:
        raise InputError(f"{path} is not valid CSV: {error}") from None
