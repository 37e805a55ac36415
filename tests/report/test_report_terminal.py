from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from samespace.evaluate import Certificate
from samespace.report import print_certificate

from .conftest import with_metrics


def shown(certificate: Certificate, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_certificate(certificate, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_number_is_whole_at_80_columns_and_without_colour(compatible: Certificate) -> None:
    text = shown(compatible)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in text
    row = next(line for line in lines if line.startswith("rank@1 "))
    one = compatible["rank@1"]
    values = [f"{100 * value:.2f}" for value in (one.old, one.cross, one.new, one.paragon)]
    low, high = (f"{100 * end:+.2f}" for end in one.difference)
    gain = f"{100 * one.update_gain:.1f}"
    assert row.split() == ["rank@1", *values, f"{100 * one.absolute_gain:+.2f}", low, "…", high, gain, "yes"]
    heading = next(line for line in lines if line.startswith("in %"))
    assert heading.split() == ["in", "%", "old", "cross", "new", "paragon", "gain", "95%", "interval", "gain", "holds"]


def test_the_widest_values_still_fit_80_columns(failing: Certificate) -> None:
    worst = replace(
        failing["rank@1"], old=1.0, cross=1.0, new=1.0, paragon=1.0, absolute_gain=-0.6, difference=(-0.62, -0.58)
    )
    text = shown(replace(failing, metrics={"TPIR-merged@FPIR=1e-2": worst, "mAP": failing["mAP"]}))
    assert max(map(len, text.splitlines())) <= 80
    assert "100.00 100.00 100.00  100.00 -60.00 -62.00 … -58.00" in text
    assert "unproven" in text
    assert "TPIR-merged" in text
    assert "@FPIR=1e-2" in text


def test_verdict_flips_strict_control_and_notes_are_all_there(failing: Certificate) -> None:
    text = " ".join(shown(failing).split())
    assert text.startswith("NOT COMPATIBLE The new model must not search the old gallery: rank@1 falls")
    flips, strict = failing.flips["cross"], failing.strict
    assert (
        f"flips, cross against old: {100 * flips.negative:.2f} % newly wrong (relative {flips.relative_negative:.2f}), "
        f"{100 * flips.positive:.2f} % newly right"
    ) in text
    assert (
        f"strict criterion: holds for {100 * strict.positive_share:.2f} % of genuine and "
        f"{100 * strict.negative_share:.2f} % of impostor pairs"
    ) in text
    controls = ", ".join(f"{name} {100 * one.control:.2f}" for name, one in failing.metrics.items())
    assert f"rotation control (must be near chance): {controls}" in text
    assert "note: Nothing is proven." in text


def test_absent_values_are_dashes_and_absent_parts_are_left_out(minimal: Certificate) -> None:
    text = shown(minimal, width=110)
    row = next(line for line in text.splitlines() if line.startswith("mAP "))
    value = f"{100 * minimal['mAP'].old:.2f}"
    assert row.split() == ["mAP", value, value, "–", "–", "0.00", "0.00", "…", "0.00", "–", "no"]
    assert "flips" not in text
    assert "strict" not in text
    assert "None" not in text


@pytest.mark.parametrize("name", ["[red]v2[/red]", "[/]", "\x1b[31mred\x1b[0m"])
def test_names_are_text_not_markup(compatible: Certificate, name: str) -> None:
    named = replace(compatible, new_space=replace(compatible.new_space, name=name), notes=(f"about {name}",))
    text = shown(named, width=200)
    assert f"about {name.replace(chr(27), ' ')}" in text
    assert "\x1b" not in text


def test_the_reverse_of_the_cross_test_is_shown_where_it_was_measured(compatible: Certificate) -> None:
    assert "the other way round" not in " ".join(shown(compatible).split())
    swapped = with_metrics(compatible, **{"rank@1": replace(compatible["rank@1"], swap=0.4321)})
    assert "the other way round (old queries, new gallery): rank@1 43.21" in " ".join(shown(swapped).split())


def test_the_sweep_says_which_order_pays_and_what_falls(compatible: Certificate) -> None:
    names = compatible.sweep.metrics[:2]
    curve = compatible.sweep.orders["random"]["raw"]
    merges = {
        "calibrated": replace(curve, area={names[0]: 0.5, names[1]: None}, holds=dict.fromkeys(names, True)),
        "raw": replace(curve, area={names[0]: -1.5, names[1]: None}, holds={names[0]: False, names[1]: True}),
    }
    text = shown(replace(compatible, sweep=replace(compatible.sweep, metrics=names, orders={"random": merges})))
    assert "  random, calibrated   0.50    -\n" in text
    assert "  random, raw          -1.50    -; falls in rank@1\n" in text
    assert "backfill by item" not in shown(replace(compatible, sweep=None))


def test_the_spread_of_genuine_scores_is_one_line_where_it_was_measured(compatible: Certificate) -> None:
    spreads = ", ".join(f"{test} {one.mean:.3f} ({one.std:.3f})" for test, one in compatible.genuine.items())
    line = f"genuine scores, mean (standard deviation): {spreads}"
    assert line in " ".join(shown(compatible).split())
    assert "genuine scores, mean" not in shown(replace(compatible, genuine={}))


@pytest.mark.parametrize("width", [80, 120])
def test_a_no_ends_with_its_causes_and_commands_that_can_be_copied(failing: Certificate, width: int) -> None:
    text = shown(failing, width=width)
    lines = text.splitlines()
    start = lines.index("WHY NOT, AND WHAT NEXT")
    part = lines[start + 1 : next(row for row, line in enumerate(lines) if line.startswith("note: "))]
    assert max(map(len, part)) <= width
    assert not any(line != line.rstrip() for line in part)
    for place, cause in enumerate(failing.diagnosis, start=1):
        assert f"{place}. {cause.sentence}".replace("−", "-") in " ".join(" ".join(part).split())
        for command in cause.commands:
            copied = "\n".join(part).replace(" \\\n", " ")
            assert command.split() == copied[copied.index(command.split(" --")[0]) :].split()[: len(command.split())]


def test_a_yes_has_no_causes(compatible: Certificate) -> None:
    assert "WHY NOT" not in shown(compatible)
