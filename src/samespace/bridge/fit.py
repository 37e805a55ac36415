"""Learn a bridge from the vectors of the same items in two spaces, and judge its methods on held-out classes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from samespace.bridge.bridge import Bridge, Direction, Method
from samespace.bridge.linear import LinearMap, affine, mean_shift, procrustes
from samespace.bridge.residual import ResidualMap, fit_residual
from samespace.bridge.support import METRICS, Split, Support, Values, compare, hold_out, search_values
from samespace.errors import InputError, suggest
from samespace.fusion import unit
from samespace.progress import bar, silent
from samespace.vectors import VectorSet

METHODS: tuple[Method, ...] = get_args(Method)
"""From the simplest to the richest."""

_CLOSED: dict[Method, Callable[..., tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]] = {
    "mean-shift": mean_shift,
    "procrustes": procrustes,
    "affine": affine,
}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Unit vectors of the same items in two spaces, with the number of each item's class where classes are known."""

    old: npt.NDArray[np.float32]
    new: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64] | None

    def take(self, rows: npt.NDArray[np.int64]) -> Pairs:
        """The pairs of these rows."""
        return Pairs(self.old[rows], self.new[rows], None if self.classes is None else self.classes[rows])

    def ends(self, direction: Direction) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Source and target of a map in this direction."""
        return (self.old, self.new) if direction == "gallery" else (self.new, self.old)


def fit(
    old_vectors: VectorSet,
    new_vectors: VectorSet,
    *,
    direction: Direction = "gallery",
    method: Method | Literal["auto"] = "auto",
    held_out: float = 0.2,
    steps: int = 1050,
    max_pairs: int = 200_000,
    replicates: int = 2000,
    seed: int = 0,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> Bridge:
    """Learn a map between two spaces from the training items' vectors in both; no image is touched.

    `auto` learns every method without a share of the classes, searches those classes with each, and takes the simplest
    method that is within the paired bootstrap interval of the best in every metric; that one is then learnt on all
    pairs. Use training items: the classes of a later check must not be among them.

    Args:
        old_vectors: by the old model.
        new_vectors: by the new model; each of its items must be among the old ones.
        direction: `gallery` maps old vectors to the new space, `query` new vectors to the old space.
        method: one of `METHODS`, or `auto`.
        held_out: share of the classes that judge; with labels only.
        steps: of the residual map's training.
        max_pairs: learn from at most so many, drawn at random.
        replicates: bootstrap resamples of the judgement.
        seed: of the draw, the held-out classes, the residual map and the resamples.
        device: of the residual map's training.
        quiet: show no progress.

    Raises:
        InputError: items or dimensions that do not fit, or `auto` without labels.
    """
    if method != "auto" and method not in METHODS:
        raise InputError(f"unknown method '{method}'; {suggest(str(method), ['auto', *METHODS])}")
    if direction not in get_args(Direction):
        raise InputError(f"unknown direction '{direction}'; {suggest(str(direction), get_args(Direction))}")
    pairs = align(old_vectors, new_vectors, max_pairs=max_pairs, seed=seed)
    if method == "auto" and pairs.classes is None:
        raise InputError("method auto judges on held-out classes, and the vectors have no labels; name a method")

    def learn(which: Method, from_pairs: Pairs) -> LinearMap | ResidualMap:
        return _learn(which, from_pairs, direction, steps=steps, seed=seed, device=device, quiet=quiet)

    support = None
    if pairs.classes is not None:
        split = hold_out(pairs.classes, fraction=held_out, seed=seed)
        training = pairs.take(split.train)
        tried = [which for which in METHODS if method in (which, "auto") and _possible(which, pairs)]
        maps: dict[Method, LinearMap | ResidualMap] = {which: learn(which, training) for which in tried}
        searches = _search(pairs, split, maps, direction)
        labels = pairs.classes[split.queries]
        gains = compare(searches, "old", labels, replicates=replicates, seed=seed)
        values = {
            name: {metric: float(np.nanmean(column)) for metric, column in found.items()}
            for name, found in searches.items()
        }
        support = Support(len(np.unique(labels)), len(split.queries), len(split.gallery), values, gains)
        if method == "auto":
            method = simplest(searches, tried, labels, replicates=replicates, seed=seed)
    assert method != "auto"
    ends = (old_vectors.space, new_vectors.space)
    source, target = ends if direction == "gallery" else ends[::-1]
    return Bridge(learn(method, pairs), method, direction, source, target, support)


def align(old: VectorSet, new: VectorSet, *, max_pairs: int, seed: int) -> Pairs:
    """Pair the vectors of the same items; old items without a new vector are left out.

    Raises:
        InputError: a new item is not among the old ones, labels contradict each other, or a vector is zero.
    """
    if old.has_ids != new.has_ids or (not old.has_ids and len(old) != len(new)):
        raise InputError(
            f"{old.name} and {new.name} should hold the same items: give both ids, or the same number of rows; got "
            f"{len(old):,} {'with' if old.has_ids else 'without'} ids and "
            f"{len(new):,} {'with' if new.has_ids else 'without'} ids"
        )
    places = old.rows_of(new.ids) if old.has_ids else np.arange(len(new))
    if (places < 0).any():
        missing = new.ids[places < 0]
        raise InputError(
            f"{old.name} lacks {len(missing):,} of the {len(new):,} items of {new.name}, such as '{missing[0]}'; "
            "embed the same items with both models"
        )
    labels = new.labels if old.labels is None else old.labels[places]
    if labels is not None and new.labels is not None and not np.array_equal(labels.astype(str), new.labels.astype(str)):
        row = int(np.argmax(labels.astype(str) != new.labels.astype(str)))
        raise InputError(
            f"item '{new.ids[row]}' is of class '{labels[row]}' in {old.name} and '{new.labels[row]}' in {new.name}"
        )
    rows = np.arange(len(new))
    if len(rows) > max_pairs:
        rows = np.sort(np.random.default_rng(seed).choice(len(new), max_pairs, replace=False))
    if len(rows) < 2:
        raise InputError("a bridge needs at least 2 pairs of vectors")
    classes = None if labels is None else np.unique(labels[rows], return_inverse=True)[1].astype(np.int64)
    return Pairs(unit(old.take(places[rows]), old.name), unit(new.take(rows), new.name), classes)


def simplest(
    searches: dict[str, Values],
    methods: list[Method],
    classes: npt.NDArray[np.int64],
    *,
    replicates: int = 2000,
    seed: int = 0,
) -> Method:
    """The first of these methods that no other one beats, in any metric, beyond the paired bootstrap interval.

    Where each is beaten in some metric, the best in mAP.

    Args:
        searches: what `search_values` gave, by method.
        methods: from the simplest to the richest.
        classes: (Q,) class of each query.
        replicates: bootstrap resamples.
        seed: of the resamples.
    """
    mean = {name: {m: float(np.nanmean(searches[name][m])) for m in METRICS} for name in methods}
    columns: dict[str, Values] = {name: searches[name] for name in methods}
    for name in methods:
        gains: dict[str, Any] = compare(columns, name, classes, replicates=replicates, seed=seed)
        best = {metric: max(methods, key=lambda other, metric=metric: mean[other][metric]) for metric in METRICS}  # type: ignore[misc]
        if all(gains[best[metric]][metric][1] <= 0 for metric in METRICS):
            return name
    return max(methods, key=lambda other: mean[other][METRICS[0]])


def _possible(method: Method, pairs: Pairs) -> bool:
    return method != "mean-shift" or pairs.old.shape[1] == pairs.new.shape[1]


def _learn(
    method: Method,
    pairs: Pairs,
    direction: Direction,
    *,
    steps: int,
    seed: int,
    device: torch.device | str,
    quiet: bool,
) -> LinearMap | ResidualMap:
    source, target = pairs.ends(direction)
    if method != "residual":
        return LinearMap.of(*_CLOSED[method](source, target))
    start = LinearMap.of(*affine(source, target))
    shown = nullcontext(silent) if quiet else bar("residual map", steps, "steps")
    with shown as advance:
        return fit_residual(
            source, target, start, classes=pairs.classes, steps=steps, seed=seed, device=device, advance=advance
        )


def _search(
    pairs: Pairs, split: Split, maps: dict[Method, LinearMap | ResidualMap], direction: Direction
) -> dict[str, Values]:
    """Search the held-out classes: old on old, new on new, unmapped where dimensions allow, and by each map."""
    assert pairs.classes is not None
    labels = pairs.classes[split.queries], pairs.classes[split.gallery]
    old, new = (
        (pairs.old[split.queries], pairs.old[split.gallery]),
        (pairs.new[split.queries], pairs.new[split.gallery]),
    )
    searches = {"old": search_values(*old, *labels), "new": search_values(*new, *labels)}
    if pairs.old.shape[1] == pairs.new.shape[1]:
        searches["unmapped"] = search_values(new[0], old[1], *labels)
    for method, mapping in maps.items():
        if direction == "gallery":
            queries, gallery = new[0], _mapped(mapping, old[1])
        else:
            queries, gallery = _mapped(mapping, new[0]), old[1]
        searches[method] = search_values(queries, gallery, *labels)
    return searches


@torch.inference_mode()
def _mapped(mapping: LinearMap | ResidualMap, vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(mapping(torch.from_numpy(vectors)).numpy())
