"""`check`: may the new model search the old gallery?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import numpy as np

from samespace.errors import InputError
from samespace.evaluate.backfill_curve import Backfill
from samespace.evaluate.calibrations import fold_lines, learn
from samespace.evaluate.certificate import (
    BackfillCurve,
    BackfillPoint,
    Certificate,
    CheckedSpace,
    Interval,
    MetricResult,
)
from samespace.evaluate.choice import choose_metrics
from samespace.evaluate.curves import curves
from samespace.evaluate.examples import examples as choose_examples
from samespace.evaluate.inputs import Trial, align
from samespace.evaluate.metric_names import Metric, parse
from samespace.evaluate.pooled import pool_sides
from samespace.evaluate.protocol import Outcome, impostor_pairs, scan
from samespace.evaluate.replicates import TailTooShort, point, replicate
from samespace.evaluate.strict_criterion import StrictCounter
from samespace.evaluate.sweep import Sweep
from samespace.evaluate.sweep_result import sweep_result
from samespace.metrics._arrays import Floats
from samespace.metrics.bootstrap import interval, ratio
from samespace.metrics.compatibility import absolute_gain, criterion, update_gain
from samespace.metrics.flips import Flips, flips
from samespace.metrics.verification import allowed_count
from samespace.vectors import VectorSet

_TESTS = ("old", "cross", "new", "paragon")
_FEW_IDENTITIES = 20
# a stage with a tenth of its items on one side finds its false accepts among ten times as many of that side
_MIXED_TAIL = 15


def check(
    *,
    queries: VectorSet,
    gallery: VectorSet,
    baseline: VectorSet,
    new_gallery: VectorSet | None = None,
    paragon: tuple[VectorSet, VectorSet] | None = None,
    metrics: Sequence[str] | None = None,
    prefix: bool = False,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    examples: int = 12,
    backfill_steps: int = 5,
    block_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    """Judge whether queries of a new model may search the gallery of an old one (BCT Eq. 2, with intervals).

    Every test runs on the same items: old queries on the old gallery, new queries on the old gallery (the cross test),
    and where given both sides by the new model and both by the paragon. A metric is compatible where the paired
    bootstrap interval of cross − old, over identities, lies above zero. For rank-k, mAP and TPIR query identities are
    resampled and the gallery stays; for TAR identities are resampled on both sides. Thresholds are found anew in each
    resample. With a single identity that has mates no metric counts as compatible.

    Args:
        queries: queries by the new model, labelled.
        gallery: the gallery by the old model, labelled.
        baseline: the queries by the old model.
        new_gallery: the gallery by the new model.
        paragon: queries and gallery by the new model trained without compatibility.
        metrics: names such as `rank@1`, `mAP`, `TAR@FAR=1e-4`, `TPIR@FPIR=1e-2`, `TPIR-merged@FPIR=1e-2`; by default
            those the data supports.
        prefix: compare the leading values of longer new vectors, as many as the old ones have, in the cross test.
        replicates: bootstrap resamples.
        confidence: of the intervals.
        seed: of the resamples, the rotation, the backfill order and the examples.
        examples: how many example queries to record.
        backfill_steps: steps of the partial-backfill curve.
        block_size: queries per block of scores; by default what keeps blocks within about 128 MB.
        progress: called with (queries done, queries in all).

    Where the sets of a side have templates, each template is pooled into one vector and is one item. Items are matched
    by id where both sets have ids, by row otherwise; an item that is in queries and gallery by id is not matched with
    itself.

    Raises:
        InputError: the sets do not fit each other, or an option is out of range.
        SpaceError: sets of one side declare different spaces.
    """
    _require_options(replicates, confidence, examples, backfill_steps, block_size)
    asking = {"queries": queries, "baseline": baseline, "paragon queries": paragon and paragon[0]}
    stored = {"gallery": gallery, "new_gallery": new_gallery, "paragon gallery": paragon and paragon[1]}
    sets, pooling = pool_sides(asking, stored)
    queries, gallery, baseline = sets["queries"], sets["gallery"], sets["baseline"]
    new_gallery = sets.get("new_gallery")
    paragon = (sets["paragon queries"], sets["paragon gallery"]) if paragon else None
    trial = align(
        queries=queries,
        gallery=gallery,
        baseline=baseline,
        new_gallery=new_gallery,
        paragon=paragon,
        prefix=prefix,
        seed=seed,
    )
    chosen, notes = choose_metrics(metrics, trial)
    notes = [*pooling, *trial.notes, *_undeclared(gallery, baseline), *_undeclared(queries, new_gallery), *notes]
    quota = _quota(chosen, trial)
    strict = StrictCounter()
    backfill, sweep = None, None
    if new_gallery is not None:
        backfill = Backfill(trial, backfill_steps, _quota(chosen[:1], trial) + 1, seed)
        sweep, refusal = _sweep(trial, seed, block_size)
        notes.extend(refusal)
    outcomes = scan(
        trial,
        list(trial.pairs),
        max(_tail_size(quota), _MIXED_TAIL * _quota(chosen[:1], trial)) if sweep else _tail_size(quota),
        block_size=block_size,
        sampled=True,
        observers=[strict, *(observer for observer in (backfill, sweep) if observer)],
        progress=progress and (lambda done: progress(done, len(queries))),
    )
    control = outcomes.pop("control")
    outcomes, resampled = _replicate(trial, chosen, outcomes, quota, replicates, seed, block_size)
    results = {}
    for metric in chosen:
        measured = {test: point(metric, outcome, trial) for test, outcome in outcomes.items()}
        draws = {test: resampled[metric.name, test] for test in outcomes}
        results[metric.name] = judge(metric.name, measured, draws, point(metric, control, trial), confidence)
    calibrations, uncalibrated = learn({test: outcomes.get(test) for test in ("old", "cross", "new")})
    notes.extend(uncalibrated)
    swept = None
    if sweep is not None:
        swept, left_out = sweep_result(
            sweep, _followed(chosen), outcomes, trial, replicates=replicates, seed=seed, confidence=confidence
        )
        notes.extend(left_out)
    mated = len(np.unique(trial.query_codes[trial.mate_counts() > 0]))
    if mated < 2:
        results = {name: replace(result, compatible=False) for name, result in results.items()}
    return Certificate(
        compatible=all(result.compatible for result in results.values()),
        metrics=results,
        old_space=described_space(gallery),
        new_space=described_space(queries),
        paragon_space=None if paragon is None else described_space(paragon[0]),
        data=_data(trial),
        options={"prefix": prefix},
        strict=strict.shares(trial),
        flips={test: _flips(outcomes, test) for test in ("cross", "new")},
        backfill=None if backfill is None else _curve(backfill, chosen, outcomes, trial),
        curves=curves({test: outcomes.get(test) for test in _TESTS}),
        examples=choose_examples(trial, outcomes, examples, seed),
        notes=(*notes, *_cautions(results, mated)),
        seed=seed,
        replicates=replicates,
        confidence=confidence,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=version("samespace"),
        calibrations=calibrations,
        sweep=swept,
    )


def judge(
    name: str, measured: Mapping[str, float], draws: Mapping[str, Floats], control: float, confidence: float
) -> MetricResult:
    """Turn the values of a metric and its bootstrap replicates into a verdict.

    Args:
        name: the metric.
        measured: its value under each test that was run: old, cross, and perhaps new and paragon.
        draws: (replicates,) values of each test under the same resamples.
        control: its value under the rotated cross test.
        confidence: of the intervals.

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
        intervals={test: interval(draws[test], confidence) if test in draws else None for test in _TESTS},
        paragon_lead=lead,
    )


