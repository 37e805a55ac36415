"""The changes of a ledger's items one after another, for an index elsewhere that follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from samespace.gallery.ledger.transactions.reader import LedgerReader

Change: TypeAlias = tuple[int, int, str, int]
"""Number of an item, the revision that changed it or gave it a vector, its content, its deleted mark."""

_NO_END = 2**62


def changes(reader: LedgerReader, after: tuple[int, int], limit: int) -> list[Change]:
    """Up to `limit` of the next changes after (revision, item), in this order; none where there are none left."""
    kept: list[Change] = []
    while len(kept) < limit:
        fills = reader.session.all(
            "SELECT space, revision, first FROM filled WHERE revision = "
            "(SELECT MIN(revision) FROM filled WHERE revision >= ?)",
            [after[0]],
        )
        upto = fills[0][1] if fills else _NO_END
        found = reader.session.all(
            "SELECT no, epoch, content, deleted FROM item WHERE (epoch, no) > (?, ?) AND epoch <= ? "
            "ORDER BY epoch, no LIMIT ?",
            [*after, upto, limit],
        )
        for space, revision, first in fills:
            found += _filled(reader, space, revision, first, after[1] if after[0] == revision else 0, limit)
        some = sorted(set(found), key=lambda row: (row[1], row[0]))[:limit]
        # an item that a later revision gave a vector to comes with that one
        later = _filled_since(reader, upto, [row[0] for row in some if row[1] < upto])
        later |= _filled_since(reader, upto + 1, [row[0] for row in some if row[1] == upto])
        kept += [row for row in some if row[0] not in later]
        if len(some) == limit:
            after = (some[-1][1], some[-1][0])
        elif fills:
            after = (upto + 1, 0)
        else:
            break
    return kept[:limit]


def _filled(
    reader: LedgerReader, space: int, revision: int, first: int, after: int, limit: int
) -> Sequence[tuple[int, ...]]:
    """The items, from a number on, that a revision gave vectors to, whose first row number is `first`."""
    stop = reader.session.all("SELECT MIN(first) FROM filled WHERE first > ?", [first])[0][0] or _NO_END
    return reader.session.all(
        f"SELECT i.no, {revision}, i.content, i.deleted FROM vector_{space} v JOIN item i ON i.no = v.item "
        "WHERE v.no >= ? AND v.no < ? AND i.no > ? ORDER BY i.no LIMIT ?",
        [first, stop, after, limit],
    )


def _filled_since(reader: LedgerReader, revision: int, items: Sequence[int]) -> set[int]:
    """Those of these items that a revision, or one after it, gave vectors to."""
    fills = reader.session.all("SELECT space, MIN(first) FROM filled WHERE revision >= ? GROUP BY space", [revision])
    sql = "SELECT item FROM vector_{} WHERE no >= ? AND item IN (LISTED)"
    return {row[0] for space, first in fills for row in reader.all_listed(sql.format(space), items, [first])}
