"""An upgrade: planned, opened, perhaps rolled back; sealing is in `seal`. Each step is one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from samespace.errors import GalleryError, InputError, counted, suggest
from samespace.gallery.backfill.order import ORDERS
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.query_counts import begin_counting
from samespace.gallery.ledger.state import State, StoredSpace, Upgrade
from samespace.gallery.ledger.transactions.writer import LedgerWriter
from samespace.gallery.upgrade.expect import require_step
from samespace.gallery.upgrade.model_check import require_lineage, require_same_model
from samespace.gallery.upgrade.permissions import Permissions, permissions_for
from samespace.gallery.upgrade.plan import Plan, draft, measured_rate
from samespace.gallery.wording import backfill_call
from samespace.space import Score, Space

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate


@dataclass(frozen=True)
class NewSpace:
    """The space that an upgrade goes to, its model's folder, to be remembered, and the model with the items' images.

    These images tell how long a backfill takes, and whether the model is what it claims to be. `score` is what searches
    of its vectors go by; as in the present query space where None.
    """

    space: Space
    folder: str | None = None
    embedder: ItemEmbedder | None = None
    score: Score | None = None


@dataclass(frozen=True)
class Switched:
    """What an upgrade or a rollback changed.

    Attributes:
        query: the space that queries use now.
        before: the space they used before.
        pairs: what allows each pair of spaces.
        notes: what to know, a sentence each.
    """

    query: Space
    before: Space
    pairs: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "query": self.query.to_dict(), "before": self.before.to_dict()}


def plan(
    ledger: Ledger,
    new: NewSpace,
    certificates: Sequence[Certificate] = (),
    *,
    order: str | None = None,
    accept_uncertified: bool = False,
    behind: bool = False,
) -> Plan:
    """Work out an upgrade and write it down; nothing changes for searches. Arguments as of `Gallery.plan`.

    Raises:
        GalleryError: another upgrade is under way to the same space, or the space is retired.
    """
    require_order(order)
    require_plannable(ledger.state(), new.space)
    rate = None if new.embedder is None else measured_rate(ledger, new.embedder)
    with ledger.write() as writer:
        generation = registered(writer, new)
        state = writer.state()
        permissions = Permissions()
        if not behind:
            permissions = permissions_for(
                state, generation, new.space, certificates, accept_uncertified=accept_uncertified
            )
        permissions.store(writer)
        drafted = draft(writer, state, generation, permissions, order=order, rate=rate, behind=behind)
        plan = write_down(writer, state, drafted)
        writer.note("plan", upgrade=plan.upgrade, space=new.space.id, missing=list(plan.missing))
    return plan


def open_upgrade(
    ledger: Ledger,
    new: NewSpace | None = None,
    certificates: Sequence[Certificate] = (),
    *,
    order: str | None = None,
    accept_uncertified: bool = False,
    grace: bool = False,
    expect: int | None = None,
) -> Switched:
    """Let queries use the new space, by default the planned one. Arguments as of `Gallery.upgrade`.

    The certificates are examined twice: before anything is embedded or written, and again within the transaction that
    switches, because the gallery may have changed in between.

    Raises:
        SpaceError: a pair without a certificate, or a model that is not what it claims to be; queries stay as they are.
        GalleryError: nothing was planned, or the upgrade is not possible now.
    """
    require_order(order)
    before = ledger.state()
    if new is None:
        new = NewSpace(planned(before, ledger.location).space)
    _require_permissions(ledger, before, new.space, certificates, accept_uncertified=accept_uncertified)
    notes = [] if new.embedder is None else _require_right_model(ledger, before, new.embedder)
    with ledger.write() as writer:
        require_step(writer, expect)
        generation = registered(writer, new)
        state = writer.state()
        permissions = permissions_for(state, generation, new.space, certificates, accept_uncertified=accept_uncertified)
        permissions.require()
        permissions.store(writer)
        upgrade = upgrade_to(state, generation)
        if upgrade is None:
            write_down(writer, state, draft(writer, state, generation, permissions, order=order))
            upgrade = upgrade_to(writer.state(), generation)
            assert upgrade is not None
        plan = {**upgrade.plan, "behind": False, "grace": grace}
        writer.set_upgrade(upgrade, state="open", paused=False, order=order, plan=plan)
        if grace:
            begin_counting(writer)
        writer.set_query(generation)
        accepted = [[link.query, link.gallery] for link in permissions.accepted]
        writer.note("upgrade", upgrade=upgrade.number, space=new.space.id, accepted_uncertified=accepted)
    if new.embedder is not None:
        canaries = require_same_model(ledger, generation, new.embedder)
        notes.insert(0, f"{canaries.recorded or canaries.checked} canary images stand for the new model")
    lines = permissions.lines(state)
    notes += _warnings(permissions, ledger.location)
    return Switched(new.space, state.spaces[state.query].space, lines, tuple(notes))


def rollback(ledger: Ledger, *, expect: int | None = None) -> Switched:
    """Let queries use the space from before the upgrade again. No vector is touched; `open_upgrade` rolls forward.

    A behind upgrade then is filled again, with what the switch had dropped, and `switch` goes forward; before the
    switch, a rollback gives it up. `expect` as of `Gallery.rollback`.

    Raises:
        GalleryError: there is no upgrade under way, it is sealed, or another step was taken since.
    """
    with ledger.write() as writer:
        require_step(writer, expect)
        state = writer.state()
        if state.filling is not None:
            return _given_up(writer, state, state.filling)
        upgrade = state.upgrade
        if upgrade is None or upgrade.state == "sealing":
            raise GalleryError(_no_way_back(state, upgrade))
        writer.set_query(upgrade.old)
        writer.set_upgrade(upgrade, state="filling" if upgrade.behind else "rolled-back", paused=False)
        writer.release_all(upgrade.new)
        if upgrade.behind:
            writer.take_back(upgrade.new)
        after = writer.state()
        unserved = writer.unserved(after.servable)
        hidden = len(unserved)
        writer.append_work(upgrade.old, unserved)
        writer.note("rollback", upgrade=upgrade.number, hidden=hidden)
    notes = []
    if hidden:
        notes.append(
            f"{counted(hidden, 'item has', 'items have')} no vector of {state.spaces[upgrade.old].space}: "
            f"searches do not find them until {backfill_call(state, upgrade.old)} has given them one"
        )
    return Switched(state.spaces[upgrade.old].space, state.spaces[upgrade.new].space, (), tuple(notes))


def _given_up(writer: LedgerWriter, state: State, upgrade: Upgrade) -> Switched:
    """End a behind upgrade before its switch."""
    writer.set_upgrade(upgrade, state="rolled-back", paused=False)
    writer.release_all(upgrade.new)
    writer.note("rollback", upgrade=upgrade.number, hidden=0)
    query, kept = state.spaces[state.query].space, writer.stored(upgrade.new)
    left = f"the upgrade to {state.spaces[upgrade.new].space} is given up; its {kept:,} vectors stay and serve nothing"
    return Switched(query, query, (), (left,))


def set_paused(ledger: Ledger, paused: bool, *, expect: int | None = None) -> Upgrade:
    """Let the workers of the present upgrade wait, or go on. `expect` as of `Gallery.rollback`.

    Raises:
        GalleryError: there is no upgrade under way, or another step was taken since.
    """
    with ledger.write() as writer:
        require_step(writer, expect)
        state = writer.state()
        upgrade = state.filling or state.upgrade
        if upgrade is None or upgrade.state not in ("open", "filling"):
            raise GalleryError(f"{ledger.location}: no upgrade is under way; there is nothing to pause or resume")
        writer.set_upgrade(upgrade, paused=paused)
        writer.note("pause" if paused else "resume", upgrade=upgrade.number)
    return replace(upgrade, paused=paused)


def planned(state: State, where: str) -> StoredSpace:
    """The space of `planned_upgrade`.

    Raises:
        GalleryError: there is none.
    """
    upgrade = planned_upgrade(state)
    if upgrade is None:
        raise GalleryError(f"{where}: no upgrade is planned; name the new model with model=…, or plan first")
    return state.spaces[upgrade.new]


def planned_upgrade(state: State) -> Upgrade | None:
    """The upgrade that was planned, or rolled back, last from the present query space."""
    found = (
        one for one in reversed(state.upgrades) if one.state in ("planned", "rolled-back") and one.old == state.query
    )
    return next(found, None)


def require_order(order: str | None) -> None:
    """Refuse an order that there is not."""
    if order is not None and order not in ORDERS:
        raise InputError(f"there is no order '{order}'; {suggest(order, ORDERS)}")


def require_plannable(state: State, space: Space) -> None:
    """Refuse an upgrade to a space that none can go to now."""
    generation = state.generation_of(space)
    if state.filling is not None:
        raise GalleryError(
            f"an upgrade to {state.spaces[state.filling.new].space} is being filled; end it with gallery.switch(), "
            "or give it up with gallery.rollback()"
        )
    if any(upgrade.state == "sealing" for upgrade in state.upgrades):
        raise GalleryError("a seal is under way; finish it first with gallery.seal()")
    if generation == state.query:
        raise GalleryError(f"queries use {space} already; there is nothing to upgrade")
    if generation is None:
        return
    if state.spaces[generation].retired or generation in state.ancestry:
        raise GalleryError(
            f"{space} is an earlier space of this gallery; to go back use gallery.rollback() before the seal"
        )
    opened = any(one.new == generation and one.state != "planned" for one in state.upgrades)
    if generation < state.query and opened:
        raise GalleryError(
            f"{space} was rolled back before queries went over to {state.spaces[state.query].space}, and its vectors "
            "cannot serve above those; roll back to where it was tried, or seal, which discards them"
        )


def registered(writer: LedgerWriter, new: NewSpace) -> int:
    """The generation of a new space: a later one than all that serve."""
    state = writer.state()
    require_plannable(state, new.space)
    generation = state.generation_of(new.space)
    if generation is not None and generation < state.query:
        # planned before the present query space and never used: it takes its place anew, above it
        writer.forget_space(generation)
        generation = None
    if generation is not None and new.score not in (None, state.spaces[generation].score):
        if writer.stored(generation):
            raise GalleryError(
                f"vectors of {new.space} are searched by '{state.spaces[generation].score}' in this gallery, got "
                f"'{new.score}'"
            )
        writer.forget_space(generation)
        generation = None
    if generation is None:
        return writer.add_space(new.space, new.folder, new.score or state.spaces[state.query].score)
    if new.folder is not None:
        writer.set_model(generation, new.folder)
    return generation


def _require_permissions(
    ledger: Ledger, state: State, space: Space, certificates: Sequence[Certificate], *, accept_uncertified: bool
) -> None:
    """Refuse before anything is embedded or written; a certificate that says no takes back an earlier yes."""
    require_plannable(state, space)
    generation = state.generation_of(space)
    permissions = permissions_for(state, generation or 0, space, certificates, accept_uncertified=accept_uncertified)
    if generation is not None and permissions.revoked:
        with ledger.write() as writer:
            for query, gallery in permissions.revoked:
                writer.drop_link(query, gallery)
            writer.note("revoke", pairs=[list(pair) for pair in permissions.revoked])
    permissions.require()


def _require_right_model(ledger: Ledger, state: State, embedder: ItemEmbedder) -> list[str]:
    """Refuse a model that is not what it claims to be, before queries use it; what was seen."""
    old = state.spaces[state.query].space
    generation = state.generation_of(embedder.space)
    if generation is not None:
        require_same_model(ledger, generation, embedder)
    share = require_lineage(ledger, state.query, embedder, min(embedder.space.dim, old.dim))
    return [] if share is None else [f"{share:.0%} of the canaries find their own stored vector"]


def _warnings(permissions: Permissions, where: str) -> list[str]:
    warnings = []
    if permissions.accepted:
        warnings.append("ACCEPTED WITHOUT A CERTIFICATE: nothing shows that searches keep their quality; recorded")
    if permissions.uncalibrated:
        warnings.append(
            f"{len(permissions.uncalibrated)} pairs of spaces have no calibration: results carry raw scores only, and "
            f"nothing can be added or backfilled; run gallery.calibrate(queries, items) for each"
        )
    return warnings


def upgrade_to(state: State, generation: int) -> Upgrade | None:
    """The upgrade from the present query space to another that was planned or rolled back."""
    for upgrade in reversed(state.upgrades):
        if upgrade.new == generation and upgrade.old == state.query and upgrade.state in ("planned", "rolled-back"):
            return upgrade
    return None


def write_down(writer: LedgerWriter, state: State, plan: Plan) -> Plan:
    """Store a plan, in the place of an earlier one to the same space; the plan with its number."""
    generation = state.generation_of(plan.new)
    assert generation is not None
    earlier = upgrade_to(state, generation)
    number = (
        writer.add_upgrade(state.query, generation, order=plan.order, plan={}) if earlier is None else earlier.number
    )
    numbered = replace(plan, upgrade=number)
    stored = next(one for one in writer.state().upgrades if one.number == number)
    writer.set_upgrade(stored, order=plan.order, plan=numbered.to_dict())
    return numbered


def _no_way_back(state: State, upgrade: Upgrade | None) -> str:
    if upgrade is not None:
        return "the seal has begun: old vectors are being deleted, so there is no way back; finish with gallery.seal()"
    if any(one.state == "sealed" and one.new == state.query for one in state.upgrades):
        return (
            f"the upgrade to {state.spaces[state.query].space} is sealed: the old vectors are deleted, so there is no "
            "way back"
        )
    return "no upgrade is under way, so there is nothing to roll back"
