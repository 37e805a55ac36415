"""Person re-identification: Market-1501, MSMT17, CUHK03-NP and others with a camera for every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.data.published.reid import OTHERS, Layout, ReidList, read_distractors, read_reid
from samespace.data.sources.kinds import counted
from samespace.errors import InputError
from samespace.metrics._arrays import Floats, Ints, Mask, as_labels, encode
from samespace.scoring.grid import exact_scores
from samespace.scoring.mates import Pairs
from samespace.scoring.ranking import MEMORY, Ranking, rank
from samespace.scoring.units import unit_rows
from samespace.scoring.weighted import weighted_mean

JUNK = -1
RANKS = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class Reid:
    """The protocol of Market-1501: a person is to be found again, seen by another camera.

    For each query, gallery images of the same person by the same camera are ignored, and so are junk images (identity
    −1), which are not even needed. Distractors, and people who are in no query, stay. A query whose person no other
    camera saw cannot be answered and is left out. Metrics are `mAP` (mean of precisions), `rank@1`, `rank@5`,
    `rank@10`, `mAP-trapezoid` by the rule of the MATLAB code published with Market-1501, and where asked for `MAP@R`
    and `R-precision`; the bootstrap is over the people in the queries.

    Attributes:
        name: as published.
        ids: (N,) the images: queries, then gallery without junk.
        queries: how many of them are queries.
        relevant: pairs to be found, rows of queries and of the gallery.
        ignored: pairs of one person and one camera.
        units: (Q,) number of the person of each query.
        identities: how many people there are in the queries.
        data: counts.
        notes: what was left out.
        memory: bytes to work in, about.
    """

    name: str
    ids: npt.NDArray[np.str_]
    queries: int
    relevant: Pairs
    ignored: Pairs
    units: Ints
    identities: int
    data: Mapping[str, int]
    notes: tuple[str, ...]
    memory: int = MEMORY
    metrics: tuple[str, ...] = ("mAP", *(f"rank@{k}" for k in RANKS), "mAP-trapezoid")
    further_metrics: tuple[str, ...] = ("MAP@R", "R-precision")

    @classmethod
    def read(
        cls,
        folder: str | Path,
        *,
        name: str,
        layout: Layout | None = None,
        distractors: str | Path | None = None,
        memory: int = MEMORY,
    ) -> Reid:
        """Read the images of a data set from their file names; see `data.reid.read_reid`.

        `distractors` is a folder of more gallery images, of nobody who is looked for.

        Raises:
            InputError: no such folder, names of another form, or no query that could be answered.
        """
        listing = read_reid(folder, layout=layout)
        query, gallery = listing.part == "query", listing.part == "gallery"
        more = np.zeros(0, dtype=str) if distractors is None else read_distractors(distractors)
        nobody = np.full(len(more), OTHERS, dtype=np.int64)
        return cls.of(
            name=f"{name} with {len(more):,} distractors" if len(more) else name,
            identity=(listing.identity[query], np.concatenate([listing.identity[gallery], nobody])),
            camera=(listing.camera[query], np.concatenate([listing.camera[gallery], nobody])),
            ids=(listing.ids[query], np.concatenate([listing.ids[gallery], more])),
            memory=memory,
            notes=_listing_notes(listing),
        )

    @classmethod
    def of(
        cls,
        *,
        name: str,
        identity: tuple[Any, Any],
        camera: tuple[Any, Any],
        ids: tuple[Any, Any] | None = None,
        memory: int = MEMORY,
        notes: tuple[str, ...] = (),
    ) -> Reid:
        """The protocol from arrays, each given as (of the queries, of the gallery).

        Args:
            name: what to call the data set.
            identity: (Q,) and (G,) integers; −1 in the gallery is junk.
            camera: (Q,) and (G,) integers.
            ids: (Q,) and (G,) strings; by default `query/0` … and `gallery/0` …, counted with junk.
            memory: bytes to work in, about.
            notes: what is known of the files.

        Raises:
            InputError: counts that do not fit, a query without identity, or no query that could be answered.
        """
        people, seen = _columns(identity, "identities"), _columns(camera, "cameras")
        if [len(part) for part in people] != [len(part) for part in seen]:
            raise InputError(f"{name}: every query and gallery image needs one identity and one camera")
        named = _names(people, ids)
        if (people[0] == JUNK).any():
            raise InputError(f"{name}: query '{named[0][int(np.argmax(people[0] == JUNK))]}' is junk (identity −1)")
        kept = people[1] != JUNK
        gallery, gallery_camera = people[1][kept], seen[1][kept]
        both = Pairs.of_equal(people[0], gallery)
        same: Mask = seen[0][both.query] == gallery_camera[both.item]
        relevant = both.subset(~same)
        if not len(relevant):
            raise InputError(f"{name}: no query has an image of the same person by another camera in the gallery")
        answerable = np.unique(relevant.query)
        units = encode(people[0])[0]
        data = {
            "queries": len(people[0]),
            "gallery": len(gallery),
            "identities": int(units.max()) + 1,
            "mated_queries": len(answerable),
            "genuine_pairs": len(relevant),
            "distractors": int((~np.isin(gallery, people[0])).sum()),
            "junk_dropped": int((~kept).sum()),
            "same_camera_ignored": int(same.sum()),
        }
        return cls(
            name=name,
            ids=np.concatenate([named[0], named[1][kept]]),
            queries=len(people[0]),
            relevant=relevant,
            ignored=both.subset(same),
            units=units,
            identities=data["identities"],
            data=data,
            notes=(*notes, *_notes(data)),
            memory=memory,
        )

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """One model's vectors of the images, scaled to length one, (N, D); one without a direction is an InputError."""
        return unit_rows(vectors, rows, self.ids)

    def run(self, queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> ReidScores:
        """Search the gallery images of one model with the query images of another, (N, D) each."""
        queries, gallery = queries[: self.queries], gallery[self.queries :]
        ranking = rank(queries, gallery, self.relevant, self.ignored, memory=self.memory)
        mates = exact_scores(queries, gallery, self.relevant.query, self.relevant.item)
        return ReidScores(ranking, self.units, mates)


@dataclass(frozen=True, eq=False)
class ReidScores:
    """The ranking by one pair of models.

    Attributes:
        ranking: where the images to be found stand.
        units: (Q,) number of the person of each query.
        mates: (P,) scores of the images to be found.
    """

    ranking: Ranking
    units: Ints
    mates: Floats

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights of the people in the queries."""
        return {name: weighted_mean(self._per_query(name), self.units, counts) for name in names}

    def genuine(self) -> Floats:
        """Scores of the images to be found."""
        return self.mates

    def _per_query(self, name: str) -> Floats:
        if name == "mAP":
            return self.ranking.average_precision()
        if name == "mAP-trapezoid":
            return self.ranking.trapezoidal_precision()
        if name == "MAP@R":
            return self.ranking.average_precision_at_r()
        if name == "R-precision":
            return self.ranking.r_precision()
        return self.ranking.rank_at(int(name.removeprefix("rank@")))


def _columns(values: tuple[Any, Any], what: str) -> tuple[Ints, Ints]:
    columns = [as_labels(part, f"{what} of {side}") for part, side in zip(values, ("queries", "gallery"), strict=True)]
    if any(part.dtype.kind not in "iu" for part in columns):
        raise InputError(f"{what} should be integers, got {columns[0].dtype} and {columns[1].dtype}")
    return columns[0].astype(np.int64), columns[1].astype(np.int64)


def _names(people: tuple[Ints, Ints], ids: tuple[Any, Any] | None) -> tuple[npt.NDArray[np.str_], ...]:
    if ids is None:
        sides = zip(("query", "gallery"), people, strict=True)
        return tuple(np.array([f"{side}/{row}" for row in range(len(part))], dtype=str) for side, part in sides)
    named = tuple(np.asarray(part, dtype=str) for part in ids)
    if [len(part) for part in named] != [len(part) for part in people]:
        raise InputError("every query and gallery image needs one id")
    return named


def _listing_notes(listing: ReidList) -> tuple[str, ...]:
    notes = []
    if listing.counts_from_zero:
        notes.append("People are counted from 0 here: person 0 is one of them, not a distractor, in training as well.")
    if listing.passed_over:
        kinds = "; ".join(map(str, counted(listing.passed_over)))
        notes.append(f"Passed over, because they are no images of the set: {kinds}.")
    return tuple(notes)


def _notes(data: Mapping[str, int]) -> tuple[str, ...]:
    notes = []
    if data["junk_dropped"]:
        notes.append(f"{data['junk_dropped']} junk images of the gallery (identity −1) were left out.")
    if data["same_camera_ignored"]:
        notes.append(
            f"{data['same_camera_ignored']} pairs of one person and one camera were ignored, as the protocol asks."
        )
    if unanswerable := data["queries"] - data["mated_queries"]:
        notes.append(f"{unanswerable} queries have no image by another camera in the gallery and were left out.")
    return tuple(notes)
