"""An upgrade to a model that is not compatible: filled behind the old one, then switched to, or given up.

No vector of one space ever meets one of the other: `State.servable` ends at such an upgrade. Rolling back is in
`upgrade`, the seal in `seal`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from samespace.errors import GalleryError, InputError, counted
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.query_counts import begin_counting
from samespace.gallery.ledger.state import Ints, State, Upgrade
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.quality import Quality, Queries, measure
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.model_check import require_same_model
from samespace.gallery.upgrade.permissions import Permissions
from samespace.gallery.upgrade.plan import Plan, draft, measured_rate
from samespace.gallery.upgrade.upgrade import (
    NewSpace,
    planned,
    registered,
    require_order,
    require_plannable,
    upgrade_to,
    write_down,
)
from samespace.gallery.wording import backfill_call
from samespace.space import Space


@dataclass(frozen=True)
class BehindSwitch:
    """What the switch of a behind upgrade did.

    Attributes:
        query: the space that queries use now.
        before: the space they used before.
        items: how many are found now.
        dropped: ids of those that have no new vector and are found no more.
        quality: of the new side against the old one, as far as it could be measured.
        notes: what to know, a sentence each.
    """

    query: Space
    before: Space
    items: int
    dropped: tuple[str, ...]
    quality: Quality
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "query": self.query.to_dict(),
            "before": self.before.to_dict(),
            "items": self.items,
            "dropped": list(self.dropped),
            "quality": self.quality.to_dict(),
            "notes": list(self.notes),
        }


def begin_behind(
    ledger: Ledger,
    new: NewSpace | None = None,
    *,
    order: str | None = None,
    grace: bool = False,
    expect: int | None = None,
) -> Plan:
    """Begin to fill a new space behind the one that queries use; what it takes. Arguments as of `Gallery.begin_behind`.

    Raises:
        SpaceError: a model that is not the one which made the vectors that its space has already.
        GalleryError: another upgrade is being filled, or the space is an earlier one.
    """
    require_order(order)
    before = ledger.state()
    if new is None:
        new = NewSpace(planned(before, ledger.location).space)
    require_plannable(before, new.space)
    if new.embedder is not None and (known := before.generation_of(new.space)) is not None:
        require_same_model(ledger, known, new.embedder)
    rate = None if new.embedder is None else measured_rate(ledger, new.embedder)
    with ledger.write() as writer:
        require_step(writer, expect)
        generation = registered(writer, new)
        state = writer.state()
        drafted = draft(writer, state, generation, Permissions(), order=order, rate=rate, behind=True, grace=grace)
        plan = write_down(writer, state, drafted)
        upgrade = upgrade_to(writer.state(), generation)
        assert upgrade is not None
        writer.set_upgrade(upgrade, state="filling", paused=False)
        writer.note("upgrade behind", upgrade=plan.upgrade, space=new.space.id)
    if new.embedder is not None:
        require_same_model(ledger, generation, new.embedder)
    return plan


def switch(
    ledger: Ledger,
    queries: Queries | None = None,
    *,
    share: float | None = None,
    accept_worse: bool = False,
    grace: bool = False,
    expect: int | None = None,
) -> BehindSwitch:
    """Let queries use the space that was filled, and nothing else. Arguments as of `Gallery.switch`.

    Raises:
        GalleryError: no upgrade is being filled, items lack the new vector, or the new side is measurably worse.
        InputError: a share out of range.
    """
    with ledger.read() as reader:
        require_step(reader, expect)
        filled = being_filled(reader.state(), ledger.location)
    quality = measure(ledger, filled, queries)
    if share is not None and not 0 < share <= 1:
        raise InputError(f"the share of the items that must have a new vector lies above 0 and up to 1, got {share}")
    with ledger.write() as writer:
        require_step(writer, expect)
        state = writer.state()
        upgrade = being_filled(state, ledger.location)
        lacking, items = writer.unserved([upgrade.new]), writer.live()
        if len(lacking) and (share is None or items - len(lacking) < share * items):
            raise GalleryError(_incomplete(writer, state, upgrade, lacking, items, share))
        if quality.worse and not accept_worse:
            raise GalleryError(
                f"the new side is worse: {quality.sentence()}; stay, or say accept_worse=True, which is recorded"
            )
        writer.drop(upgrade.new, lacking)
        grace = grace or upgrade.grace
        plan = {**upgrade.plan, "grace": grace, "quality": quality.to_dict()}
        writer.set_upgrade(upgrade, state="open", paused=False, plan=plan)
        if grace:
            begin_counting(writer)
        writer.set_query(upgrade.new)
        names = _names(writer, lacking)
        writer.note(
            "switch", upgrade=upgrade.number, space=state.spaces[upgrade.new].space.id, dropped=len(names),
            accepted_worse=quality.worse,
        )  # fmt: skip
        notes = _notes(state, upgrade, ledger.location)
    return BehindSwitch(
        state.spaces[upgrade.new].space, state.spaces[upgrade.old].space, items - len(names), names, quality, notes
    )


def being_filled(state: State, where: str) -> Upgrade:
    """The behind upgrade that is being filled. Raises GalleryError: there is none."""
    if state.filling is None:
        raise GalleryError(
            f"{where}: no upgrade is being filled, so there is nothing to switch to; begin one with "
            "gallery.begin_behind(model=…)"
        )
    return state.filling


def backfill_target(reader: LedgerReader, state: State) -> int:
    """The generation that a backfill by images fills: first what searches lack, then the other side of an upgrade.

    Items that failed do not count, and neither does a side whose model is not remembered.
    """
    sides = [state.query, *(one for one in state.sides[1:] if state.spaces[one].model is not None)]
    if state.filling is not None and state.filling.new not in sides:
        # what lacks its model is named by the error that this brings
        sides.append(state.filling.new)
    for generation in sides:
        if reader.lacking_count(generation) > reader.failed(generation):
            return generation
    return state.query if state.filling is None else state.filling.new


def dropped(state: State, reader: LedgerReader) -> Ints:
    """Numbers of the items that a switch left out and that have no vector of the query space since, ascending."""
    left: set[int] = set()
    for upgrade in state.upgrades:
        if upgrade.state in ("open", "sealing") and upgrade.behind and upgrade.new in state.ancestry:
            left |= set(reader.dropped(upgrade.new).tolist())
    return reader.lacking(state.query, sorted(left))


def _names(reader: LedgerReader, items: Ints) -> tuple[str, ...]:
    return tuple(sorted(item.id for item in reader.items(items).values()))


def _notes(state: State, upgrade: Upgrade, where: str) -> tuple[str, ...]:
    """What an operator has to see to after a switch."""
    old, new = upgrade.old, upgrade.new
    if (old, old) in state.calibrations and (new, new) not in state.calibrations:
        return (
            f"searches with a threshold are refused until scores of {state.spaces[new].space} are calibrated: "
            "gallery.calibrate(queries, items)",
        )
    return ()


def _incomplete(
    reader: LedgerReader, state: State, upgrade: Upgrade, lacking: Ints, items: int, share: float | None
) -> str:
    failed = reader.failures(upgrade.new, 1)
    example = f"; the first that could not be embedded is '{failed[0][0]}': {failed[0][1]}" if failed else ""
    at = 100 * (items - len(lacking)) / items
    asked = "" if share is None else f", which is {at:.2f} % and not {100 * share:g} %"
    left_out = f", or leave them out of searches with share={_floor(at)}; until the seal a rollback brings them back"
    return (
        f"{len(lacking):,} of {counted(items, 'item has', 'items have')} no vector of "
        f"{state.spaces[upgrade.new].space}{asked}{example}. "
        f"Carry on with {backfill_call(state, upgrade.new)}{left_out if at >= 1 else ''}"
    )


def _floor(percent: float) -> str:
    """A share that this many per cent reach."""
    return f"{int(100 * percent) / 10_000:g}"
