"""Rankings judged by relevance judgements: nDCG@k, Recall@k and MRR@k as trec_eval defines them.

A judgement says how relevant a gallery item (a document) is to a query: 0 or less is not, a higher grade is more so.
Items of equal score are ordered by their id, descending, as trec_eval does; scores are compared as float32, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from samespace.errors import InputError, suggest
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import weigh
from samespace.scoring.blocks import ModelPairs, score_blocks

_NAME = re.compile(r"([A-Za-z]+)@([1-9]\d{0,5})")
_SPELT = re.compile(r"(ndcg|recall|r|mrr|rr)(?:at|cut)?(\d{1,6})?")
_MEANT = {"ndcg": "nDCG", "recall": "Recall", "r": "Recall", "mrr": "MRR", "rr": "MRR"}
_USUAL_DEPTH, _DEEPER, _MANY_ITEMS = 10, 100, 1000


@dataclass(frozen=True, eq=False)
class Judged:
    """The judgements of a check, by row of the query and place in the gallery.

    Attributes:
        queries: how many queries there are.
        items: how many gallery items.
        query: (J,) query of each judgement with a grade above 0.
        place: (J,) place of its item in the gallery; −1 where the gallery lacks the item, which still counts as missed.
        grade: (J,) its grade.
        self_place: (Q,) place of the query's own item, which takes no place in its ranking; −1 where there is none.
    """

    queries: int
    items: int
    query: Ints
    place: Ints
    grade: Ints
    self_place: Ints

    @cached_property
    def relevant(self) -> Ints:
        """(Q,) items that are relevant to each query."""
        return np.bincount(self.query, minlength=self.queries)

    def best_gain(self, depth: int) -> Floats:
        """(Q,) discounted gain of the best ranking there could be, to a depth."""
        order = np.lexsort((-self.grade, self.query))
        query = self.query[order]
        place = np.arange(len(query)) - (np.cumsum(self.relevant) - self.relevant)[query]
        gain = np.where(place < depth, self.grade[order] / np.log2(place + 2), 0.0)
        return weigh(query, gain, self.queries)

    def grades_of(self, start: int, places: Ints) -> Ints:
        """Grades, 0 where nothing was judged, of items at `places` (q, k) for the queries from `start` on."""
        keys, grades = self._keys
        wanted = (start + np.arange(len(places)))[:, None] * self.items + places
        found = np.searchsorted(keys, wanted)
        inside = np.minimum(found, max(len(keys) - 1, 0))
        return np.where(keys[inside] == wanted, grades[inside], 0) if len(keys) else np.zeros_like(places)

    @cached_property
    def _keys(self) -> tuple[Ints, Ints]:
        here = self.place >= 0
        keys = self.query[here] * self.items + self.place[here]
        order = np.argsort(keys)
        return keys[order], self.grade[here][order]


@dataclass(frozen=True, eq=False)
class JudgedRanking:
    """Grades of the items that one pair of models ranks first for each query: (Q, k) int64."""

    judged: Judged
    grades: Ints

    def ndcg(self, depth: int) -> Floats:
        """Discounted gain of the `depth` best items over that of the best possible ranking, (Q,).

        The gain of an item is its grade, divided by log2(1 + rank) (Järvelin and Kekäläinen, TOIS 2002). 0 for a query
        without relevant items.
        """
        seen = self.grades[:, :depth]
        gain = (seen / np.log2(np.arange(2, seen.shape[1] + 2))).sum(axis=1)
        best = self.judged.best_gain(depth)
        return np.asarray(gain / np.where(best > 0, best, np.inf))

    def recall(self, depth: int) -> Floats:
        """Share of a query's relevant items among the `depth` best, (Q,); 0 for a query without relevant items."""
        return np.asarray((self.grades[:, :depth] > 0).sum(axis=1) / np.maximum(self.judged.relevant, 1))

    def reciprocal_rank(self, depth: int) -> Floats:
        """1 / rank of the first relevant item among the `depth` best, 0 where there is none, (Q,)."""
        right = self.grades[:, :depth] > 0
        return np.asarray(np.where(right.any(axis=1), 1 / (1 + right.argmax(axis=1)), 0.0))


