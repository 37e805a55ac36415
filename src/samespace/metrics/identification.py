"""1:N identification: a query searches a gallery, whether it has a mate there or not."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from samespace.errors import InputError, suggest
from samespace.metrics._arrays import Floats, Ints, Mask, as_labels, as_numpy, as_scores, encode
from samespace.metrics.verification import threshold_at_far

TpirProtocol = Literal["open-set", "merged"]


@dataclass(frozen=True, eq=False)
class Matches:
    """What each query finds, all of shape (Q,).

    Attributes:
        rank: rank of the best mate, 1 + the number of non-mates scoring at least as high; 0 without a mate.
        mate: score of the best mate; −inf without one.
        other: score of the best non-mate; −inf without one.
    """

    rank: Ints
    mate: Floats
    other: Floats

    @classmethod
    def unfilled(cls, count: int) -> Matches:
        """Those of `count` queries, of which none has a mate, to be filled in."""
        nothing = np.full(count, -np.inf, dtype=np.float32)
        return cls(rank=np.zeros(count, dtype=np.int64), mate=nothing, other=nothing.copy())

    @property
    def mated(self) -> Mask:
        """Which queries have a mate in the gallery."""
        return np.asarray(self.rank > 0)

    @property
    def right_at_first(self) -> Mask:
        """Whether the best match of each mated query is a mate, (mated,)."""
        return np.asarray(self.rank[self.mated] == 1)


def matches(scores: Any, query_labels: Any, gallery_labels: Any, *, exclude: Any = None) -> Matches:
    """Find each query's best mate, the rank of that mate, and its best non-mate.

    Ties count against the query, so that an embedding that maps everything to one point finds nothing.

    Args:
        scores: (Q, G) similarity, larger meaning more alike.
        query_labels: (Q,) identities, integers or strings.
        gallery_labels: (G,) identities.
        exclude: (Q, G) bool, true for pairs to leave out, such as an item matched with itself.

    Raises:
        InputError: shapes that do not fit, or scores that are not finite.
    """
    values, mate, out = search_inputs(scores, query_labels, gallery_labels, exclude)
    best = np.where(mate & ~out, values, -np.inf).max(axis=1, initial=-np.inf)
    others = np.where(mate | out, -np.inf, values)
    above = np.count_nonzero(others >= best[:, None], axis=1)
    rank = np.where(np.isfinite(best), 1 + above, 0).astype(np.int64)
    return Matches(rank=rank, mate=best, other=others.max(axis=1, initial=-np.inf))


def rank_k(scores: Any, query_labels: Any, gallery_labels: Any, k: int = 1, *, exclude: Any = None) -> float:
    """Share of mated queries with a mate among the `k` best; ties count against the query.

    Queries without a mate are left out of the share.

    Args:
        scores: (Q, G) similarity, larger meaning more alike.
        query_labels: (Q,) identities, integers or strings.
        gallery_labels: (G,) identities.
        k: how deep a mate may stand, at least 1.
        exclude: (Q, G) bool, true for pairs to leave out.

    Raises:
        InputError: shapes that do not fit, scores that are not finite, `k` below 1, or no mated query.

    Example:
        >>> rank_k([[0.9, 0.1], [0.4, 0.5]], ["a", "a"], ["a", "b"], 1)
        0.5
    """
    if k < 1:
        raise InputError(f"rank@k needs k of at least 1, got {k}")
    ranks = _mated_ranks(matches(scores, query_labels, gallery_labels, exclude=exclude))
    return float(np.mean(ranks <= k))


def cmc(scores: Any, query_labels: Any, gallery_labels: Any, ranks: int = 20, *, exclude: Any = None) -> Floats:
    """Cumulative match characteristic: `rank_k` for k = 1 … `ranks`, (ranks,) float64."""
    mated = _mated_ranks(matches(scores, query_labels, gallery_labels, exclude=exclude))
    return np.asarray((mated[None, :] <= np.arange(1, ranks + 1)[:, None]).mean(axis=1))


def tpir_at_fpir(
    scores: Any,
    query_labels: Any,
    gallery_labels: Any,
    fpir: float | Fraction,
    *,
    protocol: TpirProtocol = "open-set",
    exclude: Any = None,
) -> float:
    """Share of mated queries whose best match is right and strictly above a threshold set by false alarms.

    The threshold is the lowest at which the share of false alarms is at most `fpir`; published numbers use two
    definitions of a false alarm. `open-set`: a query *without* a mate finds anything above the threshold (BCT).
    `merged`: any query's best non-mate stands above the threshold (UniBCT, galleries merged).

    Args:
        scores: (Q, G) similarity, larger meaning more alike.
        query_labels: (Q,) identities, integers or strings.
        gallery_labels: (G,) identities.
        fpir: the bound on the false positive identification rate, in [0, 1].
        protocol: which queries raise false alarms.
        exclude: (Q, G) bool, true for pairs to leave out.

    Raises:
        InputError: shapes that do not fit, no mated query, or, for `open-set`, no query without a mate.

    Example:
        >>> tpir_at_fpir([[0.9, 0.1], [0.4, 0.5]], ["a", "z"], ["a", "b"], 0.0)
        1.0
    """
    if protocol not in ("open-set", "merged"):
        raise InputError(f"unknown protocol '{protocol}'; {suggest(str(protocol), ['open-set', 'merged'])}")
    best = matches(scores, query_labels, gallery_labels, exclude=exclude)
    alarms = best.other if protocol == "merged" else best.other[~best.mated]
    if alarms.size == 0:
        raise InputError("open-set TPIR needs queries without a mate in the gallery; add some or take 'merged'")
    alarms = np.maximum(alarms, np.finfo(alarms.dtype).min)
    threshold = threshold_at_far(alarms, fpir)
    right = _mated_ranks(best) == 1
    return float(np.mean(right & (best.mate[best.mated] > threshold)))


def search_inputs(scores: Any, query_labels: Any, gallery_labels: Any, exclude: Any) -> tuple[Floats, Mask, Mask]:
    """Check the inputs of a search: scores (Q, G), which pairs are mates, which are left out."""
    values = as_scores(scores, "scores", 2)
    queries = as_labels(query_labels, "query labels", values.shape[0])
    gallery = as_labels(gallery_labels, "gallery labels", values.shape[1])
    query_codes, gallery_codes = encode(queries, gallery)
    mate = query_codes[:, None] == gallery_codes[None, :]
    out = np.zeros_like(mate) if exclude is None else as_numpy(exclude)
    if out.shape != values.shape or out.dtype != np.bool_:
        raise InputError(f"exclude should be a bool mask of shape {values.shape}, got {out.dtype} {out.shape}")
    return values, mate, out


def _mated_ranks(best: Matches) -> Ints:
    if not best.mated.any():
        raise InputError("no query has a mate in the gallery; identification needs shared identities")
    return np.asarray(best.rank[best.mated])
