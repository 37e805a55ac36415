"""What an upgrade would take and bring: counts, time, bytes, the expected curve from the certificate's check set."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from samespace.gallery.ingest.images import Encoder, Images
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import State
from samespace.gallery.upgrade.permissions import Permissions
from samespace.space import Space

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

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "old": self.old.to_dict(), "new": self.new.to_dict()}


def draft(
    reader: LedgerReader,
    state: State,
    generation: int,
    space: Space,
    leave: Permissions,
    order: str | None,
    rate: float | None,
) -> Plan:
    """What an upgrade would do and cost, not yet numbered.

    Args:
        reader: the gallery, one moment of it.
        state: as of that moment.
        generation: of the new space.
        space: the new space.
        leave: what stands between it and the spaces that serve.
        order: of the backfill; by default the one with the largest area in the certificate's sweep.
        rate: images per second, if it was measured.
    """
    items = reader.live()
    to_embed = items - reader.stored(generation)
    sweep = _sweep(leave, state)
    metric = None if sweep is None else str(sweep["metrics"][0])
    curves = {} if sweep is None else {name: tried["calibrated"] for name, tried in sweep["orders"].items()}
    areas = {name: tried["area"][metric] for name, tried in curves.items() if tried["area"][metric] is not None}
    best = max(areas, key=lambda name: areas[name]) if areas else "random"
    chosen = order or best
    shown = curves.get(chosen, curves.get("random"))
    missing = list(leave.refused)
    if leave.uncalibrated:
        missing.append(
            "calibrations of "
            + ", ".join(f"{state.spaces[g].space.id if g in state.spaces else space.id} for {space.id}"
                        for _, g in leave.uncalibrated)
            + ": make the certificate with --new-gallery, or give --calibrate"
        )  # fmt: skip
    return Plan(
        upgrade=0,
        old=state.spaces[state.query].space,
        new=space,
        items=items,
        to_embed=to_embed,
        rate=rate,
        seconds=None if not rate else to_embed / rate,
        bytes=to_embed * (4 * space.dim + _OVERHEAD),
        order=chosen,
        metric=metric,
        curve=()
        if shown is None
        else tuple({"share": at["share"], "value": at["values"][metric]} for at in shown["points"]),
        areas=areas,
        holds=None if shown is None else bool(shown["holds"][metric]),
        pairs=pairs_of(leave, state),
        missing=tuple(missing),
    )


def sweep_of(state: State, query: int) -> Mapping[str, Any] | None:
    """The sweep of the certificate that links a query space with the one before it; None where there is none."""
    before = state.parent(query)
    link = state.links.get((query, before)) if before is not None else None
    return None if link is None or link.certificate is None else _sweep_in(link.certificate)


def items_until(sweep: Mapping[str, Any], order: str, epsilon: float, items: int) -> int:
    """How many items of a gallery must be re-embedded until the gain that remains is below `epsilon`.

    The gain that remains at a share of the gallery is taken from the check set: the upper end of the interval of
    (value when complete − value at that share), of the first metric of the sweep, calibrated, in straight lines
    between the shares that were tried.
    """
    metric = sweep["metrics"][0]
    orders = sweep["orders"]
    points = orders.get(order, orders["random"])["calibrated"]["points"]
    shares = [float(at["share"]) for at in points]
    remaining = [float(at["to_end"][metric][1]) for at in points]
    for place in range(len(shares) - 1, -1, -1):
        if remaining[place] < epsilon:
            continue
        if place == len(shares) - 1:
            return items
        here, there = remaining[place], remaining[place + 1]
        part = (here - epsilon) / (here - there) if here > there else 1.0
        return min(items, int(np.ceil(items * (shares[place] + part * (shares[place + 1] - shares[place])))))
    return 0


def pairs_of(leave: Permissions, state: State) -> tuple[str, ...]:
    """What allows each pair of spaces, a line each."""
    lines = []
    for link in leave.links:
        made = (link.certificate or {}).get("created", "")
        lines.append(f"{state.spaces[link.gallery].space}: certificate of {made}, {link.dims} dimensions compared")
    lines += [f"{state.spaces[link.gallery].space}: accepted without a certificate" for link in leave.accepted]
    return tuple(lines)


def measured_rate(ledger: Ledger, encoder: Encoder, images: Images) -> float | None:
    """Images per second, reading included, over a few seconds."""
    with ledger.read() as reader:
        numbers, _ = reader.labels()
        some = numbers[:: max(1, len(numbers) // (16 * _TRIAL_BATCH))]
        ids = [item.id for item in reader.items(some).values()]
    done, began = 0, time.monotonic()
    for warm, start in enumerate(range(0, len(ids), _TRIAL_BATCH)):
        loaded = images.load(ids[start : start + _TRIAL_BATCH])
        if not loaded.places:
            continue
        encoder.vectors(loaded.pixels)
        if warm == 0 and len(ids) > 2 * _TRIAL_BATCH:
            began = time.monotonic()
            continue
        done += len(loaded.places)
        if time.monotonic() - began > _TRIAL_SECONDS:
            break
    return done / max(time.monotonic() - began, 1e-6) if done else None


def _sweep(leave: Permissions, state: State) -> Mapping[str, Any] | None:
    """The expected curves, from the certificate against the space that queries use now."""
    for link in leave.links:
        if link.gallery == state.query and link.certificate is not None:
            return _sweep_in(link.certificate)
    return None


def _sweep_in(certificate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The sweep of a certificate, with the metrics that were asked for before those that are always followed."""
    sweep = certificate.get("sweep")
    if not isinstance(sweep, Mapping):
        return None
    asked = [name for name in certificate.get("metrics", ()) if name in sweep["metrics"]]
    return {**sweep, "metrics": [*asked, *(name for name in sweep["metrics"] if name not in asked)]}
