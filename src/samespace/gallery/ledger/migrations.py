"""Forward migrations: what brings a ledger of an earlier version to the present tables, one transaction each.

`samespace.gallery/1` to `/3` are the first release's: the same tables, numbered for what a ledger holds.
"""

from __future__ import annotations

import logging
import re
from contextlib import suppress

from samespace.errors import GalleryError, short
from samespace.gallery.ledger.schema import (
    AUDIT_ACTION,
    FORMAT,
    POSTGRES_FILLED,
    POSTGRES_WORK,
    SQLITE_FILLED,
    SQLITE_WORK,
)
from samespace.gallery.ledger.transactions.transaction import Engine
from samespace.gallery.ledger.transactions.writer import LedgerWriter

LOG = logging.getLogger("samespace.gallery")

_BEFORE_RANGES = "ALTER TABLE work RENAME TO work_before"
_RANGES = """;
INSERT INTO work SELECT space, ROW_NUMBER() OVER (PARTITION BY space ORDER BY priority DESC, item), item
    FROM work_before;
INSERT INTO work_failed SELECT space, item, error FROM work_before WHERE error IS NOT NULL;
INSERT INTO work_range SELECT space, MIN(place), MAX(place), owner, lease, tries FROM (
        SELECT w.space, w.place, b.owner, b.lease, b.tries, w.place - ROW_NUMBER() OVER (
            PARTITION BY w.space, b.owner, b.lease, b.tries ORDER BY w.place) AS island
        FROM work w JOIN work_before b ON b.space = w.space AND b.item = w.item WHERE b.error IS NULL) islands
    GROUP BY space, owner, lease, tries, island, CASE WHEN owner IS NULL THEN place / 1000 END;
DROP TABLE work_before
"""

MIGRATIONS: dict[int, tuple[str, str]] = {
    4: (SQLITE_FILLED, POSTGRES_FILLED),
    5: (f"{_BEFORE_RANGES};{SQLITE_WORK}{_RANGES}", f"{_BEFORE_RANGES};{POSTGRES_WORK}{_RANGES}"),
}
"""Statements on SQLite and on PostgreSQL that bring a ledger to a number from the one before; never changed later."""


def brought_up(engine: Engine, written: str | None) -> None:
    """Bring a ledger with this format to the present one; of several processes that open it, one does.

    Killed half way, each step is whole or not there, and the next opening goes on.

    Raises:
        GalleryError: it is of a later version, or of an earlier one and cannot be written.
    """
    number, present = _number(written), _number(FORMAT)
    assert present is not None
    if number is None or number > present:
        raise GalleryError(
            f"{engine.location} has format {short(written)}; this version reads 'samespace.gallery/1' to {FORMAT!r}"
        )
    if number == present:
        return
    if engine.read_only:
        raise GalleryError(
            f"{engine.location} has format {short(written)} of an earlier version, and cannot be written here; bring "
            f"it to {FORMAT!r} once with 'samespace gallery status {engine.location}' where it can be"
        )
    for step in range(number + 1, present + 1):
        _step(engine, step)
    index_audit(engine)
    LOG.warning("%s: brought from format %s to %s", engine.location, written, FORMAT)


def index_audit(engine: Engine) -> None:
    """Make the index on the audit trail of a ledger that was made without; where that fails, nothing else does."""
    if engine.read_only:
        return
    with suppress(GalleryError), engine.writing() as session:
        engine.unbounded(session)
        # another process may have done it meanwhile
        session.run(AUDIT_ACTION.replace("INDEX", "INDEX IF NOT EXISTS"))
        LedgerWriter(engine, session).put_meta("audit indexed", "1")


def _step(engine: Engine, step: int) -> None:
    statements = MIGRATIONS.get(step)
    if statements is None:
        return
    with engine.writing() as session:
        writer = LedgerWriter(engine, session)
        before = writer.meta("format")
        # another process may have done it meanwhile
        if (_number(before) or step) >= step:
            return
        engine.unbounded(session)
        for statement in statements[engine.dialect == "postgres"].split(";"):
            session.run(statement)
        now = FORMAT.rpartition("/")[0] + f"/{step}"
        writer.put_meta("format", now)
        writer.note("migrate", before=before, now=now)


def _number(written: str | None) -> int | None:
    found = re.fullmatch(r"samespace\.gallery/([1-9][0-9]{0,5})", written or "")
    return None if found is None else int(found[1])
