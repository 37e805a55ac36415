from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from samespace.report import print_certificate


def shown(certificate: dict[str, Any], width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_certificate(certificate, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_number_is_whole_at_80_columns_and_without_colour(compatible: dict[str, Any]) -> None:
    text = shown(compatible)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    row = next(line for line in lines if line.startswith("rank@1 "))
    assert row.split() == ["rank@1", "61.20", "68.40", "70.20", "69.90", "+7.20", "+5.90", "…", "+8.50", "82.8", "yes"]
    heading = next(line for line in lines if line.startswith("in %"))
    assert heading.split() == ["in", "%", "old", "cross", "new", "paragon", "gain", "95%", "interval", "gain", "holds"]


def test_the_widest_values_still_fit_80_columns(failing: dict[str, Any]) -> None:
    worst = failing["metrics"]["rank@1"]
    worst.update(old=1.0, cross=1.0, new=1.0, paragon=1.0, absolute_gain=-0.6, difference=[-0.62, -0.58])
    failing["metrics"] = {"TPIR-merged@FPIR=1e-2": worst, "mAP": failing["metrics"]["mAP"]}
    text = shown(failing)
    assert max(map(len, text.splitlines())) <= 80
    assert "100.00 100.00 100.00  100.00 -60.00 -62.00 … -58.00" in text
    assert "unproven" in text
    assert "TPIR-merged" in text
    assert "@FPIR=1e-2" in text


def test_verdict_flips_strict_control_and_notes_are_all_there(failing: dict[str, Any]) -> None:
    text = " ".join(shown(failing).split())
    assert text.startswith("NOT COMPATIBLE The new model must not search the old gallery: rank@1 falls")
    assert "flips, cross against old: 60.80 % newly wrong (relative 2.01), 0.20 % newly right" in text
    assert "strict criterion: holds for 64.10 % of genuine and 51.20 % of impostor pairs" in text
    assert "rotation control (must be near chance): rank@1 0.52, TAR@FAR=1e-4 0.52, mAP 0.52" in text
    assert "note: The paragon's lead at mAP is inside the noise" in text


def test_absent_values_are_dashes_and_absent_parts_are_left_out(minimal: dict[str, Any]) -> None:
    text = shown(minimal, width=110)
    row = next(line for line in text.splitlines() if line.startswith("TPIR@FPIR=1e-2 "))
    assert row.split() == ["TPIR@FPIR=1e-2", *["–"] * 8]
    assert "flips" not in text
    assert "strict" not in text
    assert "None" not in text


@pytest.mark.parametrize("name", ["[red]v2[/red]", "[/]", "\x1b[31mred\x1b[0m"])
def test_names_are_text_not_markup(compatible: dict[str, Any], name: str) -> None:
    compatible["new_space"]["name"] = name
    compatible["notes"] = [f"about {name}"]
    text = shown(compatible, width=200)
    assert f"about {name.replace(chr(27), ' ')}" in text
    assert "\x1b" not in text


def test_the_reverse_of_the_cross_test_is_shown_where_it_was_measured(compatible: dict[str, Any]) -> None:
    assert "the other way round" not in " ".join(shown(compatible).split())
    compatible["metrics"]["rank@1"]["swap"] = 0.4321
    assert "the other way round (old queries, new gallery): rank@1 43.21" in " ".join(shown(compatible).split())


def test_the_sweep_says_which_order_pays_and_what_falls(compatible: dict[str, Any]) -> None:
    text = shown(compatible)
    assert "  random, calibrated   0.50    -\n" in text
    assert "  random, raw          -1.50    -; falls in rank@1\n" in text
    compatible["sweep"] = None
    assert "backfill by item" not in shown(compatible)
