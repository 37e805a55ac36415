"""`near_copies`: how much of a model's strength rests on near copies, mates that a model sees at a high cosine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.inputs import same_items, self_places
from samespace.metrics._arrays import Floats, Ints, Mask, encode
from samespace.scoring.blocks import score_blocks
from samespace.scoring.mates import BlockMates, Mates
from samespace.scoring.sides import SideVectors
from samespace.vectors import VectorSet

NEAR = (0.99, 0.95, 0.9)

Sides = tuple[SideVectors, SideVectors]


@dataclass(frozen=True, kw_only=True)
class NearCopies:
    """What models find without the mates that a witness sees at a cosine or nearer.

    Attributes:
        cosine: of the witness; None where nothing is left out.
        share: of the queries with a mate, those that have one at that cosine or nearer.
        queries: those with a mate that is left, over which the values are means.
        values: by model, `rank@1` and `mAP`; empty where no query is left.
    """

    cosine: float | None
    share: float
    queries: int
    values: dict[str, dict[str, float]]


def near_copies(
    models: Mapping[str, tuple[VectorSet, VectorSet]], *, witness: str, cosines: Sequence[float] = NEAR
) -> tuple[NearCopies, ...]:
    """What models find with all mates, and without those that one of them sees as near copies.

    Pictures taken a moment apart are found by whatever model made both vectors, and by no other as surely, so that many
    of them flatter the model in use. A witness that neither model was tied to, such as the paragon, tells which they
    are. A pair left out is neither a right answer nor a wrong one, and so is an item with itself, where the witness's
    sets have ids and share them. At a cosine that most mates reach, they are no
    copies but the easy half of the mates, and every model finds less without them.

    Args:
        models: by name, queries and gallery, labelled; the same items for all, matched by id where they have ids and by
            row otherwise. For a cross test these are the new queries and the old gallery.
        witness: the name of the model whose cosines decide.
        cosines: at which a mate counts as a near copy.

    Returns:
        All mates first, then one for each cosine in their order.

    Raises:
        InputError: the witness is not among the models, labels are missing, or sets differ in their items or a model's
            in their dimensions.
    """
    if witness not in models:
        raise InputError(f"the witness is one of the models, {', '.join(models)}; got '{witness}'")
    asked, stored = models[witness]
    if asked.labels is None or stored.labels is None:
        raise InputError(f"{(asked if asked.labels is None else stored).name} has no labels; mates are told by them")
    for name, (queries, gallery) in models.items():
        if queries.dim != gallery.dim:
            raise InputError(f"queries of {name} have {queries.dim} dimensions and its gallery {gallery.dim}")
    query_codes, gallery_codes = encode(asked.labels, stored.labels)
    order = np.argsort(gallery_codes, kind="stable")
    sides = {
        name: (
            SideVectors(queries, same_items(asked, queries, "queries", f"queries of {name}")),
            SideVectors(gallery, same_items(stored, gallery, "gallery", f"gallery of {name}")[order]),
        )
        for name, (queries, gallery) in models.items()
    }
    places = np.full(len(asked), -1, dtype=np.int64)
    if asked.has_ids and stored.has_ids:
        places = self_places(asked, stored, query_codes, gallery_codes, order)
    mates = Mates(
        query_codes=query_codes,
        gallery_codes=gallery_codes[order],
        self_place=places,
        identities=int(max(query_codes.max(), gallery_codes.max())) + 1,
    )
    return copies_of(sides, mates, witness=witness, cosines=cosines)


def copies_of(
    models: Mapping[str, Sides], mates: Mates, *, witness: str, cosines: Sequence[float] = NEAR
) -> tuple[NearCopies, ...]:
    """As `near_copies`, of vectors that stand in one order."""
    limits: list[float | None] = [None, *cosines]
    found: dict[tuple[float | None, str], list[Floats]] = {}
    copied: dict[float | None, list[Mask]] = {}
    for start, blocks in score_blocks(models):
        block = mates.block(np.arange(start, start + len(blocks[witness])))
        seen = _of_mates(blocks[witness], block)
        ranked = {name: _ranked(scores, block) for name, scores in blocks.items()}
        for limit in limits:
            near = np.zeros(seen.shape, dtype=np.bool_) if limit is None else seen >= limit
            copied.setdefault(limit, []).append(np.asarray(near.any(axis=1)))
            kept = np.isfinite(seen) & ~near
            for name, (order, others) in ranked.items():
                part = _right_and_precise(np.take_along_axis(kept, order, axis=1), others)
                found.setdefault((limit, name), []).append(part)
    mated = int((mates.counts > 0).sum())
    whole = {limit: {name: np.concatenate(found[limit, name]) for name in models} for limit in limits}
    return tuple(_summed(limit, np.concatenate(copied[limit]), whole[limit], mated) for limit in limits)


def _summed(cosine: float | None, copied: Mask, found: Mapping[str, Floats], mated: int) -> NearCopies:
    left = ~np.isnan(next(iter(found.values()))[:, 0])
    return NearCopies(
        cosine=cosine,
        share=float(copied.sum() / max(mated, 1)),
        queries=int(left.sum()),
        values={
            name: dict(zip(("rank@1", "mAP"), values[left].mean(axis=0).tolist(), strict=True))
            for name, values in found.items()
            if left.any()
        },
    )


def _of_mates(scores: Floats, block: BlockMates) -> Floats:
    """(q, M) scores of each query's mates in the gallery's order; −inf in the places of mates it does not have."""
    mates = np.full((len(scores), block.width), -np.inf, dtype=np.float32)
    mates[block.row[block.keep], block.slot[block.keep]] = scores[block.row, block.place][block.keep]
    return mates


def _ranked(scores: Floats, block: BlockMates) -> tuple[Ints, Ints]:
    """(q, M) the slots of each query's mates, best first, and how many non-mates score at least as high as each."""
    mates = _of_mates(scores, block)
    scores[block.row, block.place] = -np.inf
    scores.sort(axis=1)
    order = np.argsort(-mates, axis=1, kind="stable")
    best_first = np.take_along_axis(mates, order, axis=1)
    below = [line.searchsorted(mine) for line, mine in zip(scores, best_first, strict=True)]
    return order, scores.shape[1] - np.array(below)


def _right_and_precise(kept: Mask, others: Ints) -> Floats:
    """(q, 2) whether a mate that is kept comes first, and the average precision of those kept; NaN where none is."""
    rank = np.cumsum(kept, axis=1)
    right = (kept & (others == 0)).any(axis=1)
    with np.errstate(invalid="ignore"):
        precision = np.where(kept, rank / (rank + others), 0.0).sum(axis=1) / rank[:, -1]
    return np.stack([np.where(rank[:, -1] > 0, right, np.nan), precision], axis=1)
