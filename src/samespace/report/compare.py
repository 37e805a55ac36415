"""Several candidates for one upgrade side by side: as a page, as Markdown, as one figure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from samespace.errors import InputError
from samespace.files import write_json, write_text
from samespace.report import wording
from samespace.report.figures import comparison_plot
from samespace.report.page import inline, render
from samespace.report.wording import ABSENT, STATE_WORDS, by_metric, interval, percent, signed, state

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate, MetricResult


def write_comparison(
    certificates: Mapping[str, Certificate],
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
        InputError: there are no certificates.
    """
    table = markdown_table(certificates)
    target = Path(folder)
    shown = [*_mismatches(certificates), *notes]
    drawn = comparison_plot(certificates)
    groups = by_metric(certificates)
    page = render(
        "comparison.html",
        title=title,
        level=wording.confidence(next(iter(certificates.values()))),
        verdicts={method: wording.verdict(certificate) for method, certificate in certificates.items()},
        figures={} if drawn is None else {"comparison": inline(drawn)},
        groups=groups,
        best={name: _best(methods) for name, methods in groups.items()},
        notes=shown,
        footer="samespace",
    )
    lines = [f"# {_markdown(title)}", "", table, *(f"\n{_markdown(note)}" for note in shown), ""]
    write_json(target / "certificates.json", {method: one.to_dict() for method, one in certificates.items()})
    write_text(target / "comparison.md", "\n".join(lines))
    write_text(target / "comparison.html", page)
    return target / "comparison.html"


def markdown_table(certificates: Mapping[str, Certificate]) -> str:
    """The comparison as a Markdown table: one row for each metric and method, best cross value in bold.

    Args:
        certificates: certificate by the name of its method, in the order to show.

    Returns:
        The table without a final newline; values in percent, gains in percentage points.

    Raises:
        InputError: there are no certificates.
    """
    if not certificates:
        raise InputError("a comparison needs at least one certificate, got none")
    level = wording.confidence(next(iter(certificates.values()))).replace("\u00a0", " ")
    header = ["Metric", "Method", "Old", "Cross", "Self", "Gain", f"{level} interval", "Update gain", "Verdict"]
    lines = [_row(header), _row(["---", "---", *["---:"] * 6, "---"])]
    for name, methods in by_metric(certificates).items():
        best = _best(methods)
        for method, metric in methods.items():
            cross = percent(metric.cross)
            cells = [
                percent(metric.old),
                f"**{cross}**" if method in best else cross,
                percent(metric.new),
                signed(metric.absolute_gain),
                interval(metric.difference, sign=True),
                percent(metric.update_gain, 1),
                STATE_WORDS[state(metric)],
            ]
            lines.append(_row([_markdown(name), _markdown(method), *cells]))
    return "\n".join(lines)


def _best(methods: Mapping[str, MetricResult]) -> set[str]:
    """The methods with the highest cross value, as printed; none where there is nothing to choose from."""
    crosses = {method: round(metric.cross, 4) for method, metric in methods.items()}
    return {method for method, cross in crosses.items() if len(crosses) > 1 and cross == max(crosses.values())}


def _mismatches(certificates: Mapping[str, Certificate]) -> list[str]:
    """What speaks against reading the rows side by side."""
    found = []
    if len({certificate.old_space.id for certificate in certificates.values()} - {None}) > 1:
        found.append("The certificates are against different old models; rows cannot be compared with each other.")
    data = [certificate.data for certificate in certificates.values()]
    if any(other != data[0] for other in data):
        found.append("The certificates rest on different data; rows cannot be compared with each other.")
    return found


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    """A user's text as Markdown that shows just that text, on one line, inside a table too."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split())) or ABSENT
