"""Figures with one row per metric: the four values, the gain inside the paragon's lead, several methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator

from samespace.report.figures.drawing import SMALL, TEXT, Drawing, Palette, canvas, legend
from samespace.report.wording import MARKS, PAIRS, State, by_metric, confidence, listing, percent, signed, state

if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate, MetricResult

_COLORS: dict[State, str] = {"compatible": "good", "unproven": "open", "fails": "bad"}
_MARKERS = {"old": "s", "cross": "o", "new": "D", "paragon": "^"}
_BAR_OPACITY = 0.75
_SIDE = 14.0
_SHORT_NAME, _LONG_NAME = 18, 34
_SHORT_LEFT, _LONG_LEFT = 132.0, 236.0


def draw_values(certificate: Certificate, palette: Palette) -> Drawing | None:
    """Old, cross, new and paragon of every metric, each with its interval."""
    metrics = certificate.metrics
    if not metrics:
        return None
    figure, axes = _stack(70 * len(metrics), palette, top=34)
    seen: list[float] = []
    for row, (name, metric) in enumerate(metrics.items()):
        _heading(axes, palette, 70 * row + 12, name)
        for line, pair in enumerate(PAIRS):
            seen += _value_mark(axes, palette, 70 * row + 26 + 10 * line, pair, metric)
    _fit(axes, seen, 0.06)
    _bands(axes, palette, [(70 * row + 19, 70 * row + 63) for row in range(len(metrics))], zero=False)
    axes.set_xlabel("value, %", color=palette.muted, fontsize=SMALL, labelpad=5)
    for pair in PAIRS:
        if any(getattr(metric, pair) is not None for metric in metrics.values()):
            axes.plot([], [], _MARKERS[pair], color=getattr(palette, pair), markersize=7, label=pair)
    legend(axes, palette, above=12)
    about = listing([f"{name} old {percent(m.old)}, cross {percent(m.cross)}" for name, m in metrics.items()])
    return Drawing("values", "Values with intervals", f"In percent: {about}.", figure)


def draw_gains(certificate: Certificate, palette: Palette) -> Drawing | None:
    """The gain cross − old of every metric with its interval, inside the paragon's lead where there is one."""
    metrics = certificate.metrics
    if not metrics:
        return None
    figure, axes = _stack(62 * len(metrics), palette, top=34)
    reach = [0.0]
    for row, (name, metric) in enumerate(metrics.items()):
        _heading(axes, palette, 62 * row + 14, f"{MARKS[state(metric)]}  {name}", _gain_words(metric))
        reach += _gain_bar(axes, palette, 62 * row + 36, metric)
    _fit(axes, reach, 0.04)
    _bands(axes, palette, [(62 * row + 22, 62 * row + 50) for row in range(len(metrics))])
    _gain_key(axes, palette, list(metrics.values()), confidence(certificate))
    axes.set_xlabel("cross − old, percentage points", color=palette.muted, fontsize=SMALL, labelpad=5)
    about = listing([f"{name} {signed(metric.absolute_gain)}" for name, metric in metrics.items()])
    return Drawing("gains", "Gain over the old model", f"Cross minus old in points: {about}.", figure)


def draw_comparison(certificates: Mapping[str, Certificate], palette: Palette) -> Drawing | None:
    """The gain of several methods side by side, grouped by metric; values far off are pinned to the edge."""
    groups = by_metric(certificates)
    if not groups:
        return None
    height = sum(34 + 22 * len(methods) for methods in groups.values())
    longest = max(len(method) for methods in groups.values() for method in methods)
    left = _SHORT_LEFT if longest <= _SHORT_NAME else _LONG_LEFT
    figure, axes = _stack(height, palette, top=6, left=left, right=82)
    axes.set_xlim(*_window([metric for methods in groups.values() for metric in methods.values()]))
    top, bands = 0, []
    for name, methods in groups.items():
        _heading(axes, palette, top + 16, name, left=left)
        for line, (method, metric) in enumerate(methods.items()):
            _method_row(axes, palette, top + 36 + 22 * line, method, metric, left)
        bands.append((top + 24, top + 26 + 22 * len(methods)))
        top += 34 + 22 * len(methods)
    _bands(axes, palette, bands)
    axes.set_xlabel("cross − old, percentage points", color=palette.muted, fontsize=SMALL, labelpad=5)
    about = ". ".join(
        f"{name}: " + listing([f"{method} {signed(m.absolute_gain)}" for method, m in methods.items()])
        for name, methods in groups.items()
    )
    return Drawing("comparison", "Gain of each method", f"Cross minus old in points. {about}.", figure)


