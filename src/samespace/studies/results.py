"""From the certificates of a study to its tables: means over the seeds, intervals, marks, the paper's own figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from samespace.evaluate import Certificate
from samespace.evaluate.certificate import BackfillCurve, BackfillPoint, Interval, MetricResult
from samespace.evaluate.check import OWN_GALLERY
from samespace.files import read_json
from samespace.studies.page import row_name
from samespace.studies.plan import Plan
from samespace.studies.repeated import Repeated
from samespace.studies.study import Column, Pair, Row, Study, Table, cell_test, proven

FORMAT = "samespace.study/1"

_MOST_CAUTIONS = 8

Comparisons = Mapping[Pair, Repeated]


def results(plan: Plan, comparisons: Comparisons) -> dict[str, Any]:
    """Everything a study measured, JSON-ready: values in [0, 1], published figures in percent, absent ones null.

    A cell holds the mean over the seeds, each seed's value, for a cross test the interval of cross − old on that mean,
    and for a self test of several seeds that of new − paragon (`lead`); see `Repeated`.
    """
    study = plan.shown
    first = next(iter(comparisons.values())).certificates
    return {
        "format": FORMAT,
        "study": study.name,
        "title": study.title,
        "about": plan.settings.about,
        "source": plan.source,
        "seeds": list(plan.seeds),
        "confidence": first[0].confidence,
        "published_on": study.published_on,
        "data": [certificate.data for certificate in first],
        "models": _models(plan, study),
        "tables": [_table(table, comparisons, plan) for table in study.tables],
        "figure": None if study.figure is None else mean_certificate(comparisons[study.figure]).to_dict(),
        "notes": [*study.notes, *_cautions(comparisons)],
    }


def _cautions(comparisons: Comparisons) -> list[str]:
    """What certificates warn of, each once, with how many say so; the most frequent first."""
    certificates = [one for comparison in comparisons.values() for one in comparison.certificates]
    counts = Counter(_without_place(note) for certificate in certificates for note in certificate.notes)
    total = len(certificates)
    shown = [f"{number} of {total} certificates: {note}" for note, number in counts.most_common(_MOST_CAUTIONS)]
    if len(counts) > _MOST_CAUTIONS:
        shown.append(f"{len(counts) - _MOST_CAUTIONS} further notes are in the certificates.")
    return shown


def _without_place(note: str) -> str:
    """A note that names where a study keeps its vectors says the same wherever that is."""
    return f"{OWN_GALLERY}." if note.startswith(OWN_GALLERY) else note


def pictures(plan: Plan, comparisons: Comparisons) -> dict[str, dict[str, Certificate]]:
    """For each table the mean certificates of its cross tests, cut down to the metrics it shows."""
    tables = {}
    for table in plan.shown.tables:
        shown = {}
        names = dict.fromkeys(plan.settings.metric(column.metric) for column in table.columns)
        for row in table.rows:
            if not any(cell_test(row, column) == "cross" for column in table.columns):
                continue
            mean = mean_certificate(comparisons[row.pair])
            kept = {name: mean.metrics[name] for name in names if name in mean.metrics}
            if kept:
                shown[row_name(row.labels, row.short)] = replace(mean, metrics=kept)
        if shown:
            tables[table.name] = shown
    return tables


def mean_certificate(comparison: Repeated) -> Certificate:
    """The first certificate with metrics and backfill curve averaged over all of them, for figures."""
    certificates = comparison.certificates
    first = certificates[0]
    metrics = {
        name: _mean_metric([certificate[name] for certificate in certificates], difference)
        for name, difference in comparison.differences.items()
    }
    curves = [certificate.backfill for certificate in certificates if certificate.backfill is not None]
    return replace(
        first,
        metrics=metrics,
        compatible=all(metric.compatible for metric in metrics.values()),
        backfill=_mean_curve(curves) if len(curves) == len(certificates) else first.backfill,
        curves=None,
        examples=(),
    )


def _mean_curve(curves: Sequence[BackfillCurve]) -> BackfillCurve:
    names = curves[0].metrics
    points = [
        BackfillPoint(stage[0].share, {name: float(np.mean([point.values[name] for point in stage])) for name in names})
        for stage in zip(*(curve.points for curve in curves), strict=True)
    ]
    return BackfillCurve(names, tuple(points))


def _mean_metric(metrics: Sequence[MetricResult], difference: Interval) -> MetricResult:
    def mean(name: str) -> Any:
        return _mean([getattr(metric, name) for metric in metrics])

    return replace(
        metrics[0],
        **{name: mean(name) for name in ("old", "cross", "new", "paragon", "control", "absolute_gain", "update_gain")},
        difference=difference,
        intervals=dict.fromkeys(metrics[0].intervals),
        update_gain_interval=None,
        paragon_lead=None,
        # as in the tables: it fails where no seed is above
        criterion=any(metric.criterion for metric in metrics),
        compatible=proven(sum(metric.compatible for metric in metrics), len(metrics), difference),
    )


def _models(plan: Plan, study: Study) -> list[dict[str, Any]]:
    rows = []
    for model in study.needed():
        about = [
            read_json(plan.model_folder(model.name, seed) / "training.json", "a finished training")
            for seed in plan.seeds
        ]
        rows.append(
            {
                **asdict(model),
                "data": str(model.data),
                "images": [value["images"] for value in about],
                "classes": [value["classes"] for value in about],
                "seconds": [value["seconds"] for value in about],
            }
        )
    return rows


def _table(table: Table, comparisons: Comparisons, plan: Plan) -> dict[str, Any]:
    columns = [{**asdict(column), "measured": plan.settings.metric(column.metric)} for column in table.columns]
    rows = [
        {
            "labels": list(row.labels),
            "short": row.short,
            "test": row.test,
            "pair": asdict(row.pair),
            "cells": _cells(row, table, comparisons, plan),
        }
        for row in table.rows
    ]
    return {
        "name": table.name,
        "title": table.title,
        "note": table.note,
        "headers": list(table.headers),
        "columns": columns,
        "rows": rows,
    }


def _cells(row: Row, table: Table, comparisons: Comparisons, plan: Plan) -> list[dict[str, Any]]:
    published = row.published or (None,) * len(table.columns)
    return [
        {"published": figure, **_cell(row, column, comparisons[row.pair], plan.settings.metric(column.metric))}
        for column, figure in zip(table.columns, published, strict=True)
    ]


def _cell(row: Row, column: Column, comparison: Repeated, name: str | None) -> dict[str, Any]:
    test, certificates = cell_test(row, column), comparison.certificates
    empty = dict.fromkeys(("mean", "seeds", "difference", "lead", "criterion", "compatible")) | {"test": test}
    if test is None or name is None or name not in certificates[0].metrics:
        return empty
    metrics = [certificate[name] for certificate in certificates]
    if column.quantity == "update_gain":
        values = [metric.update_gain for metric in metrics]
    elif column.quantity == "absolute_gain":
        values = [None if getattr(metric, test) is None else getattr(metric, test) - metric.old for metric in metrics]
    elif column.quantity == "compatible":
        values = [float(metric.compatible) for metric in metrics]
    else:
        values = [getattr(metric, test) for metric in metrics]
    crossed = test == "cross"
    return {
        "test": test,
        "mean": _mean(values),
        "seeds": values,
        "difference": list(comparison.differences[name]) if crossed else None,
        "lead": list(comparison.leads[name]) if test == "new" and name in comparison.leads else None,
        "criterion": sum(metric.criterion for metric in metrics) if crossed else None,
        "compatible": sum(metric.compatible for metric in metrics) if crossed else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean, where every seed has a value."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None
