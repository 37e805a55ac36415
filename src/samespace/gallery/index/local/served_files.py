"""Row numbers of a space's items, kept beside its index files: opening reads from the ledger only what changed since.

The ledger names the file, its checksum and the revision it is of, so a file counts only for the history that it was
made from: a ledger that was restored from a backup names an older file, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

import numpy as np

from samespace.gallery.index.segments import UNREADABLE, SegmentFolder
from samespace.gallery.index.served import RowNumbers, ServedRows, every_row, rows_after
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.transactions.reader import LedgerReader

_REVISIONS = 10_000


@dataclass(frozen=True)
class Noted:
    """What the ledger says of the file: its name, checksum and revision, and the number that the next vector had."""

    name: str
    crc: int
    revision: int
    next_vector: int


def noted(reader: LedgerReader, generation: int) -> Noted | None:
    """What the ledger says of the file of a space; None where it names none that still counts."""
    try:
        name, *numbers = (reader.meta(_key(generation)) or "").split()
        found = Noted(name, *map(int, numbers))
    except (TypeError, ValueError):
        return None
    return found if reader.rows_deleted() <= found.revision <= reader.revision() else None


def load_served(folder: SegmentFolder, reader: LedgerReader, generation: int) -> tuple[int, RowNumbers] | None:
    """The row numbers of a space with the revision that they are of; None where there is no file that counts."""
    about = noted(reader, generation)
    if about is None:
        return None
    try:
        rows = folder.load_rows(about.name, about.crc)
    except UNREADABLE:
        return None
    whole = rows.ndim == 1 and len(rows) <= reader.next_numbers()[0]
    return (about.revision, RowNumbers.whole(rows)) if whole else None


def is_wrong(folder: SegmentFolder, reader: LedgerReader, generation: int) -> bool:
    """Whether the file that ledger and manifest name is gone, is not what was written, or not what it should be."""
    about = noted(reader, generation)
    if about is None:
        return False
    if not folder.rows_file(about.name).is_file():
        return folder.read().items == about.name
    known = load_served(folder, reader, generation)
    if known is None:
        return True
    since, before = known
    followed = rows_after(reader, generation, since, before, reader.items_since(since)[0])
    return not np.array_equal(followed.all(), every_row(reader, generation).all())


def forget_served(ledger: Ledger, generation: int) -> None:
    """Let the file of a space no longer count."""
    with ledger.write() as writer:
        writer.put_mark(_key(generation), "")


def save_served(folder: SegmentFolder, ledger: Ledger, served: ServedRows, generation: int, next_vector: int) -> None:
    """Write the row numbers of a space and let the ledger name them; the folder must be locked."""
    name = f"served-{uuid4().hex[:12]}"
    crc = folder.save_rows(name, served.rows[generation].all())
    manifest = folder.read()
    folder.write(manifest.segments, manifest.graph, items=name)
    with ledger.write() as writer:
        writer.put_mark(_key(generation), f"{name} {crc} {served.revision} {next_vector}")


def is_due(folder: SegmentFolder, reader: LedgerReader, generation: int, changes: int) -> bool:
    """Whether the file is lacking, or since it was written more than so many vectors or very many changes came."""
    about = noted(reader, generation)
    return (
        about is None
        or folder.read().items != about.name
        or not folder.rows_file(about.name).is_file()
        or reader.next_numbers()[1] - about.next_vector > changes
        or reader.revision() - about.revision > _REVISIONS
    )


def _key(generation: int) -> str:
    return f"served {generation}"
