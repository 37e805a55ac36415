"""Query vectors: checked, cut to the dimensions that are compared, and fused with those of an older model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from samespace.errors import GalleryError, InputError, SpaceError
from samespace.fusion import fuse
from samespace.gallery.ingest.checks import MOST_LENGTH
from samespace.gallery.ledger.state import State, Vectors
from samespace.metrics.calibration import Calibration
from samespace.scoring.score import SCORE_NAMES
from samespace.space import Score, Space, undeclared
from samespace.vectors import VectorSet

_NORM_TOLERANCE = 1e-3
_NO_SHARE = "old_queries=… is for fuse=…: give the share of the new query, too"


@dataclass(frozen=True, eq=False)
class Fusion:
    """That items of an older space are to be searched with normalised (1 − alpha) old + alpha new queries.

    Attributes:
        alpha: the share of the new query, from 0 to 1.
        old: (Q, D) the same queries by the older model; None where they are not at hand.
        space: of `old`.
    """

    alpha: float
    old: Vectors | None = None
    space: Space | None = None


def fusion_of(alpha: float | None, queries: VectorSet, old_queries: VectorSet | None) -> Fusion | None:
    """A fusion with the old queries in the order of the new ones: by id where both have ids, else by row.

    Raises:
        InputError: a share out of range, old queries without a share, or of other items.
        SpaceError: old queries that declare no space.
    """
    if alpha is None:
        if old_queries is not None:
            raise InputError(_NO_SHARE)
        return None
    if not 0 <= alpha <= 1:
        raise InputError(f"fuse is the share of the new query, from 0 to 1, got {alpha}")
    if old_queries is None:
        return Fusion(float(alpha))
    if old_queries.space is None:
        raise undeclared(old_queries.name)
    rows = np.arange(len(queries))
    if queries.has_ids and old_queries.has_ids:
        rows = old_queries.rows_of(queries.ids)
        if (rows < 0).any():
            missing = queries.ids[int(np.argmax(rows < 0))]
            raise InputError(f"old queries ({old_queries.name}) lack '{missing}' of {queries.name}")
    elif len(old_queries) != len(queries):
        raise InputError(f"expected {len(queries)} old queries, one for each query, got {len(old_queries)}")
    return Fusion(float(alpha), old_queries.take(rows), old_queries.space)


def certified_share(state: State, old_queries: VectorSet) -> float:
    """The share of the new query that the certificate of the old queries' space asks for; 1 once all is sealed.

    Raises:
        InputError: there is none, or it is not of fused queries.
    """
    earlier = [kept for generation, kept in state.spaces.items() if generation < state.query]
    if earlier and all(kept.retired for kept in earlier):
        return 1.0
    older = None if old_queries.space is None else state.generation_of(old_queries.space)
    link = None if older is None else state.links.get((state.query, older))
    if link is None or link.share is None:
        raise InputError(_NO_SHARE)
    return link.share


def fused_generation(state: State, generations: Sequence[int], fusion: Fusion | None) -> tuple[int | None, list[str]]:
    """The generation whose items are searched with fused queries, if any, and what a user should know of it.

    Args:
        state: of the gallery.
        generations: that serve items.
        fusion: that was asked for.

    Raises:
        InputError: an older space serves items, and its queries are not at hand; or the gallery is not searched by
            cosine.
        SpaceError: old queries of no older space of the gallery.
    """
    older = [generation for generation in generations if generation != state.query]
    if fusion is None:
        return None, []
    require_fusable(state)
    if not older:
        return None, ["no item is served by an older space: nothing is fused, and the older model is not needed"]
    newest = state.spaces[older[-1]].space
    if fusion.space is None:
        raise InputError(
            f"items are served by the older space {newest}: to fuse queries give those by its model, too: old_queries=…"
        )
    generation = state.generation_of(fusion.space)
    if generation is None or generation == state.query:
        raise SpaceError(f"expected old queries of an older space of the gallery, {newest}, got {fusion.space}")
    mixed = f"fused with share {fusion.alpha:g} of the new query"
    notes = [
        f"items of {state.spaces[one].space} are searched with "
        + (f"queries {mixed}" if one == generation else f"new queries alone: the old ones are of {fusion.space}")
        for one in older
    ]
    return generation if generation in older else None, notes


def require_fusable(state: State) -> None:
    """Refuse fused queries, which have lost the lengths of both, where lengths count.

    Raises:
        InputError: the gallery is not searched by cosine.
    """
    score = state.spaces[state.query].score
    if score != "cosine":
        raise InputError(
            f"fused queries are brought to unit length, which is for cosines; this gallery is searched by "
            f"{SCORE_NAMES[score]}: leave out fuse=…"
        )


def fused_calibration(state: State, generation: int, alpha: float) -> Calibration:
    """The calibration of fused queries on items of a generation.

    At the ends of the scale, where they are the queries of one model, the calibration of these will do.

    Raises:
        GalleryError: there is none.
    """
    learnt = state.fused.get((state.query, generation, alpha))
    if learnt is None and alpha in (0, 1):
        learnt = state.calibrations.get((state.query if alpha else generation, generation))
    if learnt is None:
        raise GalleryError(
            f"queries fused with share {alpha:g} have no calibration on items of {state.spaces[generation].space}; run "
            f"gallery.calibrate(queries, items, fuse={alpha:g}, old_queries=…)"
        )
    return learnt


def fused(old: Vectors, new: Vectors, dims: int, alpha: float) -> Vectors:
    """Fused queries, (Q, dims) float32 unit vectors; at the ends of the scale those of one model, to the bit."""
    if alpha in (0, 1):
        return leading(new if alpha else old, dims)
    return fuse(old, new, alpha)


def checked(queries: Any, space: Space, score: Score = "cosine") -> Vectors:
    """Queries as (Q, D) float32, or the reason why a search by `score` cannot take them."""
    given = np.asarray(queries)
    if given.ndim != 2 or given.shape[1] != space.dim:
        raise InputError(f"expected queries of space {space} as (queries, {space.dim}), got shape {given.shape}")
    if given.dtype.kind not in "fiu":
        raise InputError(f"queries should be float32 vectors, got {given.dtype}")
    vectors = np.ascontiguousarray(given, dtype=np.float32)
    wide = vectors.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    for row in np.flatnonzero(~np.isfinite(lengths))[:1]:
        raise InputError(f"query {row} holds NaN or infinity")
    if score == "cosine":
        for row in np.flatnonzero(lengths == 0)[:1]:
            raise InputError(f"query {row} is zero and has no cosine")
    else:
        for row in np.flatnonzero(lengths > MOST_LENGTH)[:1]:
            raise InputError(f"query {row} has length {lengths[row]:.4g}; at most {MOST_LENGTH:g} can be compared")
    if space.normalized:
        for row in np.flatnonzero(np.abs(lengths - 1) > _NORM_TOLERANCE)[:1]:
            raise InputError(
                f"query {row} has length {lengths[row]:.4f}, but vectors of space {space} have length 1; "
                "is it from this model?"
            )
    return vectors


def leading(vectors: Vectors, dims: int, score: Score = "cosine") -> Vectors:
    """The leading dimensions as they are compared.

    For cosines as unit vectors: divided by their length in float64, then float32. Else as they are.
    """
    if score != "cosine":
        return np.ascontiguousarray(vectors[:, :dims])
    wide = np.ascontiguousarray(vectors[:, :dims], dtype=np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1))
    for row in np.flatnonzero(lengths == 0)[:1]:
        raise InputError(f"the first {dims} dimensions of query {row} are zero and have no cosine with older vectors")
    return np.asarray(wide / lengths[:, None], dtype=np.float32)
