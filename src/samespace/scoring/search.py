"""1:N search of templates: rank of the best mate and best non-mate of every probe, from blocks of gallery × probes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Ints
from samespace.metrics.identification import Matches
from samespace.scoring.mates import Pairs


@dataclass(frozen=True, eq=False)
class GalleryList:
    """The templates, (G,) numbers, each once, that a gallery such as `G1` holds, and their subjects, (G,)."""

    name: str
    template: Ints
    subject: Ints


class Search:
    """Gathers the best mate and the best non-mate of every probe in a gallery from blocks of scores.

    `matches` holds them, in the order of the probes. A probe is not matched with its own template. Ties count against
    the probe, as in `metrics.matches`.

    The gallery's templates are `rows` of the blocks, the probes, (P,) of a template and a subject each, their columns.
    """

    def __init__(self, gallery: GalleryList, rows: slice, template: Ints, subject: Ints) -> None:
        mates = Pairs.of_equal(subject, gallery.subject)
        self.rows, self._probe, self._place = rows, mates.query, mates.item
        self._keep = gallery.template[self._place] != template[self._probe]
        self.matches = Matches.unfilled(len(subject))

    def add(self, start: int, block: npt.NDArray[np.float32]) -> None:
        """Take the scores of the probes from `start` on, (C, p) float32; they are there again afterwards."""
        scores = block[self.rows]
        stop = start + scores.shape[1]
        low, high = np.searchsorted(self._probe, [start, stop])
        column, place, keep = self._probe[low:high] - start, self._place[low:high], self._keep[low:high]
        mates = scores[place, column]
        best = np.full(stop - start, -np.inf, dtype=np.float32)
        np.maximum.at(best, column[keep], mates[keep])
        scores[place, column] = -np.inf
        other = scores.max(axis=0, initial=-np.inf)
        mated = np.isfinite(best)
        above = np.zeros(stop - start, dtype=np.int64)
        beaten = np.flatnonzero(mated & (other >= best))
        above[beaten] = (scores[:, beaten] >= best[beaten]).sum(axis=0)
        scores[place, column] = mates
        self.matches.rank[start:stop] = np.where(mated, 1 + above, 0)
        self.matches.mate[start:stop], self.matches.other[start:stop] = best, other
