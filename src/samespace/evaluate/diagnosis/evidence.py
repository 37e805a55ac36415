"""What a diagnosis needs beyond the certificate: near duplicates, the queries among themselves, mixed-up files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from samespace.evaluate.certificate import Interval
from samespace.evaluate.diagnosis.mixed_up import MixedUp, queries_of_old_model
from samespace.evaluate.inputs import AlignedSets
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import interval, resamples
from samespace.scoring.blocks import score_blocks
from samespace.scoring.mates import Mates
from samespace.scoring.scores import Scores
from samespace.scoring.sides import SideVectors
from samespace.scoring.weighted import weighted_mean

_DUPLICATE, _DUPLICATE_FOR_NEW = 0.999, 0.99
_PAIRS = 250_000
_FEWEST_QUERIES = 200
_REPLICATES = 400
_FEWEST_MATED = 20
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Queries whose best mate in the old gallery is nearly the same image, and the check without them.

    Attributes:
        queries: how many there are.
        share: of the mated queries.
        metric: that `old`, `cross` and `difference` are of.
        old: without these queries.
        cross: without these queries.
        difference: interval of cross − old without them.
        named: ids of some of them, each with its mate's.
    """

    queries: int
    share: float
    metric: str
    old: float
    cross: float
    difference: Interval
    named: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class AmongQueries:
    """rank@1 of the queries searched for among themselves, by the old and by the new model.

    `lead` is the interval of new − old.
    """

    old: float
    new: float
    lead: Interval


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was measured for a diagnosis.

    Attributes:
        identities: that have mates.
        same_vectors: whether the queries by the new model score exactly as those by the old one.
        duplicates: None where there are none.
        among_queries: None where there was a new gallery, which tells more, or too few queries have mates among them.
        mixed_up: what says that the queries are of the gallery's model and the baseline is not, if anything does.
        reverse: rank@1 of old queries on the new gallery; None without one of the old dimension.
    """

    identities: int
    same_vectors: bool = False
    duplicates: Duplicates | None = None
    among_queries: AmongQueries | None = None
    mixed_up: MixedUp | None = None
    reverse: float | None = None


def gather(
    aligned: AlignedSets, tests: Mapping[str, Scores], failing: Sequence[str], *, confidence: float, seed: int
) -> Evidence:
    """Measure what a diagnosis needs, on samples, in a small part of the time of a check.

    Args:
        aligned: the sets of the check.
        tests: their scores by test; those of the cross test may be of fused queries.
        failing: names of the metrics that do not hold.
        confidence: of the intervals.
        seed: of the resamples.
    """
    who, old, cross = aligned.mates, tests["old"], tests["cross"]
    same = bool(np.array_equal(old.genuine, cross.genuine) and np.array_equal(old.matches.other, cross.matches.other))
    fused = aligned.pairs["cross"][0].source is not aligned.queries
    own_gallery = aligned.pairs["old"][1].source is not aligned.gallery
    return Evidence(
        identities=len(np.unique(who.query_codes[who.counts > 0])),
        same_vectors=same,
        duplicates=_duplicates(aligned, tests, failing, confidence, seed) if _cosines(aligned) else None,
        among_queries=None if same or fused or "new" in tests else _among_queries(aligned, confidence, seed),
        mixed_up=None if same or fused or own_gallery else queries_of_old_model(aligned),
        reverse=_reverse(aligned) if "new" in tests else None,
    )


def _cosines(aligned: AlignedSets) -> bool:
    """Whether scores are cosines of the vectors, near enough for two of them to be told to be nearly one."""
    gallery = aligned.pairs["old"][1]
    return gallery.score == "cosine" and gallery.stored_as != "binary"


def _duplicates(
    aligned: AlignedSets, tests: Mapping[str, Scores], failing: Sequence[str], confidence: float, seed: int
) -> Duplicates | None:
    matches, mated = tests["old"].matches, tests["old"].matches.mated
    found = (matches.mate > _DUPLICATE) & (matches.other < _DUPLICATE)
    if "new" in tests:
        found &= tests["new"].matches.mate > _DUPLICATE_FOR_NEW
    rest = mated & ~found
    if not found.any() or not rest.any():
        return None
    metric = "rank@1" if "rank@1" in failing else "mAP"
    old, cross = (np.where(rest, _by_query(tests[test], metric), np.nan) for test in ("old", "cross"))
    return Duplicates(
        queries=int(found.sum()),
        share=float(found.sum() / mated.sum()),
        metric=metric,
        old=float(np.nanmean(old)),
        cross=float(np.nanmean(cross)),
        difference=_interval(cross - old, aligned.mates, confidence, seed),
        named=_names(aligned, np.flatnonzero(found)[:_NAMED]),
    )


def _by_query(scores: Scores, metric: str) -> Floats:
    """(Q,) whether a query is right at rank 1, or its average precision; NaN without a mate."""
    right = np.where(scores.matches.mated, scores.matches.rank == 1, np.nan)
    return right if metric == "rank@1" else scores.precision.average


def _names(aligned: AlignedSets, rows: Ints) -> tuple[tuple[str, str], ...]:
    queries, gallery = aligned.pairs["old"]
    best, where = np.full(len(rows), -np.inf), np.zeros(len(rows), dtype=np.int64)
    left = queries.subset(rows).read(0, len(rows))
    for start, block in gallery.blocks():
        scores = left @ block.T
        own = aligned.mates.self_place[rows] - start
        inside = (own >= 0) & (own < len(block))
        scores[np.flatnonzero(inside), own[inside]] = -np.inf
        place = scores.argmax(axis=1)
        better = scores[np.arange(len(rows)), place] > best
        best[better], where[better] = scores[np.arange(len(rows)), place][better], place[better] + start
    items = aligned.gallery_order[where]
    ids, gallery_ids = aligned.queries.ids, aligned.gallery.ids
    return tuple((str(ids[row]), str(gallery_ids[item])) for row, item in zip(rows, items, strict=True))


def _among_queries(aligned: AlignedSets, confidence: float, seed: int) -> AmongQueries | None:
    """Each query searches the other ones; evenly spaced queries where there are many."""
    codes = aligned.mates.query_codes
    order = np.argsort(codes, kind="stable").astype(np.int64)
    rows = _some(len(order), len(order))
    who = Mates(
        query_codes=codes[order][rows], gallery_codes=codes[order], self_place=rows, identities=int(codes.max()) + 1
    )
    if int((who.counts > 0).sum()) < _FEWEST_MATED:
        return None
    sides = {"old": aligned.pairs["old"][0].subset(order), "new": aligned.pairs["cross"][0].subset(order)}
    right = {name: _right(side.subset(rows), side, who) for name, side in sides.items()}
    return AmongQueries(
        old=float(np.nanmean(right["old"])),
        new=float(np.nanmean(right["new"])),
        lead=_interval(right["new"] - right["old"], who, confidence, seed),
    )


def _reverse(aligned: AlignedSets) -> float | None:
    queries, gallery = aligned.pairs["old"][0], aligned.pairs["new"][1]
    if queries.dim != gallery.dim:
        return None
    who = aligned.mates
    mated = np.flatnonzero(who.counts > 0)
    rows = mated[_some(len(mated), len(gallery))]
    some = Mates(
        query_codes=who.query_codes[rows],
        gallery_codes=who.gallery_codes,
        self_place=who.self_place[rows],
        identities=who.identities,
    )
    return float(np.nanmean(_right(queries.subset(rows), gallery, some)))


def _some(queries: int, gallery: int) -> Ints:
    """Evenly spaced queries, as many as make about 250,000 pairs, and at least two hundred."""
    count = min(queries, max(_FEWEST_QUERIES, _PAIRS // gallery))
    return (np.arange(count) * (queries / count)).astype(np.int64)


def _right(queries: SideVectors, gallery: SideVectors, who: Mates) -> Floats:
    """(Q,) whether a mate scores above all others; NaN without a mate.

    A small part of the work of `collect_scores`, which ranks all mates.
    """
    right = np.full(len(queries), np.nan)
    for start, blocks in score_blocks({"": (queries, gallery)}):
        scores = blocks[""]
        block = who.block(np.arange(start, start + len(scores)))
        mate = np.full(len(scores), -np.inf, dtype=scores.dtype)
        np.maximum.at(mate, block.row[block.keep], scores[block.row, block.place][block.keep])
        scores[block.row, block.place] = -np.inf
        right[start : start + len(scores)] = np.where(np.isfinite(mate), mate > scores.max(axis=1), np.nan)
    return right


def _interval(values: Floats, who: Mates, confidence: float, seed: int) -> Interval:
    """Of the mean of values of queries (Q,), NaN left out, under resampled identities."""
    draws = [
        weighted_mean(values, who.query_codes, counts)
        for counts in resamples(who.identities, replicates=_REPLICATES, seed=seed)
    ]
    return interval(np.concatenate(draws), confidence)
