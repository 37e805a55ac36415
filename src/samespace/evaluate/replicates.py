"""Metric values under integer weights of identities: all ones give the value itself, resampled counts its replicates.

A query counts as often as its identity; a pair counts as often as both of its identities: genuine pairs c_i, impostor
pairs c_i · c_j. Thresholds are found anew under each set of weights, by the rule of `metrics.verification`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from samespace.evaluate.inputs import Trial
from samespace.evaluate.metric_names import Metric
from samespace.evaluate.protocol import Outcome
from samespace.evaluate.tail import Tail
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import ratio, resamples, weigh
from samespace.metrics.verification import allowed_count

_CHUNK_WEIGHTS = 1 << 20
_CHUNK_PRODUCTS = 1 << 17
_CHUNK_QUERIES = 1 << 23
_MANY_SCORES = 16


class TailTooShort(Exception):
    """More of the largest impostor scores are needed to place a threshold."""


def point(metric: Metric, outcome: Outcome, trial: Trial) -> float:
    """The value of a metric.

    Raises:
        TailTooShort: `outcome` keeps too few impostor scores.
    """
    ones = np.ones((1, trial.identities), dtype=np.int64)
    return float(values(metric, outcome, trial, ones)[0])


def replicate(
    metrics: Sequence[Metric],
    outcomes: Mapping[str, Outcome],
    trial: Trial,
    *,
    replicates: int,
    seed: int,
) -> dict[tuple[str, str], Floats]:
    """Every metric of every pair of models over the same resamples of identities.

    Returns:
        {(metric name, pair name): (replicates,) float64}; NaN where a resample leaves a metric undefined.

    Raises:
        TailTooShort: an outcome keeps too few impostor scores.
    """
    parts: dict[tuple[str, str], list[Floats]] = {}
    for counts in resamples(trial.identities, replicates=replicates, seed=seed):
        for metric in metrics:
            for pair, outcome in outcomes.items():
                parts.setdefault((metric.name, pair), []).append(values(metric, outcome, trial, counts))
    return {key: np.concatenate(part) for key, part in parts.items()}


def values(metric: Metric, outcome: Outcome, trial: Trial, counts: Ints) -> Floats:
    """A metric under each row of weights.

    Args:
        metric: which one.
        outcome: what one pair of models found.
        trial: the aligned inputs.
        counts: (r, identities) weight of each identity.

    Returns:
        (r,) float64; NaN where no weight falls on what the metric averages over.
    """
    if metric.kind == "TAR":
        thresholds = impostor_thresholds(metric.rate, outcome, trial, counts)
        above = weight_above(outcome.genuine, outcome.genuine_identity, thresholds, counts)
        return ratio(above, counts @ weigh(outcome.genuine_identity, np.ones_like(outcome.genuine), trial.identities))
    found, mated = outcome.found, outcome.found.mated
    codes = trial.query_codes
    total = counts @ weigh(codes, mated, trial.identities)
    if metric.kind == "rank":
        return ratio(counts @ weigh(codes, mated & (found.rank <= metric.k), trial.identities), total)
    if metric.kind == "mAP":
        return ratio(counts @ weigh(codes, np.where(mated, outcome.precision, 0.0), trial.identities), total)
    alarm = ~mated if metric.kind == "TPIR" else np.ones_like(mated)
    thresholds = query_thresholds(metric.rate, found.other[alarm], codes[alarm], counts)
    right = found.rank == 1
    return ratio(weight_above(found.mate[right], codes[right], thresholds, counts), total)


def weight_above(scores: Floats, identity: Ints, thresholds: Floats, counts: Ints) -> Floats:
    """Weight of the scores strictly above each row's threshold, (r,) float64.

    Scores above every threshold are summed per identity; only those between the lowest and the highest threshold
    are looked at row by row, one by one or, where identities have many, identity by identity.
    """
    low, high = thresholds.min(), thresholds.max()
    sure = scores > high
    total = counts @ weigh(identity[sure], np.ones(np.count_nonzero(sure)), counts.shape[1])
    unsure = (scores > low) & ~sure
    scores, identity = scores[unsure], identity[unsure]
    present = np.unique(identity)
    if len(scores) > _MANY_SCORES * len(present):
        return total + _weight_above_by_identity(scores, identity, present, thresholds, counts)
    step = max(1, _CHUNK_WEIGHTS // len(counts))
    for start in range(0, len(scores), step):
        above = scores[None, start : start + step] > thresholds[:, None]
        total = total + (counts[:, identity[start : start + step]] * above).sum(axis=1)
    return np.asarray(total, dtype=np.float64)


def _weight_above_by_identity(
    scores: Floats, identity: Ints, present: Ints, thresholds: Floats, counts: Ints
) -> Floats:
    """The same weight, by counting each identity's scores above each threshold in one sorted list of keys."""
    size = len(scores)
    order = np.argsort(scores)
    keys = np.sort(identity[order] * size + np.arange(size))
    below = np.searchsorted(scores[order], thresholds.astype(scores.dtype), side="right")
    total = np.zeros(len(counts))
    step = max(1, _CHUNK_WEIGHTS // len(counts))
    for start in range(0, len(present), step):
        some = present[start : start + step]
        last = np.searchsorted(keys, (some + 1) * size)
        first = np.searchsorted(keys, some[None, :] * size + below[:, None])
        total += (counts[:, some] * (last - first)).sum(axis=1)
    return total


def query_thresholds(rate: Fraction, scores: Floats, identity: Ints, counts: Ints) -> Floats:
    """The lowest threshold of each row above which at most `rate` of the weight of the queries lies, (r,)."""
    order = np.argsort(-scores, kind="stable")
    place = np.zeros(len(counts), dtype=np.int64)
    step = max(1, _CHUNK_QUERIES // max(1, len(order)))
    for start in range(0, len(counts) if len(order) else 0, step):
        cumulative = np.cumsum(counts[start : start + step, identity[order]], axis=1)
        place[start : start + step] = (cumulative <= _allowed(rate, cumulative[:, -1])[:, None]).sum(axis=1)
    return np.asarray(np.append(scores[order].astype(np.float64), -np.inf)[place])


def impostor_thresholds(rate: Fraction, outcome: Outcome, trial: Trial, counts: Ints) -> Floats:
    """The lowest threshold of each row at which at most `rate` of the weight of impostor pairs is accepted, (r,).

    The total weight has the closed form Σ_i c_i q_i · Σ_j c_j g_j − Σ_i c_i² q_i g_i, with q_i queries and g_i gallery
    items of identity i; the accepted weight is summed down the tail until it exceeds what is allowed.

    Raises:
        TailTooShort: the tail ends before the weight does.
    """
    queries = weigh(trial.query_codes, np.ones(len(trial.query_codes)), trial.identities).astype(np.int64)
    gallery = weigh(trial.gallery_codes, np.ones(len(trial.gallery_codes)), trial.identities).astype(np.int64)
    total = (counts @ queries) * (counts @ gallery) - (counts * counts) @ (queries * gallery)
    allowed = _allowed(rate, total)
    tail = outcome.tail
    place = _places_by_weight(tail, np.ascontiguousarray(counts.T, dtype=_narrow(counts)), allowed)
    if not tail.complete and (place == len(tail.scores)).any():
        raise TailTooShort
    return np.asarray(np.append(tail.scores.astype(np.float64), -np.inf)[place])


def _places_by_weight(tail: Tail, weight: Ints, allowed: Ints) -> Ints:
    """How many of the tail each column of `weight` (identities, r) accepts within its allowance, (r,).

    Chunks are summed whole; only where a column's allowance runs out inside a chunk is it followed score by score.
    """
    place = np.full(len(allowed), len(tail.scores), dtype=np.int64)
    spent = np.zeros(len(allowed), dtype=np.int64)
    step = max(1, _CHUNK_PRODUCTS // len(allowed))
    for start in range(0, len(tail.scores), step):
        products = weight[tail.query[start : start + step]] * weight[tail.gallery[start : start + step]]
        after = spent + products.sum(axis=0, dtype=products.dtype)
        ends = np.flatnonzero((spent <= allowed) & (after > allowed))
        if ends.size:
            running = spent[ends] + np.cumsum(products[:, ends], axis=0, dtype=np.int64)
            place[ends] = start + (running <= allowed[ends]).sum(axis=0)
            if (after > allowed).all():
                break
        spent = after
    return place


def _narrow(counts: Ints) -> type[np.int32] | type[np.int64]:
    """The integers in which a chunk of products of two counts can be summed without overflow."""
    return np.int32 if int(counts.max()) ** 2 * _CHUNK_PRODUCTS < 2**31 else np.int64


def _allowed(rate: Fraction, totals: Ints) -> Ints:
    return np.array([allowed_count(rate, int(total)) for total in totals], dtype=np.int64)
