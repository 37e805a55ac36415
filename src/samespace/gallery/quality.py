"""How well the new side of a behind upgrade searches, against the old side, on the same items."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from samespace.errors import GalleryError, InputError, counted
from samespace.gallery.ingest.checks import require_vectors
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, State, Upgrade
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.metrics._arrays import encode
from samespace.metrics.bootstrap import interval, paired_bootstrap
from samespace.scoring.mates import Mates
from samespace.scoring.scores import Scores, collect_scores
from samespace.scoring.sides import SideVectors
from samespace.vectors import VectorSet

_QUERIES, _ITEMS, _DRAWN_FROM = 1_000, 10_000, 100_000
_SIGNED = ("old", "new")

Queries = tuple[VectorSet, VectorSet]
"""The same labelled queries by the old and by the new model."""


@dataclass(frozen=True)
class Compared:
    """One metric of both sides, in [0, 1], and the 95 % interval of new − old, resampled over classes."""

    old: float
    new: float
    difference: tuple[float, float]


@dataclass(frozen=True)
class Quality:
    """What was measured of the new side of a behind upgrade.

    Attributes:
        queries: how many were searched with.
        items: among how many items that both sides have; a sample of a large gallery.
        classes: how many the queries are of.
        metrics: rank@1 and mAP; none where nothing could be measured.
        reason: why nothing could be measured; empty otherwise.
        at: when it was measured, in seconds since 1970.
    """

    queries: int = 0
    items: int = 0
    classes: int = 0
    metrics: Mapping[str, Compared] = field(default_factory=dict)
    reason: str = ""
    at: float = 0.0

    @property
    def worse(self) -> bool:
        """Whether the new side is provably worse in a metric: the whole interval lies below zero."""
        return any(one.difference[1] < 0 for one in self.metrics.values())

    def sentence(self) -> str:
        """All of it in one line."""
        if self.reason:
            return f"not measured: {self.reason}"
        parts = [
            f"{name} {100 * one.old:.1f} -> {100 * one.new:.1f} % (95 % interval of the difference "
            f"{100 * one.difference[0]:+.1f} ... {100 * one.difference[1]:+.1f})"
            for name, one in self.metrics.items()
        ]
        searched = (
            f"{counted(self.queries, 'query', 'queries')} of "
            f"{counted(self.classes, 'class', 'classes')} among {counted(self.items, 'item')}"
        )
        return f"{', '.join(parts)}; {searched}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {**asdict(self), "worse": self.worse}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Quality:
        """Rebuild it from `to_dict`."""
        metrics = {
            name: Compared(one["old"], one["new"], (one["difference"][0], one["difference"][1]))
            for name, one in value["metrics"].items()
        }
        return cls(value["queries"], value["items"], value["classes"], metrics, value["reason"], value["at"])


def quality_so_far(upgrade: Upgrade) -> Quality | None:
    """What was measured last; None where nothing was."""
    kept = upgrade.plan.get("quality")
    return None if kept is None else Quality.from_dict(kept)


def measure(ledger: Ledger, upgrade: Upgrade, queries: Queries | None = None) -> Quality:
    """Search both sides of a behind upgrade with the same queries, among items that have a vector of both.

    By default up to 1,000 labelled items are the queries, each against all others. They are drawn from those that have
    a new vector, and searched among all items of their classes and an even sample of the others, 10,000 at most.

    Raises:
        InputError: queries without labels, of other items than each other, or of other spaces.
    """
    with ledger.read() as reader:
        state = reader.state()
        items = _drawn(reader, upgrade, None if queries is None else queries[0])
        if isinstance(items, str):
            return Quality(reason=items, at=time.time())
        known = reader.items(items)
        values = {
            side: dict(zip(rows.items.tolist(), rows.values, strict=True))
            for side, generation in zip(_SIGNED, (upgrade.old, upgrade.new), strict=True)
            for rows in [reader.rows_of(generation, items)]
        }
    labelled = [known[item] for item in items.tolist() if known[item].label is not None]
    there = [item for item in labelled if all(item.number in found for found in values.values())]
    if len(there) < 2:
        return Quality(reason="too few labelled items have a vector of both spaces", at=time.time())
    gallery = {
        side: VectorSet.from_arrays(
            np.stack([found[item.number] for item in there]),
            labels=[str(item.label) for item in there],
            ids=[item.id for item in there],
        )
        for side, found in values.items()
    }
    return _compare(gallery, _queries(state, upgrade, gallery, queries), _scores_of(state, upgrade))


def measure_and_note(ledger: Ledger, queries: Queries | None = None) -> Quality:
    """Measure the behind upgrade that is under way, and write it down with that. Arguments and errors as of `measure`.

    Raises:
        GalleryError: none is under way.
    """
    state = ledger.state()
    upgrade = _require_behind(state.filling or state.upgrade, ledger.location)
    found = measure(ledger, upgrade, queries)
    if not ledger.read_only:
        with ledger.write() as writer:
            for one in writer.state().upgrades:
                if one.number == upgrade.number:
                    writer.set_upgrade(one, plan={**one.plan, "quality": found.to_dict()})
    return found


def _drawn(reader: LedgerReader, upgrade: Upgrade, queries: VectorSet | None) -> Ints | str:
    """Items to measure on, or why there are none."""
    step = max(1, reader.stored(upgrade.new) // _DRAWN_FROM)
    rows = reader.session.all(f"SELECT item FROM vector_{upgrade.new} WHERE no = no / {step} * {step} ORDER BY item")
    numbers = np.array([row[0] for row in rows], dtype=np.int64)
    if not len(numbers):
        return "no item has a new vector yet"
    if len(numbers) <= _ITEMS and step == 1:
        return numbers
    draw = np.random.default_rng(0)
    if queries is None:
        some = reader.items(draw.permutation(numbers)[:_QUERIES]).values()
        labels = sorted({item.label for item in some if item.label is not None})
    else:
        labels = [] if queries.labels is None else sorted(set(queries.labels.astype(str).tolist()))
    mates = reader.all_listed("SELECT no FROM item WHERE deleted = 0 AND label IN (LISTED)", labels[:_QUERIES])
    chosen = np.array([row[0] for row in mates], dtype=np.int64)[:_ITEMS]
    return np.union1d(chosen, draw.permutation(numbers)[: _ITEMS - len(chosen)])


def _queries(
    state: State, upgrade: Upgrade, gallery: Mapping[str, VectorSet], given: Queries | None
) -> dict[str, VectorSet]:
    """The queries of both sides: those given, else items themselves, as many as are measured with."""
    if given is None:
        count = len(gallery["old"])
        some = np.sort(np.random.default_rng(1).permutation(count)[:_QUERIES])
        return {side: one.subset(some) for side, one in gallery.items()}
    sides = dict(zip(_SIGNED, given, strict=True))
    for one, generation in zip(given, (upgrade.old, upgrade.new), strict=True):
        space = state.spaces[generation].space
        if one.space != space:
            raise InputError(f"expected queries of space {space} in {one.name}, got {one.space}")
        if one.labels is None:
            raise InputError(f"{one.name} has no labels, which say what a query should find")
        values, score = one.take(np.arange(len(one))), state.spaces[generation].score
        require_vectors(values, space, one.name, one.ids, score=score)
    rows = sides["new"].rows_of(sides["old"].ids)
    if len(sides["new"]) != len(rows) or (rows < 0).any():
        raise InputError(f"{sides['old'].name} and {sides['new'].name} are not of the same queries")
    return {"old": sides["old"], "new": sides["new"].subset(rows)}


def _scores_of(state: State, upgrade: Upgrade) -> dict[str, Any]:
    return {"old": state.spaces[upgrade.old].score, "new": state.spaces[upgrade.new].score}


def _compare(gallery: Mapping[str, VectorSet], queries: Mapping[str, VectorSet], score: Mapping[str, Any]) -> Quality:
    """Rank@1 and mAP of both sides; an item is not matched with itself."""
    asked, held = queries["old"], gallery["old"]
    assert asked.labels is not None
    assert held.labels is not None
    query_codes, codes = encode(asked.labels.astype(str), held.labels.astype(str))
    order = np.argsort(codes, kind="stable")
    own = held.rows_of(asked.ids)
    places = np.where(own >= 0, np.argsort(order)[np.maximum(own, 0)], -1)
    mates = Mates(query_codes, codes[order], places, int(max(query_codes.max(), codes.max())) + 1)
    if not mates.counts.any():
        return Quality(reason="no two items with a vector of both spaces share a label", at=time.time())
    pairs = {
        side: (
            SideVectors(queries[side], np.arange(len(asked)), score=score[side]),
            SideVectors(gallery[side], order, score=score[side]),
        )
        for side in _SIGNED
    }
    found = collect_scores(pairs, mates, 1)
    metrics = {}
    for name, values in {"rank@1": _first(found), "mAP": _average(found)}.items():
        means = paired_bootstrap(values, query_codes)
        old, new = (float(np.nanmean(values[side])) for side in _SIGNED)
        metrics[name] = Compared(old, new, interval(means["new"] - means["old"]))
    mated = mates.counts > 0
    classes = len(np.unique(query_codes[mated]))
    return Quality(int(mated.sum()), len(held), classes, metrics, at=time.time())


def _first(found: Mapping[str, Scores]) -> dict[str, Any]:
    """(Q,) 1 where the best match is right, NaN without a mate."""
    return {
        side: np.where(one.matches.rank > 0, (one.matches.rank == 1).astype(np.float64), np.nan)
        for side, one in found.items()
    }


def _average(found: Mapping[str, Scores]) -> dict[str, Any]:
    return {side: one.precision.average for side, one in found.items()}


def _require_behind(upgrade: Upgrade | None, where: str) -> Upgrade:
    """The behind upgrade to measure. Raises GalleryError: there is none."""
    if upgrade is None or not upgrade.behind:
        raise GalleryError(f"{where}: no behind upgrade is under way, so there are no two sides to compare")
    return upgrade
