"""Landmark retrieval: the revisited Oxford and Paris buildings, and Google Landmarks v2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.scoring.mates import Pairs
from samespace.scoring.ranking import MEMORY, Ranking, count_pairs
from samespace.scoring.units import unit_rows
from samespace.scoring.weighted import weighted_mean
from samespace.vectors import VectorSet

DEPTHS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Setting:
    """One way to read the lists of a benchmark: which pairs, (P,) bool, are to be found, and which take no place.

    The names of its metrics end in its suffix, such as `-medium`.
    """

    suffix: str
    relevant: Mask
    ignored: Mask


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Find all images of the building in the query; the bootstrap is over queries.

    Attributes:
        name: as published.
        ids: (N,) the images: queries, then index.
        queries: how many of them are queries.
        pairs: the listed pairs of a query and an index image.
        settings: what is relevant and what is ignored under each.
        metrics: names, each ending in the suffix of its setting.
        data: counts.
        notes: what was left out.
        boxes: (Q, 4) left, upper, right, lower of the building in each query, in pixels, to which the protocol crops
            the image before embedding; None where there are none.
        memory: bytes to work in, about.
    """

    name: str
    ids: npt.NDArray[np.str_]
    queries: int
    pairs: Pairs
    settings: tuple[Setting, ...]
    metrics: tuple[str, ...]
    data: Mapping[str, int]
    notes: tuple[str, ...]
    boxes: npt.NDArray[np.float64] | None = None
    memory: int = MEMORY

    @property
    def identities(self) -> int:
        """Units of the bootstrap: the queries."""
        return self.queries

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """One model's vectors of the images, scaled to length one, (N, D); one without a direction is an InputError."""
        return unit_rows(vectors, rows, self.ids)

    def run(self, queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> LandmarkScores:
        """Search the index images of one model with the query images of another, (N, D) each; one scan for all."""
        wanted = np.logical_or.reduce([setting.relevant for setting in self.settings])
        counted = count_pairs(
            queries[: self.queries], gallery[self.queries :], self.pairs, counted=wanted, memory=self.memory
        )
        rankings = {setting.suffix: counted.ranking(setting.relevant, setting.ignored) for setting in self.settings}
        return LandmarkScores(rankings, self.queries, counted.scores[wanted])


@dataclass(frozen=True, eq=False)
class LandmarkScores:
    """The rankings by one pair of models.

    Attributes:
        rankings: by the suffix of their setting.
        queries: how many there are.
        mates: (P,) scores of the pairs that are relevant in any setting.
    """

    rankings: Mapping[str, Ranking]
    queries: int
    mates: Floats

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights of the queries."""
        units = np.arange(self.queries)
        return {name: weighted_mean(self._per_query(name), units, counts) for name in names}

    def genuine(self) -> Floats:
        """Scores of the pairs that are relevant in any setting."""
        return self.mates

    def _per_query(self, name: str) -> Floats:
        kind, dash, setting = name.partition("-")
        ranking = self.rankings[dash + setting]
        if kind.startswith("mP@"):
            return ranking.precision_at(int(kind.removeprefix("mP@")))
        if kind.startswith("mAP@"):
            return ranking.average_precision_at(int(kind.removeprefix("mAP@")))
        return ranking.trapezoidal_precision()


def by_stem(vectors: VectorSet, ids: npt.NDArray[np.str_], *, folders: int = 0) -> VectorSet:
    """The set with file names brought to the form of `ids`, where they are only so found.

    They are compared without suffix, and without folders but the last `folders` of them.

    Example:
        >>> named = by_stem(VectorSet.from_arrays(np.eye(2), ids=["jpg/a.jpg", "jpg/b.jpg"]), np.array(["b"]))
        >>> named.ids.tolist()
        ['a', 'b']
    """
    if not vectors.has_ids or np.isin(ids, vectors.ids).all():
        return vectors
    stems = [_stem(name, folders) for name in vectors.ids.astype(str).tolist()]
    wanted = {_stem(name, folders) if folders else name: name for name in ids.tolist()}
    usable = len(set(stems)) == len(stems) and wanted.keys() <= set(stems)
    return replace(vectors, ids=np.array([wanted.get(stem, stem) for stem in stems])) if usable else vectors


def _stem(name: str, folders: int) -> str:
    path = PurePath(name)
    return "/".join([*path.parts[-1 - folders : -1], path.stem])
