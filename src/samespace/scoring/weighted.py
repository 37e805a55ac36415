"""The metrics of `samespace.metrics` under integer weights of identities.

All ones give a metric itself, resampled counts its replicates. Each function returns (r,) float64 for (r, identities)
int64 counts, NaN where no weight falls on what the metric averages over.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import ratio, weighed
from samespace.metrics.identification import Matches, TpirProtocol
from samespace.scoring.scores import Scores
from samespace.scoring.thresholds import pair_thresholds, query_thresholds, weight_above
from samespace.scoring.tiles.counted_tail import CountedTail


def weighted_mean(values: Floats, identity: Ints, counts: Ints) -> Floats:
    """Mean of the values (Q,) of queries, NaN left out, where each counts as often as its identity (Q,)."""
    usable = ~np.isnan(values)
    return ratio(*weighed(counts, identity, np.where(usable, values, 0.0), usable))


def rank_k(matches: Matches, identity: Ints, counts: Ints, k: int) -> Floats:
    """`metrics.rank_k` of queries whose identities are `identity` (Q,)."""
    return weighted_mean(np.where(matches.mated, matches.rank <= k, np.nan), identity, counts)


def tpir_at_fpir(matches: Matches, identity: Ints, counts: Ints, fpir: Fraction, protocol: TpirProtocol) -> Floats:
    """`metrics.tpir_at_fpir`; where no weight falls on queries that raise alarms, the threshold is −inf."""
    alarm = ~matches.mated if protocol == "open-set" else np.ones_like(matches.mated)
    thresholds = query_thresholds(fpir, matches.other[alarm], identity[alarm], counts)
    right = matches.rank == 1
    (total,) = weighed(counts, identity, matches.mated)
    return ratio(weight_above(matches.mate[right], identity[right], thresholds, counts), total)


def share_above(genuine: Floats, identity: Ints, thresholds: Floats, counts: Ints) -> Floats:
    """Weighted share of genuine scores (P,) strictly above each row's threshold (r,)."""
    (total,) = weighed(counts, identity, np.ones(len(genuine)))
    return ratio(weight_above(genuine, identity, thresholds, counts), total)


def tar_at_far(scores: Scores, counts: Ints, far: Fraction) -> Floats:
    """`metrics.tar_at_far` over all query × gallery pairs, identities weighted on both sides.

    The weight of all impostor pairs is Σ c_i q_i · Σ c_j g_j − Σ c_i² q_i g_i, with q_i queries and g_i gallery items
    of identity i. Where it is zero, the threshold is −inf.

    Raises:
        TailTooShort: `scores` keeps too few impostor scores.
    """
    queries, gallery = scores.mates.items
    total = (counts @ queries) * (counts @ gallery) - (counts * counts) @ (queries * gallery)
    tail = scores.tail
    if isinstance(tail, CountedTail):
        thresholds = tail.thresholds(far, total, counts)
    else:
        thresholds = pair_thresholds([far], tail.scores, (tail.query, tail.gallery), tail.complete, total, counts)[0]
    return share_above(scores.genuine, scores.genuine_identity, thresholds, counts)
