"""The choice of the share of the new query in a fused one, from vectors of held-out classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from samespace.bridge.support import Gain, compare, search_values
from samespace.fusion import fuse, share_to_take, unit

Array = npt.NDArray[Any]

ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class FusionChoice:
    """Which share of the new query to take.

    Attributes:
        alpha: the share of the new query; 0 is the old query alone, what is deployed today.
        gains: by share and metric, the difference to `alpha` = 0 and its bootstrap interval: (difference, low, high).
    """

    alpha: float
    gains: Mapping[float, Mapping[str, Gain]]


def choose_alpha(
    old_queries: Array,
    new_queries: Array,
    gallery: Array,
    query_labels: Array,
    gallery_labels: Array,
    *,
    alphas: Sequence[float] = ALPHAS,
    replicates: int = 2000,
    seed: int = 0,
) -> FusionChoice:
    """Choose the share of the new query on a support set: held-out classes, never those of the check.

    The rule is `samespace.fusion.share_to_take`, as for `samespace check --fuse auto`: of the shares that no paired
    bootstrap interval over classes may put below the old query alone, the one with the best mean over the metrics.

    Args:
        old_queries: (Q, D) by the old model.
        new_queries: (Q, D or more) the same queries by the new model.
        gallery: (G, D) what is searched.
        query_labels: (Q,) classes.
        gallery_labels: (G,) classes.
        alphas: shares to try; 0 is always among them.
        replicates: bootstrap resamples.
        seed: of the resamples.

    Raises:
        InputError: as `fuse`.
    """
    items = unit(np.asarray(gallery), "gallery")
    tried = sorted({0.0, *map(float, alphas)})
    searches = {
        str(alpha): search_values(fuse(old_queries, new_queries, alpha), items, query_labels, gallery_labels)
        for alpha in tried
    }
    gains = compare(searches, "0.0", query_labels, replicates=replicates, seed=seed)
    best = share_to_take(
        {
            alpha: [
                (float(np.nanmean(values)), gains[str(alpha)][metric][1])
                for metric, values in searches[str(alpha)].items()
            ]
            for alpha in tried
        }
    )
    return FusionChoice(best, {alpha: gains[str(alpha)] for alpha in tried})
