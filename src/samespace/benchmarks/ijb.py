"""IJB-B and IJB-C: template verification over millions of pairs, and open-set identification in two galleries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from samespace.benchmarks.ijb_files import IJBMeta, IJBName, read_meta
from samespace.benchmarks.ijb_scores import IJBScores
from samespace.benchmarks.people import People
from samespace.errors import InputError, suggest
from samespace.evaluate.templates import pool
from samespace.metrics._arrays import Ints
from samespace.metrics.verification import allowed_count
from samespace.scoring.blocks import MEMORY, Units
from samespace.scoring.metric_names import parse

Weights = Literal["none", "detector"]

VERIFICATION = tuple(f"TAR@FAR=1e-{power}" for power in range(6, 0, -1))
SEARCH = ("rank@1", "rank@5", "rank@10", "TPIR@FPIR=1e-3", "TPIR@FPIR=1e-2", "TPIR@FPIR=1e-1")
MERGED = ("rank-merged@1", "rank-merged@5", "rank-merged@10", "TPIR-merged@FPIR=1e-2", "TPIR-merged@FPIR=1e-1")


@dataclass(frozen=True, eq=False)
class IJB:
    """IJB-B or IJB-C.

    1:1, `TAR@FAR=f`: over the listed pairs; `queries` give the first template, `gallery` the second.

    1:N, `rank@k` and `TPIR@FPIR=f`: every probe searches each gallery; a probe whose subject is not in it has no mate
    there, raises false alarms and is left out of ranks; the value is the mean over the galleries. `rank-merged@k` and
    `TPIR-merged@FPIR=f`: the galleries as one, where every probe raises a false alarm by its best non-mate. `queries`
    give the probes, `gallery` the galleries.

    The bootstrap is over subjects: in 1:1 on both sides, in 1:N of the probes while the galleries stay.

    Attributes:
        meta: what the files say.
        people: who the templates are.
        normalize: whether image vectors are brought to length one before they are pooled.
        memory: bytes for the scores held at a time; no result depends on it.
    """

    meta: IJBMeta
    people: People
    normalize: bool = True
    memory: int = MEMORY

    @classmethod
    def read(
        cls,
        folder: str | Path,
        *,
        name: IJBName | None = None,
        weights: Weights = "none",
        normalize: bool = True,
        memory: int = MEMORY,
    ) -> IJB:
        """Read the meta files; see `ijb_files`. Without the 1:N lists there is 1:1 alone.

        Args:
            folder: such as `IJBC`, or its `meta` folder.
            name: `IJB-B` or `IJB-C`; by default whichever is there.
            weights: `detector` multiplies each image's vector by the face detector's score.
            normalize: bring image vectors to length one before they are pooled.
            memory: bytes for the scores held at a time.

        Raises:
            InputError: a file is missing, cut short or contradictory, or an option is out of range.
        """
        if weights not in ("none", "detector"):
            raise InputError(f"unknown weights '{weights}'; {suggest(str(weights), ['none', 'detector'])}")
        meta = read_meta(folder, name=name, scores=weights == "detector")
        return cls.of(meta, normalize=normalize, memory=memory)

    @classmethod
    def of(cls, meta: IJBMeta, *, normalize: bool = True, memory: int = MEMORY) -> IJB:
        """A benchmark of what files say, or of lists made up in their form; scores of `meta` are used as weights.

        Raises:
            InputError: there is no pair of one person or none of two, or the lists contradict each other.
        """
        if memory < 1:
            raise InputError(f"memory should be at least 1 byte, got {memory}")
        people = People.of(meta)
        if people.genuine.all() or not people.genuine.any():
            raise InputError(f"{meta.name} needs pairs of one person and of two, got only one kind in its pair list")
        return cls(meta=meta, people=people, normalize=normalize, memory=memory)

    @property
    def name(self) -> str:
        """As published."""
        return self.meta.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is measured: 1:N only where its lists are there, open-set only where some probe has no mate."""
        if not self.people.galleries:
            return VERIFICATION
        mated = [np.isin(self.people.probe_subject, gallery.subject) for gallery in self.people.galleries]
        if all(some.any() for some in mated):
            open_set = not any(some.all() for some in mated)
            return (*VERIFICATION, *(SEARCH if open_set else SEARCH[:3]), *MERGED)
        return VERIFICATION

    @property
    def identities(self) -> int:
        """How many people there are."""
        return self.people.identities

    @cached_property
    def _image_rows(self) -> tuple[npt.NDArray[np.str_], Ints | None]:
        """Each image once, and where each line's image stands among them; None where no image is listed twice."""
        # a set of strings takes half the time of sorting them
        if len(set(self.meta.images.tolist())) == len(self.meta.images):
            return self.meta.images, None
        ids, rows = np.unique(self.meta.images, return_inverse=True)
        return ids, rows.astype(np.int64)

    @property
    def ids(self) -> npt.NDArray[np.str_]:
        """Names of the images, as the template list has them."""
        return self._image_rows[0]

    @property
    def data(self) -> Mapping[str, int]:
        """Counts."""
        people = self.people
        counts = {
            "images": len(self.ids),
            "templates": len(people.templates),
            "identities": people.identities,
            "genuine_pairs": int(people.genuine.sum()),
            "impostor_pairs": int((~people.genuine).sum()),
        }
        if people.galleries:
            known = np.isin(people.probe_subject, np.concatenate([gallery.subject for gallery in people.galleries]))
            counts["queries"] = len(people.probe)
            counts["gallery"] = sum(len(gallery.template) for gallery in people.galleries)
            counts["mated_queries"] = int(known.sum())
            counts["unmated_queries"] = int((~known).sum())
        return counts

    @property
    def notes(self) -> tuple[str, ...]:
        """What the lists lack or contradict, and points that they hardly support."""
        impostors = int((~self.people.genuine).sum())
        few = [name for name in VERIFICATION if allowed_count(parse(name).argument, impostors) < 1]
        notes = [*self.people.notes]
        if few:
            notes.append(
                f"{', '.join(few)}: {impostors} impostor pairs allow less than one false accept, so the threshold is "
                "the highest of their scores; take the value with care."
            )
        if not self.people.galleries:
            notes.append("The 1:N lists are not there, so only 1:1 was measured.")
        return tuple(notes)

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> Units:
        """Pool images into templates, (T, D); a template without a usable image is a row of zeros."""
        images = self._image_rows[1]
        if rows is not None:
            images = rows if images is None else rows[images]
        return pool(
            vectors,
            self.meta.templates,
            self.meta.media,
            images=np.arange(len(self.ids)) if images is None else images,
            weights=self.meta.scores,
            normalize=self.normalize,
        ).vectors

    def run(self, queries: Units, gallery: Units) -> IJBScores:
        """Compare templates by two models; what is not asked of the result is not computed."""
        return IJBScores(self.people, queries, gallery, self.memory)
