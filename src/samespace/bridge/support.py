"""The support set: classes held out of the training vectors, on which maps and fusions are judged before any check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics import average_precision, matches, paired_bootstrap, threshold_at_far
from samespace.metrics import interval as percentiles

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]
Values = dict[str, npt.NDArray[np.float64]]
Gain = tuple[float, float, float]

FAR = 1e-3
METRICS = ("mAP", "rank@1", "TAR@FAR=1e-3")
_MOST_ITEMS = 8000


@dataclass(frozen=True)
class Support:
    """How searches went on held-out classes.

    Attributes:
        classes: held out.
        queries: of these classes.
        gallery: items of these classes that were searched.
        values: value by metric (`METRICS`), by the name of the search.
        gains: by the same names and metrics, the difference to staying with the old model and the paired bootstrap
            interval of that difference: (difference, low, high).
    """

    classes: int
    queries: int
    gallery: int
    values: Mapping[str, Mapping[str, float]]
    gains: Mapping[str, Mapping[str, Gain]]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Support:
        """Rebuild what `to_dict` gave."""
        gains = {
            name: {metric: (float(g[0]), float(g[1]), float(g[2])) for metric, g in row.items()}
            for name, row in value["gains"].items()
        }
        return cls(int(value["classes"]), int(value["queries"]), int(value["gallery"]), value["values"], gains)


@dataclass(frozen=True)
class Split:
    """Rows of the training vectors: those to learn from, and the held-out classes' queries and gallery."""

    train: Rows
    queries: Rows
    gallery: Rows


def hold_out(classes: Rows, *, fraction: float = 0.2, seed: int = 0, most: int = _MOST_ITEMS) -> Split:
    """Keep a share of the classes apart; of each, half the items (rounded down) are queries and half are searched.

    Classes of a single item stay with the training rows: they cannot be judged on.

    Args:
        classes: (N,) class of each item.
        fraction: share of the classes to keep apart, at least two classes.
        seed: of the draw.
        most: stop when so many items are kept apart, since all queries are compared with the whole gallery.

    Raises:
        InputError: a fraction outside (0, 1), or too few classes with two items.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the held-out share of the classes should lie between 0 and 1, got {fraction}")
    names, codes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    generator = np.random.default_rng(seed)
    eligible = generator.permutation(np.flatnonzero(counts >= 2))
    wanted = max(2, round(fraction * len(names)))
    fitting = max(2, int(np.searchsorted(np.cumsum(counts[eligible]), most, side="right")))
    held = eligible[: min(wanted, fitting)]
    if len(held) < 2 or len(names) - len(held) < 2:
        raise InputError(
            f"judging on held-out classes needs at least 4 classes, 2 of them with 2 items or more; got {len(names)} "
            f"classes, {len(eligible)} with 2 items; name a method instead of auto"
        )
    queries, gallery = [], []
    by_class = np.argsort(codes, kind="stable")
    first = np.cumsum(counts) - counts
    for place in held:
        rows = generator.permutation(by_class[first[place] : first[place] + counts[place]])
        queries.append(rows[: len(rows) // 2])
        gallery.append(rows[len(rows) // 2 :])
    return Split(np.flatnonzero(~np.isin(codes, held)), np.concatenate(queries), np.concatenate(gallery))


def search_values(
    queries: Array, gallery: Array, query_labels: Array, gallery_labels: Array, *, far: float = FAR
) -> Values:
    """Value of each query by metric, from unit vectors; NaN for a query without a mate.

    Args:
        queries: (Q, D) unit vectors.
        gallery: (G, D) unit vectors.
        query_labels: (Q,) classes.
        gallery_labels: (G,) classes.
        far: false accept rate of `TAR@FAR`.

    Returns:
        (Q,) each. `rank@1`: 1 where the best hit is right. `mAP`: average precision. `TAR@FAR=…`: share of the query's
        genuine pairs above the threshold that all queries have together.
    """
    scores = queries @ gallery.T
    found = matches(scores, query_labels, gallery_labels)
    mate = np.asarray(query_labels)[:, None] == np.asarray(gallery_labels)[None, :]
    threshold = threshold_at_far(scores[~mate], far)
    deepest = max(1, int(mate.sum(axis=1).max()))
    mates = np.sort(np.where(mate, scores, -np.inf), axis=1)[:, -deepest:]
    others = np.sort(np.where(mate, -np.inf, scores), axis=1)
    accepted = (mate & (scores > threshold)).sum(axis=1) / np.where(found.mated, mate.sum(axis=1), np.nan)
    right = np.where(found.mated, found.rank == 1, np.nan)
    return dict(zip(METRICS, (average_precision(mates, others), right, accepted), strict=True))


def compare(
    searches: Mapping[str, Values], base: str, classes: Array, *, replicates: int = 2000, seed: int = 0
) -> dict[str, dict[str, Gain]]:
    """Difference of each search to `base` in each metric, with its paired bootstrap interval over classes.

    Args:
        searches: by name, what `search_values` gave for the same queries.
        base: the search to compare with.
        classes: (Q,) class of each query.
        replicates: bootstrap resamples.
        seed: of the resamples.

    Returns:
        By name and metric, (difference, low, high).
    """
    gains: dict[str, dict[str, Gain]] = {name: {} for name in searches}
    for metric in searches[base]:
        columns = {name: values[metric] for name, values in searches.items()}
        drawn = paired_bootstrap(columns, classes, replicates=replicates, seed=seed)
        for name, column in columns.items():
            difference = float(np.nanmean(column) - np.nanmean(columns[base]))
            gains[name][metric] = (difference, *percentiles(drawn[name] - drawn[base]))
    return gains
