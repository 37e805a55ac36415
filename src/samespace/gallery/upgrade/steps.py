"""The steps of an upgrade: which are possible now, what each would do, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from samespace.errors import counted
from samespace.gallery.ledger.query_counts import QueryCount
from samespace.gallery.ledger.state import State
from samespace.gallery.upgrade.permissions import permissions_for
from samespace.gallery.upgrade.seal import UNUSED_SECONDS
from samespace.gallery.upgrade.upgrade import planned_upgrade
from samespace.progress import clock

StepName = Literal["plan", "upgrade", "backfill", "pause", "resume", "switch", "seal", "rollback"]


@dataclass(frozen=True)
class Step:
    """A step of an upgrade.

    Attributes:
        name: of the method and the command.
        allowed: whether it is possible now.
        why: what it would do, or why it is not possible; a sentence without its full stop.
    """

    name: StepName
    allowed: bool
    why: str


@dataclass(frozen=True)
class Counts:
    """What the steps depend on besides the state.

    Attributes:
        items: live items.
        stored: vectors by generation.
        lacking: items without a vector of the space that is being filled, those that a switch has dropped left out.
        failed: how many of them could not be embedded.
        hidden: items that only spaces newer than the one before the upgrade know.
        earlier: queries of earlier spaces that have grace, by generation.
    """

    items: int
    stored: Mapping[int, int]
    lacking: int
    failed: int
    hidden: int
    earlier: Mapping[int, QueryCount]


def steps(state: State, counts: Counts, now: float) -> tuple[Step, ...]:
    """All steps, in the order of an upgrade; `now` in seconds since 1970.

    A behind upgrade has a `switch` after its backfill where others have an `upgrade` before it.
    """
    sealing = any(one.state == "sealing" for one in state.upgrades)
    found: list[Step] = []

    def step(name: StepName, against: str | None, does: str) -> None:
        found.append(Step(name, against is None, does if against is None else against))

    step("plan", _no_plan(state, sealing), "says what a new model would take and bring; searches go on as before")
    if state.filling is None:
        step("upgrade", _no_upgrade(state, sealing), _upgrade_does(state))
    step("backfill", _no_backfill(state, counts), _backfill_does(state, counts))
    under_way = state.filling or state.upgrade
    running = under_way is not None and under_way.state in ("open", "filling")
    none = None if running else "no upgrade is under way"
    paused = under_way is not None and under_way.paused
    step("pause", none or ("it is paused already" if paused else None), "workers finish the batch in hand, and wait")
    step("resume", none or (None if paused else "it is not paused"), "workers that wait go on")
    if state.filling is not None:
        new, old = _name(state, state.filling.new), _name(state, state.filling.old)
        lacking = (
            f"{counts.lacking:,} of {counted(counts.items, 'item has', 'items have')} no vector of {new} yet"
            if counts.lacking
            else None
        )
        step("switch", lacking, f"queries use {new} and find items by its vectors alone; {old} stays for a rollback")
    step("seal", _no_seal(state, counts, now), _seal_does(state, counts))
    step("rollback", _no_rollback(state, sealing), _rollback_does(state, counts))
    return tuple(found)


def _no_plan(state: State, sealing: bool) -> str | None:
    if state.filling is not None:
        return f"{_name(state, state.filling.new)} is being filled; switch to it, or roll back, first"
    return "a seal is under way; finish it first" if sealing else None


def _no_upgrade(state: State, sealing: bool) -> str | None:
    if sealing:
        return "a seal is under way; finish it first"
    planned = planned_upgrade(state)
    if planned is None:
        return "nothing is planned; plan an upgrade to the new model first"
    if planned.behind:
        return None
    new = state.spaces[planned.new].space
    refused = permissions_for(state, planned.new, new, ()).refused
    if not refused:
        return None
    linked = {one for one in state.servable if (link := state.links.get((planned.new, one))) and link.certificate}
    lacking = ", ".join(_name(state, one) for one in state.servable if one not in linked and one != planned.new)
    return f"no certificate allows queries of {_name(state, planned.new)} on vectors of {lacking}"


def _upgrade_does(state: State) -> str:
    planned = planned_upgrade(state)
    if planned is None:
        return ""
    new, old = _name(state, planned.new), _name(state, planned.old)
    if planned.behind:
        return f"{new} is filled behind {old}, which searches use until the switch"
    told = f"queries use {new} from then on and search the vectors of {old}; nothing is re-embedded"
    pairs = permissions_for(state, planned.new, state.spaces[planned.new].space, ()).uncalibrated
    return told + ("; without calibrations, results carry raw scores only" if pairs else "")


def _no_backfill(state: State, counts: Counts) -> str | None:
    if not counts.lacking:
        return f"every item has a vector of {_name(state, _target(state))}" if counts.items else "there are no items"
    if len(state.servable) > 1 and not all(state.calibrated(one) for one in state.servable):
        return "scores of the spaces that serve cannot be brought to a common scale; calibrate them first"
    return None


def _backfill_does(state: State, counts: Counts) -> str:
    failed = f"; {counts.failed:,} of them could not be embedded before" if counts.failed else ""
    return f"gives {counted(counts.lacking, 'item')} a vector of {_name(state, _target(state))}{failed}"


def _no_seal(state: State, counts: Counts, now: float) -> str | None:
    if state.filling is not None:
        return "the new space is being filled; seal after the switch"
    upgrade = state.upgrade
    if upgrade is None and len(state.ancestry) == 1:
        return "the upgrade is sealed already" if _sealed(state) else "no upgrade is under way"
    if upgrade is not None and upgrade.state == "sealing":
        return None
    if counts.lacking:
        return (
            f"{counts.lacking:,} of {counted(counts.items, 'item has', 'items have')} no vector of "
            f"{_name(state, state.query)} yet"
        )
    for generation, count in counts.earlier.items():
        if count.queries and now - count.seen < UNUSED_SECONDS:
            return (
                f"queries of {_name(state, generation)} still come, the last {clock(now - count.seen)} ago; seal once "
                f"none came for {clock(UNUSED_SECONDS)}"
            )
    return None


def _seal_does(state: State, counts: Counts) -> str:
    older = [one for one in state.ancestry if one != state.query]
    gone = sum(counts.stored.get(one, 0) for one in older)
    names = ", ".join(_name(state, one) for one in older)
    return f"deletes the {counted(gone, 'vector')} of {names}; from then on there is no way back"


def _no_rollback(state: State, sealing: bool) -> str | None:
    if state.filling is not None:
        return None
    if sealing:
        return "the seal has begun: old vectors are being deleted"
    if state.upgrade is None:
        return "the upgrade is sealed: the old vectors are deleted" if _sealed(state) else "no upgrade is under way"
    return None


def _rollback_does(state: State, counts: Counts) -> str:
    upgrade = state.filling or state.upgrade
    if upgrade is None:
        return ""
    new, old, kept = _name(state, upgrade.new), _name(state, upgrade.old), counts.stored.get(upgrade.new, 0)
    if state.filling is not None:
        return f"gives the upgrade to {new} up; queries stay with {old}; {kept:,} vectors of {new} stay unused"
    parts = [
        f"queries use {old} again",
        f"queries of {new} are refused",
        "nothing is deleted",
        f"{kept:,} vectors of {new} wait for the way forward",
    ]
    if counts.hidden:
        parts.append(f"{counts.hidden:,} items that only {new} knows are not found until {old} has embedded them")
    return "; ".join(parts)


def _sealed(state: State) -> bool:
    return any(one.state == "sealed" and one.new == state.query for one in state.upgrades)


def _target(state: State) -> int:
    return state.query if state.filling is None else state.filling.new


def _name(state: State, generation: int) -> str:
    """A space in a sentence: by its name where that is its own, else by its id."""
    space = state.spaces[generation].space
    names = [kept.space.name for kept in state.spaces.values()]
    return space.name if space.name and names.count(space.name) == 1 else f"{space.name} {space.id}".strip()
