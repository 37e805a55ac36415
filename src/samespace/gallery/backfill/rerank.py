"""The second stage of a search: the best items re-embedded by the new model, which is also a lazy backfill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.backfill.vector_source import FromImages
from samespace.gallery.index.exact import compare
from samespace.gallery.index.segments import compared
from samespace.gallery.ingest.checks import require_calibrated
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Claim, State, Vectors
from samespace.gallery.search.search import Answer, Hit
from samespace.metrics.calibration import Scale

_AT_ONCE = 256


def rerank(
    ledger: Ledger, answer: Answer, queries: Vectors, embedder: ItemEmbedder, *, k: int, scale: Scale | None
) -> Answer:
    """Score the hits of a first stage in the query space itself, embedding those that have no vector of it yet.

    What is embedded is stored as a backfill would store it, unless the gallery is read-only. Hits whose image cannot be
    read keep the score of the first stage.

    `answer` is the first stage's, with more hits than the `k` that are wanted, and `queries` (Q, D) float32 are its
    queries. `scale` is by default the gallery's own.

    Raises:
        GalleryError: the query space has no calibration for itself, so that the stages' scores do not compare.
    """
    ids = sorted({hit.item for hits in answer.hits for hit in hits})
    with ledger.read() as reader:
        state = reader.state()
        if state.spaces[state.query].space.id != answer.space:
            raise GalleryError("the gallery switched to another space during the search; search again")
        known = {name: item for name, item in reader.find(ids).items() if not item.deleted}
        rows = reader.rows_of(state.query, np.array(sorted(item.number for item in known.values()), dtype=np.int64))
    require_calibrated(state)
    kept = state.spaces[state.query]
    # as the first stage divides queries, whether or not their space says that they are of unit length
    asked = compared(queries, replace(kept.space, normalized=False), kept.score)
    vectors = dict(zip(rows.items.tolist(), rows.values, strict=True))
    lacking = [Claim(item.number, item.id, item.content) for item in known.values() if item.number not in vectors]
    vectors |= _embed(ledger, state.query, FromImages(embedder), lacking)
    named = {name: vectors[item.number] for name, item in known.items() if item.number in vectors}
    return replace(
        answer,
        hits=tuple(
            _ordered(state, hits, query, named, k, scale) for hits, query in zip(answer.hits, asked, strict=True)
        ),
    )


def _embed(ledger: Ledger, generation: int, vector_source: FromImages, claims: list[Claim]) -> dict[int, Vectors]:
    vectors: dict[int, Vectors] = {}
    for start in range(0, len(claims), _AT_ONCE):
        batch = vector_source.take(claims[start : start + _AT_ONCE])
        if not batch.claims:
            continue
        values = batch.embed()
        vectors.update(zip((claim.item for claim in batch.claims), values, strict=True))
        if not ledger.read_only:
            with ledger.write() as writer:
                writer.complete(generation, batch.claims, values, owner=None)
    return vectors


def _ordered(
    state: State, hits: Sequence[Hit], query: Vectors, vectors: dict[str, Vectors], k: int, scale: Scale | None
) -> tuple[Hit, ...]:
    calibration = state.calibrations.get((state.query, state.query))
    used: Scale = scale or state.settings.get("scale", "logistic")
    again = [hit for hit in hits if hit.item in vectors]
    kept = [hit for hit in hits if hit.item not in vectors]
    if calibration is None and kept:
        raise GalleryError(
            "the query space has no calibration for itself, so re-ranked hits do not compare with others"
        )
    if again:
        asked = state.spaces[state.query]
        rows = compared(np.stack([vectors[hit.item] for hit in again]), asked.space, asked.score)
        raw = compare(rows.astype(np.float64), query.astype(np.float64), asked.score)
        scores = [None] * len(again) if calibration is None else calibration.apply(raw, used).tolist()
        space = asked.space.id
        again = [
            Hit(hit.item, score, float(value), space) for hit, score, value in zip(again, scores, raw, strict=True)
        ]
    return tuple(
        sorted([*again, *kept], key=lambda hit: (-(hit.raw if hit.score is None else hit.score), hit.item))[:k]
    )
