"""The seal: the new vectors are counted and checked, then the old ones are deleted; there is no way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from samespace.errors import GalleryError, counted
from samespace.gallery.ingest.checks import damaged
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.query_counts import query_counts
from samespace.gallery.ledger.state import State, Upgrade
from samespace.gallery.ledger.transactions.reader import UNENDED, LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade.behind import dropped
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.wording import backfill_call
from samespace.progress import Advance, clock, silent
from samespace.space import Space

UNUSED_SECONDS = 600.0
"""How long no query of an earlier space must have come before a seal."""

_BATCH = 10_000
_SAMPLE = 4096


@dataclass(frozen=True)
class Sealed:
    """What a seal did.

    Attributes:
        space: that serves now.
        deleted: vectors that went: the old ones, and those of spaces that were rolled back before.
        kept: old vectors that stay, for items that have no new one.
        retired: spaces that serve no more.
        removed: items that went, for a switch had dropped them and they have no new vector since.
        freed: bytes that a gallery in a folder takes less than before, index files included.
        advice: how to give back what the database keeps for new rows; empty where it keeps nothing.
    """

    space: Space
    deleted: int
    kept: int
    retired: tuple[Space, ...]
    removed: int = 0
    freed: int = 0
    advice: str = ""


def seal(
    ledger: Ledger,
    *,
    partial: bool = False,
    unused_for: float = UNUSED_SECONDS,
    end_grace: bool = False,
    expect: int | None = None,
    advance: Advance = silent,
) -> Sealed:
    """Count, check, then delete old vectors in small batches; killed, the same call carries on.

    Arguments as of `Gallery.seal`.

    Raises:
        GalleryError: no upgrade is under way, items lack the new vector, a vector is damaged, or queries of an earlier
            space came lately.
    """
    with ledger.read() as reader:
        state = reader.state()
        if not any(one.state == "sealing" for one in state.upgrades):
            # one that was cut off is carried on, whatever step it had counted as
            require_step(reader, expect)
        upgrade = _under_way(state, ledger.location)
        _require_sound(reader, state)
    if upgrade.state == "open":
        with ledger.write() as writer:
            require_step(writer, expect)
            state = writer.state()
            upgrade = _under_way(state, ledger.location)
            lacking = len(writer.unserved([state.query])) - len(dropped(state, writer))
            if partial and len(state.ancestry) > len(state.servable):
                raise GalleryError(
                    "a behind upgrade is sealed as a whole, as no search finds an item by its old vector; leave out "
                    "partial=True"
                )
            if lacking and not partial:
                raise GalleryError(_incomplete(writer, state, lacking))
            if not end_grace:
                require_unused(writer, state, unused_for)
            writer.set_upgrade(upgrade, state="sealing")
            writer.note("seal", upgrade=upgrade.number, lacking=lacking)
    older = [generation for generation in state.ancestry if generation != state.query] + _abandoned(state)
    removed = _remove_dropped(ledger, state)
    deleted = 0
    for gone in _drop(ledger, older, state.query):
        deleted += gone
        advance(gone)
    try:
        advice = ledger.engine.reclaim(older)
    except GalleryError as error:
        advice = f"what was deleted keeps its room for new rows: {error}"
    return replace(_finish(ledger, state, upgrade, older, deleted), removed=removed, advice=advice)


def _remove_dropped(ledger: Ledger, state: State) -> int:
    """Remove the items that a switch dropped, with their old vectors, a batch at a time; how many."""
    with ledger.read() as reader:
        items = dropped(state, reader)
    removed = 0
    for start in range(0, len(items), _BATCH):
        with ledger.write() as writer:
            # one that was embedded since is an item like the others
            gone = writer.lacking(state.query, items[start : start + _BATCH])
            writer.remove_items(gone)
        removed += len(gone)
    return removed


def _drop(ledger: Ledger, older: list[int], query: int) -> Iterator[int]:
    """Delete what the query space replaces, a batch at a time; the sizes."""
    for generation in older:
        last = 0
        while True:
            with ledger.write() as writer:
                gone = writer.drop_superseded(generation, query, _BATCH, after=last)
            if not gone:
                break
            last = gone[-1]
            yield len(gone)


def _finish(ledger: Ledger, state: State, upgrade: Upgrade, older: list[int], deleted: int) -> Sealed:
    """Retire what is empty now, and end the upgrades that led here."""
    with ledger.write() as writer:
        empty = [generation for generation in older if not writer.stored(generation)]
        kept = sum(writer.stored(generation) for generation in older)
        if writer.rows_deleted() == UNENDED:
            writer.note_rows_deleted()
        for generation in empty:
            writer.retire(generation)
        for one in writer.state().upgrades:
            if one.state in ("open", "sealing") and one.new in state.ancestry:
                # upgrades below this one are over with it: their old vectors went too
                writer.set_upgrade(one, state="sealed", paused=False)
        writer.note("sealed", upgrade=upgrade.number, deleted=deleted, kept=kept)
    retired = tuple(state.spaces[generation].space for generation in sorted(empty))
    return Sealed(state.spaces[state.query].space, deleted, kept, retired)


def _abandoned(state: State) -> list[int]:
    """Spaces older than the query space that were rolled back: once this one is sealed there is no way to them."""
    newest = {one.new: one.state for one in state.upgrades}
    return [
        generation
        for generation, kept in state.spaces.items()
        if generation < state.query
        and not kept.retired
        and generation not in state.ancestry
        and newest.get(generation) == "rolled-back"
    ]


def nothing_to_seal(state: State, where: str) -> GalleryError:
    """Why there is no upgrade to seal."""
    if state.filling is not None:
        first = backfill_call(state, state.filling.new)
        return GalleryError(
            f"{where}: an upgrade is being filled; seal after the switch: {first}, then gallery.switch()"
        )
    return GalleryError(f"{where}: no upgrade is under way, so there is nothing to seal")


def require_switched(state: State, where: str) -> None:
    """Refuse to hand over vectors of an application while queries do not use the newer ones, or no longer can go back.

    Raises:
        GalleryError: no upgrade is open.
    """
    upgrade = state.upgrade
    if upgrade is None or upgrade.state != "open" or upgrade.new != state.query:
        raise nothing_to_seal(state, where)


def require_complete(state: State, where: str, lacking: int, what: str) -> None:
    """Refuse to hand over vectors of an application that are not all there; `what` it calls its items.

    Raises:
        GalleryError: some are `lacking`.
    """
    if lacking:
        raise GalleryError(
            f"{where}: {lacking:,} {what} have no vector of {state.spaces[state.query].space}, or have changed since "
            f"they got it; carry on with {backfill_call(state, state.query)}, then seal again"
        )


def _under_way(state: State, where: str) -> Upgrade:
    if state.upgrade is not None:
        return state.upgrade
    sealed = next((one for one in state.upgrades if one.state == "sealed" and one.new == state.query), None)
    if sealed is None:
        raise nothing_to_seal(state, where)
    if len(state.ancestry) == 1 and not _abandoned(state):
        raise GalleryError(f"{where}: the upgrade to {state.spaces[state.query].space} is sealed already")
    # a partial seal left old vectors for items that may have been embedded since
    return sealed


def _incomplete(reader: LedgerReader, state: State, lacking: int) -> str:
    failed = reader.failures(state.query, 1)
    example = f"; the first that could not be embedded is '{failed[0][0]}': {failed[0][1]}" if failed else ""
    cut = len(state.ancestry) > len(state.servable)
    return (
        f"{lacking:,} of {counted(reader.live(), 'item has', 'items have')} no vector of "
        f"{state.spaces[state.query].space}{example}. "
        f"Carry on with {backfill_call(state, state.query)}, "
        + (
            "or remove these items"
            if cut
            else "remove these items, or seal with partial=True, which keeps their old vectors"
        )
    )


def end_upgrades(writer: LedgerWriter, state: State) -> Sealed:
    """Retire every space before the query space, whose vectors an application has from now on."""
    older = [generation for generation in state.ancestry if generation != state.query]
    for generation in older:
        writer.retire(generation)
    for one in state.upgrades:
        if one.state == "open" and one.new in state.ancestry:
            writer.set_upgrade(one, state="sealed", paused=False)
    return Sealed(state.spaces[state.query].space, 0, 0, tuple(state.spaces[other].space for other in older))


def require_unused(reader: LedgerReader, state: State, seconds: float) -> None:
    """Refuse while queries of an earlier space come."""
    for generation, count in query_counts(reader, state).items():
        ago = time.time() - count.seen
        if count.queries and ago < seconds:
            raise GalleryError(
                f"queries of {state.spaces[generation].space} still come: {count.queries:,} so far, the last "
                f"{clock(ago)} ago; let their senders use {state.spaces[state.query].space}, and seal once none came "
                f"for {clock(seconds)}, or say end_grace=True: from the seal on they are refused"
            )


def _require_sound(reader: LedgerReader, state: State) -> None:
    """Look at an even sample of the new vectors before the old ones go."""
    total = reader.stored(state.query)
    taken, last = 0, 0
    step = max(1, total // _SAMPLE)
    while taken < min(total, _SAMPLE):
        rows = reader.rows_after(state.query, last, 256)
        if not len(rows.numbers):
            break
        if damaged(rows):
            raise GalleryError(
                f"a vector of {state.spaces[state.query].space} is damaged in the store; nothing was deleted. Run "
                "gallery.doctor()"
            )
        taken += len(rows.numbers)
        last = int(rows.numbers[-1]) + 256 * (step - 1)
