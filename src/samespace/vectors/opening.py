"""Which form an address of vectors has: `FORMS`, the one table of what vectors are read from."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from samespace.errors import InputError
from samespace.vectors.arrays import npy_source
from samespace.vectors.columns import Names
from samespace.vectors.files import arrow_source, csv_source, parquet_source
from samespace.vectors.source import Source

_OPTIONS = re.compile(r",(vector|id|label|template|ids|table)=([^,]+)$")

Opener = Callable[..., Source]

FILES: dict[str, Opener] = {
    ".parquet": parquet_source,
    ".pq": parquet_source,
    ".arrow": arrow_source,
    ".feather": arrow_source,
    ".ipc": arrow_source,
    ".csv": csv_source,
    ".tsv": csv_source,
    ".npy": npy_source,
}
"""By the ending of a file's name."""


def split_address(address: str | os.PathLike[str]) -> tuple[str, Names]:
    """An address without the options after it, and these: `old.npy,ids=old.csv` or `t.parquet,vector=new,id=sku`."""
    text = os.fspath(address)
    options: dict[str, str] = {}
    while not Path(text).exists() and (match := _OPTIONS.search(text)):
        options.setdefault(match[1], match[2])
        text = text[: match.start()]
    return text, Names(**options)


def source_of(address: str | os.PathLike[str], names: Names | None = None, *, metadata: bool = False) -> Source | None:
    """The source of vectors at an address; None where its form is not of `FILES`.

    Args:
        address: a path, options after it (see `split_address`).
        names: what the user calls the columns, before what the address says.
        metadata: read all other columns too.

    Raises:
        InputError: it cannot be read, or its columns cannot be told.
    """
    text, told = split_address(address)
    given = {} if names is None else {key: value for key, value in vars(names).items() if value is not None}
    path = Path(text)
    opener = FILES.get(path.suffix.lower())
    if opener is None or path.is_dir():
        if told != Names():
            raise InputError(f"{address}: options after a comma belong to a file of {', '.join(FILES)}")
        return None
    return opener(path, replace(told, **given), metadata=metadata)
