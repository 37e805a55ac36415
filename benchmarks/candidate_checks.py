"""How candidates are compared: the metrics of tables of scores with paired intervals, raw or against a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from samespace.metrics import cohort_normalised, interval, resamples
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import parse
from samespace.scoring.scores import Collector
from samespace.scoring.units import unit_rows
from samespace.vectors import VectorSet

REPLICATES = 300
METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")

Sides = tuple[np.ndarray, np.ndarray]


class Search:
    """The metrics of a table of scores, themselves and under resampled identities, thresholds found anew in each."""

    def __init__(self, query_labels: np.ndarray, gallery_labels: np.ndarray) -> None:
        names, codes = np.unique(np.concatenate([query_labels, gallery_labels]), return_inverse=True)
        queries, gallery = np.split(codes, [len(query_labels)])
        self.order = np.argsort(gallery, kind="stable")
        self.mates = Mates(queries, gallery[self.order], np.full(len(queries), -1), len(names))
        drawn = resamples(len(names), replicates=REPLICATES)
        self.counts = np.concatenate([np.ones((1, len(names)), dtype=np.int64), *drawn])

    def values(self, scores: np.ndarray | Tensor) -> dict[str, np.ndarray]:
        """By metric (1 + resamples,) values of scores (Q, G): the metric itself, then of each resample."""
        collector = Collector(self.mates, self.mates.impostors // 50)
        block = self.mates.block(np.arange(len(scores)))
        collector.add(0, np.asarray(scores, dtype=np.float32)[:, self.order], block)
        gathered = collector.finish()
        return {name: parse(name).values(gathered, self.counts) for name in METRICS}


def compared(values: dict[str, np.ndarray], base: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """By metric [value, low, high]: percent, and the interval of the difference to a base in points."""
    result = {}
    for name in METRICS:
        low, high = interval((values[name] - base[name])[1:])
        result[name] = [round(100 * float(value), 2) for value in (values[name][0], low, high)]
    return result


def cohort_of_half(
    queries: dict[str, np.ndarray], old: Sides, labels: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, Any]:
    """One half of the check classes is the cohort, by their old vectors; the other half is judged."""
    classes = np.random.default_rng(seed).permutation(np.unique(labels[0]))
    judged = [np.isin(side, classes[: len(classes) // 2]) for side in labels]
    cohort = np.concatenate([part[~mine] for part, mine in zip(old, judged, strict=True)])
    search = Search(labels[0][judged[0]], labels[1][judged[1]])
    return {
        f"{name}, cohort of other check classes": normalised(search, part[judged[0]], old[1][judged[1]], cohort)
        for name, part in queries.items()
    }


def normalised(search: Search, queries: np.ndarray, gallery: np.ndarray, cohort: np.ndarray) -> dict[str, Any]:
    raw = queries @ gallery.T
    better = cohort_normalised(raw, queries @ cohort.T, gallery @ cohort.T)
    return compared(search.values(better), search.values(raw))


def cohort_on(folder: Path, seed: int) -> dict[str, Any]:
    """`cohort_of_half` on stored vectors: FOLDER/MODEL/queries and gallery; the old model is `old-classes`."""
    loaded = {
        path.name: [VectorSet.load(path / side) for side in ("queries", "gallery")] for path in sorted(folder.iterdir())
    }
    units = {name: [unit_rows(side.vectors) for side in sides] for name, sides in loaded.items()}
    queries = {name: sides[0] for name, sides in units.items()}
    old = loaded["old-classes"]
    labels = np.asarray(old[0].labels), np.asarray(old[1].labels)
    return {"cohort, on the old gallery": cohort_of_half(queries, tuple(units["old-classes"]), labels, seed)}
