"""Handing an application its vectors back, in the terms of the store that they lie in."""

from __future__ import annotations

from samespace.errors import GalleryError, InputError
from samespace.gallery.index.adopted.store import AdoptedStore
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.sqlite.engine import SqliteEngine
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.seal import Sealed, seal
from samespace.progress import Advance


def release_lines(ledger: Ledger, store: AdoptedStore | None, *, drop_index: bool = False) -> list[str]:
    """What handing the vectors over would do, as SQL or as calls, none without a store; nothing is changed.

    Raises:
        InputError: `drop_index` of what is no table.
        GalleryError: they cannot be handed over now.
    """
    if store is None:
        return []
    if _in_collection(ledger, drop_index):
        from samespace.gallery.adoption import release_collection

        return release_collection.plan_release(store).lines()
    from samespace.gallery.adoption.release_plan import plan_release

    return plan_release(store, drop_index=drop_index).lines()


def seal_or_hand_over(
    ledger: Ledger,
    store: AdoptedStore | None,
    *,
    partial: bool,
    unused_for: float,
    end_grace: bool,
    drop_index: bool,
    expect: int | None,
    advance: Advance,
) -> Sealed:
    """Delete the old vectors, or put the new ones in their place in the store. Arguments and errors as of `seal`."""
    if store is None:
        return seal(ledger, partial=partial, unused_for=unused_for, end_grace=end_grace, expect=expect, advance=advance)
    if partial:
        raise GalleryError(f"{ledger.location}: an adopted table is handed over whole; backfill what is left first")
    with ledger.read() as reader:
        require_step(reader, expect)
    if _in_collection(ledger, drop_index):
        from samespace.gallery.adoption import release_collection

        return release_collection.hand_over(store, unused_for=unused_for, end_grace=end_grace, advance=advance)
    from samespace.gallery.adoption import release

    return release.hand_over(
        store, unused_for=unused_for, end_grace=end_grace, drop_index=drop_index, expect=expect, advance=advance
    )


def after_rollback(ledger: Ledger, store: AdoptedStore | None) -> tuple[str, ...]:
    """What to know of an application's table once a seal of it was cut off and rolled back, a sentence each."""
    if store is None or _in_collection(ledger, False):
        return ()
    from samespace.gallery.adoption.release_plan import indexes_to_make

    with ledger.read() as reader:
        lost = indexes_to_make(reader)
    return tuple(f"a seal that was cut off dropped an index on these vectors; make it again: {sql}" for sql in lost)


def _in_collection(ledger: Ledger, drop_index: bool) -> bool:
    """Whether the vectors lie in a collection of Qdrant, whose ledger lies in a folder, rather than in a table."""
    if not isinstance(ledger.engine, SqliteEngine):
        return False
    if drop_index:
        raise InputError(f"{ledger.location} has adopted no table; drop_index=True is about the indexes of one")
    return True