def _stack(
    height: float, palette: Palette, *, top: float, left: float = _SIDE, right: float = _SIDE
) -> tuple[Figure, Axes]:
    """One figure with one axis, whose y coordinate is CSS pixels from its top edge."""
    figure, (axes,) = canvas(height + top + 44, palette, left=left, right=right, top=top)
    axes.set_ylim(height, 0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(visible=False)
    return figure, axes


def _bands(axes: Axes, palette: Palette, bands: Sequence[tuple[float, float]], *, zero: bool = True) -> None:
    """Vertical grid lines that stop at the headings, zero in ink where it means no change."""
    low, high = axes.get_xlim()
    tops, bottoms = zip(*bands, strict=True)
    for tick in axes.get_xticks():
        if low <= tick <= high:
            strong = zero and abs(tick) < 1e-9
            color, order = (palette.ink, 2.5) if strong else (palette.grid, 0.5)
            axes.vlines([tick] * len(bands), tops, bottoms, color=color, linewidth=1, zorder=order)


def _fit(axes: Axes, values: Sequence[float], margin: float) -> None:
    low, high = 100 * min(values), 100 * max(values)
    room = margin * max(high - low, 1.0)
    axes.set_xlim(low - room, high + room)


def _heading(axes: Axes, palette: Palette, y: float, text: str, aside: str = "", *, left: float = _SIDE) -> None:
    """A row's name at the left edge and, in plain weight, its numbers at the right edge."""
    beside = axes.get_yaxis_transform()
    axes.annotate(
        text, (0, y), (4 - left, 0), xycoords=beside, textcoords="offset points", fontsize=TEXT,
        weight="bold", color=palette.ink, annotation_clip=False,
    )  # fmt: skip
    if aside:
        axes.annotate(
            aside, (1, y), (_SIDE - 4, 0), xycoords=beside, textcoords="offset points", fontsize=SMALL,
            ha="right", color=palette.muted, annotation_clip=False,
        )  # fmt: skip


def _value_mark(axes: Axes, palette: Palette, y: float, pair: str, metric: MetricResult) -> list[float]:
    value, bounds = getattr(metric, pair), metric.intervals.get(pair)
    if value is None:
        return []
    color = getattr(palette, pair)
    if bounds:
        axes.plot([100 * bounds[0], 100 * bounds[1]], [y, y], color=color, linewidth=2, zorder=3)
    axes.plot(
        [100 * value], [y], _MARKERS[pair], color=color, markersize=7, zorder=4,
        markeredgecolor=palette.surface, markeredgewidth=1,
    )  # fmt: skip
    return [value, *(bounds or [])]


def _gain_words(metric: MetricResult) -> str:
    words = signed(metric.absolute_gain)
    if metric.update_gain is not None:
        words += f" · update gain {percent(metric.update_gain, 1)} %"
    return words


def _gain_bar(axes: Axes, palette: Palette, y: float, metric: MetricResult) -> list[float]:
    gain, bounds = metric.absolute_gain, metric.difference
    color = getattr(palette, _COLORS[state(metric)])
    reach = [gain, *bounds]
    if metric.paragon is not None:
        lead = metric.paragon - metric.old
        axes.barh([y], [100 * lead], height=20, **_outline(palette))
        reach.append(lead)
    axes.barh([y], [100 * gain], height=13, color=color, alpha=_BAR_OPACITY, linewidth=0, zorder=2)
    ends = [100 * bounds[0], 100 * bounds[1]]
    axes.plot(ends, [y, y], "|-", color=palette.ink, linewidth=1.6, markersize=9, markeredgewidth=1.6, zorder=5)
    return reach


def _outline(palette: Palette) -> dict[str, Any]:
    dots = (0, (1.2, 1.6))
    return {"facecolor": "none", "edgecolor": palette.paragon, "linestyle": dots, "linewidth": 1.6, "zorder": 1}


def _gain_key(axes: Axes, palette: Palette, metrics: Sequence[MetricResult], level: str) -> None:
    """The key of the gain figure; the bar's colours are explained by the marks beside the names."""
    color = getattr(palette, _COLORS[state(metrics[0])])
    keys: list[Artist] = [Patch(facecolor=color, alpha=_BAR_OPACITY, linewidth=0, label="cross − old")]
    style: dict[str, Any] = {"marker": "|", "markersize": 9, "markeredgewidth": 1.6, "linewidth": 1.6}
    keys.append(Line2D([], [], color=palette.ink, label=f"{level} interval", **style))
    if any(metric.paragon is not None for metric in metrics):
        keys.append(Patch(label="paragon − old", **_outline(palette)))
    legend(axes, palette, above=12, handles=keys)


def _window(metrics: Sequence[MetricResult]) -> tuple[float, float]:
    """Limits in points that keep the good methods apart even where a bad one lies far below zero."""
    ends = [100 * end for metric in metrics for end in metric.difference]
    high = max([*ends, 1.0])
    low = max(min([*ends, -0.25 * high]), -1.2 * max(high, 4.0))
    room = 0.05 * (high - low)
    return low - room, high + room


def _method_row(axes: Axes, palette: Palette, y: float, method: str, metric: MetricResult, left: float) -> None:
    gain, bounds, found = 100 * metric.absolute_gain, metric.difference, state(metric)
    color, beside = getattr(palette, _COLORS[found]), axes.get_yaxis_transform()
    room = _SHORT_NAME if left == _SHORT_LEFT else _LONG_NAME
    shown = method if len(method) <= room else method[: room - 1] + "…"
    axes.annotate(
        shown, (0, y), (8 - left, 0), xycoords=beside, textcoords="offset points", va="center",
        fontsize=SMALL, color=palette.ink, annotation_clip=False,
    )  # fmt: skip
    axes.annotate(
        f"{signed(metric.absolute_gain)} {MARKS[found]}", (1, y), (76, 0), xycoords=beside,
        textcoords="offset points", va="center", ha="right", fontsize=SMALL, color=color, annotation_clip=False,
    )  # fmt: skip
    low, _ = axes.get_xlim()
    if gain < low:
        axes.plot([0.012], [y], "<", color=color, markersize=8, transform=beside, zorder=4)
        return
    axes.plot([100 * bounds[0], 100 * bounds[1]], [y, y], color=color, linewidth=2, zorder=3)
    axes.plot([gain], [y], "o", color=color, markersize=7, zorder=4, markeredgecolor=palette.surface, markeredgewidth=1)
