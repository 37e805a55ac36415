"""Several candidates for one upgrade side by side: as a page, as Markdown, as one figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samespace.errors import InputError
from samespace.files import write_json, write_text
from samespace.report import reading
from samespace.report.html import Html, join, section, table, tag
from samespace.report.page import document, figure
from samespace.report.plots import comparison_plot
from samespace.report.reading import ABSENT, STATE_WORDS, CertificateLike, interval, percent, signed, state
from samespace.report.sections import metric_glossary, state_badge, with_interval

_COLUMNS = ["Method", "Old", "Cross", "Self", "Gain", "Update gain", "Verdict"]


def write_comparison(
    certificates: Mapping[str, CertificateLike],
    folder: str | Path,
    *,
    title: str = "Candidates for the upgrade",
    notes: Sequence[str] = (),
) -> Path:
    """Write `comparison.html`, `comparison.md` and `certificates.json` into a folder.

    Args:
        certificates: certificate by the name of its method, in the order to show; all against the same old model
            on the same data, otherwise the page warns that rows cannot be compared.
        folder: made if it does not exist.
        title: heading of the page.
        notes: sentences to show below the tables, for instance how the methods were trained.

    Returns:
        The path of the page.

    Raises:
        InputError: there are no certificates, or one of them is none.
    """
    values = _read(certificates)
    target = Path(folder)
    shown = [*_mismatches(values), *notes]
    page = _page(values, title, shown)
    lines = [f"# {_markdown(title)}", "", markdown_table(values), *(f"\n{_markdown(note)}" for note in shown), ""]
    write_json(target / "certificates.json", values)
    write_text(target / "comparison.md", "\n".join(lines))
    write_text(target / "comparison.html", page)
    return target / "comparison.html"


def markdown_table(certificates: Mapping[str, CertificateLike]) -> str:
    """The comparison as a Markdown table: one row for each metric and method, best cross value in bold.

    Args:
        certificates: certificate by the name of its method, in the order to show.

    Returns:
        The table without a final newline; values in percent, gains in percentage points.
    """
    values = _read(certificates)
    level = reading.confidence(next(iter(values.values()))).replace("\u00a0", " ")
    header = ["Metric", "Method", "Old", "Cross", "Self", "Gain", f"{level} interval", "Update gain", "Verdict"]
    lines = [_row(header), _row(["---", "---", *["---:"] * 6, "---"])]
    for name, methods in _by_metric(values).items():
        best = _best(methods)
        for method, metric in methods.items():
            cross = percent(metric.get("cross"))
            lines.append(
                _row(
                    [
                        _markdown(name),
                        _markdown(method),
                        percent(metric.get("old")),
                        f"**{cross}**" if method in best else cross,
                        percent(metric.get("new")),
                        signed(metric.get("absolute_gain")),
                        interval(metric.get("difference"), sign=True),
                        percent(metric.get("update_gain"), 1),
                        STATE_WORDS[state(metric)],
                    ]
                )
            )
    return "\n".join(lines)


def _read(certificates: Mapping[str, CertificateLike]) -> dict[str, dict[str, Any]]:
    if not certificates:
        raise InputError("a comparison needs at least one certificate, got none")
    return {method: reading.as_dict(certificate) for method, certificate in certificates.items()}


def _by_metric(values: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    names = dict.fromkeys(name for value in values.values() for name in value["metrics"])
    return {
        name: {method: value["metrics"][name] for method, value in values.items() if name in value["metrics"]}
        for name in names
    }


def _best(methods: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The methods with the highest cross value, as printed; none where there is nothing to choose from."""
    crosses = {method: round(m["cross"], 4) for method, m in methods.items() if m.get("cross") is not None}
    if len(crosses) < 2:
        return set()
    return {method for method, cross in crosses.items() if cross == max(crosses.values())}


def _mismatches(values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What speaks against reading the rows side by side."""
    found = []
    spaces = {(value.get("old_space") or {}).get("id") for value in values.values()}
    if len(spaces - {None}) > 1:
        found.append("The certificates are against different old models; rows cannot be compared with each other.")
    data = [value.get("data") for value in values.values()]
    if any(other != data[0] for other in data):
        found.append("The certificates rest on different data; rows cannot be compared with each other.")
    return found


def _page(values: Mapping[str, Mapping[str, Any]], title: str, notes: Sequence[str]) -> str:
    drawn = comparison_plot(values)
    caption = (
        "Gain of each method on the old gallery with its interval; right of zero means better than today. "
        "A triangle marks a value beyond the left edge."
    )
    level = reading.confidence(next(iter(values.values())))
    tables = [
        table(
            f"{name}: values in percent, gain in points, {level} intervals beneath; ★ is the best cross value",
            _COLUMNS,
            [_method_row(method, metric, best=method in _best(methods)) for method, metric in methods.items()],
            class_="numbers cards",
        )
        for name, methods in _by_metric(values).items()
    ]
    numbers = [tag("div", part, class_="scroll one-of-several") for part in tables]
    listed = tag("aside", tag("h3", "Notes"), tag("ul", *(tag("li", note) for note in notes)), class_="notes")
    return document(
        title,
        section("verdicts", "Verdicts", _verdicts(values)),
        section("gain", "Gain of each method", tag("div", figure(drawn, caption), class_="figures") if drawn else None),
        section("numbers", "Numbers", *numbers, metric_glossary()),
        listed if notes else Html(""),
        footer="samespace",
    )


def _verdicts(values: Mapping[str, Mapping[str, Any]]) -> Html:
    rows = []
    for method, value in values.items():
        found = reading.verdict(value)
        badge = tag("span", found.title, class_=f"badge {'compatible' if found.compatible else 'fails'}")
        rows.append([method, badge, join([found.sentence, " ", found.remainder])])
    return table("May the new model search the old gallery?", ["Method", "Verdict", "Why"], rows, class_="cards prose")


def _method_row(method: str, metric: Mapping[str, Any], *, best: bool) -> list[object]:
    bounds = metric.get("intervals") or {}
    cross = ("★ " if best else "") + percent(metric.get("cross"))
    return [
        method,
        with_interval(percent(metric.get("old")), interval(bounds.get("old"))),
        with_interval(cross, interval(bounds.get("cross"))),
        with_interval(percent(metric.get("new")), interval(bounds.get("new"))),
        with_interval(signed(metric.get("absolute_gain")), interval(metric.get("difference"), sign=True)),
        percent(metric.get("update_gain"), 1),
        state_badge(metric),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """A user's text as Markdown that shows just that text, on one line, inside a table too."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split())) or ABSENT
