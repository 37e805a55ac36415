"""Figures for light, dark and paper: drawn in stand-in colours that become CSS variables in the SVG."""

from __future__ import annotations

import io
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib
import matplotlib.style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from samespace.files import replacing

WIDTH = 440
TEXT = 12.0
SMALL = 11.0
_BOTTOM = 44


@dataclass(frozen=True)
class Palette:
    """The colour of each role in a figure, as `#rrggbb`; the same roles are CSS variables in the page."""

    ink: str
    muted: str
    grid: str
    surface: str
    old: str
    cross: str
    new: str
    paragon: str
    genuine: str
    impostor: str
    good: str
    bad: str
    open: str


_ROLES = [field.name for field in fields(Palette)]
STAND_INS = Palette(*(f"#01fe{index + 16:02x}" for index in range(len(_ROLES))))
_STYLE = Path(__file__).parent.with_name("style.css").read_text(encoding="utf-8")
_LIGHT = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", _STYLE[: _STYLE.index("@media")]))
LIGHT = Palette(**{role: _LIGHT[role] for role in _ROLES})


@dataclass(frozen=True)
class Drawing:
    """A finished figure: its name in files and ids, its title, and what it shows in one sentence."""

    name: str
    title: str
    description: str
    figure: Figure


# matplotlib reads its settings from one global place while it draws and writes; hence the lock.
_lock = threading.RLock()
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "samespace",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": TEXT,
    "text.parse_math": False,
    "path.simplify_threshold": 0.2,
}


@contextmanager
def settings() -> Iterator[None]:
    """Draw under the library's own settings, whatever style the user has set, and put theirs back after."""
    with _lock, matplotlib.style.context(["default", _SETTINGS]):
        yield


def to_svg(drawing: Drawing) -> str:
    """The figure as one inline SVG element whose colours are CSS variables and whose text is text.

    The figure must have been drawn with `STAND_INS`. Ids begin with the drawing's name, so that several figures
    share a page; there is no date and no random part.
    """
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with settings():
        drawing.figure.savefig(buffer, format="svg", metadata=metadata)
    root = ElementTree.fromstring(buffer.getvalue())
    _clean(root, drawing.name)
    width, height = (72 * inches for inches in drawing.figure.get_size_inches())
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width:g} {height:g}",
        "role": "img",
        "aria-label": f"{drawing.title}. {drawing.description}",
        "style": "stroke-linejoin: round; stroke-linecap: butt",
    }
    return ElementTree.tostring(root, encoding="unicode")


def save_png(drawing: Drawing, path: Path, *, pixel_ratio: float = 2.0) -> None:
    """Write the figure as PNG, whole or not at all; it should have been drawn with `LIGHT` or another palette."""
    with replacing(path) as temporary, settings():
        drawing.figure.savefig(
            temporary, format="png", dpi=72 * pixel_ratio, facecolor="white", metadata={"Software": None}
        )


def _clean(root: ElementTree.Element, name: str) -> None:
    """Strip namespaces, global styles and idle ids; make the rest of the ids the figure's own."""
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith("}metadata") or child.tag.endswith("}style"):
                parent.remove(child)
    used = set(re.findall(r"#([\w.-]+)", ElementTree.tostring(root, encoding="unicode")))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            local = key.rpartition("}")[2]
            if local == "id":
                if value in used:
                    element.set("id", f"{name}-{value}")
            else:
                element.set(local, _attribute(local, value, name))


def _attribute(key: str, value: str, name: str) -> str:
    if key == "style":
        return "; ".join(filter(None, map(_declaration, value.split(";"))))
    if key == "href":
        return f"#{name}-{value[1:]}"
    if key == "clip-path":
        return value.replace("#", f"#{name}-")
    if key in {"d", "x", "y", "transform", "width", "height"}:
        rounded = re.sub(r"-?\d+\.\d+", lambda match: f"{round(float(match[0]), 2):g}", value)
        return " ".join(rounded.split())
    return value


