"""Items that no newer space has a vector of, by number, so that the last few of many are found without the others."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from samespace.gallery.ledger.state import Ints, State
from samespace.gallery.ledger.transactions.reader import LedgerReader

_KEPT_SECONDS = 10.0


@dataclass(frozen=True)
class Lacking:
    """Item numbers without a vector in any of the `newer` spaces, as of a revision; `at`: when all were listed."""

    at: float
    config: int
    revision: int
    newer: tuple[int, ...]
    items: Ints


def lacking(reader: LedgerReader, state: State, newer: tuple[int, ...], known: Lacking | None) -> Lacking:
    """Items without a vector in any newer space; those that got one in the last seconds may be among them.

    `known`: an earlier answer. Whatever takes a vector from an item moves its epoch, so what is older stays true.
    """
    if (
        known is not None
        and (known.config, known.newer) == (state.config, newer)
        and known.revision <= state.revision
        and time.monotonic() - known.at < _KEPT_SECONDS
    ):
        moved = reader.session.all("SELECT no FROM item WHERE epoch > ?", [known.revision])
        items = np.union1d(known.items, _numbers(moved)) if moved else known.items
        return Lacking(known.at, known.config, state.revision, newer, items)
    sides = [f"NOT EXISTS (SELECT 1 FROM side_{other} w WHERE w.item = a.item)" for other in newer]
    rows = reader.session.all(f"SELECT a.item FROM adopted a WHERE {' AND '.join(sides) or 'TRUE'} ORDER BY a.item")
    return Lacking(time.monotonic(), state.config, state.revision, newer, _numbers(rows))


def _numbers(rows: list[tuple[int]]) -> Ints:
    return np.array([row[0] for row in rows], dtype=np.int64)
