"""What one pair of models finds on IJB: scores of the pairs, and what every probe finds in each gallery."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from samespace.benchmarks.pairs import Lookup, Units, pair_scores, score_blocks
from samespace.benchmarks.people import People
from samespace.benchmarks.search import Alarm, GalleryList, Search, search_value
from samespace.benchmarks.verification import PairsFound
from samespace.evaluate.metric_names import parse
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.identification import Matches

_MERGED = "merged"


class IJBFound:
    """What one pair of models finds; computed when first asked for.

    Where the lists make it worth while, as those of IJB do, pairs and searches look into one table of scores. A cross
    test has the new model on the first of a pair in 1:1 but on the probes in 1:N: two tables of one layout, so that
    vectors that are the same give the same scores in either.

    Args:
        people: who the templates are.
        queries: (T, D) templates, for the first of each pair and for the probes.
        gallery: (T, D) templates, for the second of each pair and for the galleries.
        memory: bytes for the scores held at a time.
    """

    def __init__(self, people: People, queries: Units, gallery: Units, memory: int) -> None:
        self.people, self.memory = people, memory
        self._queries, self._gallery = queries, gallery
        self._pairs: PairsFound | None = None
        self._searches: dict[str, Matches] = {}

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights (r, identities), (r,) float64 each."""
        rates = {name: parse(name).rate for name in names if name.startswith("TAR@")}
        wanted = {gallery for name in names if name not in rates for gallery in self._galleries(name)}
        pairs, searches = self.measure(pairs=bool(rates), searches=wanted)
        result = {name: self._search(name, searches, counts) for name in names if name not in rates}
        if pairs is not None:
            result.update(zip(rates, pairs.tar(list(rates.values()), counts), strict=True))
        return {name: result[name] for name in names}

    def measure(
        self, *, pairs: bool = True, searches: Collection[str] = ()
    ) -> tuple[PairsFound | None, dict[str, Matches]]:
        """Make the scores that are asked for and not there yet.

        Args:
            pairs: whether those of the listed pairs are.
            searches: names of the galleries to search, `merged` for all of them as one.

        Returns:
            The scores of the pairs, None where not asked for, and what every probe finds in each gallery.
        """
        due = [name for name in searches if name not in self._searches]
        if pairs and self._pairs is None:
            if self.people.tables.shared:
                together = due if self._queries is self._gallery else []
                self._scan(self._queries, self._gallery, pairs=True, searches=together)
                due = [name for name in due if name not in together]
            else:
                first, second = self.people.first, self.people.second
                scores = pair_scores(self._queries, self._gallery, first, second, memory=self.memory)
                self._pairs = _pairs_found(self.people, scores)
        if due:
            self._scan(self._gallery, self._queries, pairs=False, searches=due)
        return self._pairs if pairs else None, {name: self._searches[name] for name in searches}

    def _galleries(self, name: str) -> list[str]:
        """The galleries that a 1:N metric is about."""
        return [_MERGED] if "-merged" in name else [gallery.name for gallery in self.people.galleries]

    def _search(self, name: str, searches: Mapping[str, Matches], counts: Ints) -> Floats:
        """A 1:N metric, the mean over the galleries it is about."""
        metric, identity = parse(name.replace("-merged", "")), self.people.identity[self.people.probe].astype(np.int64)
        alarm: Alarm = "merged" if "-merged" in name else "open-set"
        each = [search_value(metric, searches[part], identity, counts, alarm) for part in self._galleries(name)]
        return np.asarray(np.mean(each, axis=0))

    def _scan(self, left: Units, right: Units, *, pairs: bool, searches: Sequence[str]) -> None:
        """Make the table of `left` gallery templates × `right` probes; pairs, searches or both look into it."""
        people, tables = self.people, self.people.tables
        lookup = _lookup(people, self.memory) if pairs else None
        probes = _Searches(people, searches)
        for start, block in score_blocks(left[tables.rows], right[tables.columns], memory=self.memory):
            if lookup is not None:
                lookup.add(start, block)
            probes.add(start, block)
        if lookup is not None:
            self._pairs = _pairs_found(people, lookup.scores)
        self._searches |= probes.finish()


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
        self._searches = {
            gallery.name: Search(
                gallery, slice(first, first + len(gallery.template)), people.probe, people.probe_subject
            )
            for gallery, first in parts
            if gallery.name in names
        }

    def add(self, start: int, block: Units) -> None:
        """Take the scores of the columns from `start` on; columns beyond the probes are nothing to it."""
        for search in self._searches.values():
            search.add(start, block[:, : max(0, self._count - start)])

    def finish(self) -> dict[str, Matches]:
        """What was gathered, by gallery."""
        return {name: search.finish() for name, search in self._searches.items()}


def _pairs_found(people: People, scores: Units) -> PairsFound:
    return PairsFound(
        genuine=scores[people.genuine],
        genuine_identity=people.identity[people.first[people.genuine]].astype(np.int64),
        impostor=scores[~people.genuine],
        identities=lambda: people.impostor_identities,
    )


def _lookup(people: People, memory: int) -> Lookup:
    row, column = people.pair_places
    return Lookup(row, column, len(people.tables.rows), len(people.tables.columns), memory)
