"""What a sweep tells: values, intervals and areas of every order and merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from samespace.evaluate.certificate import Interval, SweepCurve, SweepPoint, SweepResult
from samespace.evaluate.sweep import SHARES, Sweep
from samespace.evaluate.verdict import Replicates, replicate
from samespace.metrics.bootstrap import interval
from samespace.metrics.flips import flips
from samespace.scoring.metric_names import Metric
from samespace.scoring.scores import Scores
from samespace.scoring.thresholds import TailTooShort

_SLOW_REPLICATES = 300


def sweep_result(
    sweep: Sweep,
    shown: Sequence[Metric],
    scores: Mapping[str, Scores],
    *,
    replicates: int,
    seed: int,
    confidence: float,
) -> tuple[SweepResult, list[str]]:
    """The stages of every order and merge, and notes.

    Each point holds the values, the negative flips at rank 1 against the old system, and by metric the intervals of
    stage − start and of end − stage over resamples of identities. Start and end are the cross and the self test.
    `area` is (mean over shares − start) / (end − start), by trapezoids, None where the end is not above the start;
    `holds` says whether no stage lies provably below the start.

    `scores` are of the tests old, cross and new. Metrics with a threshold take at most 300 of the `replicates`.
    """
    stages = {
        (order, merge): {0.0: scores["cross"], **between, 1.0: scores["new"]}
        for (order, merge), between in sweep.stages(scores["cross"], scores["new"]).items()
    }
    named = {
        _name(order, merge, share): stage
        for (order, merge), points in stages.items()
        for share, stage in points.items()
    }
    notes = []
    try:
        draws = _draws(shown, named, replicates, seed)
    except TailTooShort:
        notes.append("The sweep leaves out TAR: it needs more impostor scores than are kept.")
        shown = [metric for metric in shown if not metric.reads_tail]
        draws = _draws(shown, named, replicates, seed)
    right = scores["old"].matches.right_at_first
    orders: dict[str, dict[str, SweepCurve]] = {}
    for (order, merge), points in stages.items():
        curve = []
        for share, stage in points.items():
            here, start, end = (_name(order, merge, at) for at in (share, SHARES[0], SHARES[-1]))
            curve.append(
                SweepPoint(
                    share=share,
                    values={metric.name: metric.value(stage) for metric in shown},
                    negative_flips=flips(right, stage.matches.right_at_first).negative,
                    since_start=_gaps(draws, here, start, shown, confidence),
                    to_end=_gaps(draws, end, here, shown, confidence),
                )
            )
        orders.setdefault(order, {})[merge] = SweepCurve(
            points=tuple(curve),
            area={metric.name: area([at.values[metric.name] for at in curve]) for metric in shown},
            holds={metric.name: all(at.since_start[metric.name][1] >= 0 for at in curve) for metric in shown},
        )
    return SweepResult("logistic", tuple(metric.name for metric in shown), orders), notes


def _draws(shown: Sequence[Metric], named: Mapping[str, Scores], replicates: int, seed: int) -> Replicates:
    """Replicates of every metric; fewer of those that place a threshold anew each time, which is slow."""
    quick = [metric for metric in shown if not metric.has_threshold]
    slow = [metric for metric in shown if metric.has_threshold]
    few = min(replicates, _SLOW_REPLICATES)
    return replicate(quick, named, replicates=replicates, seed=seed) | replicate(slow, named, replicates=few, seed=seed)


def area(values: Sequence[float], shares: Sequence[float] = SHARES) -> float | None:
    """Normalised area under a backfill curve, (mean − start) / (end − start); None where the end is not above.

    A straight line has 0.5; above it the gain comes early. Above 1 a mixed gallery beats the finished one.

    Example:
        >>> area([0.2, 0.6, 0.6], [0.0, 0.5, 1.0])
        0.75
    """
    if not values[-1] > values[0]:
        return None
    mean = float(np.trapezoid(values, shares)) / (shares[-1] - shares[0])
    return round((mean - values[0]) / (values[-1] - values[0]), 12)


def _name(order: str, merge: str, share: float) -> str:
    """One name for the ends, which all orders and merges have in common."""
    return f"{order} {merge} {share}" if 0 < share < 1 else str(share)


def _gaps(draws: Replicates, here: str, there: str, shown: Sequence[Metric], confidence: float) -> dict[str, Interval]:
    """The interval of value(here) − value(there) of each metric."""
    return {metric.name: interval(draws[metric.name, here] - draws[metric.name, there], confidence) for metric in shown}
