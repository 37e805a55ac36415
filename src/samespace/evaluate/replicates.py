"""A check with replicates under weights that follow from identities' names, to be averaged over several checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from samespace.evaluate.certificate import Certificate
from samespace.evaluate.check import check
from samespace.evaluate.inputs import AlignedSets
from samespace.evaluate.verdict import Replicates, quota_of, replicate_deepened, tail_size
from samespace.metrics._arrays import names_of
from samespace.scoring.metric_names import Metric
from samespace.scoring.scores import Scores


def check_with_replicates(*, replicates: int, by_name: int = 0, **options: Any) -> tuple[Certificate, Replicates]:
    """The certificate of a check, and its metrics over resamples that weigh identities by name, of the same scores.

    Checks that share identities are resampled together, whatever else differs in them: the average of their replicates
    is that of one bootstrap over all of them (`samespace.metrics.bootstrap.resamples_by_name`). Thresholds are each
    check's own, found anew in each resample.

    Args:
        replicates: bootstrap resamples, of the certificate and by name.
        by_name: the seed of the weights by name, the same for all checks that are averaged.
        options: of `samespace.evaluate.check`.

    Returns:
        The certificate, and {(metric name, test): (replicates,) float64} of the tests that were given; NaN where a
        resample leaves a metric undefined.

    Raises:
        InputError: as `check`.
    """
    draws: Replicates = {}

    def also(metrics: Sequence[Metric], aligned: AlignedSets, tests: Mapping[str, Scores]) -> None:
        assert aligned.queries.labels is not None
        assert aligned.gallery.labels is not None
        _, found = replicate_deepened(
            metrics,
            tests,
            {test: aligned.pairs[test] for test in tests},
            size=tail_size(quota_of(metrics, aligned.mates)),
            replicates=replicates,
            seed=by_name,
            block_size=None,
            names=names_of(aligned.queries.labels, aligned.gallery.labels),
        )
        draws.update(found)

    return check(**options, replicates=replicates, measured=also), draws
