"""Learning the calibration of a pair of spaces from labelled vectors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError, SpaceError
from samespace.gallery.ingest.checks import generation_of
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.search.query_vectors import Fusion, checked, fused, leading, require_fusable
from samespace.metrics._arrays import encode
from samespace.metrics.calibration import Calibration, calibrate
from samespace.scoring.score import SCORE_NAMES, score_table
from samespace.space import Links, Score, Space, require_comparable
from samespace.vectors import VectorSet

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate

Scores = npt.NDArray[np.float32]

_TILE = 2_048, 8_192
_ALL = 2_000_000
_TAIL = 200_000


@dataclass(frozen=True, eq=False)
class PairScores:
    """Scores of labelled pairs.

    Attributes:
        genuine: (P,) all of pairs of one label.
        impostor: (N,) of pairs of unlike labels: all of them, or an even seeded sample of about two million.
        tail: (T,) the largest of all impostor scores, where `impostor` is a sample.
        impostors: how many impostor pairs there are.
    """

    genuine: Scores
    impostor: Scores
    tail: Scores | None
    impostors: int


class _Linked:
    """Stands for the certificate of a pair of spaces that the gallery has linked already."""

    def links(self, old: Space, new: Space) -> bool:
        """Always."""
        return True


def calibrate_pair(
    ledger: Ledger,
    queries: VectorSet,
    gallery: VectorSet,
    *,
    certificate: Certificate | None = None,
    fusion: Fusion | None = None,
) -> Calibration:
    """Learn how scores of a pair of spaces relate to matches, and store it; see `Gallery.calibrate`."""
    state = ledger.state()
    pair = generation_of(state, queries.space, queries.name), generation_of(state, gallery.space, gallery.name)
    score, other = (state.spaces[generation].score for generation in pair)
    if score != other:
        raise SpaceError(
            f"{queries.space} is searched by {SCORE_NAMES[score]} and {gallery.space} by {SCORE_NAMES[other]}: queries "
            "of one never meet items of the other"
        )
    link: Links | None = certificate
    if pair in state.links:
        link = _Linked()
    elif pair[0] != pair[1]:
        require_comparable(queries.space, gallery.space, certificate)
    if fusion is not None:
        require_fusable(state)
        queries, link = _fused(queries, gallery, fusion), _Linked()
    scores = pair_scores(queries, gallery, link, score)
    among = None if scores.tail is None else scores.impostors
    calibration = calibrate(scores.genuine, scores.impostor, tail=scores.tail, impostors=among)
    with ledger.write() as writer:
        genuine, impostor = len(scores.genuine), scores.impostors
        detail: dict[str, Any] = {} if fusion is None else {"fuse": fusion.alpha}
        if fusion is None:
            writer.put_calibration(*pair, calibration, f"{queries.name} on {gallery.name}")
        else:
            writer.put_fused_calibration(*pair, fusion.alpha, calibration)
        writer.note("calibrate", query=pair[0], gallery=pair[1], genuine=genuine, impostor=impostor, **detail)
    return calibration


def _fused(queries: VectorSet, gallery: VectorSet, fusion: Fusion) -> VectorSet:
    """Fused queries for a gallery that is of the space of the old ones."""
    if fusion.old is None or fusion.space is None:
        raise InputError("to calibrate fused queries give those by the older model, too: old_queries=…")
    if fusion.space != gallery.space or queries.space is None or queries.space == gallery.space:
        raise SpaceError(
            f"queries are fused on items of an older space: expected old queries and items of one space and queries of "
            f"a newer one, got {fusion.space}, {gallery.space} and {queries.space}"
        )
    new = checked(queries.take(np.arange(len(queries))), queries.space)
    vectors = fused(checked(fusion.old, fusion.space), new, gallery.dim, fusion.alpha)
    return replace(queries, vectors=vectors, space=gallery.space)


def pair_scores(queries: VectorSet, gallery: VectorSet, link: Links | None, score: Score = "cosine") -> PairScores:
    """Scores of all pairs of one label, and of pairs of unlike labels; an item is not paired with itself.

    The two sets are compared tile by tile, so that memory holds one tile beside what is kept, whatever their sizes.

    Raises:
        InputError: no labels on a side.
    """
    if queries.labels is None or gallery.labels is None:
        raise InputError("calibration needs labels on both sides: which items show the same thing")
    query_codes, codes = encode(queries.labels, gallery.labels)
    named = queries.has_ids and gallery.has_ids
    own = gallery.rows_of(queries.ids) if named else np.full(len(queries), -1, dtype=np.int64)
    itself = own >= 0
    unlike = int(np.count_nonzero(query_codes[itself] != codes[own[itself]]))
    counts = np.bincount(codes, minlength=int(query_codes.max(initial=0)) + 1)
    impostors = _Impostors(len(queries) * len(gallery) - int(counts[query_codes].sum()) - unlike)
    genuine = [np.empty(0, dtype=np.float32)]
    for left in _tiles(len(gallery), _TILE[1]):
        block = gallery.subset(np.arange(left.start, left.stop))
        for top in _tiles(len(queries), _TILE[0]):
            scores = _scores(queries.subset(np.arange(top.start, top.stop)), block, link, score)
            same = query_codes[top, None] == codes[None, left]
            rows = np.flatnonzero((own[top] >= left.start) & (own[top] < left.stop))
            columns = own[top][rows] - left.start
            other = ~same
            same[rows, columns] = other[rows, columns] = False
            genuine.append(scores[same])
            impostors.add(scores[other])
    sample, tail = impostors.kept()
    return PairScores(np.concatenate(genuine), sample, tail, impostors.total)


def _scores(queries: VectorSet, gallery: VectorSet, link: Links | None, score: Score) -> Scores:
    """(Q, N) scores of all pairs, float32."""
    if score == "cosine":
        return queries.scores(gallery, certificate=link)
    require_comparable(queries.space, gallery.space, link)
    asked, rows = (
        leading(np.asarray(one.vectors), gallery.dim, score).astype(np.float64) for one in (queries, gallery)
    )
    return score_table(asked, rows, score).astype(np.float32)


class _Impostors:
    """A seeded sample of a stream of scores, and the largest of them; everything where they are few."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._share = 1.0 if total <= _ALL else _ALL / total
        self._draw = np.random.default_rng(0)
        self._sample = [np.empty(0, dtype=np.float32)]
        self._tail, self._floor = np.empty(0, dtype=np.float32), -np.inf

    def add(self, scores: Scores) -> None:
        """Take some scores, (n,)."""
        if self._share == 1.0:
            self._sample.append(scores)
            return
        count = self._draw.binomial(len(scores), self._share)
        self._sample.append(scores[self._draw.integers(0, max(1, len(scores)), count)])
        above = np.concatenate([self._tail, scores[scores > self._floor]])
        if len(above) > _TAIL:
            above = np.partition(above, len(above) - _TAIL)[-_TAIL:]
            self._floor = float(above.min())
        self._tail = above

    def kept(self) -> tuple[Scores, Scores | None]:
        """The sample and the tail; None where the sample is all there is."""
        return np.concatenate(self._sample), None if self._share == 1.0 else self._tail


def _tiles(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
