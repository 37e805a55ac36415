"""What a published benchmark is: which images it needs, how they become what is compared, and what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from samespace.metrics._arrays import Floats, Ints


class BenchmarkScores(Protocol):
    """The scores of one pair of models on a benchmark, from which every metric comes under any weights of the units."""

    def values(self, counts: Ints, names: Sequence[str]) -> dict[str, Floats]:
        """The named metrics under each row of weights; all ones give the value itself, resampled counts its replicates.

        `counts` (r, identities) int64 are weights of the units of the bootstrap. Nothing is computed for other metrics.

        Returns:
            By name, (r,) float64 in [0, 1]; NaN where a row of weights leaves a metric undefined.
        """
        ...


@runtime_checkable
class GenuineScores(Protocol):
    """Scores that also tell those of genuine pairs, for their spread; a benchmark may do without."""

    def genuine(self) -> Floats | None:
        """(P,) scores of the pairs that belong together, once `values` was called; None where it did not need them."""
        ...


@runtime_checkable
class FurtherMetrics(Protocol):
    """A benchmark that can measure more than its published tables hold, where asked for by name."""

    @property
    def further_metrics(self) -> tuple[str, ...]: ...  # noqa: D102


class Benchmark(Protocol):
    """A published benchmark, read from its own files. It knows names, pairs and rules, but no vectors.

    Attributes:
        name: as published: `IJB-C`, `Market-1501`, `ROxford5k`, `LFW`.
        ids: (N,) id of every image that it needs, unique, in its order.
        metrics: names of what it measures, in the order of its tables.
        identities: units of the bootstrap: subjects, query identities, or queries.
        data: how much of what there is, such as `templates` or `genuine_pairs`.
        notes: what of the files was left out and why, a sentence each.
    """

    # properties, so that fields of a frozen dataclass will do
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def ids(self) -> npt.NDArray[np.str_]: ...  # noqa: D102
    @property
    def metrics(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def identities(self) -> int: ...  # noqa: D102
    @property
    def data(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def prepare(self, vectors: npt.NDArray[Any], rows: Ints | None = None) -> npt.NDArray[np.float32]:
        """Turn one model's vectors of the images into what is compared: images as they are, or pooled templates.

        Args:
            vectors: (n, D) float32 or float16, perhaps a memory map: read in blocks, never whole.
            rows: (N,) row of `vectors` of each of `ids`; None where they stand in the order of `ids`.

        Returns:
            (M, D) float32 of unit length; zero where nothing with a direction was there to compare.
        """
        ...

    def run(self, queries: npt.NDArray[np.float32], gallery: npt.NDArray[np.float32]) -> BenchmarkScores:
        """Compare what two models prepared, (M, D) each: `queries` by one, `gallery` by the other.

        In 1:1 comparisons `queries` give the first of each pair and `gallery` the second.
        """
        ...
