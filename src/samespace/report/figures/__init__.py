"""All figures of a report, as inline SVG for the page or as PNG for documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

# what draws imports matplotlib, which takes long, so it is imported by the functions that draw
if TYPE_CHECKING:
    from samespace.evaluate.certificate import Certificate
    from samespace.report.figures.drawing import Drawing, Palette


def plots(certificate: Certificate) -> dict[str, str]:
    """Every figure that the certificate has data for, as inline SVG.

    Colours are the CSS variables of `style.css` (`--ink`, `--cross`, …), so one SVG serves light and dark pages.
    The same certificate always gives the same text.

    Returns:
        SVG by name: 'gains', 'values', 'roc', 'cmc', 'histograms', 'backfill', 'fusion'.
    """
    from samespace.report.figures.drawing import STAND_INS, to_svg

    return {drawing.name: to_svg(drawing) for drawing in _drawings(certificate, STAND_INS)}


def save_plots(certificate: Certificate, folder: str | Path, *, pixel_ratio: float = 2.0) -> list[Path]:
    """Write every figure as `folder/NAME.png` on white, for documents.

    Args:
        certificate: what to draw.
        folder: made if it does not exist.
        pixel_ratio: pixels per CSS pixel; 2 is sharp on most screens.

    Returns:
        The files written.
    """
    from samespace.report.figures.drawing import LIGHT, save_png

    written = []
    for drawing in _drawings(certificate, LIGHT):
        written.append(Path(folder) / f"{drawing.name}.png")
        save_png(drawing, written[-1], pixel_ratio=pixel_ratio)
    return written


def comparison_plot(certificates: Mapping[str, Certificate]) -> str | None:
    """The gains of several methods in one figure, as inline SVG; None where there are no metrics."""
    from samespace.report.figures.drawing import STAND_INS, settings, to_svg
    from samespace.report.figures.values import draw_comparison

    with settings():
        drawing = draw_comparison(certificates, STAND_INS)
    return None if drawing is None else to_svg(drawing)


def save_comparison_plot(certificates: Mapping[str, Certificate], path: str | Path) -> Path | None:
    """Write the figure of `comparison_plot` as PNG on white; None where there are no metrics."""
    from samespace.report.figures.drawing import LIGHT, save_png, settings
    from samespace.report.figures.values import draw_comparison

    with settings():
        drawing = draw_comparison(certificates, LIGHT)
    if drawing is None:
        return None
    save_png(drawing, Path(path))
    return Path(path)


def _drawings(certificate: Certificate, palette: Palette) -> Iterator[Drawing]:
    from samespace.report.figures.curves import draw_cmc, draw_histograms, draw_roc
    from samespace.report.figures.drawing import settings
    from samespace.report.figures.shares import draw_backfill, draw_fusion
    from samespace.report.figures.values import draw_gains, draw_values

    of_scores = draw_roc, draw_cmc, draw_histograms
    for draw in (draw_gains, draw_values, *of_scores, draw_backfill, draw_fusion):
        with settings():
            drawing = draw(certificate, palette)
        if drawing is not None:
            yield drawing
