"""The sweep over backfill shares: its figure, and its line in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from samespace.report.drawing import SMALL, Drawing, Palette, canvas, name_axes, spread
from samespace.report.reading import listing, percent

ORDER_WORDS = {
    "random": "random order",
    "distance": "farthest from the class centre first",
    "centre": "nearest of each class first",
}
_DASHES: dict[str, Any] = {"random": "-", "distance": (0, (1.2, 1.6)), "centre": (0, (5, 2))}
_PLACE = "random"


def draw_sweep(certificate: Mapping[str, Any], palette: Palette) -> Drawing | None:
    """Each metric against the share of gallery items re-embedded: colours for merges, dashes for orders."""
    sweep = certificate.get("sweep") or {}
    orders = {order: merges for order, merges in (sweep.get("orders") or {}).items() if merges}
    curves = [curve for merges in orders.values() for curve in merges.values()]
    names = [
        name
        for name in sweep.get("metrics") or []
        if all(at["values"].get(name) is not None for curve in curves for at in curve["points"])
    ]
    if not names or not orders:
        return None
    figure, all_axes = canvas(116 + 164 * len(names), palette, panels=len(names), right=84, top=76, gap=44)
    for axes, name in zip(all_axes, names, strict=True):
        _panel(axes, name, orders, (certificate.get("metrics") or {}).get(name) or {}, palette)
        last = axes is all_axes[-1]
        name_axes(axes, palette, x="items of the gallery re-embedded, %" if last else None, y=f"{name}, %")
    _key(all_axes[0], list(orders), palette)
    told = [f"{name} {_told(orders, name)}" for name in names]
    about = f"Along the way from none to all items re-embedded, in random order, {listing(told)}."
    return Drawing("sweep", "Backfill by item: calibrated and raw merge", about, figure)


def sweep_lines(certificate: Mapping[str, Any]) -> list[str]:
    """For each order and merge the normalised area of each metric, and which metrics fall below the start."""
    sweep = certificate.get("sweep") or {}
    names = list(sweep.get("metrics") or [])
    if not names:
        return []
    lines = [f"backfill by item, area (a straight line has 0.50) in {', '.join(names)}:"]
    for order, merges in sweep["orders"].items():
        for merge, curve in merges.items():
            areas = [curve["area"].get(name) for name in names]
            falls = [name for name in names if curve["holds"].get(name) is False]
            tail = f"; falls in {listing(falls)}" if falls else ""
            shown = " ".join("   -" if value is None else f"{value:.2f}" for value in areas)
            lines.append(f"  {order + ', ' + merge:<21}{shown}{tail}")
    return lines


def _told(orders: Mapping[str, Any], name: str) -> str:
    merges = orders.get(_PLACE) or next(iter(orders.values()))
    ends = {merge: [at["values"][name] for at in curve["points"]] for merge, curve in merges.items()}
    low = [f"at least {percent(min(values))} {merge}" for merge, values in ends.items()]
    first = next(iter(ends.values()))
    return f"goes from {percent(first[0])} to {percent(first[-1])} percent, {listing(low)}"


def _panel(axes: Axes, name: str, orders: Mapping[str, Any], metric: Mapping[str, Any], palette: Palette) -> None:
    seen: list[float] = []
    for order, merges in orders.items():
        for merge in ("raw", "calibrated"):
            points = (merges.get(merge) or {}).get("points") or []
            values = [100 * at["values"][name] for at in points]
            calibrated = merge == "calibrated"
            axes.plot(
                [100 * at["share"] for at in points], values, linestyle=_DASHES.get(order, "-"),
                color=palette.cross if calibrated else palette.bad, linewidth=2.4 if calibrated else 1.4,
                marker="o", markersize=4 if calibrated else 2.6, zorder=6 if calibrated else 4,
            )  # fmt: skip
            seen += values
    ends = next(iter(next(iter(orders.values())).values()))["points"]
    levels = {"cross": 100 * ends[0]["values"][name], "new": 100 * ends[-1]["values"][name]}
    if metric.get("old") is not None:
        levels["old"] = 100 * metric["old"]
        axes.axhline(levels["old"], color=palette.old, linestyle=(0, (5, 2.5)), linewidth=1.6, zorder=2)
    low, high = min([*seen, *levels.values()]), max([*seen, *levels.values()])
    margin = max(0.08 * (high - low), 0.2)
    low, high = low - margin, high + margin
    axes.set_ylim(low, high)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_locator(FixedLocator([0, 10, 25, 50, 75, 100]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    pixel = (high - low) / 120
    placed = spread(list(levels.values()), 15 * pixel, low + 4 * pixel, high - 4 * pixel)
    for (pair, level), y in zip(levels.items(), placed, strict=True):
        axes.annotate(
            f"{pair} {level:.2f}", (104, y), color=getattr(palette, pair), va="center", fontsize=SMALL,
            annotation_clip=False,
        )  # fmt: skip


def _key(axes: Axes, orders: list[str], palette: Palette) -> None:
    """Two rows above the first panel: the merges by colour, the orders by dash."""
    rows = (
        [Line2D([], [], color=palette.cross, linewidth=2.4, label="calibrated"),
         Line2D([], [], color=palette.bad, linewidth=1.4, label="raw")],
        [Line2D([], [], color=palette.ink, linewidth=1.6, linestyle=_DASHES.get(order, "-"), label=order)
         for order in orders],
    )  # fmt: skip
    for row, above in zip(rows, (46, 26), strict=True):
        key = axes.legend(
            handles=row, loc="lower left", bbox_to_anchor=(0, 1 + above / axes.bbox.height), ncols=4, frameon=False,
            fontsize=SMALL, borderaxespad=0, borderpad=0, handlelength=2.8, handletextpad=0.6, columnspacing=1.8,
        )  # fmt: skip
        for text in key.get_texts():
            text.set_color(palette.ink)
        axes.add_artist(key)
