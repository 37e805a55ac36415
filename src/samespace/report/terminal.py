"""The certificate as a table in the terminal: readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from samespace.report import wording
from samespace.report.wording import ABSENT, PAIRS, State, interval, percent, signed

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate, MetricResult

_MARKS: dict[State, tuple[str, str]] = {
    "compatible": ("yes", "green"),
    "unproven": ("unproven", "yellow"),
    "fails": ("no", "red"),
}


def print_certificate(certificate: Certificate, console: Console | None = None) -> None:
    """Print the verdict and every number behind it.

    Values are percent, differences percentage points; a dash marks what was not or could not be computed.

    Args:
        certificate: of a check or a benchmark.
        console: where to print; standard output by default.
    """
    out = console or Console()
    found = wording.verdict(certificate)
    style = "bold green" if found.compatible else "bold red"
    out.print(Text(found.title.upper(), style=style))
    out.print(plain(found.sentence), plain(found.remainder))
    out.print(plain(_data_line(certificate)), style="dim")
    out.print()
    out.print(_metrics_table(certificate, wide=out.width >= 92))
    for line in [
        *_fusion_lines(certificate),
        *_flip_lines(certificate),
        *_test_lines(certificate),
        *_sweep_lines(certificate),
    ]:
        out.print(plain(line))
    if certificate.notes:
        out.print()
    for note in certificate.notes:
        out.print(plain(f"note: {note}"))


def print_comparison(certificates: Mapping[str, Certificate], console: Console | None = None) -> None:
    """Print several candidates against the same old model, a row for each metric and method.

    Args:
        certificates: certificate by the name of its method, in the order to show.
        console: where to print; standard output by default.
    """
    out = console or Console()
    table = _table("in %", "successor", numbers=("old", "cross", "self", "gain", "interval"))
    names = dict.fromkeys(name for certificate in certificates.values() for name in certificate.metrics)
    for name in names:
        for row, (method, certificate) in enumerate(certificates.items()):
            label = _metric_name(name, wide=out.width >= 100) if row == 0 else Text()
            metric = certificate.metrics.get(name)
            if metric is None:
                table.add_row(label, plain(method), *[plain(ABSENT)] * 5, Text(ABSENT, style="dim"))
                continue
            values = (percent(getattr(metric, pair)) for pair in ("old", "cross", "new"))
            table.add_row(label, plain(method), *map(plain, [*values, *_gain(metric)]), _mark(metric))
    out.print(table)
    out.print()


def plain(text: str) -> Text:
    """Text that rich must not read as markup, with characters that every code page has."""
    replaced = text.replace(wording.MINUS, "-").replace("\u202f", " ")
    return Text("".join(character if character.isprintable() else " " for character in replaced))


def _table(*names: str, numbers: Sequence[str], gap: int = 1) -> Table:
    """A table without lines: names, numbers, and whether the metric holds."""
    table = Table(box=None, padding=(0, gap, 0, 0), pad_edge=False, header_style="bold")
    for title in names:
        table.add_column(title, no_wrap=len(names) == 1)
    for title in numbers:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("holds", no_wrap=True)
    return table


def _metrics_table(certificate: Certificate, *, wide: bool) -> Table:
    level = wording.confidence(certificate).replace("\u00a0", "")
    last = "update gain" if wide else "update\ngain"
    table = _table("in %", numbers=(*PAIRS, "gain", f"{level} interval", last), gap=2 if wide else 1)
    for name, metric in certificate.metrics.items():
        values = (percent(getattr(metric, pair)) for pair in PAIRS)
        cells = [*values, *_gain(metric), percent(metric.update_gain, 1)]
        table.add_row(_metric_name(name, wide=wide), *map(plain, cells), _mark(metric))
    return table


def _gain(metric: MetricResult) -> tuple[str, str]:
    return signed(metric.absolute_gain), interval(metric.difference, sign=True)


def _mark(metric: MetricResult) -> Text:
    word, style = _MARKS[wording.state(metric)]
    return Text(word, style=style)


def _metric_name(name: str, *, wide: bool) -> Text:
    """A long name takes two lines where columns are scarce."""
    head, at, tail = name.partition("@")
    if wide or len(name) <= 12:
        return plain(name)
    return Text.assemble(plain(head), "\n ", plain(at + tail))


def _data_line(certificate: Certificate) -> str:
    data = certificate.data
    counts = [f"{wording.count(data[name])} {name}" for name in ("queries", "gallery", "identities") if name in data]
    old, new = wording.model_names(certificate)
    return ", ".join([f"{new} against {old}", *counts])


def _fusion_lines(certificate: Certificate) -> list[str]:
    fusion = certificate.fusion
    return [] if fusion is None else ["", f"fused queries: {wording.fusion(fusion)}"]


def _flip_lines(certificate: Certificate) -> list[str]:
    lines = []
    for pair, flips in certificate.flips.items():
        if flips is None:
            continue
        tail = "" if flips.relative_negative is None else f" (relative {flips.relative_negative:.2f})"
        lines.append(
            f"flips, {pair} against old: {percent(flips.negative)} % newly wrong{tail}, "
            f"{percent(flips.positive)} % newly right"
        )
    return ["", *lines] if lines else []


def _test_lines(certificate: Certificate) -> list[str]:
    """Strict criterion, cross test the other way round, spread of genuine scores, rotation control, where measured."""
    lines = []
    if (strict := certificate.strict) is not None:
        lines.append(
            f"strict criterion: holds for {percent(strict.positive_share)} % of genuine and "
            f"{percent(strict.negative_share)} % of impostor pairs"
        )
    swaps = [f"{name} {percent(one.swap)}" for name, one in certificate.metrics.items() if one.swap is not None]
    if swaps:
        lines.append(f"the other way round (old queries, new gallery): {', '.join(swaps)}")
    if certificate.genuine:
        spreads = [f"{test} {one.mean:.3f} ({one.std:.3f})" for test, one in certificate.genuine.items()]
        lines.append(f"genuine scores, mean (standard deviation): {', '.join(spreads)}")
    controls = [f"{name} {percent(one.control)}" for name, one in certificate.metrics.items()]
    return [*lines, f"rotation control (must be near chance): {', '.join(controls)}"]


def _sweep_lines(certificate: Certificate) -> list[str]:
    """For each order and merge the normalised area of each metric, and which metrics fall below the start."""
    sweep = certificate.sweep
    if sweep is None or not sweep.metrics:
        return []
    lines = [f"backfill by item, area (a straight line has 0.50) in {', '.join(sweep.metrics)}:"]
    for order, merges in sweep.orders.items():
        for merge, curve in merges.items():
            areas = [curve.area[name] for name in sweep.metrics]
            falls = [name for name in sweep.metrics if not curve.holds[name]]
            tail = f"; falls in {wording.listing(falls)}" if falls else ""
            shown = " ".join("   -" if value is None else f"{value:.2f}" for value in areas)
            lines.append(f"  {order + ', ' + merge:<21}{shown}{tail}")
    return lines
