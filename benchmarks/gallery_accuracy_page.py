"""The page and the figures of `gallery_accuracy.py`."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samespace.evaluate.sweep import SHARES
from samespace.evaluate.sweep_result import area
from samespace.files import write_text
from samespace.report.figures.drawing import LIGHT, Drawing, canvas, legend, name_axes, save_png, settings

Curve = dict[str, list[float]]

WORDS = {
    "random": "random",
    "distance": "`distance`: farthest from the centre of its class first",
    "cluster distance": "the same to k-means clusters, √N of them, no labels",
    "centre": "`centre`: of each class the item nearest to its centre, then the second of each",
    "cluster centre": "the same in N/5 clusters, no labels",
    "traffic": "`traffic`: most often among ten best of past queries first",
    "traffic and centre": "traffic of the class, divided by 1 + place in it",
    "oracle: change": "oracle: 1 − cosine of old and new vector, largest first",
    "oracle: gain": "oracle: gain in mAP of the test queries, item by item",
    "oracle: greedy": "oracle: that gain found anew after each tenth",
}
METRICS = ("rank@1", "mAP")
PLAIN = ("random", "distance", "centre")
STYLES = {
    "random": ("-", LIGHT.cross),
    "distance": (":", LIGHT.bad),
    "centre": ("--", LIGHT.good),
    "oracle: greedy": ("-.", LIGHT.muted),
}


@dataclass(frozen=True)
class Study:
    """Results of all runs: one for each seed and half."""

    curves: dict[tuple[str, str], list[Curve]]
    rates: dict[tuple[str, float], list[list[float]]]
    shape: tuple[int, int, int]

    def areas(self, order: str, merge: str, metric: str) -> np.ndarray:
        """Normalised area of each run; NaN where the end is not above the start."""
        found = [area(curve[metric]) for curve in self.curves[order, merge]]
        return np.array([np.nan if value is None else value for value in found])


def write_page(found: Study, path: Path | None, seeds: Sequence[int], seconds: float) -> None:
    """Print the tables; with a path write them there too, below what stands above the first table, and the figures."""
    text = "\n".join(tables(found, seeds, seconds))
    print(text)
    if path is None:
        return
    marker = "## Orders"
    head = path.read_text(encoding="utf-8").split(marker)[0] if path.exists() else "# Accuracy of a mixed gallery\n\n"
    write_text(path, head + text + "\n")
    with settings():
        save_png(curves(found), path.with_name("gallery-accuracy-orders.png"))
        save_png(merges(found), path.with_name("gallery-accuracy-merges.png"))
        save_png(rates(found), path.with_name("gallery-accuracy-thresholds.png"))


def tables(found: Study, seeds: Sequence[int], seconds: float) -> list[str]:
    """All tables as lines of Markdown."""
    queries, items, classes = found.shape
    runs = len(next(iter(found.curves.values())))
    heads = [f"{metric}, {share:.0%}" for metric in METRICS for share in SHARES]
    lines = [
        "## Orders",
        "",
        f"Seeds {', '.join(map(str, seeds))}, each half of the {2 * classes} or so test classes once: {runs} runs, "
        f"each of some {queries} queries on {items} items; mean ± standard deviation over the runs. Merged by "
        "log-odds. *A* is "
        "(mean over shares − start) / (end − start); *by traffic* weighs a query by how often its class is asked for.",
        "",
        "| order | A rank@1 | A mAP | A rank@1 by traffic | A mAP by traffic |",
        "|---|---:|---:|---:|---:|",
    ]
    for order, words in WORDS.items():
        cells = [
            spread_of(found.areas(order, "logistic", f"{metric}{suffix}"))
            for suffix in ("", " by traffic")
            for metric in METRICS
        ]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "![orders](gallery-accuracy-orders.png)", "", "## Calibrated and raw merge", ""]
    lines += [
        "Values in percent at each share of items re-embedded, mean over the runs; *flips*: queries right in the old "
        "system and wrong now, worst share.",
        "",
        f"| order | merge | {' | '.join(heads)} | flips |",
        f"|---|---|{'---:|' * (len(heads) + 1)}",
    ]
    for order in PLAIN:
        for merge in ("logistic", "fmr", "raw"):
            runs_of = found.curves[order, merge]
            values = [
                f"{100 * np.mean([run[metric][place] for run in runs_of]):.1f}"
                for metric in METRICS
                for place in range(len(SHARES))
            ]
            flips = 100 * np.mean([max(run["negative flips"][1:-1]) for run in runs_of])
            lines.append(f"| {order} | {merge} | {' | '.join(values)} | {flips:.1f} |")
    lines += ["", "![merges](gallery-accuracy-merges.png)", "", "## Thresholds", ""]
    lines += [
        "False-match rate on the test classes, as a multiple of the rate the threshold was set for on the calibration "
        "classes before the upgrade: mean over the runs, in brackets lowest and highest. Random order.",
        "",
        "| threshold | rate | old system | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |",
        f"|---|---:|{'---:|' * (len(SHARES) + 1)}",
    ]
    for (scale, rate), every in found.rates.items():
        columns = np.array(every).T
        cells = [f"{column.mean():.2f} ({column.min():.2f} to {column.max():.2f})" for column in columns]
        lines.append(f"| {'calibrated (fmr)' if scale == 'fmr' else 'raw'} | {rate:.0e} | {' | '.join(cells)} |")
    lines += ["", "![thresholds](gallery-accuracy-thresholds.png)", ""]
    lines.append(
        f"Measured on one core with Python {platform.python_version()}, numpy {np.__version__}: {seconds / 60:.1f} "
        "minutes (without the trainings where `--out` holds them)."
    )
    return lines


def spread_of(values: np.ndarray) -> str:
    """Mean ± standard deviation; runs without a gain are left out."""
    known = values[~np.isnan(values)]
    return f"{known.mean():.2f} ± {known.std(ddof=1):.2f}" if len(known) > 1 else "–"


def curves(found: Study) -> Drawing:
    """Quality against the share of items, for the orders that matter."""
    return _panels(found, [(order, "logistic", *style, order) for order, style in STYLES.items()], "orders")


def merges(found: Study) -> Drawing:
    """Quality against the share of items in random order, by merge."""
    styles = (("logistic", "-", LIGHT.cross), ("fmr", "--", LIGHT.good), ("raw", ":", LIGHT.bad))
    return _panels(found, [("random", merge, line, color, merge) for merge, line, color in styles], "merges")


def _panels(found: Study, lines: list[tuple[str, str, str, str, str]], name: str) -> Drawing:
    figure, panels = canvas(420, LIGHT, panels=2, top=50, gap=44)
    for axes, metric in zip(panels, METRICS, strict=True):
        for order, merge, line, color, label in lines:
            values = 100 * np.array([run[metric] for run in found.curves[order, merge]])
            shares = 100 * np.array(SHARES)
            axes.plot(
                shares, values.mean(axis=0), line, color=color, linewidth=2.2, marker="o", markersize=4, label=label
            )
        last = axes is panels[-1]
        name_axes(axes, LIGHT, x="items of the gallery re-embedded, %" if last else None, y=f"{metric}, %")
    legend(panels[0], LIGHT)
    return Drawing(name, name, "", figure)


def rates(found: Study) -> Drawing:
    """The false-match rate of fixed thresholds, as a multiple of what they were set for."""
    rows = sorted({rate for _, rate in found.rates}, reverse=True)
    figure, panels = canvas(420, LIGHT, panels=len(rows), top=50, gap=44)
    for axes, rate in zip(panels, rows, strict=True):
        axes.axhspan(0.8, 1.2, color=LIGHT.grid, zorder=0)
        for scale, line, color in (("fmr", "-", LIGHT.cross), ("raw", ":", LIGHT.bad)):
            for place, run in enumerate(found.rates[scale, rate]):
                label = {"fmr": "calibrated", "raw": "raw"}[scale] if place == 0 else "_"
                axes.plot(100 * np.array(SHARES), run[1:], line, color=color, linewidth=1.6, label=label)
        last = axes is panels[-1]
        name_axes(axes, LIGHT, x="items of the gallery re-embedded, %" if last else None, y=f"rate / {rate:.0e}")
    legend(panels[0], LIGHT)
    return Drawing("thresholds", "thresholds", "", figure)
