"""What a ledger holds, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from operator import add
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from samespace.gallery.serving import servable
from samespace.metrics.calibration import Calibration
from samespace.space import Score, Space

Ints: TypeAlias = npt.NDArray[np.int64]
Vectors: TypeAlias = npt.NDArray[np.float32]

UpgradeState = Literal["planned", "filling", "open", "rolled-back", "sealing", "sealed"]


@dataclass(frozen=True)
class StoredSpace:
    """A space that a gallery knows.

    Attributes:
        generation: 1 for the first space of the gallery, higher for later ones; an item is served by the newest
            space that has its vector, up to the generation that queries use.
        space: its identity, immutable.
        model: folder of the model, where it is at hand.
        retired: sealed away; its vectors are gone or going.
        score: what searches of its vectors go by.
    """

    generation: int
    space: Space
    model: str | None = None
    retired: bool = False
    score: Score = "cosine"


@dataclass(frozen=True)
class Link:
    """Permission to compare `dims` leading dimensions of queries of one generation with vectors of another.

    The certificate, as JSON-ready values, says so; it is None where the pair was accepted without one.
    """

    query: int
    gallery: int
    dims: int
    certificate: Mapping[str, Any] | None = None

    @property
    def share(self) -> float | None:
        """The share of the new query where the certificate is of fused queries and allows no others; else None."""
        fusion = None if self.certificate is None else self.certificate.get("fusion")
        return None if fusion is None else float(fusion["alpha"])


@dataclass(frozen=True)
class Upgrade:
    """One step from the generation that queries used before to the one they use after.

    Workers wait while it is `paused`. `plan` is what it needs and costs, JSON-ready. Queries switched at `started`, in
    seconds since 1970, None before; it was sealed or rolled back at `ended`. While it is `filling`, the new space gets
    its vectors behind the old one, and queries stay where they are.
    """

    number: int
    old: int
    new: int
    state: UpgradeState
    paused: bool = False
    order: str = "random"
    plan: Mapping[str, Any] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None

    @property
    def behind(self) -> bool:
        """Whether vectors of the two spaces are never compared: queries switch once the new space has its own."""
        return bool(self.plan.get("behind"))

    @property
    def grace(self) -> bool:
        """Whether queries of the old space are answered, too, after the switch and until the seal."""
        return bool(self.plan.get("grace"))


@dataclass(frozen=True)
class State:
    """Everything about a gallery but its items, read in one transaction.

    Attributes:
        revision: number of the last change that a search could notice.
        config: number of the last change of anything in this record but `revision`.
        query: generation of the space that queries use.
        spaces: by generation, ascending.
        links: by (query generation, gallery generation).
        calibrations: the newest of each (query generation, gallery generation).
        upgrades: oldest first.
        settings: of the gallery, JSON-ready.
        fused: calibrations of queries fused with the older model's, by (query generation, gallery generation, share of
            the new query).
    """

    revision: int
    config: int
    query: int
    spaces: Mapping[int, StoredSpace]
    links: Mapping[tuple[int, int], Link]
    calibrations: Mapping[tuple[int, int], Calibration]
    upgrades: tuple[Upgrade, ...]
    settings: Mapping[str, Any]
    fused: Mapping[tuple[int, int, float], Calibration] = field(default_factory=dict)

    def calibrated(self, generation: int) -> bool:
        """Whether scores of queries on vectors of a generation, fused where they must be, are on the common scale."""
        link = self.links.get((self.query, generation))
        if link is not None and link.share is not None:
            return (self.query, generation, link.share) in self.fused
        return (self.query, generation) in self.calibrations

    @property
    def servable(self) -> tuple[int, ...]:
        """Generations whose vectors a search may compare, ascending; see `samespace.gallery.serving`."""
        return self.lineage(self.query)

    def lineage(self, query: int) -> tuple[int, ...]:
        """The servable generations for queries of a generation; a behind upgrade cuts them off from earlier ones."""
        return servable(query, self._carried_out(behind=False), self._present())

    @property
    def ancestry(self) -> tuple[int, ...]:
        """The query space and all that it came from, those before a behind upgrade included, ascending."""
        return servable(self.query, self._carried_out(), self._present())

    def parent(self, generation: int) -> int | None:
        """The generation that queries used before the upgrade to this one, if there was one."""
        return {new: old for old, new in self._carried_out()}.get(generation)

    def _present(self) -> set[int]:
        return {generation for generation, kept in self.spaces.items() if not kept.retired}

    def _carried_out(self, *, behind: bool = True) -> list[tuple[int, int]]:
        """(old, new) of each upgrade that was carried out and not rolled back, oldest first; `behind` ones as asked."""
        opened = [one for one in self.upgrades if one.state in ("open", "sealing", "sealed")]
        kept = [one for one in opened if behind or not one.behind]
        return [(one.old, one.new) for one in sorted(kept, key=lambda one: one.started or 0.0)]

    def generation_of(self, space: Space) -> int | None:
        """The generation of a space in this gallery."""
        return next((generation for generation, kept in self.spaces.items() if kept.space == space), None)

    @property
    def upgrade(self) -> Upgrade | None:
        """The upgrade to the present query space that is open or being sealed, if any."""
        for upgrade in reversed(self.upgrades):
            if upgrade.new == self.query and upgrade.state in ("open", "sealing"):
                return upgrade
        return None

    @property
    def filling(self) -> Upgrade | None:
        """The behind upgrade from the present query space whose new space is being filled, if any."""
        return next((one for one in self.upgrades if one.state == "filling" and one.old == self.query), None)

    @property
    def sides(self) -> tuple[int, ...]:
        """Generations in which new items are stored: the query space, and during a behind upgrade the other one too."""
        other = [] if self.filling is None else [self.filling.new]
        if self.upgrade is not None and self.upgrade.behind and self.upgrade.state == "open":
            other.append(self.upgrade.old)
        return (self.query, *other)

    @property
    def graced(self) -> tuple[int, ...]:
        """Earlier generations whose queries are answered as well, until the seal of the upgrade that grants it."""
        return tuple(one.old for one in self.upgrades if one.state == "open" and one.grace)

    def upgrade_to(self, generation: int) -> Upgrade | None:
        """The upgrade under way to a generation, if any."""
        return next((one for one in (self.filling, self.upgrade) if one is not None and one.new == generation), None)


@dataclass(frozen=True)
class NewItem:
    """An item to store.

    Attributes:
        id: unique name, as users know it.
        content: stands for what the item shows; another content is another picture.
        label: its class, if known.
        metadata: what searches may filter on: strings, numbers, booleans.
    """

    id: str
    content: str
    label: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """A stored item, see `NewItem`; its number in the ledger is never used again, even where it is `deleted`."""

    number: int
    id: str
    content: str
    label: str | None
    deleted: bool


@dataclass(frozen=True)
class Claim:
    """An item that a worker has claimed: its vector is expected before the lease ends."""

    item: int
    id: str
    content: str


@dataclass(frozen=True, eq=False)
class Rows:
    """Vector rows of one space.

    Attributes:
        numbers: (N,) of the rows, ascending, never used again.
        items: (N,) number of each row's item.
        values: (N, D) float32.
        checksums: (N,) CRC-32 of each vector's bytes as they were written.
        contents: content each was made from.
    """

    numbers: Ints
    items: Ints
    values: Vectors
    checksums: Ints
    contents: tuple[str, ...]


@dataclass(frozen=True)
class Work:
    """How far the work list of a space has come: items without its vector."""

    open: int
    claimed: int
    failed: int


@dataclass(frozen=True)
class Completed:
    """What became of vectors that a worker completed: counts.

    Attributes:
        stored: written.
        present: another had written them before.
        changed: the item changed meanwhile; its new content came with a vector, or waits to be listed.
        gone: the item was removed meanwhile.
        lost: the lease had gone to another worker.
    """

    stored: int = 0
    present: int = 0
    changed: int = 0
    gone: int = 0
    lost: int = 0

    def __add__(self, other: Completed) -> Completed:
        """Counts of both."""
        return Completed(*map(add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class WorkerStatus:
    """One worker of a backfill: its unique name, how far it is, and a `note` of what it does, such as `paused`.

    `started`, and `seen`, when it last said that it is alive, are in seconds since 1970.
    """

    owner: str
    generation: int
    started: float
    seen: float
    done: int = 0
    failed: int = 0
    note: str = ""
