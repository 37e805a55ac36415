from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image

from samespace.evaluate import Certificate
from samespace.evaluate.certificate import Roc
from samespace.report import comparison_plot, plots, save_comparison_plot, save_plots
from samespace.report.figures.drawing import LIGHT, STAND_INS, spread

ALL = ["gains", "values", "roc", "cmc", "histograms", "backfill"]


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text")]


def test_every_figure_is_drawn_as_well_formed_svg_with_a_name_for_screen_readers(compatible: Certificate) -> None:
    drawn = plots(compatible)
    assert list(drawn) == ALL
    for svg in drawn.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 30
        assert "width" not in root.attrib, "the page decides the size"


def test_colours_are_css_variables_and_nothing_else(compatible: Certificate, failing: Certificate) -> None:
    for svg in [*plots(compatible).values(), *plots(failing).values()]:
        assert re.findall(r"#[0-9a-fA-F]{6}\b", svg) == []
        assert STAND_INS.ink[:5] not in svg
        used = set(re.findall(r"var\(--([\w-]+)\)", svg))
        assert {"muted", "font"} <= used
        assert used <= {*vars(LIGHT), "font"}
    assert "var(--cross)" in plots(compatible)["roc"]
    assert "var(--bad)" in plots(failing)["gains"]


def test_text_stays_text_in_the_page_font(compatible: Certificate) -> None:
    drawn = plots(compatible)
    assert {"old", "cross", "new", "paragon", "1e-2", "TAR: genuine pairs accepted, %"} <= set(texts(drawn["roc"]))
    first = compatible["rank@1"]
    words = f"{100 * first.absolute_gain:+.2f} · update gain {100 * first.update_gain:.1f} %"
    assert words in texts(drawn["gains"])
    assert "DejaVu" not in "".join(drawn.values())


def test_ids_differ_between_figures_and_every_reference_has_a_target(compatible: Certificate) -> None:
    seen: set[str] = set()
    for svg in plots(compatible).values():
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= set(ids)
        assert set(re.findall(r'(?:href="|url\()#([\w.-]+)', svg)) == set(ids)


def test_no_style_leaks_out_and_no_date_or_maker_is_left(compatible: Certificate) -> None:
    for svg in plots(compatible).values():
        assert "<style" not in svg
        assert "metadata" not in svg
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", svg) == []


def test_the_same_certificate_gives_the_same_figures_whatever_style_is_set(compatible: Certificate) -> None:
    first = plots(compatible)
    with matplotlib.rc_context(
        {"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "lines.linewidth": 9}
    ):
        assert plots(compatible) == first
        assert matplotlib.rcParams["font.size"] == 30


def test_what_a_certificate_lacks_is_not_drawn(minimal: Certificate, compatible: Certificate) -> None:
    assert list(plots(minimal)) == ["gains", "values"]
    curves = compatible.curves
    less = replace(curves, roc={**curves.roc, "new": None}, histograms=replace(curves.histograms, new=None))
    drawn = plots(replace(compatible, curves=less))
    assert "new" not in texts(drawn["roc"])
    assert sum("queries on" in text for text in texts(drawn["histograms"])) == 2


def test_a_metric_name_with_dollars_or_markup_is_only_text(compatible: Certificate) -> None:
    name = r"rank@1 $\frac{<b>"
    assert f"✓  {name}" in texts(plots(replace(compatible, metrics={name: compatible["rank@1"]}))["gains"])


def test_the_backfill_curve_begins_at_cross_and_shows_the_levels(compatible: Certificate) -> None:
    levels = {f"{pair} {100 * getattr(compatible['mAP'], pair):.2f}" for pair in ("old", "cross", "new", "paragon")}
    assert levels <= set(texts(plots(compatible)["backfill"]))


def test_the_sweep_names_its_merges_orders_and_levels(compatible: Certificate) -> None:
    shown = texts(plots(compatible)["backfill"])
    levels = {f"{pair} {100 * getattr(compatible['rank@1'], pair):.2f}" for pair in ("old", "cross", "new")}
    assert {"calibrated", "raw", "random", "distance", "centre"} | levels <= set(shown)
    raw = compatible.sweep.orders["random"]["raw"].points
    assert f"at least {100 * min(at.values['rank@1'] for at in raw):.2f} raw" in plots(compatible)["backfill"]
    assert "raw, class by class" in shown
    classes = texts(plots(replace(compatible, sweep=None))["backfill"])
    assert "raw, class by class" in classes
    assert not {"calibrated", "raw", "random", "distance", "centre"} & set(classes)
    assert "raw, class by class" not in texts(plots(replace(compatible, backfill=None))["backfill"])
    assert "backfill" not in plots(replace(compatible, sweep=None, backfill=None))


def test_every_word_of_the_backfill_figure_lies_inside_it(compatible: Certificate, tmp_path: Path) -> None:
    save_plots(compatible, tmp_path, pixel_ratio=1)
    pixels = np.asarray(Image.open(tmp_path / "backfill.png").convert("L"))
    assert (pixels[:, -3:] > 250).all()


def test_a_roc_without_any_false_accept_is_not_drawn(compatible: Certificate) -> None:
    curves = replace(compatible.curves, roc={"old": Roc((0.0,), (0.4,))})
    assert "roc" not in plots(replace(compatible, curves=curves))


def test_png_export_is_light_and_deterministic(compatible: Certificate, tmp_path: Path) -> None:
    files = save_plots(compatible, tmp_path / "a", pixel_ratio=1)
    again = save_plots(compatible, tmp_path / "b", pixel_ratio=1)
    assert [file.stem for file in files] == ALL
    assert [file.read_bytes() for file in files] == [file.read_bytes() for file in again]
    pixels = np.asarray(Image.open(files[2]).convert("RGB")).reshape(-1, 3)
    assert pixels[0].tolist() == [255, 255, 255]
    cross = [int(LIGHT.cross[at : at + 2], 16) for at in (1, 3, 5)]
    assert (pixels == cross).all(axis=1).sum() > 100


def test_methods_are_compared_in_one_figure(
    compatible: Certificate, failing: Certificate, minimal: Certificate, tmp_path: Path
) -> None:
    svg = comparison_plot({"BCT": compatible, "independent <one>": failing})
    assert svg is not None
    gains = (
        f"{100 * failing['rank@1'].absolute_gain:.2f} ✗".replace("-", "−"),
        (f"{100 * compatible['rank@1'].absolute_gain:+.2f} ✓"),
    )
    assert {"BCT", "independent <one>", *gains, "+0.70 ?"} <= set(texts(svg))
    assert save_comparison_plot({"BCT": compatible}, tmp_path / "x.png") == tmp_path / "x.png"
    none = replace(minimal, metrics={})
    assert comparison_plot({"none": none}) is None
    assert save_comparison_plot({"none": none}, tmp_path / "y.png") is None
    assert not (tmp_path / "y.png").exists()


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_spread_apart_in_order_and_within_limits(seed: int) -> None:
    random = np.random.default_rng(seed)
    wanted = random.uniform(0, 10, size=4).tolist()
    placed = spread(wanted, gap=2.0, low=0.0, high=10.0)
    assert np.argsort(placed).tolist() == np.argsort(wanted).tolist()
    assert np.diff(sorted(placed)).min() > 2.0 - 1e-3
    assert min(placed) > -1e-3
    assert max(placed) < 10 + 1e-3


def test_reports_load_no_torch_and_matplotlib_only_to_draw() -> None:
    """So that commands that print a few lines start at once."""
    code = "import sys, samespace.report; print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
