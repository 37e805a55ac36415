"""All figures of a report, as inline SVG for the page or as PNG for documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from samespace.report import reading
from samespace.report.curves import draw_backfill, draw_cmc, draw_histograms, draw_roc
from samespace.report.drawing import LIGHT, STAND_INS, Drawing, Palette, save_png, settings, to_svg
from samespace.report.reading import CertificateLike
from samespace.report.rows import draw_comparison, draw_gains, draw_values
from samespace.report.sweep import draw_sweep

_DRAW: dict[str, Callable[[Mapping[str, Any], Palette], Drawing | None]] = {
    "gains": draw_gains,
    "values": draw_values,
    "roc": draw_roc,
    "cmc": draw_cmc,
    "histograms": draw_histograms,
    "backfill": draw_backfill,
    "sweep": draw_sweep,
}


def plots(certificate: CertificateLike) -> dict[str, str]:
    """Every figure that the certificate has data for, as inline SVG.

    Colours are the CSS variables of `style.css` (`--ink`, `--cross`, …), so one SVG serves light and dark pages.
    The same certificate always gives the same text.

    Args:
        certificate: a `Certificate`, or its dictionary.

    Returns:
        SVG by name: 'gains', 'values', 'roc', 'cmc', 'histograms', 'backfill', 'sweep'.
    """
    values = reading.as_dict(certificate)
    with settings():
        drawings = [draw(values, STAND_INS) for draw in _DRAW.values()]
        return {drawing.name: to_svg(drawing) for drawing in drawings if drawing is not None}


def save_plots(certificate: CertificateLike, folder: str | Path, *, pixel_ratio: float = 2.0) -> list[Path]:
    """Write every figure as `folder/NAME.png` on white, for documents.

    Args:
        certificate: a `Certificate`, or its dictionary.
        folder: made if it does not exist.
        pixel_ratio: pixels per CSS pixel; 2 is sharp on most screens.

    Returns:
        The files written.
    """
    values = reading.as_dict(certificate)
    written = []
    with settings():
        for draw in _DRAW.values():
            drawing = draw(values, LIGHT)
            if drawing is not None:
                written.append(Path(folder) / f"{drawing.name}.png")
                save_png(drawing, written[-1], pixel_ratio=pixel_ratio)
    return written


def comparison_plot(certificates: Mapping[str, CertificateLike]) -> str | None:
    """The gains of several methods in one figure, as inline SVG; None where no gain is known."""
    values = {method: reading.as_dict(certificate) for method, certificate in certificates.items()}
    with settings():
        drawing = draw_comparison(values, STAND_INS)
        return None if drawing is None else to_svg(drawing)


def save_comparison_plot(certificates: Mapping[str, CertificateLike], path: str | Path) -> Path | None:
    """Write the figure of `comparison_plot` as PNG on white; None where no gain is known."""
    values = {method: reading.as_dict(certificate) for method, certificate in certificates.items()}
    with settings():
        drawing = draw_comparison(values, LIGHT)
        if drawing is None:
            return None
        save_png(drawing, Path(path))
    return Path(path)
