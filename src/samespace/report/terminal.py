"""The certificate as a table in the terminal: readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from samespace.report import reading
from samespace.report.reading import ABSENT, PAIRS, CertificateLike, State
from samespace.report.sweep import sweep_lines

_MARKS: dict[State, tuple[str, str]] = {
    "compatible": ("yes", "green"),
    "unproven": ("unproven", "yellow"),
    "fails": ("no", "red"),
    "absent": (ABSENT, "dim"),
}


def print_certificate(certificate: CertificateLike, console: Console | None = None) -> None:
    """Print the verdict and every number behind it.

    Values are percent, differences percentage points; a dash marks what was not or could not be computed.

    Args:
        certificate: a `Certificate`, or its dictionary.
        console: where to print; standard output by default.

    Raises:
        InputError: what was given is no certificate.
    """
    values = reading.as_dict(certificate)
    out = console or Console()
    found = reading.verdict(values)
    style = "bold green" if found.compatible else "bold red"
    out.print(Text(found.title.upper(), style=style))
    out.print(_plain(found.sentence), _plain(found.remainder))
    out.print(_plain(_data_line(values)), style="dim")
    out.print()
    out.print(_metrics_table(values, wide=out.width >= 92))
    for line in [
        *_flip_lines(values),
        *_strict_lines(values),
        *_swap_lines(values),
        *_control_lines(values),
        *sweep_lines(values),
    ]:
        out.print(_plain(line))
    notes = values.get("notes") or []
    if notes:
        out.print()
    for note in notes:
        out.print(_plain(f"note: {note}"))


def print_comparison(certificates: Mapping[str, CertificateLike], console: Console | None = None) -> None:
    """Print several candidates against the same old model, a row for each metric and method.

    Args:
        certificates: certificate by the name of its method, in the order to show.
        console: where to print; standard output by default.

    Raises:
        InputError: what was given is no certificate.
    """
    values = {name: reading.as_dict(certificate) for name, certificate in certificates.items()}
    out = console or Console()
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for title in ("in %", "successor"):
        table.add_column(title)
    for title in ("old", "cross", "self", "gain", "interval"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    names = list(dict.fromkeys(name for value in values.values() for name in value["metrics"]))
    for name in names:
        for row, (method, value) in enumerate(values.items()):
            metric = value["metrics"].get(name, {})
            mark, style = _MARKS[reading.state(metric)]
            table.add_row(
                _metric_name(name, wide=out.width >= 100) if row == 0 else Text(),
                _plain(method),
                *(_plain(reading.percent(metric.get(pair))) for pair in ("old", "cross", "new")),
                _plain(reading.signed(metric.get("absolute_gain"))),
                _plain(reading.interval(metric.get("difference"), sign=True)),
                Text(mark, style=style),
            )
    out.print(table)
    out.print()


def _plain(text: str) -> Text:
    """Text that rich must not read as markup, with characters that every code page has."""
    replaced = text.replace(reading.MINUS, "-").replace("\u202f", " ")
    return Text("".join(character if character.isprintable() else " " for character in replaced))


def _metrics_table(values: Mapping[str, Any], *, wide: bool) -> Table:
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("in %", no_wrap=True)
    for name in PAIRS:
        table.add_column(name, justify="right", no_wrap=True)
    level = reading.confidence(values).replace("\u00a0", "")
    table.add_column("gain", justify="right", no_wrap=True)
    table.add_column(f"{level} interval", justify="right", no_wrap=True)
    table.add_column("update gain" if wide else "update\ngain", justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    for name, metric in values["metrics"].items():
        mark, style = _MARKS[reading.state(metric)]
        table.add_row(
            _metric_name(name, wide=wide),
            *(_plain(reading.percent(metric.get(pair))) for pair in PAIRS),
            _plain(reading.signed(metric.get("absolute_gain"))),
            _plain(reading.interval(metric.get("difference"), sign=True)),
            _plain(reading.percent(metric.get("update_gain"), 1)),
            Text(mark, style=style),
        )
    return table


def _metric_name(name: str, *, wide: bool) -> Text:
    """A long name takes two lines where columns are scarce."""
    head, at, tail = name.partition("@")
    if wide or len(name) <= 12:
        return _plain(name)
    return Text.assemble(_plain(head), "\n ", _plain(at + tail))


def _data_line(values: Mapping[str, Any]) -> str:
    data = values.get("data") or {}
    names = ("queries", "gallery", "identities")
    counts = [f"{reading.count(data.get(name))} {name}" for name in names if data.get(name) is not None]
    old, new = reading.model_names(values)
    return ", ".join([f"{new} against {old}", *counts])


def _flip_lines(values: Mapping[str, Any]) -> list[str]:
    lines = []
    for pair, flips in (values.get("flips") or {}).items():
        if flips is None:
            continue
        relative = flips.get("relative_negative")
        tail = "" if relative is None else f" (relative {relative:.2f})"
        lines.append(
            f"flips, {pair} against old: {reading.percent(flips.get('negative'))} % newly wrong{tail}, "
            f"{reading.percent(flips.get('positive'))} % newly right"
        )
    return ["", *lines] if lines else []


def _strict_lines(values: Mapping[str, Any]) -> list[str]:
    strict = values.get("strict") or {}
    if not strict:
        return []
    show = reading.percent
    return [
        f"strict criterion: holds for {show(strict.get('positive_share'))} % of genuine and "
        f"{show(strict.get('negative_share'))} % of impostor pairs"
    ]


def _swap_lines(values: Mapping[str, Any]) -> list[str]:
    shown = [
        f"{name} {reading.percent(metric['swap'])}"
        for name, metric in values["metrics"].items()
        if metric.get("swap") is not None
    ]
    return [f"the other way round (old queries, new gallery): {', '.join(shown)}"] if shown else []


def _control_lines(values: Mapping[str, Any]) -> list[str]:
    shown = [
        f"{name} {reading.percent(metric['control'])}"
        for name, metric in values["metrics"].items()
        if metric.get("control") is not None
    ]
    return [f"rotation control (must be near chance): {', '.join(shown)}"] if shown else []