def _declaration(text: str) -> str:
    """One CSS declaration with the page's font and colours in the place of matplotlib's."""
    key, _, value = (part.strip() for part in text.partition(":"))
    if key == "font-family":
        value = "var(--font)"
    elif key == "font":
        value = re.sub(r"(px)\s.*", r"\1 var(--font)", value)
    else:
        for role in _ROLES:
            value = value.replace(getattr(STAND_INS, role), f"var(--{role})")
    return f"{key}: {value}" if key else ""


def canvas(
    height: float,
    palette: Palette,
    *,
    panels: int = 1,
    left: float = 40,
    right: float = 14,
    top: float = 34,
    gap: float = 34,
) -> tuple[Figure, list[Axes]]:
    """A figure of the common width with panels one above another; all measures in CSS pixels."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
    each = (height - top - _BOTTOM - gap * (panels - 1)) / panels
    axes = []
    for index in range(panels):
        lower = _BOTTOM + (panels - 1 - index) * (each + gap)
        box = (left / WIDTH, lower / height, (WIDTH - left - right) / WIDTH, each / height)
        axes.append(_quiet(figure.add_axes(box), palette))
    return figure, axes


def _quiet(axes: Axes, palette: Palette) -> Axes:
    axes.set_facecolor("none")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(palette.muted)
    axes.spines["bottom"].set_linewidth(0.8)
    axes.grid(axis="y", color=palette.grid, linewidth=1)
    axes.tick_params(length=0, labelsize=SMALL, colors=palette.muted, pad=5)
    axes.tick_params(axis="x", length=3, width=0.8, color=palette.muted)
    return axes


def name_axes(axes: Axes, palette: Palette, *, x: str | None, y: str) -> None:
    """Axis titles: y as a line of text above the axis (no turned head), x below it."""
    left = -axes.get_position().x0 * WIDTH
    axes.annotate(
        y, (0, 1), (left + 2, 11), xycoords="axes fraction", textcoords="offset points",
        color=palette.muted, fontsize=SMALL, annotation_clip=False,
    )  # fmt: skip
    if x is not None:
        axes.set_xlabel(x, color=palette.muted, fontsize=SMALL, labelpad=5)


def legend(
    axes: Axes, palette: Palette, above: float = 24, handles: Sequence[Artist] | None = None, *, handle: float = 2.4
) -> Artist:
    """The key to the lines, in one row above the axes by so many pixels; `handle` is the length of a line in it."""
    height = axes.bbox.height
    key = axes.legend(
        handles=list(handles or axes.get_legend_handles_labels()[0]),
        loc="lower left", bbox_to_anchor=(0, 1 + above / height), ncols=4, frameon=False, fontsize=SMALL,
        borderaxespad=0, borderpad=0, handlelength=handle, handletextpad=0.6, columnspacing=1.8,
    )  # fmt: skip
    for text in key.get_texts():
        text.set_color(palette.ink)
    return key


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart until neighbours are `gap` from each other, staying within the limits.

    Example:
        >>> spread([5.0, 5.0], gap=2.0, low=0.0, high=10.0)
        [4.0, 6.0]
        >>> spread([10.0, 9.5], gap=2.0, low=0.0, high=10.0)
        [10.0, 8.0]
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    placed = [positions[index] for index in order]
    for _ in range(200):
        for lower in range(len(placed) - 1):
            lack = gap - (placed[lower + 1] - placed[lower])
            if lack > 1e-9:
                placed[lower] -= lack / 2
                placed[lower + 1] += lack / 2
        if placed and placed[-1] > high:
            placed = [value - max(0.0, placed[-1] - high) for value in placed]
        if placed and placed[0] < low:
            placed = [value + low - placed[0] for value in placed]
    result = [0.0] * len(positions)
    for index, value in zip(order, placed, strict=True):
        result[index] = round(value, 6)
    return result
