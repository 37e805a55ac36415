"""`certify`: a published benchmark as a check; its result is a certificate like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from samespace.benchmarks.base import Benchmark, BenchmarkScores, FurtherMetrics, GenuineScores
from samespace.errors import InputError
from samespace.evaluate.certificate import Certificate, MetricResult
from samespace.evaluate.diagnosis import diagnose
from samespace.evaluate.inputs import require_dims
from samespace.evaluate.spaces import described_space
from samespace.evaluate.verdict import (
    FEW_IDENTITIES,
    Replicates,
    control_cautions,
    judge,
    overall,
    require_options,
)
from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.bootstrap import resamples
from samespace.metrics.spread import Spread, spread
from samespace.scoring.blocks import Units
from samespace.scoring.metric_aliases import suggest_metric
from samespace.scoring.units import random_rotation
from samespace.vectors import VectorSet

_TURN_ROWS = 8192


def certify(
    benchmark: Benchmark,
    *,
    old: VectorSet,
    new: VectorSet,
    paragon: VectorSet | None = None,
    metrics: Sequence[str] | None = None,
    prefix: bool = False,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    measured: Callable[[str, BenchmarkScores], None] | None = None,
) -> Certificate:
    """Judge on a published benchmark whether vectors of a new model may be compared with those of an old one.

    The cross test has new queries on the old gallery, and in 1:1 comparisons the first of each pair by the new model,
    the second by the old; `swap` is the reverse. Both self tests, the paragon and a randomly rotated control run on
    the same images, and all intervals rest on the same resamples of the benchmark's identities.

    Args:
        benchmark: such as `IJB.read(…)`.
        old: vectors of the benchmark's images by the old model, more if you like; matched by id, or by row where a
            set has no ids and as many rows as the benchmark has images.
        new: the same images by the new model.
        paragon: the same images by the new model trained without compatibility.
        metrics: some of `benchmark.metrics`, all by default, or further ones that the benchmark can measure.
        prefix: compare the leading values of longer new vectors, as many as the old ones have, scaled to length one,
            in the cross test; templates are pooled from whole vectors.
        replicates: bootstrap resamples.
        confidence: of the intervals.
        seed: of the resamples and the rotation.
        progress: called with (tests done, tests in all).
        measured: called with each test that is resampled and its scores, for what else is to be made of them.

    Raises:
        InputError: images are missing, dimensions do not fit, a metric is not the benchmark's or is undefined on it,
            or an option is out of range.
    """
    names = _names(benchmark, metrics)
    require_options(confidence, replicates=(replicates, 1))
    prepared = _prepared(benchmark, old, new, paragon, prefix)
    tests = _tests(prepared, old.dim if prefix else None, seed)
    points: dict[str, dict[str, float]] = {}
    draws: dict[str, dict[str, Floats]] = {}
    genuine: dict[str, Spread] = {}
    ones = np.ones((1, benchmark.identities), dtype=np.int64)
    for done, (test, sides) in enumerate(tests.items(), 1):
        scores = benchmark.run(*sides())
        points[test] = {name: float(value[0]) for name, value in scores.values(ones, names).items()}
        if test not in ("swap", "control"):
            draws[test] = _draws(benchmark, scores, names, replicates, seed)
            if measured is not None:
                measured(test, scores)
            mates = scores.genuine() if isinstance(scores, GenuineScores) else None
            if mates is not None and mates.size:
                genuine[test] = spread(mates)
        if progress is not None:
            progress(done, len(tests))
    judged = {name: _judged(name, points, draws, confidence) for name in names}
    compatible, results = overall(judged, benchmark.identities)
    certificate = Certificate(
        compatible=compatible,
        metrics=results,
        old_space=described_space(old),
        new_space=described_space(new),
        paragon_space=None if paragon is None else described_space(paragon),
        data={"identities": benchmark.identities, **benchmark.data},
        options={"benchmark": benchmark.name, "prefix": prefix},
        strict=None,
        flips={},
        curves=None,
        examples=(),
        notes=(f"Benchmark: {benchmark.name}.", *benchmark.notes, *_notes(benchmark, prepared, results)),
        seed=seed,
        replicates=replicates,
        confidence=confidence,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=version("samespace"),
        genuine=genuine,
    )
    return replace(certificate, diagnosis=diagnose(certificate))


def certify_with_replicates(
    benchmark: Benchmark, *, metrics: Sequence[str], replicates: int, by_seed: int = 0, **options: Any
) -> tuple[Certificate, Replicates]:
    """The certificate, and of the same scores its metrics over resamples of the identities by another seed.

    Args:
        benchmark: as in `certify`.
        metrics: likewise.
        replicates: bootstrap resamples, of the certificate and by `by_seed`.
        by_seed: the seed of the further resamples.
        options: of `certify`.

    Returns:
        The certificate, and {(metric name, test): (replicates,) float64} of the tests old, cross, new and, where given,
        paragon.

    Raises:
        InputError: as `certify`.
    """
    draws: Replicates = {}

    def also(test: str, scores: BenchmarkScores) -> None:
        found = _draws(benchmark, scores, _names(benchmark, metrics), replicates, by_seed)
        draws.update({(name, test): values for name, values in found.items()})

    return certify(benchmark, metrics=metrics, replicates=replicates, measured=also, **options), draws


def _prepared(
    benchmark: Benchmark, old: VectorSet, new: VectorSet, paragon: VectorSet | None, prefix: bool
) -> dict[str, Units]:
    require_dims(new.dim, old.dim, prefix, f"{new.name} has", f"{old.name} has")
    sets = {"old": old, "new": new} | ({"paragon": paragon} if paragon is not None else {})
    return {role: benchmark.prepare(source.vectors, rows_of(benchmark, source)) for role, source in sets.items()}


def _draws(
    benchmark: Benchmark, scores: BenchmarkScores, names: list[str], replicates: int, seed: int
) -> dict[str, Floats]:
    parts = [
        scores.values(counts, names) for counts in resamples(benchmark.identities, replicates=replicates, seed=seed)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def rows_of(benchmark: Benchmark, source: VectorSet) -> Ints | None:
    """Row of `source` of each image of a benchmark; None where they already stand in its order.

    Raises:
        InputError: images are missing, or the set has no ids and another number of rows.
    """
    ids = benchmark.ids
    if not source.has_ids:
        if len(source) != len(ids):
            raise InputError(
                f"{source.name} has no ids and {len(source)} vectors; {benchmark.name} needs {len(ids)} images, in its "
                "order, or vectors with ids"
            )
        return None
    if len(source) == len(ids) and np.array_equal(source.ids, ids):
        return None
    rows = source.rows_of(ids)
    if len(missing := ids[rows < 0]):
        raise InputError(
            f"{source.name} lacks {len(missing)} of the {len(ids)} images of {benchmark.name}, the first with id "
            f"'{missing[0]}'; its own ids look like '{source.ids[0]}'"
        )
    return rows


def _tests(prepared: dict[str, Units], cut: int | None, seed: int) -> dict[str, Callable[[], tuple[Units, Units]]]:
    """Queries and gallery of each test, made when they are needed."""
    old, new = prepared["old"], prepared["new"]
    leading = _leading(new, cut) if cut is not None else new
    tests: dict[str, Callable[[], tuple[Units, Units]]] = {
        "old": lambda: (old, old),
        "cross": lambda: (leading, old),
        "swap": lambda: (old, leading),
        "new": lambda: (new, new),
    }
    if "paragon" in prepared:
        tests["paragon"] = lambda: (prepared["paragon"], prepared["paragon"])
    tests["control"] = lambda: (_turned(new, cut, seed), old)
    return tests


def _leading(vectors: Units, dim: int) -> Units:
    """The leading values, scaled to length one; zero where they are."""
    values = vectors[:, :dim].astype(np.float64)
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return (values / np.where(lengths > 0, lengths, np.inf)).astype(np.float32)


def _turned(vectors: Units, cut: int | None, seed: int) -> Units:
    rotation = random_rotation(vectors.shape[1], seed)
    turned = np.empty_like(vectors)
    for start in range(0, len(vectors), _TURN_ROWS):
        turned[start : start + _TURN_ROWS] = vectors[start : start + _TURN_ROWS] @ rotation
    return turned if cut is None else _leading(turned, cut)


def _judged(
    name: str, points: dict[str, dict[str, float]], draws: dict[str, dict[str, Floats]], confidence: float
) -> MetricResult:
    measured = {test: values[name] for test, values in points.items()}
    if np.isnan(list(measured.values())).any():
        raise InputError(f"{name} is undefined on this benchmark: nothing is there to measure it on; leave it out")
    swap, control = measured.pop("swap"), measured.pop("control")
    result = judge(name, measured, {test: values[name] for test, values in draws.items()}, control, confidence)
    return replace(result, swap=swap)


def _notes(benchmark: Benchmark, prepared: dict[str, Units], results: dict[str, MetricResult]) -> list[str]:
    notes = []
    for role, vectors in prepared.items():
        empty = int(np.count_nonzero(~vectors.any(axis=1)))
        if empty:
            notes.append(
                f"{empty} of {len(vectors)} templates or images have no direction in the {role} vectors: they score "
                "0 with everything."
            )
    if benchmark.identities < FEW_IDENTITIES:
        notes.append(f"Only {benchmark.identities} identities: the intervals rest on few and may be too narrow.")
    return notes + control_cautions(results, "vectors")


def _names(benchmark: Benchmark, metrics: Sequence[str] | None) -> list[str]:
    if metrics is None:
        return list(benchmark.metrics)
    if isinstance(metrics, str):
        raise InputError(f"metrics should be a list of names, got the one string '{metrics}'")
    further = benchmark.further_metrics if isinstance(benchmark, FurtherMetrics) else ()
    legal = (*benchmark.metrics, *further)
    for name in metrics:
        if name not in legal:
            raise InputError(f"{benchmark.name} has no metric '{name}'; {suggest_metric(name, legal)}")
    if not metrics:
        raise InputError(f"no metric asked for; legal: {', '.join(legal)}")
    return list(dict.fromkeys(metrics))
