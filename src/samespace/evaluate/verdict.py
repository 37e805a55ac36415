"""The verdict: bootstrap replicates of every metric, and whether cross − old lies above zero in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.certificate import Interval, MetricResult
from samespace.metrics._arrays import Floats
from samespace.metrics.bootstrap import interval, ratio, resamples, resamples_by_name
from samespace.metrics.compatibility import absolute_gain, criterion, update_gain
from samespace.metrics.verification import allowed_count
from samespace.scoring.blocks import ModelPairs
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import Metric
from samespace.scoring.scores import Scores, collect_scores, is_large
from samespace.scoring.thresholds import TailTooShort
from samespace.scoring.tiles.band import table_bytes
from samespace.scoring.tiles.counted_tail import CountedTail

TESTS = ("old", "cross", "new", "paragon")
FEW_IDENTITIES = 20
# score and both places, and twice as many scores as are kept in the end are gathered before they are cut
_BYTES_KEPT = 24
_MOST_KEPT, _LARGEST_TABLE = 1 << 30, 1 << 29

Replicates = dict[tuple[str, str], Floats]


def replicate(
    metrics: Sequence[Metric],
    scores: Mapping[str, Scores],
    *,
    replicates: int,
    seed: int,
    names: Sequence[str] | None = None,
) -> Replicates:
    """Every metric of every pair of models over the same resamples of identities.

    Args:
        metrics: to replicate.
        scores: of each pair of models.
        replicates: bootstrap resamples.
        seed: of the resamples.
        names: of the identities in their order, where each is to be weighed by its name (`resamples_by_name`).

    Returns:
        {(metric name, pair name): (replicates,) float64}; NaN where a resample leaves a metric undefined.

    Raises:
        TailTooShort: too few impostor scores are kept.
    """
    identities = next(iter(scores.values())).mates.identities
    parts: dict[tuple[str, str], list[Floats]] = {}
    if names is None:
        drawn = resamples(identities, replicates=replicates, seed=seed)
    else:
        drawn = resamples_by_name(names, replicates=replicates, seed=seed)
    for counts in drawn:
        for metric in metrics:
            for pair, some in scores.items():
                parts.setdefault((metric.name, pair), []).append(metric.values(some, counts))
    return {key: np.concatenate(part) for key, part in parts.items()}


def replicate_deepened(
    metrics: Sequence[Metric],
    scores: Mapping[str, Scores],
    pairs: ModelPairs,
    *,
    size: int,
    replicates: int,
    seed: int,
    block_size: int | None,
    names: Sequence[str] | None = None,
) -> tuple[dict[str, Scores], Replicates]:
    """As `replicate`; where a resample needs more of the impostor tail than is kept, keep more and start over.

    Args:
        metrics: to replicate.
        scores: of each pair of models.
        pairs: the vectors behind them.
        size: how many of the largest impostor scores they keep.
        replicates: bootstrap resamples.
        seed: of the resamples.
        block_size: queries per block of scores.
        names: as in `replicate`.

    Returns:
        The scores, perhaps with a longer tail, and the replicates.
    """
    found = dict(scores)
    mates = next(iter(found.values())).mates
    # the pairs near thresholds of tails that are not kept are gathered test by test
    counted = any(isinstance(one.tail, CountedTail) for one in found.values())
    while True:
        try:
            draws: Replicates = {}
            for part in [{name: one} for name, one in found.items()] if counted else [found]:
                draws |= replicate(metrics, part, replicates=replicates, seed=seed, names=names)
                for one in part.values():
                    if isinstance(one.tail, CountedTail):
                        one.tail.forget()
            return found, draws
        except TailTooShort:
            size *= 4
            found = collect_scores(pairs, mates, size, block_size=block_size, sampled=True, counted=counted)


def quota_of(metrics: Sequence[Metric], mates: Mates) -> int:
    """How many impostor pairs the metrics with the highest rate accept."""
    rates = [metric.argument for metric in metrics if metric.reads_tail]
    return max((allowed_count(rate, mates.impostors) for rate in rates), default=0)


def tail_size(quota: int) -> int:
    """How many of the largest impostor scores to keep, so that few resamples ask for more."""
    return max(3 * quota + 1024, 4096)


def counts_tails(sizes: Iterable[int], mates: Mates) -> bool:
    """Whether impostor tails of these sizes are counted because they take too much memory to keep.

    Where thresholds are placed anew, a table of the identities of both sides is then needed, which has to fit as well.
    """
    kept = _BYTES_KEPT * sum(min(size, mates.impostors) for size in sizes)
    return is_large(mates) and kept > _MOST_KEPT and table_bytes(mates) <= _LARGEST_TABLE


def require_memory(sizes: Iterable[int], metrics: Sequence[Metric], impostors: int, memory: int | None = None) -> None:
    """Refuse a rate whose impostor tails cannot be held, by an InputError, before hours go into them.

    `sizes` are the scores to keep of each pair of models, at most all `impostors`; `memory`, in bytes, is by default
    that of the machine, and where that is unknown nothing is refused.
    """
    if memory is None and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", ()):
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = _BYTES_KEPT * sum(min(size, impostors) for size in sizes)
    if memory is not None and needed > memory:
        rated = max((metric for metric in metrics if metric.reads_tail), key=lambda metric: metric.argument)
        raise InputError(
            f"{rated.name} needs the highest scores of {impostors} impostor pairs, {needed / 2**30:.1f} GiB, more than "
            f"the memory of {memory / 2**30:.1f} GiB: ask for a lower FAR, which needs in proportion less, or check "
            "fewer queries"
        )


def judge(
    name: str, measured: Mapping[str, float], draws: Mapping[str, Floats], control: float, confidence: float
) -> MetricResult:
    """Turn the values of a metric under each test that was run, and its bootstrap replicates, into a verdict.

    `draws` are (replicates,) values of each test under the same resamples, `control` is of the rotated cross test.

    Raises:
        InputError: no resample defines the metric.
    """
    old, cross, paragon = measured["old"], measured["cross"], measured.get("paragon")
    gained = draws["cross"] - draws["old"]
    if np.isnan(gained).all():
        raise InputError(f"{name}: no resample of identities holds one with mates; use more replicates or more data")
    difference = interval(gained, confidence)
    lead: Interval | None = None
    gain: float | None = None
    gain_interval: Interval | None = None
    if paragon is not None:
        ahead = draws["paragon"] - draws["old"]
        lead = interval(ahead, confidence)
        gain = update_gain(cross, old, paragon) if lead[0] > 0 else None
        gain_interval = interval(ratio(gained, ahead), confidence) if gain is not None else None
    return MetricResult(
        old=old,
        cross=cross,
        new=measured.get("new"),
        paragon=paragon,
        control=control,
        difference=difference,
        absolute_gain=absolute_gain(cross, old),
        update_gain=gain,
        update_gain_interval=gain_interval,
        criterion=criterion(cross, old),
        compatible=difference[0] > 0,
        intervals={test: interval(draws[test], confidence) if test in draws else None for test in TESTS},
        paragon_lead=lead,
    )


def overall(results: Mapping[str, MetricResult], identities: int) -> tuple[bool, dict[str, MetricResult]]:
    """Whether every metric is compatible, and the results; with a single identity that has mates no metric is."""
    if identities < 2:
        results = {name: replace(result, compatible=False) for name, result in results.items()}
    return all(result.compatible for result in results.values()), dict(results)


def require_options(confidence: float, **at_least: tuple[int | None, int]) -> None:
    """Refuse options out of range, by an InputError; each is given with the least that it may be."""
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, got {confidence}")
    for name, (value, least) in at_least.items():
        if value is not None and value < least:
            raise InputError(f"{name} should be at least {least}, got {value}")


def control_cautions(results: Mapping[str, MetricResult], what: str) -> list[str]:
    """A note for each metric on which randomly rotated new vectors are not clearly below the old model."""
    return [
        f"{name}: randomly rotated new {what} reach {result.control:.4f}, not clearly below the old model's "
        f"{result.old:.4f}; this metric tells little here."
        for name, result in results.items()
        if (bounds := result.intervals["old"]) is not None and result.control >= bounds[0]
    ]
