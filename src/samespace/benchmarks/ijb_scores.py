"""Scores of one pair of models on IJB: of the listed pairs, and the best matches of every probe in each gallery."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from samespace.benchmarks.people import People
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import weigh
from samespace.metrics.identification import Matches, TpirProtocol
from samespace.scoring.blocks import Units, table_blocks
from samespace.scoring.metric_names import Metric, parse
from samespace.scoring.pairs import Lookup, PairScores, table_scores
from samespace.scoring.search import GalleryList, Search
from samespace.scoring.weighted import rank_k, tpir_at_fpir

_MERGED = "merged"


class IJBScores:
    """Scores of one pair of models, computed when first asked for.

    Where the lists make it worth while, as those of IJB do, pairs and searches look into one table of scores. A cross
    test has the new model on the first of a pair in 1:1 but on the probes in 1:N: two tables of one layout, so that
    vectors that are the same give the same scores in either.

    `queries` (T, D) are the templates for the first of each pair and for the probes, `gallery` (T, D) those for the
    second and for the galleries.
    """

    def __init__(self, people: People, queries: Units, gallery: Units, memory: int) -> None:
        self.people, self.memory = people, memory
        self._queries, self._gallery = queries, gallery
        self._pairs: PairScores | None = None
        self._searches: dict[str, Matches] = {}

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights (r, identities), (r,) float64 each."""
        rates = {name: parse(name).argument for name in names if name.startswith("TAR@")}
        wanted = {gallery for name in names if name not in rates for gallery in self._galleries(name)}
        pairs, searches = self.measure(pairs=bool(rates), searches=wanted)
        result = {name: self._search(name, searches, counts) for name in names if name not in rates}
        if pairs is not None:
            result.update(zip(rates, pairs.tar(list(rates.values()), counts), strict=True))
        return {name: result[name] for name in names}

    def genuine(self) -> Floats | None:
        """Scores of the listed pairs of one person, where a metric asked for them."""
        return None if self._pairs is None else self._pairs.genuine

    def measure(
        self, *, pairs: bool = True, searches: Collection[str] = ()
    ) -> tuple[PairScores | None, dict[str, Matches]]:
        """The scores of the listed pairs, and the matches of every probe in each gallery, `merged` for all as one.

        Only what is asked for and not there yet is made.
        """
        due = [name for name in searches if name not in self._searches]
        if pairs and self._pairs is None:
            if self.people.tables.shared:
                together = due if self._queries is self._gallery else []
                self._scan(self._queries, self._gallery, pairs=True, searches=together)
                due = [name for name in due if name not in together]
            else:
                first, second = self.people.first, self.people.second
                scores = table_scores(self._queries, self._gallery, first, second, memory=self.memory)
                self._pairs = _split(self.people, scores)
        if due:
            self._scan(self._gallery, self._queries, pairs=False, searches=due)
        return self._pairs if pairs else None, {name: self._searches[name] for name in searches}

    def _galleries(self, name: str) -> list[str]:
        """The galleries that a 1:N metric is about."""
        return [_MERGED] if "-merged" in name else [gallery.name for gallery in self.people.galleries]

    def _search(self, name: str, searches: Mapping[str, Matches], counts: Ints) -> Floats:
        """A 1:N metric, the mean over the galleries it is about."""
        metric, identity = parse(name.replace("-merged", "")), self.people.identity[self.people.probe].astype(np.int64)
        each = [_search_value(metric, searches[part], identity, counts, name) for part in self._galleries(name)]
        return np.asarray(np.mean(each, axis=0))

    def _scan(self, left: Units, right: Units, *, pairs: bool, searches: Sequence[str]) -> None:
        """Make the table of `left` gallery templates × `right` probes; pairs, searches or both look into it."""
        people, tables = self.people, self.people.tables
        lookup = None
        if pairs:
            lookup = Lookup(*people.pair_places, len(tables.rows), len(tables.columns), self.memory)
        probes = _Searches(people, searches)
        for start, block in table_blocks(left[tables.rows], right[tables.columns], memory=self.memory):
            if lookup is not None:
                lookup.add(start, block)
            probes.add(start, block)
        if lookup is not None:
            self._pairs = _split(people, lookup.scores)
        self._searches |= {name: search.matches for name, search in probes.searches.items()}


class _Searches:
    """Some searches of a benchmark over blocks of the templates of all galleries × probes."""

    def __init__(self, people: People, names: Sequence[str]) -> None:
        self._count = len(people.probe)
        parts, start = [], 0
        for gallery in people.galleries:
            parts.append((gallery, start))
            start += len(gallery.template)
        if _MERGED in names:
            subjects = np.concatenate([gallery.subject for gallery in people.galleries])
            parts.append((GalleryList(_MERGED, people.gallery_templates, subjects), 0))
        self.searches = {
            gallery.name: Search(
                gallery, slice(first, first + len(gallery.template)), people.probe, people.probe_subject
            )
            for gallery, first in parts
            if gallery.name in names
        }

    def add(self, start: int, block: Units) -> None:
        """Take the scores of the columns from `start` on; columns beyond the probes are nothing to it."""
        for search in self.searches.values():
            search.add(start, block[:, : max(0, self._count - start)])


def _search_value(metric: Metric, matches: Matches, identity: Ints, counts: Ints, name: str) -> Floats:
    """A rank or TPIR metric in one gallery; NaN where no weight falls on probes that could raise an alarm."""
    if not metric.has_threshold:
        return rank_k(matches, identity, counts, int(metric.argument))
    protocol: TpirProtocol = "merged" if "-merged" in name else "open-set"
    value = tpir_at_fpir(matches, identity, counts, metric.argument, protocol)
    alarms = np.ones_like(matches.mated) if protocol == "merged" else ~matches.mated
    return np.where(counts @ weigh(identity, alarms, counts.shape[1]) > 0, value, np.nan)


def _split(people: People, scores: Units) -> PairScores:
    return PairScores(
        genuine=scores[people.genuine],
        genuine_identity=people.identity[people.first[people.genuine]].astype(np.int64),
        impostor=scores[~people.genuine],
        identities=lambda: people.impostor_identities,
    )