_KINDS: dict[str, Callable[[JudgedRanking, int], Floats]] = {
    "nDCG": JudgedRanking.ndcg,
    "Recall": JudgedRanking.recall,
    "MRR": JudgedRanking.reciprocal_rank,
}
EXAMPLES = ("nDCG@10", "Recall@100", "MRR@10")


@dataclass(frozen=True)
class JudgedMetric:
    """A metric of judged rankings as its name says it, such as `nDCG@10`: its kind and its depth."""

    name: str
    kind: str
    depth: int

    def values(self, ranking: JudgedRanking) -> Floats:
        """The metric of each query, (Q,) float64; the metric of a check is their mean."""
        return _KINDS[self.kind](ranking, self.depth)


def parse_judged(name: str) -> JudgedMetric:
    """Read a metric name.

    Raises:
        InputError: no such metric.

    Example:
        >>> parse_judged("nDCG@10").depth
        10
    """
    parts = _NAME.fullmatch(name)
    if parts is not None and parts[1] in _KINDS:
        return JudgedMetric(name, parts[1], int(parts[2]))
    spelt = _SPELT.fullmatch(re.sub(r"[\s_@-]", "", name.casefold()))
    meant = f"{_MEANT[spelt[1]]}@{int(spelt[2] or _USUAL_DEPTH) or 1}" if spelt else None
    raise InputError(f"'{name}' is no metric of relevance judgements; {suggest(name, EXAMPLES, meant=meant)} (any k)")


def is_judged(name: str) -> bool:
    """Whether a name is of a metric that needs relevance judgements."""
    parts = _NAME.fullmatch(name)
    return parts is not None and parts[1] in _KINDS


def choose_judged(names: Sequence[str] | None, items: int) -> list[JudgedMetric]:
    """The metrics asked for; by default nDCG@10, MRR@10 and Recall@100, or Recall@10 where items are below a thousand.

    Raises:
        InputError: as `parse_judged`, a bare string, or no name at all.
    """
    if isinstance(names, str):
        raise InputError(f"metrics should be a list of names, got the one string '{names}'")
    if names is None:
        deep = _DEEPER if items >= _MANY_ITEMS else _USUAL_DEPTH
        names = [f"nDCG@{_USUAL_DEPTH}", f"MRR@{_USUAL_DEPTH}", f"Recall@{deep}"]
    if not names:
        raise InputError(f"no metric asked for; legal: {', '.join(EXAMPLES)} (any k)")
    return [parse_judged(name) for name in dict.fromkeys(names)]


def rank_judged(
    pairs: ModelPairs,
    judged: Judged,
    depth: int,
    *,
    block_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, JudgedRanking]:
    """Rank the gallery for every query by every pair of models, in one pass over queries × gallery.

    Args:
        pairs: query and gallery vectors by name; the gallery stands in descending order of ids.
        judged: what is relevant.
        depth: how many of the best items to keep.
        block_size: queries per block of scores; as in `score_blocks`.
        progress: called with the queries done.
    """
    parts: dict[str, list[Ints]] = {name: [] for name in pairs}
    for start, blocks in score_blocks(pairs, block_size):
        for name in pairs:
            scores = blocks.pop(name)
            own = judged.self_place[start : start + len(scores)]
            rows = np.flatnonzero(own >= 0)
            scores[rows, own[rows]] = -np.inf
            parts[name].append(judged.grades_of(start, best_places(scores, depth)))
            stop = start + len(scores)
        if progress is not None:
            progress(stop)
    return {name: JudgedRanking(judged, np.concatenate(part)) for name, part in parts.items()}


def best_places(scores: Floats, depth: int) -> Ints:
    """Places of the best scores of each row of (q, G), at most `depth` of them, the best first; ties by place.

    Example:
        >>> best_places(np.array([[0.1, 0.9, 0.5, 0.9]]), 3).tolist()
        [[1, 3, 2]]
    """
    count = scores.shape[1]
    kept = min(depth, count)
    least = np.partition(scores, count - kept, axis=1)[:, count - kept]
    result = np.empty((len(scores), kept), dtype=np.int64)
    for row, line in enumerate(scores):
        places = np.flatnonzero(line >= least[row])
        result[row] = places[np.argsort(-line[places], kind="stable")[:kept]]
    return result
