"""The backfill of a gallery as a figure and a page: quality at each stage, calibrated and raw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator

from samespace.files import write_text
from samespace.report.drawing import (
    LIGHT,
    SMALL,
    STAND_INS,
    Drawing,
    Palette,
    canvas,
    legend,
    name_axes,
    save_png,
    settings,
    to_svg,
)
from samespace.report.html import Html, section, table, tag
from samespace.report.page import document, figure
from samespace.report.reading import listing, percent

_STROKES: dict[str, dict[str, Any]] = {
    "calibrated": {"linestyle": "-", "linewidth": 2.6, "marker": "o", "markersize": 4.5, "zorder": 5},
    "raw": {"linestyle": (0, (4, 2)), "linewidth": 1.8, "marker": "s", "markersize": 3.5, "zorder": 4},
}
_COLOURS = {"calibrated": "cross", "raw": "new"}


def write_gallery_page(act: Mapping[str, Any], path: str | Path, *, title: str = "An upgrade, step by step") -> Path:
    """Write what a backfill in steps showed as one page, and its figure as PNG beside it.

    Args:
        act: `before`, values by metric; `stages`, each with `share`, `calibrated` and `raw` values by metric; `order`,
            `leave`, `same_back`, `same_forth` and `healthy` as in `demo_gallery.Act`.
        path: of the page.
        title: its heading.

    Returns:
        The path of the page.
    """
    target = Path(path)
    with settings():
        drawn = to_svg(draw_stages(act, STAND_INS))
        save_png(draw_stages(act, LIGHT), target.with_suffix(".png"))
    page = document(
        title,
        tag("section", tag("p", _sentence(act))),
        section("curve", "Quality of searches", tag("div", figure(drawn, _CAPTION), class_="figures")),
        section("numbers", "Numbers", tag("div", _table(act), class_="scroll")),
        section("checks", "What was checked", tag("ul", *(tag("li", line) for line in _checks(act)))),
        footer="samespace",
    )
    write_text(target, page)
    return target


_CAPTION = (
    "Searches over a gallery whose items are re-embedded step by step. Calibrated: scores of both spaces are brought "
    "to log-odds before the lists are merged. Raw: merged by cosine, which does not mean the same in both spaces."
)


def draw_stages(act: Mapping[str, Any], palette: Palette) -> Drawing:
    """Each metric against the share of items re-embedded, calibrated and raw, with the level before the upgrade."""
    names = list(act["before"])
    figure_, all_axes = canvas(96 + 148 * len(names), palette, panels=len(names), right=112, top=56, gap=44)
    for axes, name in zip(all_axes, names, strict=True):
        _panel(axes, name, act, palette)
        name_axes(axes, palette, x="items re-embedded, %" if axes is all_axes[-1] else None, y=f"{name}, %")
    handles = [
        Line2D([], [], color=getattr(palette, _COLOURS[merge]), label=merge, **stroke)
        for merge, stroke in _STROKES.items()
    ]
    legend(all_axes[0], palette, above=28, handles=handles)
    first, last = act["stages"][0], act["stages"][-1]
    ends = [
        f"{name} goes from {percent(first['calibrated'][name])} to {percent(last['calibrated'][name])} percent"
        for name in names
    ]
    return Drawing("stages", "Backfill in steps", f"As the gallery is re-embedded, {listing(ends)}.", figure_)


def _panel(axes: Axes, name: str, act: Mapping[str, Any], palette: Palette) -> None:
    stages: Sequence[Mapping[str, Any]] = act["stages"]
    shares = [100 * stage["share"] for stage in stages]
    level = 100 * act["before"][name]
    lows, highs = [level], [level]
    axes.axhline(level, color=palette.old, linestyle=(0, (5, 2.5)), linewidth=1.6, zorder=2)
    for merge, stroke in _STROKES.items():
        values = [100 * stage[merge][name] for stage in stages]
        axes.plot(shares, values, color=getattr(palette, _COLOURS[merge]), **stroke)
        lows.append(min(values))
        highs.append(max(values))
    margin = max(0.12 * (max(highs) - min(lows)), 0.2)
    axes.set_ylim(min(lows) - margin, max(highs) + margin)
    axes.set_xlim(-2, 102)
    axes.xaxis.set_major_locator(FixedLocator([0, 10, 25, 50, 75, 100]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=3))
    for value, words, colour in (
        (level, f"before {level:.1f}", palette.old),
        (100 * stages[-1]["calibrated"][name], f"after {100 * stages[-1]['calibrated'][name]:.1f}", palette.cross),
    ):
        axes.annotate(words, (104, value), color=colour, va="center", fontsize=SMALL, annotation_clip=False)


def _sentence(act: Mapping[str, Any]) -> str:
    leave = (
        "as its certificate allows"
        if act["leave"] == "certified"
        else "against its certificate, which the gallery records"
    )
    return (
        f"A gallery filled by the old model is queried by its compatible successor, {leave}; then its items are "
        f"re-embedded in the order '{act['order']}'. The calibrations were learnt on the characters shown here, so the "
        "curves are of the check set, not of new data."
    )


def _table(act: Mapping[str, Any]) -> Html:
    names = list(act["before"])
    rows: list[list[object]] = [
        ["before the upgrade", *(cell for name in names for cell in (percent(act["before"][name]), "–"))]
    ]
    for stage in act["stages"]:
        cells = [percent(stage[merge][name]) for name in names for merge in ("calibrated", "raw")]
        rows.append([f"{100 * stage['share']:.0f} %", *cells])
    header = ["Re-embedded", *(f"{name}, {merge}" for name in names for merge in ("calibrated", "raw"))]
    return table(
        "Values in percent; old queries before the upgrade, new queries after it", header, rows, class_="numbers"
    )


def _checks(act: Mapping[str, Any]) -> list[str]:
    def told(same: bool) -> str:
        return "the same to the bit" if same else "NOT the same"

    return [
        f"After a rollback half way, the answers to old queries are {told(act['same_back'])} as before the upgrade.",
        f"Rolled forward, the answers to new queries are {told(act['same_forth'])} as before the rollback.",
        f"The doctor, at the end: {'nothing is wrong' if act['healthy'] else 'something is wrong'}.",
    ]
