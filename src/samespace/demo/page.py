"""The backfill of a gallery as a figure and a page: quality at each stage, calibrated and raw."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from samespace.files import write_text
from samespace.report.page import inline, render
from samespace.report.wording import listing, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from samespace.demo.upgrade import GalleryUpgrade
    from samespace.report.figures.drawing import Drawing, Palette

_STROKES: dict[str, dict[str, Any]] = {
    "calibrated": {"linestyle": "-", "linewidth": 2.6, "marker": "o", "markersize": 4.5, "zorder": 5},
    "raw": {"linestyle": (0, (4, 2)), "linewidth": 1.8, "marker": "s", "markersize": 3.5, "zorder": 4},
}
_COLOURS = {"calibrated": "cross", "raw": "new"}


def write_gallery_page(upgrade: GalleryUpgrade, path: Path) -> None:
    """Write what a backfill in steps showed as one page, and its figure as PNG beside it."""
    from samespace.report.figures.drawing import LIGHT, STAND_INS, save_png, settings, to_svg

    with settings():
        drawn = to_svg(draw_stages(upgrade, STAND_INS))
        save_png(draw_stages(upgrade, LIGHT), path.with_suffix(".png"))
    names = list(upgrade.before)
    page = render(
        "stages.html",
        title="An upgrade, step by step",
        sentence=_sentence(upgrade),
        figures={"stages": inline(drawn)},
        header=["Re-embedded", *(f"{name}, {merge}" for name in names for merge in ("calibrated", "raw"))],
        rows=[
            ["before the upgrade", *(cell for name in names for cell in (percent(upgrade.before[name]), "–"))],
            *(
                [
                    f"{100 * stage.share:.0f} %",
                    *(percent(merge[name]) for name in names for merge in (stage.calibrated, stage.raw)),
                ]
                for stage in upgrade.stages
            ),
        ],
        checks=_checks(upgrade),
        footer="samespace",
    )
    write_text(path, page)


def draw_stages(upgrade: GalleryUpgrade, palette: Palette) -> Drawing:
    """Each metric against the share of items re-embedded, calibrated and raw, with the level before the upgrade."""
    from matplotlib.lines import Line2D

    from samespace.report.figures.drawing import Drawing, canvas, legend, name_axes

    names = list(upgrade.before)
    figure, all_axes = canvas(96 + 148 * len(names), palette, panels=len(names), right=112, top=56, gap=44)
    for axes, name in zip(all_axes, names, strict=True):
        _panel(axes, name, upgrade, palette)
        name_axes(axes, palette, x="items re-embedded, %" if axes is all_axes[-1] else None, y=f"{name}, %")
    handles = [
        Line2D([], [], color=getattr(palette, _COLOURS[merge]), label=merge, **stroke)
        for merge, stroke in _STROKES.items()
    ]
    legend(all_axes[0], palette, above=28, handles=handles)
    first, last = upgrade.stages[0].calibrated, upgrade.stages[-1].calibrated
    ends = [f"{name} goes from {percent(first[name])} to {percent(last[name])} percent" for name in names]
    return Drawing("stages", "Backfill in steps", f"As the gallery is re-embedded, {listing(ends)}.", figure)


def _panel(axes: Axes, name: str, upgrade: GalleryUpgrade, palette: Palette) -> None:
    from samespace.report.figures.shares import level_label, share_axes

    shares = [100 * stage.share for stage in upgrade.stages]
    before, after = 100 * upgrade.before[name], 100 * upgrade.stages[-1].calibrated[name]
    seen = [before]
    axes.axhline(before, color=palette.old, linestyle=(0, (5, 2.5)), linewidth=1.6, zorder=2)
    for merge, stroke in _STROKES.items():
        values = [100 * getattr(stage, merge)[name] for stage in upgrade.stages]
        axes.plot(shares, values, color=getattr(palette, _COLOURS[merge]), **stroke)
        seen += values
    share_axes(axes, seen, margin=0.12)
    level_label(axes, before, f"before {before:.1f}", palette.old)
    level_label(axes, after, f"after {after:.1f}", palette.cross)


def _sentence(upgrade: GalleryUpgrade) -> str:
    permission = (
        "as its certificate allows"
        if upgrade.permission == "certified"
        else "against its certificate, which the gallery records"
    )
    return (
        f"A gallery filled by the old model is queried by its compatible successor, {permission}; then its items are "
        f"re-embedded in the order '{upgrade.order}'. The calibrations were learnt on the characters shown here, so "
        "the curves are of the check set, not of new data."
    )


def _checks(upgrade: GalleryUpgrade) -> list[str]:
    def told(same: bool) -> str:
        return "the same to the bit" if same else "NOT the same"

    return [
        f"After a rollback half way, the answers to old queries are {told(upgrade.same_back)} as before the upgrade.",
        f"Rolled forward, the answers to new queries are {told(upgrade.same_forth)} as before the rollback.",
        f"The doctor, at the end: {'nothing is wrong' if upgrade.healthy else 'something is wrong'}.",
    ]
