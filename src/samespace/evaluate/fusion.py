"""Query fusion in a check: the cross test with fused queries, their share chosen on classes that are not judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError
from samespace.evaluate.certificate import CheckedSpace, Fusion, FusionPoint
from samespace.evaluate.inputs import AlignedSets, same_items
from samespace.evaluate.templates import pool_sides
from samespace.evaluate.verdict import quota_of, replicate_deepened, tail_size
from samespace.fusion import fuse, fused_space, share_to_take
from samespace.metrics._arrays import Ints, encode
from samespace.metrics.bootstrap import interval
from samespace.scoring.metric_names import Metric, choose_metrics
from samespace.scoring.scores import collect_scores
from samespace.scoring.sides import SideVectors
from samespace.vectors import VectorSet

Fuse: TypeAlias = float | Literal["auto"]
Support: TypeAlias = tuple[VectorSet, VectorSet, VectorSet]
"""Queries by the new model, the gallery by the old one, and the queries by the old one."""

ALPHAS = tuple(step / 10 for step in range(11))
_FEWEST_CLASSES = 2


def require_fuse(fuse: Fuse | None, support: Support | None) -> None:
    """Refuse a share that is none, and a support set that nothing asks for.

    Raises:
        InputError: one of these.
    """
    if fuse is not None and fuse != "auto" and (isinstance(fuse, (bool, str)) or not 0 <= fuse <= 1):
        raise InputError(f"fuse is the share of the new query, from 0 to 1, or auto, got {fuse!r}")
    if support is not None and fuse != "auto":
        raise InputError("a support set chooses the share of fused queries: it goes with fuse='auto' (--fuse auto)")


def fused(aligned: AlignedSets, alpha: float) -> AlignedSets:
    """The same sets, the cross test with fused queries; at the ends of the scale with the very queries of one model."""
    queries, gallery = _fused_queries(aligned, alpha), aligned.pairs["cross"][1]
    return replace(aligned, pairs=aligned.pairs | {"cross": (queries, gallery)})


def _fused_queries(aligned: AlignedSets, alpha: float) -> SideVectors:
    old, new = aligned.pairs["old"][0], aligned.pairs["cross"][0]
    if alpha in (0, 1):
        return new if alpha else old
    parts = [fuse(before, after, alpha) for (_, before), (_, after) in zip(old.blocks(), new.blocks(), strict=True)]
    vectors = VectorSet.from_arrays(np.concatenate(parts), name=f"{aligned.queries.name}, fused")
    return SideVectors(vectors, np.arange(len(old)))


def fused_description(old: VectorSet, new: VectorSet, alpha: float) -> CheckedSpace:
    """The space of fused queries as a certificate names it, of the old gallery and the new queries.

    It is a space of its own, so that the certificate does not vouch for new queries alone.
    """
    if old.space is None or new.space is None:
        return CheckedSpace(id=None, name=f"{1 - alpha:g} {old.name} + {alpha:g} {new.name}", dim=old.dim)
    return CheckedSpace(**fused_space(old.space, new.space, alpha).to_dict())


def pooled_support(support: Support, gallery: VectorSet, queries: VectorSet) -> Support:
    """A support set with its templates pooled, of the models and of none of the classes that are judged.

    Raises:
        InputError: no labels, or a class that is judged.
        SpaceError: another space than that of the judged set of the same side.
    """
    sets, _ = pool_sides({"queries": support[0], "baseline": support[2]}, {"gallery": support[1]})
    for name, judged in (("queries", queries), ("gallery", gallery)):
        space = sets[name].space
        if space is not None and judged.space is not None and space != judged.space:
            raise SpaceError(f"expected support {name} in the space of {name}, {judged.space}, got {space}")
    classes, shown = _classes(sets["queries"], sets["gallery"]), _classes(queries, gallery)
    if both := sorted(set(map(str, classes)) & set(map(str, shown))):
        raise InputError(
            f"the share is chosen on classes that are not judged, but {len(both)} are in both, such as "
            f"'{both[0]}'; give a support set of other classes, or none, so that the check's own are halved"
        )
    return sets["queries"], sets["gallery"], sets["baseline"]


def halve(sets: Mapping[str, VectorSet | None], seed: int) -> tuple[dict[str, VectorSet], Support]:
    """Divide the classes of a check in two by seed: one half to choose the share on, the other to judge.

    Classes with mates are halved by themselves, so that both halves have as many.

    Args:
        sets: by their role in the check, of the same items on each side.
        seed: of the draw.

    Returns:
        The sets of the judged half by role, and those of the other half.

    Raises:
        InputError: no labels, items that differ, or fewer than four classes with mates.
    """
    given = {role: one for role, one in sets.items() if one is not None}
    queries, gallery = given["queries"], given["gallery"]
    query_codes, gallery_codes = encode(_labels(queries, "queries"), _labels(gallery, "gallery"))
    apart = _half_of_classes(query_codes, gallery_codes, seed)
    halves: tuple[dict[str, VectorSet], dict[str, VectorSet]] = {}, {}
    for role, one in given.items():
        stored = role in ("gallery", "new_gallery", "paragon gallery")
        reference, name, of = (gallery, "gallery", gallery_codes) if stored else (queries, "queries", query_codes)
        rows = np.arange(len(one)) if one is reference else same_items(reference, one, name, role)
        inside = np.isin(of, apart)
        for half, keep in zip(halves, (inside, ~inside), strict=True):
            half[role] = one.subset(rows[keep])
    support, judged = halves
    return judged, (support["queries"], support["gallery"], support["baseline"])


def _half_of_classes(query_codes: Ints, gallery_codes: Ints, seed: int) -> Ints:
    mated = np.intersect1d(query_codes, gallery_codes)
    if len(mated) < 2 * _FEWEST_CLASSES:
        raise InputError(
            f"choosing the share of fused queries halves the check's classes: {2 * _FEWEST_CLASSES} that queries and "
            f"gallery share are needed, got {len(mated)}; give a support set, or the share itself"
        )
    draw = np.random.default_rng(seed)
    parts = mated, np.setxor1d(query_codes, gallery_codes)
    return np.concatenate([draw.permutation(part)[: len(part) // 2] for part in parts])


def choose(
    support: AlignedSets,
    metrics: Sequence[Metric],
    *,
    required: bool,
    how: Literal["support", "halves"],
    space: CheckedSpace,
    replicates: int,
    seed: int,
    confidence: float,
    block_size: int | None = None,
) -> Fusion:
    """Choose the share on a support set, by the rule of `samespace.fusion.share_to_take`.

    Args:
        support: held-out classes.
        metrics: of the check.
        required: whether a metric that these classes leave undefined is an error; otherwise it is left out.
        how: where the support set is from.
        space: of the new queries.
        replicates: bootstrap resamples.
        seed: of the resamples.
        confidence: of the intervals.
        block_size: queries per block of scores.

    Raises:
        InputError: a required metric is undefined on the support set.
    """
    measured = [metric for metric in metrics if required or _measurable(metric, support)]
    choose_metrics([metric.name for metric in measured], support.mates)
    gallery = support.pairs["cross"][1]
    pairs = {f"{alpha:g}": (_fused_queries(support, alpha), gallery) for alpha in ALPHAS}
    size = tail_size(quota_of(measured, support.mates))
    scores = collect_scores(pairs, support.mates, size, block_size=block_size, sampled=True)
    scores, draws = replicate_deepened(
        measured, scores, pairs, size=size, replicates=replicates, seed=seed, block_size=block_size
    )
    grid = []
    for alpha in ALPHAS:
        grid.append(
            FusionPoint(
                alpha=alpha,
                values={metric.name: metric.value(scores[f"{alpha:g}"]) for metric in measured},
                differences={
                    metric.name: interval(draws[metric.name, f"{alpha:g}"] - draws[metric.name, "0"], confidence)
                    for metric in measured
                },
            )
        )
    classes = tuple(_classes(support.queries, support.gallery))
    return Fusion(alpha=best_share(grid), chosen=how, space=space, classes=classes, grid=tuple(grid))


def best_share(grid: Sequence[FusionPoint]) -> float:
    """The share of a grid that is taken."""
    return share_to_take(
        {at.alpha: [(value, at.differences[name][0]) for name, value in at.values.items()] for at in grid}
    )


def _measurable(metric: Metric, support: AlignedSets) -> bool:
    try:
        choose_metrics([metric.name], support.mates)
    except InputError:
        return False
    return True


def _classes(queries: VectorSet, gallery: VectorSet) -> list[str | int]:
    classes: list[str | int] = np.union1d(_labels(queries, "queries"), _labels(gallery, "gallery")).tolist()
    return classes


def _labels(source: VectorSet, role: str) -> npt.NDArray[Any]:
    if source.labels is None:
        raise InputError(f"{role} ({source.name}) have no labels; a check needs the identity of every item")
    return source.labels
