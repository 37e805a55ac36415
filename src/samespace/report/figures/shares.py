"""Figures over shares: of a re-embedded gallery by class and by item, and of the new query in a fused one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from samespace.report.figures.curves import STROKES
from samespace.report.figures.drawing import SMALL, Drawing, Palette, canvas, legend, name_axes, spread
from samespace.report.wording import listing, percent

if TYPE_CHECKING:
    from samespace.evaluate.certificate import BackfillCurve, Certificate, MetricResult, SweepCurve

    Orders = Mapping[str, Mapping[str, SweepCurve]]

BY_TENTH = (0, 10, 25, 50, 75, 100)
_DASHES: dict[str, Any] = {"random": "-", "distance": (0, (1.2, 1.6)), "centre": (0, (5, 2))}
_BY_CLASS: dict[str, Any] = {"linestyle": (0, (4, 1.5, 1, 1.5)), "linewidth": 1.4, "marker": "s", "markersize": 2.6}


def draw_backfill(certificate: Certificate, palette: Palette) -> Drawing | None:
    """Each metric against the share of the gallery re-embedded: colours for merges, dashes for orders.

    Beside the sweep over items, where there is one, the curve of a gallery that is re-embedded class by class.
    """
    sweep, by_class = certificate.sweep, certificate.backfill
    orders: Orders = {} if sweep is None else sweep.orders
    curve = None if by_class is None or not by_class.points else by_class
    names = [] if sweep is None or not orders else list(sweep.metrics)
    names += [name for name in (() if curve is None else curve.metrics) if name not in names]
    if not names:
        return None
    figure, all_axes = canvas(116 + 164 * len(names), palette, panels=len(names), right=112, top=76, gap=44)
    for axes, name in zip(all_axes, names, strict=True):
        swept = orders if sweep is not None and name in sweep.metrics else {}
        classes = curve if curve is not None and name in curve.metrics else None
        _backfill_panel(axes, name, swept, classes, certificate.metrics.get(name), palette)
        last = axes is all_axes[-1]
        name_axes(axes, palette, x="share of the gallery re-embedded, %" if last else None, y=f"{name}, %")
    _key(all_axes[0], list(orders), curve is not None, palette)
    told = [_told(orders if sweep is not None and name in sweep.metrics else {}, curve, name) for name in names]
    about = f"Along the way from nothing to everything re-embedded, {listing(told)}."
    return Drawing("backfill", "Quality while the gallery is re-embedded", about, figure)


def draw_fusion(certificate: Certificate, palette: Palette) -> Drawing | None:
    """Each metric against the share of the new query, on the classes that the share was chosen on."""
    fusion = certificate.fusion
    if fusion is None or not fusion.grid:
        return None
    names = list(fusion.grid[0].values)
    figure, all_axes = canvas(76 + 148 * len(names), palette, panels=len(names), right=84, gap=44)
    shares = [100 * at.alpha for at in fusion.grid]
    for axes, name in zip(all_axes, names, strict=True):
        values = [100 * at.values[name] for at in fusion.grid]
        low, high = ([values[0] + 100 * at.differences[name][side] for at in fusion.grid] for side in (0, 1))
        axes.axhline(values[0], color=palette.old, linestyle=(0, (5, 2.5)), linewidth=1.6, zorder=2)
        axes.axvline(100 * fusion.alpha, color=palette.muted, linewidth=1.2, zorder=1)
        axes.fill_between(shares, low, high, color=palette.cross, alpha=0.15, linewidth=0, zorder=3)
        axes.plot(shares, values, color=palette.cross, linewidth=2.4, marker="o", markersize=4, zorder=5)
        share_axes(axes, [*values, *low, *high], margin=0.08, ticks=(0, 20, 40, 60, 80, 100))
        level_label(axes, values[0], f"old {values[0]:.2f}", palette.old)
        last = axes is all_axes[-1]
        name_axes(axes, palette, x="share of the new query, %" if last else None, y=f"{name}, %")
    chosen = next(at for at in fusion.grid if at.alpha == fusion.alpha)
    told = [f"{name} is {percent(fusion.grid[0].values[name])} by the old query" for name in names]
    taken = [f"{name} {percent(chosen.values[name])}" for name in names]
    about = f"{listing(told)} alone; at the chosen share, {fusion.alpha:g}, {listing(taken)} percent."
    return Drawing("fusion", "Share of the new query", about, figure)


def share_axes(
    axes: Axes, values: Sequence[float], *, margin: float, ticks: Sequence[int] = BY_TENTH
) -> tuple[float, float]:
    """Axes for values in percent over shares in percent; returns the lower and the upper limit of the values."""
    low, high = min(values), max(values)
    room = max(margin * (high - low), 0.2)
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    return low - room, high + room


def level_label(axes: Axes, y: float, text: str, color: str) -> None:
    """A word right of the axes at a level of the values."""
    axes.annotate(text, (104, y), color=color, va="center", fontsize=SMALL, annotation_clip=False)


def _label_levels(
    axes: Axes, palette: Palette, levels: Mapping[str, float], limits: tuple[float, float], height: int
) -> None:
    """The levels of the pairs of models beside axes of a height in pixels, kept from covering each other."""
    low, high = limits
    pixel = (high - low) / height
    placed = spread(list(levels.values()), 15 * pixel, low + 4 * pixel, high - 4 * pixel)
    for (pair, level), y in zip(levels.items(), placed, strict=True):
        level_label(axes, y, f"{pair} {level:.2f}", getattr(palette, pair))


def _backfill_panel(
    axes: Axes, name: str, orders: Orders, by_class: BackfillCurve | None, metric: MetricResult | None, palette: Palette
) -> None:
    seen: list[float] = []
    for order, merges in orders.items():
        for merge in ("raw", "calibrated"):
            values = [100 * at.values[name] for at in merges[merge].points]
            calibrated = merge == "calibrated"
            axes.plot(
                [100 * at.share for at in merges[merge].points], values, linestyle=_DASHES.get(order, "-"),
                color=palette.cross if calibrated else palette.bad, linewidth=2.4 if calibrated else 1.4,
                marker="o", markersize=4 if calibrated else 2.6, zorder=6 if calibrated else 4,
            )  # fmt: skip
            seen += values
    if by_class is not None:
        values = [100 * at.values[name] for at in by_class.points]
        axes.plot([100 * at.share for at in by_class.points], values, color=palette.bad, zorder=4, **_BY_CLASS)
        seen += values
    levels = {"cross": seen[0], "new": seen[-1]}
    for pair in ("old", "paragon"):
        level = getattr(metric, pair, None)
        if level is not None:
            levels[pair] = 100 * level
            axes.axhline(levels[pair], color=getattr(palette, pair), **STROKES[pair] | {"linewidth": 1.6, "zorder": 2})
    _label_levels(axes, palette, levels, share_axes(axes, [*seen, *levels.values()], margin=0.08), 120)


def _told(orders: Orders, by_class: BackfillCurve | None, name: str) -> str:
    merges = orders.get("random") or next(iter(orders.values()), None)
    values = {} if merges is None else {f"{merge} in random order": curve.points for merge, curve in merges.items()}
    curves = {way: [at.values[name] for at in points] for way, points in values.items()}
    if by_class is not None and name in by_class.metrics:
        curves["raw class by class"] = [at.values[name] for at in by_class.points]
    low = [f"at least {percent(min(some))} {way}" for way, some in curves.items()]
    first = next(iter(curves.values()))
    return f"{name} goes from {percent(first[0])} to {percent(first[-1])} percent, {listing(low)}"


def _key(axes: Axes, orders: list[str], by_class: bool, palette: Palette) -> None:
    """Two rows above the first panel: the merges by colour, the orders by dash."""
    merges = []
    if orders:
        merges.append(Line2D([], [], color=palette.cross, linewidth=2.4, label="calibrated"))
        merges.append(Line2D([], [], color=palette.bad, linewidth=1.4, label="raw"))
    ways = [
        Line2D([], [], color=palette.ink, linewidth=1.6, linestyle=_DASHES.get(order, "-"), label=order)
        for order in orders
    ]
    if by_class:
        merges.append(Line2D([], [], color=palette.bad, label="raw, class by class", **_BY_CLASS))
    first = legend(axes, palette, 46, merges, handle=2.8)
    if ways:
        legend(axes, palette, 26, ways, handle=2.8)
        # the second key has taken the place of the first
        axes.add_artist(first)
