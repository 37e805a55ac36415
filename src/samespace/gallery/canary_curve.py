"""How well the canaries of an upgrade find their own class, at every share of the backfill so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from samespace.gallery.index.found import Float64s
from samespace.gallery.index.segments import compared
from samespace.gallery.ledger.state import Ints, State, Upgrade, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.search.query_vectors import leading
from samespace.metrics.identification import rank_k
from samespace.metrics.retrieval import mean_average_precision
from samespace.space import Score

_ITEMS = 4_000
_STAGES = 20


@dataclass(frozen=True)
class CanaryPoint:
    """What the canaries found where a share of the items was served by the new space: rank@1 and mAP, in [0, 1]."""

    share: float
    values: Mapping[str, float]


@dataclass(frozen=True)
class CanaryCurve:
    """The quality of searches by the canaries, over the backfill.

    Canaries are items embedded by the new model when it was attached. Each searches all other items for those of its
    class, as the gallery stood at each share: vectors are taken away again in the order in which they came.

    Attributes:
        queries: how many canaries have a label that another item has.
        items: among how many items they searched; a sample of a large gallery.
        before: what the old vectors of the same canaries find among old vectors; none where they are not all there.
        points: from no new vector to all there are now; none where nothing could be measured.
        reason: why nothing could be measured; empty otherwise.
    """

    queries: int = 0
    items: int = 0
    before: Mapping[str, float] | None = None
    points: tuple[CanaryPoint, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class _Items:
    """Items that canaries search: their numbers, labels, and vectors with their row numbers by generation."""

    numbers: Ints
    labels: list[str]
    vectors: Mapping[int, Vectors]
    rows: Mapping[int, Ints]


def canary_curve(reader: LedgerReader) -> CanaryCurve:
    """The curve of the upgrade under way."""
    state = reader.state()
    upgrade = state.upgrade
    if upgrade is None or upgrade.state != "open":
        return CanaryCurve(reason="no upgrade is under way whose old vectors are still there")
    if upgrade.behind:
        return CanaryCurve(reason="spaces of a behind upgrade never meet, so there is no mixed stage to measure")
    lacking = [one for one in state.servable if (state.query, one) not in state.calibrations]
    if lacking:
        return CanaryCurve(reason="scores of the spaces that serve are not on a common scale")
    canaries, vectors = reader.canaries(upgrade.new)
    if not len(canaries):
        return CanaryCurve(reason="the new model was not at hand with the items' images, so there are no canaries")
    labels = {number: item.label for number, item in reader.items(canaries).items()}
    labelled = [place for place, number in enumerate(canaries.tolist()) if labels.get(number) is not None]
    canaries, vectors = canaries[labelled], vectors[labelled]
    names = [str(labels[number]) for number in canaries.tolist()]
    items = _sampled(reader, state, sorted(set(names)))
    mated = [place for place, name in enumerate(names) if items.labels.count(name) > 1]
    if not mated:
        return CanaryCurve(reason="no canary has a label that another item has")
    canaries, vectors, names = canaries[mated], vectors[mated], [names[place] for place in mated]
    return _measured(state, upgrade, canaries, vectors, names, items)


def _sampled(reader: LedgerReader, state: State, labels: list[str]) -> _Items:
    """Items with one of the labels, and others spread evenly over the gallery."""
    step = max(1, reader.live() // _ITEMS)
    spread = reader.session.all(f"SELECT no FROM item WHERE deleted = 0 AND no = no / {step} * {step} ORDER BY no")
    mates = reader.all_listed("SELECT no FROM item WHERE deleted = 0 AND label IN (LISTED)", labels)
    numbers = np.union1d(*(np.array([row[0] for row in rows[:_ITEMS]], dtype=np.int64) for rows in (spread, mates)))
    found, vectors, order = reader.items(numbers), {}, {}
    for generation in state.servable:
        kept, stored = state.spaces[generation], reader.rows_of(generation, numbers)
        places = np.searchsorted(numbers, stored.items)
        vectors[generation] = np.zeros((len(numbers), kept.space.dim), dtype=np.float32)
        vectors[generation][places] = compared(stored.values, kept.space, kept.score)
        order[generation] = np.zeros(len(numbers), dtype=np.int64)
        order[generation][places] = stored.numbers
    # an item without a label is of no canary's class
    names = [found[number].label or f"\0{number}" for number in numbers.tolist()]
    return _Items(numbers, names, vectors, order)


def _measured(
    state: State, upgrade: Upgrade, canaries: Ints, vectors: Vectors, names: list[str], items: _Items
) -> CanaryCurve:
    score, lowest = state.spaces[state.query].score, 0.0
    met: dict[int, Float64s] = {}
    for generation in state.servable:
        dims = state.spaces[generation].space.dim
        raw = _raw(leading(vectors, dims, score), items.vectors[generation], score)
        met[generation] = state.calibrations[state.query, generation].apply(raw)
        lowest = min(lowest, float(met[generation].min()) - 1.0)
    earlier = np.full_like(met[state.query], lowest)
    for generation in state.servable[:-1]:
        has = items.rows[generation] > 0
        earlier[:, has] = met[generation][:, has]
    arrived = items.rows[state.query]
    order = np.argsort(np.where(arrived > 0, arrived, np.iinfo(np.int64).max), kind="stable")
    done, own = int((arrived > 0).sum()), canaries[:, None] == items.numbers
    points = []
    for count in dict.fromkeys(np.linspace(0, done, min(done, _STAGES) + 1).round().astype(int).tolist()):
        scores = earlier.copy()
        scores[:, order[:count]] = met[state.query][:, order[:count]]
        points.append(CanaryPoint(count / len(items.numbers), _values(scores, names, items.labels, own)))
    return CanaryCurve(
        len(canaries), len(items.numbers), _before(state, upgrade, canaries, names, items, own), tuple(points)
    )


def _before(
    state: State, upgrade: Upgrade, canaries: Ints, names: list[str], items: _Items, own: np.ndarray
) -> Mapping[str, float] | None:
    """What the canaries found by their old vectors."""
    has = items.rows[upgrade.old] > 0
    places = np.searchsorted(items.numbers, canaries)
    places = np.minimum(places, len(items.numbers) - 1)
    if not has.all() or (items.numbers[places] != canaries).any():
        return None
    old = items.vectors[upgrade.old]
    return _values(_raw(old[places], old, state.spaces[upgrade.old].score), names, items.labels, own)


def _raw(queries: Vectors, items: Vectors, score: Score) -> Float64s:
    """(Q, N) raw scores."""
    asked, held = queries.astype(np.float64), items.astype(np.float64)
    products = asked @ held.T
    if score != "l2":
        return np.asarray(products)
    return np.asarray(2 * products - (asked**2).sum(axis=1)[:, None] - (held**2).sum(axis=1))


def _values(scores: Float64s, names: list[str], labels: list[str], own: np.ndarray) -> Mapping[str, float]:
    return {
        "rank@1": rank_k(scores, names, labels, exclude=own),
        "mAP": mean_average_precision(scores, names, labels, exclude=own),
    }
