"""What an application did to its rows, brought to the ledger: new items, changed contents, removed items, work."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from samespace.gallery.index.adopted.store import AdoptedStore, SeenRow
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, NewItem
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.progress import Advance, silent

_LOOKED = "adopted looked"
# of the time between two looks at all rows, at most this share goes into looking
_LOOKING = 0.05


@dataclass(frozen=True)
class Synced:
    """What a look at the application's rows found, as counts: rows added, changed and gone since the one before.

    `at`: when it began, in seconds since 1970. `seconds`: it took.
    """

    added: int = 0
    changed: int = 0
    gone: int = 0
    at: float = 0.0
    seconds: float = 0.0


def sync(ledger: Ledger, store: AdoptedStore, *, advance: Advance = silent) -> Synced:
    """List what the application added, changed or deleted, and put it on the work list where vectors are lacking.

    Killed half way, the same call carries on; searches are right before, during and after.
    """
    began, clock = time.time(), time.monotonic()
    added = changed = gone = 0
    for found in store.scan():
        with ledger.write() as writer:
            added += _added(writer, store, found.added)
            changed += _changed(writer, store, found.changed)
            gone += _gone(writer, found.gone)
        advance(len(found.added) + len(found.changed) + len(found.gone))
    done = Synced(added, changed, gone, began, time.monotonic() - clock)
    with ledger.write() as writer:
        writer.put_meta(_LOOKED, json.dumps(asdict(done)))
        if added or changed or gone:
            writer.note("sync", added=added, changed=changed, gone=gone)
    return done


class Lister:
    """Lists now and then what the application has changed, for a process that goes on; safe to use from threads."""

    def __init__(self, ledger: Ledger, store: AdoptedStore) -> None:
        self._ledger, self._store, self._looking = ledger, store, threading.Lock()
        self._ended = self._seconds = 0.0

    def list_now_and_then(self) -> None:
        """List it, unless that was just done or is being done."""
        due = not self._ended or time.monotonic() - self._ended >= self._seconds / _LOOKING
        if due and not self._ledger.read_only and self._looking.acquire(blocking=False):
            try:
                self._seconds, self._ended = sync(self._ledger, self._store).seconds, time.monotonic()
            finally:
                self._looking.release()


def last_sync(reader: LedgerReader) -> Synced | None:
    """The last look that came to its end."""
    text = reader.meta(_LOOKED)
    return None if text is None else Synced(**json.loads(text))


def differing(store: AdoptedStore, reader: LedgerReader) -> Synced:
    """What a look would find now; nothing is changed."""
    added = changed = gone = 0
    began, clock = time.time(), time.monotonic()
    for found in store.scan():
        contents = _contents(reader, found.changed)
        added += len(found.added)
        changed += sum(contents[row.number] != row.content for row in found.changed if row.number in contents)
        gone += len(found.gone)
    return Synced(added, changed, gone, began, time.monotonic() - clock)


def _added(writer: LedgerWriter, store: AdoptedStore, rows: Sequence[SeenRow]) -> int:
    # another process may have listed some meanwhile
    known = writer.find([row.id for row in rows])
    new = [row for row in rows if row.id not in known]
    if new:
        numbers = writer.add_items([NewItem(row.id, row.content) for row in new])
        store.note(writer, new, numbers)
        _list_work(writer, numbers)
    return len(new)


def _changed(writer: LedgerWriter, store: AdoptedStore, rows: Sequence[SeenRow]) -> int:
    contents = _contents(writer, rows)
    differs = [row for row in rows if contents[row.number] != row.content]
    numbers = _numbers(differs)
    if differs:
        writer.change_items(numbers, [NewItem(row.id, row.content) for row in differs])
        _list_work(writer, numbers)
    if rows:
        store.note(writer, rows, _numbers(rows))
    return len(differs)


def _gone(writer: LedgerWriter, items: Sequence[int]) -> int:
    live = [number for number, item in writer.items(items).items() if not item.deleted]
    if live:
        writer.remove_items(np.array(live, dtype=np.int64))
    return len(live)


def _contents(reader: LedgerReader, rows: Sequence[SeenRow]) -> dict[int | None, str | None]:
    """What the ledger has as the content of each row's item; None where the item was removed."""
    items = reader.items([row.number for row in rows if row.number is not None])
    return {number: None if item.deleted else item.content for number, item in items.items()}


def _list_work(writer: LedgerWriter, items: Ints) -> None:
    """Put items on the work list of an upgrade that is under way, behind those that are there."""
    state = writer.state()
    target = None if state.upgrade is None or state.upgrade.state != "open" else state.query
    if state.filling is not None:
        target = state.filling.new
    if target is not None:
        writer.append_work(target, writer.lacking(target, items))


def _numbers(rows: Sequence[SeenRow]) -> Ints:
    return np.array([row.number for row in rows], dtype=np.int64)
