from __future__ import annotations

import io
from dataclasses import replace

import pytest
from markupsafe import Markup
from rich.console import Console

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.report import print_comparison
from samespace.report.page import render
from samespace.report.wording import model_names, movement, signed, state, verdict

from .conftest import numbers, with_metrics


def test_the_verdict_leads_with_the_number_that_carries_it(compatible: Certificate) -> None:
    first = replace(numbers(compatible["rank@1"], old=0.612, cross=0.684, half=0.013), update_gain=0.072 / 0.087)
    found = verdict(with_metrics(compatible, **{"rank@1": first}))
    assert found.compatible
    assert found.sentence.replace("\u00a0", " ") == (
        "The new model may search the old gallery: rank@1 rises from 61.2 % to 68.4 % (+7.2 points, 95 % interval "
        "+5.9 … +8.5), 83 % of what a full re-embedding would bring."
    )
    assert found.remainder.startswith("rank@5, TAR@FAR=1e-2, TPIR-merged@FPIR=1e-1 and mAP rise as well")


def test_a_refusal_names_the_first_failing_metric_and_counts_the_rest(failing: Certificate) -> None:
    found = verdict(failing)
    assert not found.compatible
    assert f"must not search the old gallery: rank@1 falls from {100 * failing['rank@1'].old:.1f}" in found.sentence
    assert found.remainder == "Of the 3 metrics, 2 fail (rank@1 and TAR@FAR=1e-2) and 1 is not proven (mAP)."


def test_a_rise_within_the_noise_is_called_unproven(failing: Certificate) -> None:
    found = verdict(replace(failing, metrics={"mAP": failing["mAP"]}))
    assert found.sentence.endswith("−0.6 … +2.0), so a rise is not proven.")
    assert found.remainder == ""


@pytest.mark.parametrize("key", ["cross", "old", "criterion"])
def test_a_metric_that_could_not_be_computed_is_no_part_of_a_certificate(minimal: Certificate, key: str) -> None:
    value = minimal.to_dict()
    value["metrics"]["mAP"][key] = None
    with pytest.raises(InputError, match=f"metric 'mAP': '{key}' should be"):
        Certificate.from_dict(value)


def test_a_method_without_a_metric_is_compared_by_dashes(failing: Certificate, compatible: Certificate) -> None:
    console = Console(file=io.StringIO(), width=100)
    print_comparison({"BCT": compatible, "independent": failing}, console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[lines.index(next(line for line in lines if line[:1] == ["rank@5"])) + 1] == ["independent", *["–"] * 6]


def test_states_of_a_metric(failing: Certificate, compatible: Certificate) -> None:
    assert state(compatible["mAP"]) == "compatible"
    assert state(failing["mAP"]) == "unproven"
    assert state(failing["rank@1"]) == "fails"


def test_small_movements_keep_two_digits_so_that_no_bound_reads_zero(compatible: Certificate) -> None:
    metric = numbers(compatible["mAP"], old=0.5, cross=0.5104, half=0.01)
    assert movement("mAP", metric, "95 %") == (
        "mAP rises from 50.00\u00a0% to 51.04\u00a0% (+1.04 points, 95 % interval +0.04 … +2.04)"
    )


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    assert signed(-0.00004) == "0.00"
    assert signed(-0.00006) == "−0.01"
    assert signed(0.00006) == "+0.01"


def test_markup_survives_and_text_is_escaped() -> None:
    cells = ["a<b", Markup('<b>"</b>'), '"><script>']
    page = render(
        "stages.html",
        title="<t>",
        footer="&",
        sentence="'",
        figures={},
        header=["1", "2", cells[2]],
        rows=[cells],
        checks=["<br>"],
    )
    assert '<td role="cell" data-label="&#34;&gt;&lt;script&gt;">&#34;&gt;&lt;script&gt;</td>' in page
    assert '<b>"</b></td>' in page
    assert "<title>&lt;t&gt;</title>" in page
    assert "<li>&lt;br&gt;</li>" in page


def test_models_are_called_by_name_only_where_names_tell_them_apart(compatible: Certificate) -> None:
    assert model_names(compatible) == ("glyphs-v1", "glyphs-v2 (UniBCT refined)")
    space = replace(compatible.old_space, name="vectors")
    same = replace(compatible, old_space=space, new_space=space)
    assert model_names(same) == ("the old model", "the new model")
    assert model_names(replace(same, old_space=replace(space, name=""))) == ("the old model", "vectors")


def test_when_every_metric_fails_that_is_said(failing: Certificate) -> None:
    both = {name: failing[name] for name in ("rank@1", "TAR@FAR=1e-2")}
    assert verdict(replace(failing, metrics=both)).remainder == "Both metrics fail."
