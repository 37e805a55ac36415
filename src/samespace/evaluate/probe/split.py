"""Held-out classes, their items halved into queries and gallery; the other classes are learnt from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.probe.result import ProbeData
from samespace.metrics._arrays import Floats, Ints, encode
from samespace.scoring.mates import Mates

_MOST_ITEMS = 20_000
_UNMATED = 5


@dataclass(frozen=True)
class Split:
    """Rows of the old vectors.

    Attributes:
        learn: items of the other classes.
        queries: half the items of the held-out classes.
        gallery: the other half, sorted by class.
        classes: how many are held out.
        unmated: how many of these have no gallery items.
    """

    learn: Ints
    queries: Ints
    gallery: Ints
    classes: int
    unmated: int


def split_classes(codes: Ints, held_out: float, seed: int) -> Split:
    """Hold out classes of two items or more, and halve the items of each.

    Args:
        codes: (N,) class of each item, from 0.
        held_out: share of the classes; fewer where they have more than 20,000 items.
        seed: of the draw.

    Raises:
        InputError: fewer than 4 classes have two items.
    """
    counts = np.bincount(codes)
    generator = np.random.default_rng(seed)
    eligible = generator.permutation(np.flatnonzero(counts >= 2))
    if len(eligible) < 4:
        raise InputError(
            f"a probe needs at least 4 classes of 2 items or more; got {len(counts)} classes, {len(eligible)} of them "
            "with 2 items"
        )
    fitting = int(np.searchsorted(np.cumsum(counts[eligible]), _MOST_ITEMS, side="right"))
    held = eligible[: min(max(4, round(held_out * len(counts))), max(4, fitting))]
    unmated = len(held) // _UNMATED
    order = np.argsort(codes, kind="stable")
    first = np.cumsum(counts) - counts
    queries, gallery = [], []
    for place, code in enumerate(held):
        items = generator.permutation(order[first[code] : first[code] + counts[code]])
        queries.append(items[: len(items) // 2])
        if place >= unmated:
            gallery.append(items[len(items) // 2 :])
    searched = np.concatenate(gallery)
    searched = searched[np.argsort(codes[searched], kind="stable")]
    learn = np.flatnonzero(~np.isin(codes, held))
    return Split(learn, np.concatenate(queries), searched, len(held), unmated)


def mates_of(codes: Ints, split: Split) -> Mates:
    """Who the queries and the gallery items are."""
    queries, gallery = encode(codes[split.queries], codes[split.gallery])
    return Mates(
        query_codes=queries,
        gallery_codes=gallery,
        self_place=np.full(len(queries), -1, dtype=np.int64),
        identities=int(queries.max()) + 1,
    )


def data_of(codes: Ints, split: Split) -> ProbeData:
    """How much of what there is."""
    counts = np.bincount(codes)
    return ProbeData(
        items=len(codes),
        classes=len(counts),
        fewest=int(counts.min()),
        median=float(np.median(counts)),
        most=int(counts.max()),
        held_out=split.classes,
        unmated=split.unmated,
        queries=len(split.queries),
        gallery=len(split.gallery),
    )


def rotation(source: Floats, target: Floats) -> tuple[Floats, Floats]:
    """The rotation or reflection R (D, E) and shift (E,) that minimise ‖source R + shift − target‖ (Schönemann 1966).

    R = U Vᵀ from the singular value decomposition of the cross-covariance; with unlike dimensions its rows or columns
    are orthonormal. Equal to `samespace.bridge`'s procrustes, without torch.

    Args:
        source: (N, D).
        target: (N, E) of the same items.
    """
    means = source.mean(axis=0), target.mean(axis=0)
    left, _, right = np.linalg.svd((source - means[0]).T @ (target - means[1]), full_matrices=False)
    matrix = left @ right
    return matrix, means[1] - means[0] @ matrix