def _replicate(
    trial: Trial,
    chosen: list[Metric],
    outcomes: dict[str, Outcome],
    quota: int,
    replicates: int,
    seed: int,
    block_size: int | None,
) -> tuple[dict[str, Outcome], dict[tuple[str, str], Floats]]:
    """Bootstrap every metric; where a resample needs more of the impostor tail, keep more and start over."""
    size = _tail_size(quota)
    while True:
        try:
            return outcomes, replicate(chosen, outcomes, trial, replicates=replicates, seed=seed)
        except TailTooShort:
            size *= 4
            outcomes = scan(trial, list(outcomes), size, block_size=block_size, sampled=True)


def _quota(chosen: list[Metric], trial: Trial) -> int:
    rates = [metric.rate for metric in chosen if metric.kind == "TAR"]
    return max((allowed_count(rate, impostor_pairs(trial)) for rate in rates), default=0)


def _tail_size(quota: int) -> int:
    """How many of the largest impostor scores to keep, so that few resamples ask for more."""
    return max(3 * quota + 1024, 4096)


def _sweep(trial: Trial, seed: int, block_size: int | None) -> tuple[Sweep | None, list[str]]:
    """The sweep, or a note that says why there is none."""
    try:
        return Sweep(trial, fold_lines(trial, seed=seed, block_size=block_size), seed), []
    except InputError as error:
        return None, [f"No sweep over backfill shares: {error}."]


