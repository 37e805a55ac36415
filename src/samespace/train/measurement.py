"""What a model in training does on labelled items beside the old model: the cross test, and each model on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from samespace.metrics.verification import allowed_count
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import choose_metrics
from samespace.scoring.scores import collect_scores
from samespace.scoring.sides import SideVectors
from samespace.vectors import Floats, VectorSet

IntArray = npt.NDArray[np.int64]
VECTORS_WITHOUT_DIRECTION = "vectors_without_direction"


@dataclass(eq=False)
class Measurement:
    """Measures vectors of the same items again and again.

    Attributes:
        labels: (N,) classes of the items as numbers from 0.
        metrics: their names.
        queries: the first so many items ask and the rest, with its classes in order, is the gallery; None = each item
            asks for the others.
        old: the old model's vectors of the items, in their order; None where there is none.
        cross: whether new vectors are meant to be comparable with the old ones, so that the cross test is taken.
        dim: how many leading values of new vectors are compared with old ones; None for all.
    """

    labels: IntArray
    metrics: Sequence[str]
    queries: int | None = None
    old: VectorSet | None = None
    cross: bool = False
    dim: int | None = None

    def __post_init__(self) -> None:
        rows = np.arange(len(self.labels)) if self.queries is not None else np.argsort(self.labels, kind="stable")
        self._asking, self._stored = rows[: self.queries], rows[self.queries or 0 :]
        self._mates = Mates(
            query_codes=self.labels[self._asking],
            gallery_codes=self.labels[self._stored],
            self_place=np.full(len(self._asking), -1) if self.queries is not None else np.arange(len(rows)),
            identities=int(self.labels.max(initial=-1)) + 1,
        )
        self._metrics, _ = choose_metrics(self.metrics, self._mates)
        accepted = [
            allowed_count(metric.argument, self._mates.impostors) for metric in self._metrics if metric.reads_tail
        ]
        self._tail = max(accepted, default=0) + 1
        self._old_sides = None if self.old is None else self._sides(self.old)
        self._old_values = {} if self._old_sides is None else self._values({"old": self._old_sides})

    def of(self, vectors: Floats) -> dict[str, float]:
        """The metrics of the model that gave these vectors (N, D) of the items, as `METRIC/TEST`.

        TEST is `new` for new queries on the new gallery, `cross` for new queries on the old one, `old` for both by the
        old model. Vectors without a direction are counted as `vectors_without_direction`, and nothing is measured.
        """
        lengths = np.linalg.norm(vectors, axis=1)
        if lost := int((~(np.isfinite(lengths) & (lengths > 0))).sum()):
            return {VECTORS_WITHOUT_DIRECTION: lost}
        new = VectorSet.from_arrays(vectors)
        pairs = {"new": self._sides(new)}
        if self._old_sides is not None and self.cross:
            pairs["cross"] = (SideVectors(new, self._asking, dim=self.dim), self._old_sides[1])
        return {**self._old_values, **self._values(pairs)}

    def _sides(self, vectors: VectorSet) -> tuple[SideVectors, SideVectors]:
        return SideVectors(vectors, self._asking), SideVectors(vectors, self._stored)

    def _values(self, pairs: dict[str, tuple[SideVectors, SideVectors]]) -> dict[str, float]:
        scores = collect_scores(pairs, self._mates, self._tail)
        return {
            f"{metric.name}/{test}": round(metric.value(scores[test]), 6) for metric in self._metrics for test in pairs
        }
