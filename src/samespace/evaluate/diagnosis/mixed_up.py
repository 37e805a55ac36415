"""Whether the vectors given as new queries are the old model's, and those given as baseline are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from samespace.evaluate.inputs import AlignedSets
from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.sides import SideVectors

_SAME = 0.9999
_OWN_ITEMS = 200
_CLASSES, _PER_CLASS = 250, 20
_FEWEST_CLASSES = 8

# the baseline's scores differ from the gallery's by a cosine of at least so much and so many standard errors, and the
# queries' by less than a third of that
_LEAST, _ERRORS, _ALIKE = 0.02, 4.0, 1 / 3


@dataclass(frozen=True, kw_only=True)
class MixedUp:
    """What says that the queries are of the gallery's model.

    Attributes:
        by: the queries and the gallery declare one space; or items that are in both have equal vectors; or genuine
            pairs score alike among the queries, among the gallery and between them, and those of the baseline do not.
        queries: cosine of the queries to their own items in the gallery, or mean genuine score among the queries.
        baseline: the same of the baseline.
        gallery: mean genuine score among the gallery, where such scores tell.
    """

    by: Literal["space", "items", "scores"]
    queries: float | None = None
    baseline: float | None = None
    gallery: float | None = None


def queries_of_old_model(aligned: AlignedSets) -> MixedUp | None:
    """Whether the queries are of the gallery's model, and by what that is seen; None where nothing says so."""
    space, baseline = aligned.queries.space, aligned.pairs["old"][0].source
    if space is not None and space == aligned.gallery.space and baseline.space != space:
        return MixedUp(by="space")
    new, old = aligned.pairs["cross"][0].as_given(), aligned.pairs["old"][0].as_given()
    gallery = aligned.pairs["old"][1].as_given()
    own = np.flatnonzero(aligned.mates.self_place >= 0)[:_OWN_ITEMS]
    if own.size:
        items = gallery.subset(aligned.mates.self_place[own]).read(0, len(own))
        of_new, of_old = (
            float(np.median((side.subset(own).read(0, len(own)) * items).sum(axis=1))) for side in (new, old)
        )
        return MixedUp(by="items", queries=of_new, baseline=of_old) if of_new > _SAME > of_old else None
    return _by_scores(aligned, new, old, gallery)


def _by_scores(aligned: AlignedSets, new: SideVectors, old: SideVectors, gallery: SideVectors) -> MixedUp | None:
    """Compare mean scores of genuine pairs, class by class, by the sums of their unit vectors."""
    queries, items = aligned.mates.items
    classes = np.flatnonzero((queries >= 2) & (items >= 2))
    if len(classes) < _FEWEST_CLASSES:
        return None
    classes = classes[:: -(-len(classes) // _CLASSES)]
    sums = {
        "new": _sums(new, aligned.mates.query_codes, classes),
        "old": _sums(old, aligned.mates.query_codes, classes),
        "gallery": _sums(gallery, aligned.mates.gallery_codes, classes),
    }
    among = {name: ((total**2).sum(axis=1) - count) / (count * (count - 1)) for name, (total, count) in sums.items()}
    stored, many = sums["gallery"]
    between = {
        name: (sums[name][0] * stored).sum(axis=1) / (sums[name][1] * many) - among["gallery"]
        for name in ("new", "old")
    }
    within = {name: among[name] - among["gallery"] for name in ("new", "old")}
    alike = all(abs(part["new"].mean()) < _ALIKE * abs(part["old"].mean()) for part in (within, between))
    unlike = all(abs(part["old"].mean()) > max(_LEAST, _ERRORS * _error(part["old"])) for part in (within, between))
    if not (alike and unlike):
        return None
    return MixedUp(
        by="scores",
        queries=float(among["new"].mean()),
        baseline=float(among["old"].mean()),
        gallery=float(among["gallery"].mean()),
    )


def _error(values: Floats) -> float:
    """Standard error of the mean."""
    return float(values.std() / np.sqrt(len(values)))


def _sums(vectors: SideVectors, codes: Ints, classes: Ints) -> tuple[Floats, Floats]:
    """Sum of the unit vectors of each class, (C, D), of at most twenty of its items, and how many they are, (C,)."""
    order = np.argsort(codes, kind="stable").astype(np.int64)
    first = np.searchsorted(codes[order], classes, side="left")
    count = np.minimum(np.searchsorted(codes[order], classes, side="right") - first, _PER_CLASS)
    places = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    which = np.repeat(np.arange(len(classes)), count)
    total = np.zeros((len(classes), vectors.dim))
    for start, block in vectors.subset(order[places]).blocks():
        mine = which[start : start + len(block)]
        heads = np.flatnonzero(np.diff(mine, prepend=-1))
        total[mine[heads]] += np.add.reduceat(block, heads, axis=0)
    return total, count.astype(np.float64)