def _followed(chosen: list[Metric]) -> list[Metric]:
    """The metrics a backfill curve shows."""
    return list({metric.name: metric for metric in (parse("rank@1"), parse("mAP"), chosen[0])}.values())


def _curve(backfill: Backfill, chosen: list[Metric], outcomes: Mapping[str, Outcome], trial: Trial) -> BackfillCurve:
    shown = _followed(chosen)
    points = [
        BackfillPoint(share, {metric.name: point(metric, outcome, trial) for metric in shown})
        for share, outcome in backfill.outcomes(outcomes["cross"], outcomes["new"])
    ]
    return BackfillCurve(tuple(metric.name for metric in shown), tuple(points))


def _flips(outcomes: Mapping[str, Outcome], test: str) -> Flips | None:
    if test not in outcomes:
        return None
    before, after = outcomes["old"].found, outcomes[test].found
    return flips(before.rank[before.mated] == 1, after.rank[before.mated] == 1)


def _cautions(results: Mapping[str, MetricResult], mated: int) -> list[str]:
    notes = []
    if mated < 2:
        notes.append("Only one identity has mates: nothing can be said of others, so no metric counts as compatible.")
    elif mated < _FEW_IDENTITIES:
        notes.append(f"Only {mated} identities have mates: the intervals rest on few and may be too narrow.")
    for name, result in results.items():
        bounds = result.intervals["old"]
        if bounds is not None and result.control >= bounds[0]:
            notes.append(
                f"{name}: randomly rotated new queries reach {result.control:.4f}, not clearly below the old model's "
                f"{result.old:.4f}; this metric tells little here."
            )
    return notes


def _data(trial: Trial) -> dict[str, int]:
    mates = trial.mate_counts()
    return {
        "queries": len(trial.query_codes),
        "gallery": len(trial.gallery_codes),
        "identities": trial.identities,
        "mated_queries": int((mates > 0).sum()),
        "unmated_queries": int((mates == 0).sum()),
        "genuine_pairs": int(mates.sum()),
        "impostor_pairs": impostor_pairs(trial),
        "self_matches_dropped": int((trial.self_place >= 0).sum()),
    }


def described_space(source: VectorSet) -> CheckedSpace:
    """The space of a set as a certificate names it; its id is None where the set declares none."""
    if source.space is None:
        return CheckedSpace(id=None, name=source.name, dim=source.dim)
    return CheckedSpace(**source.space.to_dict())


def _undeclared(source: VectorSet, companion: VectorSet | None) -> list[str]:
    """A note where only the companion of a side declares a space, for which the certificate then does not vouch."""
    if source.space is not None or companion is None or companion.space is None:
        return []
    return [
        f"{source.name} declares no space, though {companion.name} does: nothing says that they are of one model, so "
        "this certificate links no spaces."
    ]


def _require_options(
    replicates: int, confidence: float, examples: int, backfill_steps: int, block_size: int | None
) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"confidence lies between 0 and 1, got {confidence}")
    for name, value, least in (
        ("replicates", replicates, 1),
        ("examples", examples, 0),
        ("backfill_steps", backfill_steps, 1),
        ("block_size", block_size, 1),
    ):
        if value is not None and value < least:
            raise InputError(f"{name} should be at least {least}, got {value}")
