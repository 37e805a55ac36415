"""The certificate as a table in the terminal: readable at 80 columns, without colour, and in a pipe."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from samespace.report import wording
from samespace.report.tables import Column, print_table, say
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
    say(plain(f"{found.sentence} {found.remainder}".strip()), out)
    say(plain(_data_line(certificate), "dim"), out)
    if compared := wording.comparison(certificate):
        say(plain(compared, "dim"), out)
    out.print()
    _print_metrics(certificate, out)
    for line in [
        *_fusion_lines(certificate),
        *_flip_lines(certificate),
        *_test_lines(certificate),
        *_sweep_lines(certificate),
    ]:
        say(plain(line), out)
    _print_diagnosis(certificate, out)
    if certificate.notes:
        out.print()
    for note in certificate.notes:
        say(plain(f"note: {note}"), out)


def _print_diagnosis(certificate: Certificate, out: Console) -> None:
    """Each cause with what to do next; commands are broken before options alone, so that they can be copied."""
    if certificate.diagnosis:
        out.print()
        out.print(plain("WHY NOT, AND WHAT NEXT"), style="bold")
    for place, cause in enumerate(certificate.diagnosis, start=1):
        lines = _wrapped(cause.sentence, out.width, f"{place}. ") + _wrapped(f"Next: {cause.advice}", out.width, "   ")
        for line in lines:
            out.print(plain(line), soft_wrap=True)
        for command in cause.commands:
            for line in wording.command_lines(command, out.width - 5):
                out.print(plain(f"     {line}"), soft_wrap=True, style="bold")


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    """Lines with a hanging indent, broken at spaces alone, and not between a number and its sign of percent."""
    together = text.replace(" %", "\u00a0%")
    lines = textwrap.wrap(
        together, width, initial_indent=lead, subsequent_indent="   ", break_long_words=False, break_on_hyphens=False
    )
    return [line.replace("\u00a0", " ") for line in lines]


def print_comparison(certificates: Mapping[str, Certificate], console: Console | None = None) -> None:
    """Print several candidates against the same old model, a row for each metric and method.

    Args:
        certificates: certificate by the name of its method, in the order to show.
        console: where to print; standard output by default.
    """
    out = console or Console()
    numbers = [Column(title, "right") for title in ("old", "cross", "self", "gain", "interval")]
    columns = [Column("in %"), Column("successor", shortens=True), *numbers, Column("holds")]
    rows = []
    names = dict.fromkeys(name for certificate in certificates.values() for name in certificate.metrics)
    for name in names:
        for row, (method, certificate) in enumerate(certificates.items()):
            label = _metric_name(name, wide=out.width >= 100) if row == 0 else Text()
            metric = certificate.metrics.get(name)
            if metric is None:
                rows.append([label, plain(method), *[plain(ABSENT)] * 5, Text(ABSENT, style="dim")])
                continue
            values = (percent(getattr(metric, pair)) for pair in ("old", "cross", "new"))
            rows.append([label, plain(method), *map(plain, [*values, *_gain(metric)]), _mark(metric)])
    print_table(columns, rows, out, gap=1)
    out.print()


def plain(text: str, style: str = "") -> Text:
    """Text that rich must not read as markup, with characters that every code page has."""
    replaced = text.replace(wording.MINUS, "-").replace("\u202f", " ")
    return Text("".join(character if character.isprintable() else " " for character in replaced), style)


def _print_metrics(certificate: Certificate, out: Console) -> None:
    wide = out.width >= 92
    level = wording.confidence(certificate).replace("\u00a0", "")
    last = "update gain" if wide else "update\ngain"
    numbers = [Column(title, "right") for title in (*PAIRS, "gain", f"{level} interval", last)]
    rows = []
    for name, metric in certificate.metrics.items():
        values = (percent(getattr(metric, pair)) for pair in PAIRS)
        cells = [*values, *_gain(metric), percent(metric.update_gain, 1)]
        rows.append([_metric_name(name, wide=wide), *map(plain, cells), _mark(metric)])
    print_table([Column("in %"), *numbers, Column("holds")], rows, out, gap=2 if wide else 1)


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
