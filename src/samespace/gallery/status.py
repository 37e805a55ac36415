"""The status of a gallery: spaces, items, the upgrade, the work list, the workers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from samespace.gallery.backfill.worker import is_dead
from samespace.gallery.index.adopted.store import store_of
from samespace.gallery.index.adopted.sync import differing, last_sync
from samespace.gallery.index.base import Source
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.query_counts import QueryCount, query_counts
from samespace.gallery.ledger.state import State, Upgrade, Work, WorkerStatus
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.quality import Quality, quality_so_far
from samespace.gallery.upgrade.behind import dropped
from samespace.gallery.upgrade.steps import Counts, Step, steps
from samespace.space import Score, Space

_ALIVE_SECONDS = 30.0


@dataclass(frozen=True)
class SpaceStatus:
    """One space of a gallery.

    Attributes:
        space: its identity.
        role: what it is for: queries, serving, filling (behind the query space), kept (for a rollback of a behind
            upgrade), planned, rolled back, sealed.
        vectors: how many are stored.
        served: how many items searches find by it.
        indexed: how many of its vectors an index covers; the rest is searched exactly.
        index: what kind of index that is.
        allowed: what allows queries to meet it.
        calibrated: whether scores of queries on it can be brought to the common scale.
        model: where its model lies, if it is at hand.
        score: what searches of it go by.
        queries: of this earlier space that were answered, and when the last `seen` came, in seconds since 1970; None
            where no upgrade grants it grace.
        generation: its number, by which an upgrade names it.
    """

    space: Space
    role: str
    vectors: int
    served: int
    indexed: int
    index: str
    allowed: str
    calibrated: bool
    model: str | None
    score: Score
    queries: QueryCount | None = None
    generation: int = 0


@dataclass(frozen=True)
class AdoptedStatus:
    """What an application's table holds that the ledger has not listed.

    Attributes:
        table: its name.
        added: rows that are not listed.
        changed: rows whose vector is another one.
        gone: listed rows that are no longer there, or have no vector now.
        looked: when the table was last looked at and listed, in seconds since 1970.
    """

    table: str
    added: int
    changed: int
    gone: int
    looked: float | None


@dataclass(frozen=True)
class Status:
    """How a gallery stands.

    Attributes:
        location: where it lies.
        items: live items.
        spaces: oldest first.
        upgrade: the one under way or planned, if any.
        phase: where the upgrade stands, in a word.
        backfilled: share of the items that have a vector of the query space, or of the one that is filled behind it.
        work: the work list of that space.
        workers: of the backfill, alive in the last half minute.
        rate: items that they store in a second, together; None without workers.
        seconds_left: at that rate.
        only_new: items that only spaces newer than the one before the upgrade know: a rollback would hide them.
        bytes: the ledger takes.
        audit: what was done last, newest first.
        adopted: of a gallery that serves an application's table.
        dropped: items that the switch of a behind upgrade left out of searches.
        quality: what was measured last of a behind upgrade's new side; None where nothing was.
        steps: those of an upgrade, each with whether it is possible now.
        steps_taken: how many were taken so far. A step that is told to `expect` this number is refused once another
            was taken, so that it can be sent again when its answer is lost.
    """

    location: str
    items: int
    spaces: tuple[SpaceStatus, ...]
    upgrade: Upgrade | None
    phase: str
    backfilled: float
    work: Work
    workers: tuple[WorkerStatus, ...]
    rate: float | None
    seconds_left: float | None
    only_new: int
    bytes: int
    audit: tuple[Mapping[str, Any], ...]
    adopted: AdoptedStatus | None = None
    dropped: int = 0
    quality: Quality | None = None
    steps: tuple[Step, ...] = ()
    steps_taken: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        value = asdict(self)
        for kept, one in zip(self.spaces, value["spaces"], strict=True):
            one["space"] = kept.space.to_dict()
        value["audit"] = [dict(line) for line in self.audit]
        if self.adopted is None:
            del value["adopted"]
        return value


def status(ledger: Ledger, source: Source) -> Status:
    """How a gallery stands now."""
    coverage = source.coverage()
    now = time.time()
    with ledger.read() as reader:
        state = reader.state()
        items = reader.live()
        served = reader.served(state.servable)
        # under way, else the last that was planned, rolled back or sealed
        upgrade = state.filling or state.upgrade or (state.upgrades[-1] if state.upgrades else None)
        target = state.query if state.filling is None else state.filling.new
        work = reader.work(target, now)
        stored = {generation: reader.stored(generation) for generation in state.spaces}
        workers = tuple(one for one in reader.workers(now - _ALIVE_SECONDS) if not is_dead(one.owner))
        earlier = [generation for generation in state.servable if generation != state.query]
        mixed = state.upgrade is not None and not state.upgrade.behind
        left_out = len(dropped(state, reader))
        counts = query_counts(reader, state)
        adopted = _adopted(reader, source)
        # an adopted row has its old vector as long as it is there
        only_new = items - sum(reader.served(earlier).values()) if mixed and adopted is None else 0
        audit, steps_taken = tuple(reader.audit(10)), reader.steps_taken()
    rates = [worker.done / max(now - worker.started, 1e-3) for worker in workers if worker.done]
    rate = sum(rates) if rates else None
    todo = items - stored[target]
    return Status(
        location=ledger.location,
        items=items,
        spaces=_spaces(state, stored, served, coverage, counts),
        upgrade=upgrade,
        phase=_phase(upgrade, todo - left_out, stored[target]),
        backfilled=stored[target] / items if items else 1.0,
        work=work,
        workers=workers,
        rate=rate,
        seconds_left=todo / rate if rate else None,
        only_new=only_new,
        bytes=ledger.engine.size(),
        audit=audit,
        adopted=adopted,
        dropped=left_out,
        quality=None if upgrade is None else quality_so_far(upgrade),
        steps=steps(state, Counts(items, stored, todo - left_out, work.failed, only_new, counts), now),
        steps_taken=steps_taken,
    )


def _adopted(reader: LedgerReader, source: Source) -> AdoptedStatus | None:
    store = store_of(source)
    if store is None:
        return None
    now, last = differing(store, reader), last_sync(reader)
    return AdoptedStatus(store.name, now.added, now.changed, now.gone, None if last is None else last.at)


def _spaces(
    state: State,
    stored: Mapping[int, int],
    served: Mapping[int, int],
    coverage: Mapping[int, Mapping[str, Any]],
    counts: Mapping[int, QueryCount],
) -> tuple[SpaceStatus, ...]:
    return tuple(
        SpaceStatus(
            space=kept.space,
            role=_role(state, generation),
            vectors=stored[generation],
            served=served.get(generation, 0),
            indexed=int(coverage.get(generation, {}).get("indexed", 0)),
            index=str(coverage.get(generation, {}).get("kind", "none")),
            allowed=_allowed(state, generation),
            calibrated=state.calibrated(generation),
            model=kept.model,
            score=kept.score,
            queries=counts.get(generation),
            generation=generation,
        )
        for generation, kept in state.spaces.items()
    )


def _phase(upgrade: Upgrade | None, todo: int, stored: int) -> str:
    if upgrade is None:
        return "no upgrade"
    if upgrade.state not in ("open", "filling"):
        return upgrade.state
    if upgrade.state == "filling" and not upgrade.paused:
        return "filled" if not todo else "filling"
    if not todo:
        return "complete"
    if upgrade.paused:
        return "paused"
    return "backfilling" if stored else "upgraded"


def _role(state: State, generation: int) -> str:
    if state.spaces[generation].retired:
        return "sealed"
    if generation == state.query:
        return "queries"
    if generation in state.servable:
        return "serving"
    if state.filling is not None and generation == state.filling.new:
        return "filling"
    if generation in state.ancestry:
        return "kept"
    states = [upgrade.state for upgrade in state.upgrades if upgrade.new == generation]
    return "rolled back" if "rolled-back" in states else "planned"


def _allowed(state: State, generation: int) -> str:
    if generation == state.query:
        return "same space"
    link = state.links.get((state.query, generation))
    if link is None:
        return "no" if generation in state.servable else ""
    if link.certificate is None:
        return "accepted without certificate"
    return "certificate" if link.share is None else f"certificate, fused {link.share:g}"
