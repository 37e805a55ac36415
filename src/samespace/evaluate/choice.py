"""Which metrics a check measures: those asked for, or those the data supports."""

from __future__ import annotations

from collections.abc import Sequence

from samespace.errors import InputError
from samespace.evaluate.inputs import Trial
from samespace.evaluate.metric_names import Metric, parse, parse_all
from samespace.evaluate.protocol import impostor_pairs
from samespace.metrics.verification import allowed_count

_FAR_CHOICES = ("1e-4", "1e-3", "1e-2")
_FALSE_ACCEPTS = 10
_UNMATED_QUERIES = 100


def choose_metrics(names: Sequence[str] | None, trial: Trial) -> tuple[list[Metric], list[str]]:
    """The metrics of a check, and notes about operating points.

    By default rank@1 and mAP; TAR at the first FAR of 1e-4, 1e-3, 1e-2 that allows ten false accepts; TPIR at an FPIR
    of 1e-2 where a hundred queries have no mate.

    Raises:
        InputError: an unknown name, or a metric that this data leaves undefined.
    """
    impostors, unmated = impostor_pairs(trial), int((trial.mate_counts() == 0).sum())
    if names is None:
        return _default(impostors, unmated)
    metrics = parse_all(names)
    return metrics, [note for metric in metrics if (note := _support(metric, trial, impostors, unmated))]


def _default(impostors: int, unmated: int) -> tuple[list[Metric], list[str]]:
    metrics, notes = [parse("rank@1"), parse("mAP")], []
    points = [parse(f"TAR@FAR={far}") for far in _FAR_CHOICES]
    usable = [point for point in points if allowed_count(point.rate, impostors) >= _FALSE_ACCEPTS]
    if usable:
        metrics.append(usable[0])
        notes.append(
            f"{usable[0].name} was chosen as the lowest of FAR {', '.join(_FAR_CHOICES)} that {impostors} "
            f"impostor pairs support with at least {_FALSE_ACCEPTS} false accepts."
        )
    else:
        notes.append(f"No TAR was measured: {impostors} impostor pairs are too few for FAR {_FAR_CHOICES[-1]}.")
    if unmated >= _UNMATED_QUERIES:
        metrics.append(parse("TPIR@FPIR=1e-2"))
    else:
        notes.append(
            f"No open-set TPIR was measured: {unmated} queries are without a mate, {_UNMATED_QUERIES} are needed "
            "for FPIR 1e-2."
        )
    return metrics, notes


def _support(metric: Metric, trial: Trial, impostors: int, unmated: int) -> str | None:
    if metric.kind in ("rank", "mAP"):
        return None
    negatives, what = {
        "TAR": (impostors, "impostor pairs"),
        "TPIR": (unmated, "queries without a mate"),
        "TPIR-merged": (len(trial.query_codes), "queries"),
    }[metric.kind]
    if negatives == 0:
        remedy = "; TPIR-merged needs none" if metric.kind == "TPIR" else ""
        raise InputError(f"{metric.name} cannot be measured: this data has no {what}{remedy}")
    if allowed_count(metric.rate, negatives) < 1:
        return (
            f"{metric.name}: {negatives} {what} allow less than one false accept, so the threshold is the highest "
            "of their scores; take the value with care."
        )
    return None
