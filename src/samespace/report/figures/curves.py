"""Figures of whole curves: ROC, CMC and score histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MultipleLocator, NullLocator

from samespace.report.figures.drawing import SMALL, Drawing, Palette, canvas, legend, name_axes
from samespace.report.wording import PAIRS, listing, percent
from samespace.scoring.score import SCORE_NAMES

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate, Densities, MetricResult, Values

T = TypeVar("T")

STROKES: dict[str, dict[str, Any]] = {
    "old": {"linestyle": (0, (5, 2.5)), "linewidth": 2.0, "zorder": 3},
    "cross": {"linestyle": "-", "linewidth": 3.0, "zorder": 5},
    "new": {"linestyle": "-", "linewidth": 1.8, "zorder": 4},
    "paragon": {"linestyle": (0, (1.2, 1.6)), "linewidth": 2.2, "zorder": 6},
}
_PAIR_WORDS = {
    "old": "old queries on the old gallery",
    "cross": "new queries on the old gallery",
    "new": "new queries on a new gallery",
    "paragon": "paragon queries on a paragon gallery",
}


def draw_roc(certificate: Certificate, palette: Palette) -> Drawing | None:
    """True accept rate against false accept rate, on a logarithmic axis of the latter."""
    curves = _of_pairs(certificate.curves.roc) if certificate.curves else {}
    points = {pair: _positive_far(curve.far, curve.tar) for pair, curve in curves.items()}
    points = {pair: xy for pair, xy in points.items() if len(xy[0])}
    if not points:
        return None
    figure, (axes,) = canvas(330, palette, top=50)
    for pair, (far, tar) in points.items():
        axes.plot(far, 100 * tar, color=getattr(palette, pair), label=pair, **STROKES[pair])
    axes.set_xscale("log")
    low = max(min(float(far[0]) for far, _ in points.values()), 1e-8)
    axes.set_xlim(low, 1.0)
    decades = range(math.ceil(math.log10(low) - 1e-9), 1)
    axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in decades]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "1" if x == 1 else f"1e{round(math.log10(x))}"))
    _percent_axis(axes, 0)
    _mark_operating_points(axes, certificate.metrics, palette, low)
    legend(axes, palette)
    name_axes(axes, palette, x="FAR: share of impostor pairs accepted", y="TAR: genuine pairs accepted, %")
    about = f"True accept rate against false accept rate for {listing(list(points))}."
    return Drawing("roc", "ROC", about, figure)


def draw_cmc(certificate: Certificate, palette: Palette) -> Drawing | None:
    """Share of mated queries whose mate is among the k best, against k."""
    curves = _of_pairs(certificate.curves.cmc) if certificate.curves else {}
    if not curves:
        return None
    figure, (axes,) = canvas(330, palette, top=50)
    for pair, values in curves.items():
        ranks = range(1, len(values) + 1)
        style = STROKES[pair] | {"linewidth": STROKES[pair]["linewidth"] * 0.8}
        axes.plot(ranks, 100 * np.asarray(values), "o", color=getattr(palette, pair), markersize=3, label="_")
        axes.plot(ranks, 100 * np.asarray(values), color=getattr(palette, pair), label=pair, **style)
    longest = max(len(values) for values in curves.values())
    axes.set_xlim(0.5, longest + 0.5)
    axes.xaxis.set_major_locator(FixedLocator([1, *range(5, longest + 1, 5)]))
    _percent_axis(axes, min(min(values) for values in curves.values()))
    legend(axes, palette)
    name_axes(axes, palette, x="rank k", y="CMC: queries with a mate among the k best, %")
    firsts = [f"{pair} {percent(values[0])} percent at rank 1" for pair, values in curves.items()]
    return Drawing("cmc", "CMC", f"Cumulative match: {listing(firsts)}.", figure)


def draw_histograms(certificate: Certificate, palette: Palette) -> Drawing | None:
    """Scores of genuine and impostor pairs, one panel for each of old, cross and new, on one score axis."""
    if certificate.curves is None:
        return None
    histograms = certificate.curves.histograms
    panels = _of_pairs({"old": histograms.old, "cross": histograms.cross, "new": histograms.new})
    if not panels:
        return None
    edges = np.asarray(histograms.edges)
    figure, all_axes = canvas(70 + 112 * len(panels), palette, panels=len(panels), left=14, top=50, gap=30)
    for axes, (pair, shown) in zip(all_axes, panels.items(), strict=True):
        peak = max(*shown.genuine, *shown.impostor, 1e-12)
        for kind, opacity in (("impostor", 0.16), ("genuine", 0.32)):
            heights, color = np.asarray(getattr(shown, kind)) / peak, getattr(palette, kind)
            axes.stairs(heights, edges, fill=True, color=color, alpha=opacity)
            style = "-" if kind == "genuine" else (0, (3, 1.5))
            axes.stairs(heights, edges, color=color, linewidth=1.6, linestyle=style, label=kind)
        axes.set_ylim(0, 1.05)
        axes.set_xlim(*_occupied(edges, panels))
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_title(f"{pair}: {_PAIR_WORDS[pair]}", loc="left", fontsize=SMALL, color=palette.ink, pad=6)
        axes.tick_params(axis="x", labelbottom=axes is all_axes[-1])
    score = "cosine similarity" if certificate.score == "cosine" else SCORE_NAMES[certificate.score]
    all_axes[-1].set_xlabel(f"score ({score}); heights are densities, each panel on its own scale",
                            color=palette.muted, fontsize=SMALL, labelpad=5)  # fmt: skip
    legend(all_axes[0], palette, above=26)
    about = f"Densities of genuine and impostor scores for {listing(list(panels))}."
    return Drawing("histograms", "Score histograms", about, figure)


def _of_pairs(curves: Mapping[str, T | None]) -> dict[str, T]:
    """The curves that there are, in the order of the pairs."""
    return {pair: curve for pair in PAIRS if (curve := curves.get(pair)) is not None}


def _positive_far(far: Values, tar: Values) -> tuple[np.ndarray, np.ndarray]:
    """A logarithmic axis has no zero: points without a false accept are left out."""
    x, y = np.asarray(far, dtype=float), np.asarray(tar, dtype=float)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    return x[x > 0], y[x > 0]


def _occupied(edges: np.ndarray, panels: Mapping[str, Densities]) -> tuple[float, float]:
    """The part of the score axis where any panel has more than a trace."""
    heights = [np.asarray(kind) for shown in panels.values() for kind in (shown.genuine, shown.impostor)]
    seen = np.flatnonzero(np.any([height > 0.002 * max(height.max(), 1e-12) for height in heights], axis=0))
    return (edges[seen[0]], edges[seen[-1] + 1]) if len(seen) else (edges[0], edges[-1])


def _percent_axis(axes: Axes, smallest: float) -> None:
    low = max(0.0, 10 * math.floor(10 * smallest - 0.5))
    room = 0.015 * (100 - low)
    axes.set_ylim(low - room, 100 + room)
    axes.yaxis.set_major_locator(MultipleLocator(20 if low < 45 else 10 if low < 75 else 5))


def _mark_operating_points(axes: Axes, metrics: Mapping[str, MetricResult], palette: Palette, low: float) -> None:
    for name, metric in metrics.items():
        if not name.startswith("TAR@FAR="):
            continue
        far = float(name.removeprefix("TAR@FAR="))
        if far < low:
            continue
        axes.axvline(far, color=palette.muted, linewidth=0.8, zorder=1)
        for pair in PAIRS:
            if (value := getattr(metric, pair)) is not None:
                axes.plot(
                    [far], [100 * value], "o", color=getattr(palette, pair), markersize=6,
                    markeredgecolor=palette.surface, markeredgewidth=1.2, zorder=8,
                )  # fmt: skip
