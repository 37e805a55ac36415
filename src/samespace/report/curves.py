"""Figures of whole curves: ROC, CMC, score histograms and the backfill curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, MultipleLocator, NullLocator

from samespace.report.drawing import SMALL, Drawing, Palette, canvas, legend, name_axes, spread
from samespace.report.reading import PAIRS, listing, percent

_STROKES: dict[str, dict[str, Any]] = {
    "old": {"linestyle": (0, (5, 2.5)), "linewidth": 2.0, "zorder": 3},
    "cross": {"linestyle": "-", "linewidth": 3.0, "zorder": 5},
    "new": {"linestyle": "-", "linewidth": 1.8, "zorder": 4},
    "paragon": {"linestyle": (0, (1.2, 1.6)), "linewidth": 2.2, "zorder": 6},
}
PAIR_WORDS = {
    "old": "old queries on the old gallery",
    "cross": "new queries on the old gallery",
    "new": "new queries on a new gallery",
    "paragon": "paragon queries on a paragon gallery",
}


def draw_roc(certificate: Mapping[str, Any], palette: Palette) -> Drawing | None:
    """True accept rate against false accept rate, on a logarithmic axis of the latter."""
    curves = _present((certificate.get("curves") or {}).get("roc"))
    points = {pair: _positive_far(curve["far"], curve["tar"]) for pair, curve in curves.items()}
    points = {pair: xy for pair, xy in points.items() if len(xy[0])}
    if not points:
        return None
    figure, (axes,) = canvas(330, palette, top=50)
    for pair, (far, tar) in points.items():
        axes.plot(far, 100 * tar, color=getattr(palette, pair), label=pair, **_STROKES[pair])
    axes.set_xscale("log")
    low = max(min(float(far[0]) for far, _ in points.values()), 1e-8)
    axes.set_xlim(low, 1.0)
    decades = range(math.ceil(math.log10(low) - 1e-9), 1)
    axes.xaxis.set_major_locator(FixedLocator([10.0**power for power in decades]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: "1" if x == 1 else f"1e{round(math.log10(x))}"))
    _percent_axis(axes, 0)
    _mark_operating_points(axes, certificate["metrics"], palette, low)
    legend(axes, palette)
    name_axes(axes, palette, x="FAR: share of impostor pairs accepted", y="TAR: genuine pairs accepted, %")
    about = f"True accept rate against false accept rate for {listing(list(points))}."
    return Drawing("roc", "ROC", about, figure)


def draw_cmc(certificate: Mapping[str, Any], palette: Palette) -> Drawing | None:
    """Share of mated queries whose mate is among the k best, against k."""
    curves = _present((certificate.get("curves") or {}).get("cmc"))
    if not curves:
        return None
    figure, (axes,) = canvas(330, palette, top=50)
    for pair, values in curves.items():
        ranks = range(1, len(values) + 1)
        style = _STROKES[pair] | {"linewidth": _STROKES[pair]["linewidth"] * 0.8}
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


def draw_histograms(certificate: Mapping[str, Any], palette: Palette) -> Drawing | None:
    """Scores of genuine and impostor pairs, one panel for each of old, cross and new, on one score axis."""
    histograms = (certificate.get("curves") or {}).get("histograms") or {}
    panels = _present(histograms)
    if not panels or not histograms.get("edges"):
        return None
    edges = np.asarray(histograms["edges"], dtype=float)
    figure, all_axes = canvas(70 + 112 * len(panels), palette, panels=len(panels), left=14, top=50, gap=30)
    for axes, (pair, shown) in zip(all_axes, panels.items(), strict=True):
        peak = max(max(shown["genuine"]), max(shown["impostor"]), 1e-12)
        for kind, opacity in (("impostor", 0.16), ("genuine", 0.32)):
            heights, color = np.asarray(shown[kind]) / peak, getattr(palette, kind)
            axes.stairs(heights, edges, fill=True, color=color, alpha=opacity)
            style = "-" if kind == "genuine" else (0, (3, 1.5))
            axes.stairs(heights, edges, color=color, linewidth=1.6, linestyle=style, label=kind)
        axes.set_ylim(0, 1.05)
        axes.set_xlim(*_occupied(edges, panels))
        axes.yaxis.set_major_locator(NullLocator())
        axes.set_title(f"{pair}: {PAIR_WORDS[pair]}", loc="left", fontsize=SMALL, color=palette.ink, pad=6)
        axes.tick_params(axis="x", labelbottom=axes is all_axes[-1])
    all_axes[-1].set_xlabel("score (cosine similarity); heights are densities, each panel on its own scale",
                            color=palette.muted, fontsize=SMALL, labelpad=5)  # fmt: skip
    legend(all_axes[0], palette, above=26)
    about = f"Densities of genuine and impostor scores for {listing(list(panels))}."
    return Drawing("histograms", "Score histograms", about, figure)


def draw_backfill(certificate: Mapping[str, Any], palette: Palette) -> Drawing | None:
    """Each metric against the share of the gallery that was re-embedded, between its old and new levels."""
    backfill = certificate.get("backfill") or {}
    names = [name for name in backfill.get("metrics") or [] if _backfill_points(backfill, name)]
    if not names:
        return None
    figure, all_axes = canvas(76 + 148 * len(names), palette, panels=len(names), right=112, gap=44)
    for axes, name in zip(all_axes, names, strict=True):
        _backfill_panel(axes, name, backfill, certificate["metrics"].get(name) or {}, palette)
        last = axes is all_axes[-1]
        name_axes(axes, palette, x="classes of the gallery re-embedded, %" if last else None, y=f"{name}, %")
    ends = []
    for name in names:
        points = _backfill_points(backfill, name)
        ends.append(f"{name} goes from {percent(points[0][1])} to {percent(points[-1][1])} percent")
    return Drawing("backfill", "Partial backfill", f"As the gallery is re-embedded, {listing(ends)}.", figure)


def _backfill_panel(
    axes: Axes, name: str, backfill: Mapping[str, Any], metric: Mapping[str, Any], palette: Palette
) -> None:
    shares, values = zip(
        *((100 * share, 100 * value) for share, value in _backfill_points(backfill, name)), strict=True
    )
    levels = {pair: 100 * metric[pair] for pair in ("old", "new", "paragon") if metric.get(pair) is not None}
    for pair, level in levels.items():
        if pair != "new":
            stroke = _STROKES[pair] | {"linewidth": 1.6, "zorder": 2}
            axes.axhline(level, color=getattr(palette, pair), **stroke)
    axes.plot(shares, values, color=palette.cross, linewidth=2.6, marker="o", markersize=4.5, zorder=5)
    low, high = min([*values, *levels.values()]), max([*values, *levels.values()])
    margin = max(0.12 * (high - low), 0.2)
    low, high = low - margin, high + margin
    axes.set_ylim(low, high)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_locator(FixedLocator([0, 25, 50, 75, 100]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    pixel = (high - low) / 104
    placed = spread(list(levels.values()), 15 * pixel, low + 4 * pixel, high - 4 * pixel)
    for (pair, level), y in zip(levels.items(), placed, strict=True):
        axes.annotate(
            f"{pair} {level:.2f}", (104, y), color=getattr(palette, pair), va="center", fontsize=SMALL,
            annotation_clip=False,
        )  # fmt: skip
    axes.annotate(
        f"cross {values[0]:.2f}", (shares[0], values[0]), (7, -13), textcoords="offset points",
        color=palette.cross, fontsize=SMALL,
    )  # fmt: skip


def _backfill_points(backfill: Mapping[str, Any], name: str) -> list[tuple[float, float]]:
    points = backfill.get("points") or []
    return [(p["share"], p["values"][name]) for p in points if (p.get("values") or {}).get(name) is not None]


def _present(curves: Mapping[str, Any] | None) -> dict[str, Any]:
    return {pair: curves[pair] for pair in PAIRS if curves and curves.get(pair)}


def _positive_far(far: list[float], tar: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """A logarithmic axis has no zero: points without a false accept are left out."""
    x, y = np.asarray(far, dtype=float), np.asarray(tar, dtype=float)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    return x[x > 0], y[x > 0]


def _occupied(edges: np.ndarray, panels: Mapping[str, Any]) -> tuple[float, float]:
    """The part of the score axis where any panel has more than a trace."""
    heights = [np.asarray(shown[kind]) for shown in panels.values() for kind in ("genuine", "impostor")]
    seen = np.flatnonzero(np.any([height > 0.002 * max(height.max(), 1e-12) for height in heights], axis=0))
    return (edges[seen[0]], edges[seen[-1] + 1]) if len(seen) else (edges[0], edges[-1])


def _percent_axis(axes: Axes, smallest: float) -> None:
    low = max(0.0, 10 * math.floor(10 * smallest - 0.5))
    room = 0.015 * (100 - low)
    axes.set_ylim(low - room, 100 + room)
    axes.yaxis.set_major_locator(MultipleLocator(20 if low < 45 else 10 if low < 75 else 5))


def _mark_operating_points(axes: Axes, metrics: Mapping[str, Any], palette: Palette, low: float) -> None:
    for name, metric in metrics.items():
        if not name.startswith("TAR@FAR="):
            continue
        far = float(name.removeprefix("TAR@FAR="))
        if far < low:
            continue
        axes.axvline(far, color=palette.muted, linewidth=0.8, zorder=1)
        for pair in PAIRS:
            if metric.get(pair) is not None:
                axes.plot(
                    [far], [100 * metric[pair]], "o", color=getattr(palette, pair), markersize=6,
                    markeredgecolor=palette.surface, markeredgewidth=1.2, zorder=8,
                )  # fmt: skip
