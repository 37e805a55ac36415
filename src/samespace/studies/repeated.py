"""A comparison over the seeds of a study: its certificates, and intervals of what they say on the mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.evaluate.certificate import Interval
from samespace.evaluate.verdict import Replicates
from samespace.files import read_npz
from samespace.metrics.bootstrap import interval
from samespace.studies.plan import Plan
from samespace.studies.study import Pair


@dataclass(frozen=True)
class Repeated:
    """One comparison over all seeds.

    The intervals are of means over the seeds, by metric. They hold for the trainings that were made: they say how far
    the choice of the check's identities moves the mean, and nothing of trainings with other seeds. Identities are
    resampled once for all seeds, so that one which is in several seeds' checks has one weight in all of them, and each
    seed finds its own thresholds; where checks share identities, as those of marked classes do, more seeds take out
    noise of training but none of the identities. With one seed it is the certificate's interval.

    Attributes:
        certificates: one for each seed.
        differences: intervals of cross − old.
        leads: intervals of new − paragon, both on their own galleries; empty with one seed, or without such a test.
    """

    certificates: tuple[Certificate, ...]
    differences: Mapping[str, Interval]
    leads: Mapping[str, Interval] = field(default_factory=dict)


def load_comparisons(plan: Plan) -> dict[Pair, Repeated]:
    """Every comparison that was asked for, from the files of its seeds."""
    return {pair: _load(plan, pair) for pair in plan.shown.pairs()}


def _load(plan: Plan, pair: Pair) -> Repeated:
    certificates = tuple(Certificate.load(plan.certificate(pair, seed)) for seed in plan.seeds)
    first, *others = certificates
    if not others:
        return Repeated(certificates, {name: metric.difference for name, metric in first.metrics.items()})
    draws = [_read(plan.replicates(pair, seed), list(first.metrics)) for seed in plan.seeds]
    at_home = [name for name in first.metrics if {(name, "new"), (name, "paragon")} <= draws[0].keys()]
    return Repeated(
        certificates,
        {name: mean_interval(draws, name, "cross", "old", first.confidence) for name in first.metrics},
        {name: mean_interval(draws, name, "new", "paragon", first.confidence) for name in at_home},
    )


def mean_interval(draws: Sequence[Replicates], metric: str, test: str, other: str, confidence: float) -> Interval:
    """The interval of the mean over checks of `test` − `other`, from replicates under shared resamples."""
    return interval(np.mean([draw[metric, test] - draw[metric, other] for draw in draws], axis=0), confidence)


def _read(path: Path, metrics: Sequence[str]) -> Replicates:
    names = {f"{metric} {test}": (metric, test) for metric in metrics for test in ("old", "cross", "new", "paragon")}
    arrays, _ = read_npz(path, list(names), "the replicates of a comparison")
    draws = {names[name]: values for name, values in arrays.items()}
    for metric in metrics:
        if not {(metric, "old"), (metric, "cross")} <= draws.keys():
            raise InputError(f"{path} has no replicates of {metric}: remove the file, and the same call makes it anew")
    return draws
