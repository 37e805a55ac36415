"""What an upgrade would take and bring: counts, time, bytes, the expected curve from the certificate's check set."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from samespace.errors import GalleryError, InputError
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link, State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.upgrade.permissions import Permissions
from samespace.space import Space
from samespace.typed import read

if TYPE_CHECKING:
    from samespace.evaluate.certificate import SweepResult

_OVERHEAD = 64  # bytes of a vector row besides the vector
_TRIAL_SECONDS = 3.0
_TRIAL_BATCH = 64


@dataclass(frozen=True)
class Plan:
    """What an upgrade would do and cost.

    Attributes:
        upgrade: its number.
        old: the space that queries use now.
        new: the space they would use.
        items: live items of the gallery.
        to_embed: how many of them have no vector of the new space.
        rate: images that this machine embeds in a second, measured on a sample; None without model and images.
        seconds: `to_embed` at that rate, on one worker like this machine.
        bytes: what the new vectors take, the indexes not counted.
        order: of the backfill.
        metric: what the curve is of; None where no certificate has a sweep.
        curve: expected quality at shares of the gallery re-embedded, from the certificate's check set: dicts of
            `share` and `value`, in the chosen order.
        areas: for each order that the check tried, the normalised area under its curve: 0.5 is a straight line.
        holds: whether no stage of the sweep lies provably below the start; None without a sweep.
        pairs: what allows each pair of spaces.
        missing: what must still be given before the upgrade can begin, a sentence each.
        behind: whether queries stay with the old space until the new one has its own vectors; the two never meet.
        grace: whether queries of the old space are answered until the seal.
    """

    upgrade: int
    old: Space
    new: Space
    items: int
    to_embed: int
    rate: float | None
    seconds: float | None
    bytes: int
    order: str
    metric: str | None
    curve: tuple[Mapping[str, float], ...]
    areas: Mapping[str, float]
    holds: bool | None
    pairs: tuple[str, ...]
    missing: tuple[str, ...]
    behind: bool = False
    grace: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "old": self.old.to_dict(), "new": self.new.to_dict()}


def draft(
    reader: LedgerReader,
    state: State,
    generation: int,
    permissions: Permissions,
    *,
    order: str | None = None,
    rate: float | None = None,
    behind: bool = False,
    grace: bool = False,
) -> Plan:
    """What an upgrade to the space of `generation`, which `state` knows, would do and cost; not yet numbered.

    `order` is by default the one with the largest area in the certificate's sweep; `rate` is in images per second.
    """
    space, items = state.spaces[generation].space, reader.live()
    to_embed = items - reader.stored(generation)
    sweep = _sweep_from(permissions.links, state.query)
    metric = None if sweep is None else sweep.metrics[0]
    curves = {} if sweep is None else {name: merges["calibrated"] for name, merges in sweep.orders.items()}
    areas = {name: area for name, tried in curves.items() if metric and (area := tried.area[metric]) is not None}
    chosen = order or (max(areas, key=lambda name: areas[name]) if areas else "random")
    shown = curves.get(chosen, curves.get("random"))
    missing = list(permissions.refused)
    if permissions.uncalibrated:
        pairs = ", ".join(f"{state.spaces[other].space.id} for {space.id}" for _, other in permissions.uncalibrated)
        missing.append(
            f"calibrations of {pairs}: make the certificate with 'samespace check --new-gallery', or learn them with "
            "gallery.calibrate(queries, items)"
        )
    return Plan(
        upgrade=0,
        old=state.spaces[state.query].space,
        new=space,
        items=items,
        to_embed=to_embed,
        rate=rate,
        seconds=to_embed / rate if rate else None,
        bytes=to_embed * (4 * space.dim + _OVERHEAD),
        order=chosen,
        metric=metric,
        curve=tuple({"share": at.share, "value": at.values[metric]} for at in shown.points) if shown and metric else (),
        areas=areas,
        holds=shown.holds[metric] if shown and metric else None,
        pairs=permissions.lines(state),
        missing=tuple(missing),
        behind=behind,
        grace=grace,
    )


def items_worth(ledger: Ledger, epsilon: float, order: object) -> int:
    """How many more items to embed until the gain that remains, by the certificate's check set, is below `epsilon`.

    `epsilon` is of the sweep's first metric. An order that is not a name stands for the upgrade's.

    Raises:
        InputError: a negative gain.
        GalleryError: no certificate of the upgrade has a sweep.
    """
    if not 0 <= epsilon < np.inf:
        raise InputError(f"the gain that remains at the end (epsilon=…) is 0 or above, such as 0.002, got {epsilon:g}")
    with ledger.read() as reader:
        state = reader.state()
        done, items = reader.stored(state.query), reader.live()
    links = [link for link in state.links.values() if link.query == state.query]
    sweep = _sweep_from(links, state.parent(state.query))
    if sweep is None:
        raise GalleryError(
            "no certificate of this upgrade has a sweep, so the gain that remains is unknown; leave out epsilon=…, "
            "or run 'samespace check' with --new-gallery"
        )
    name = order if isinstance(order, str) else state.upgrade.order if state.upgrade is not None else "random"
    return max(0, _items_until(sweep, name, epsilon, items) - done)


def _items_until(sweep: SweepResult, order: str, epsilon: float, items: int) -> int:
    """How many items of a gallery must be re-embedded until the gain that remains is below `epsilon`.

    The gain that remains at a share of the gallery is taken from the check set: the upper end of the interval of
    (value when complete − value at that share), of the first metric of the sweep, calibrated, in straight lines
    between the shares that were tried.
    """
    merges = sweep.orders[order if order in sweep.orders else "random"]
    points = merges["calibrated"].points
    shares = [at.share for at in points]
    remaining = [at.to_end[sweep.metrics[0]][1] for at in points]
    for place in range(len(shares) - 1, -1, -1):
        if remaining[place] < epsilon:
            continue
        if place == len(shares) - 1:
            return items
        here, there = remaining[place], remaining[place + 1]
        part = (here - epsilon) / (here - there) if here > there else 1.0
        return min(items, int(np.ceil(items * (shares[place] + part * (shares[place + 1] - shares[place])))))
    return 0


def measured_rate(ledger: Ledger, embedder: ItemEmbedder) -> float | None:
    """Images per second, reading included, over a few seconds."""
    with ledger.read() as reader:
        last = reader.next_numbers()[0] - 1
        some = np.unique(np.linspace(1, last, min(last, 16 * _TRIAL_BATCH)).astype(np.int64))
        ids = [item.id for item in reader.items(some).values() if not item.deleted]
    done, began = 0, time.monotonic()
    for warm, start in enumerate(range(0, len(ids), _TRIAL_BATCH)):
        loaded = embedder.images.load(ids[start : start + _TRIAL_BATCH])
        if not loaded.places:
            continue
        embedder.vectors(loaded.pixels)
        if warm == 0 and len(ids) > 2 * _TRIAL_BATCH:
            began = time.monotonic()
            continue
        done += len(loaded.places)
        if time.monotonic() - began > _TRIAL_SECONDS:
            break
    return done / max(time.monotonic() - began, 1e-6) if done else None


def _sweep_from(links: Iterable[Link], gallery: int | None) -> SweepResult | None:
    """The sweep of the certificate for vectors of generation `gallery`; the metrics that were asked for come first."""
    certificate = next((link.certificate for link in links if link.gallery == gallery and link.certificate), None)
    if certificate is None or certificate.get("sweep") is None:
        return None
    from samespace.evaluate.certificate import SweepResult

    sweep = read(SweepResult, certificate["sweep"], "the certificate in the gallery: 'sweep'")
    asked = [name for name in certificate.get("metrics", ()) if name in sweep.metrics]
    return replace(sweep, metrics=(*asked, *(name for name in sweep.metrics if name not in asked)))
