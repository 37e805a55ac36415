from __future__ import annotations

from typing import Any

import pytest

from samespace.errors import InputError
from samespace.report.html import Html, escape, join, tag
from samespace.report.reading import as_dict, model_names, movement, signed, state, verdict


def test_the_verdict_leads_with_the_number_that_carries_it(compatible: dict[str, Any]) -> None:
    found = verdict(compatible)
    assert found.compatible
    assert found.sentence.replace("\u00a0", " ") == (
        "The new model may search the old gallery: rank@1 rises from 61.2 % to 68.4 % (+7.2 points, 95 % interval "
        "+5.9 … +8.5), 83 % of what a full re-embedding would bring."
    )
    assert found.remainder.startswith("rank@5, TAR@FAR=1e-4, TPIR-merged@FPIR=1e-2 and mAP rise as well")


def test_a_refusal_names_the_first_failing_metric_and_counts_the_rest(failing: dict[str, Any]) -> None:
    found = verdict(failing)
    assert not found.compatible
    assert "must not search the old gallery: rank@1 falls from 61.2" in found.sentence
    assert found.remainder == "Of the 3 metrics, 2 fail (rank@1 and TAR@FAR=1e-4) and 1 is not proven (mAP)."


def test_a_rise_within_the_noise_is_called_unproven(failing: dict[str, Any]) -> None:
    failing["metrics"] = {"mAP": failing["metrics"]["mAP"]}
    assert verdict(failing).sentence.endswith("−0.6 … +2.0), so a rise is not proven.")
    assert verdict(failing).remainder == ""


def test_a_metric_that_could_not_be_computed_is_said_to_be_so(minimal: dict[str, Any]) -> None:
    minimal["metrics"].pop("rank@1")
    assert verdict(minimal).sentence.endswith("TPIR@FPIR=1e-2 could not be computed on these data.")


def test_states_of_a_metric(failing: dict[str, Any], compatible: dict[str, Any], minimal: dict[str, Any]) -> None:
    assert state(compatible["metrics"]["mAP"]) == "compatible"
    assert state(failing["metrics"]["mAP"]) == "unproven"
    assert state(failing["metrics"]["rank@1"]) == "fails"
    assert state(minimal["metrics"]["TPIR@FPIR=1e-2"]) == "absent"


def test_small_movements_keep_two_digits_so_that_no_bound_reads_zero() -> None:
    metric = {"old": 0.5, "cross": 0.5104, "absolute_gain": 0.0104, "difference": [0.0004, 0.0204]}
    assert movement("mAP", metric, "95 %") == (
        "mAP rises from 50.00\u00a0% to 51.04\u00a0% (+1.04 points, 95 % interval +0.04 … +2.04)"
    )


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    assert signed(-0.00004) == "0.00"
    assert signed(-0.00006) == "−0.01"
    assert signed(0.00006) == "+0.01"


def test_objects_with_to_dict_and_dictionaries_read_the_same(compatible: dict[str, Any]) -> None:
    class Certificate:
        def to_dict(self) -> dict[str, Any]:
            return compatible

    assert as_dict(Certificate()) == as_dict(compatible) == compatible


@pytest.mark.parametrize("wrong", [{}, {"format": "samespace.certificate/2", "metrics": {}}, {"format": 1}])
def test_what_is_no_certificate_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"expected a certificate of format 'samespace\.certificate/1'"):
        as_dict(wrong)


def test_a_certificate_without_metrics_is_refused() -> None:
    with pytest.raises(InputError, match="no 'metrics'"):
        as_dict({"format": "samespace.certificate/1"})


def test_markup_survives_and_text_is_escaped() -> None:
    assert tag("p", "a<b", tag("b", '"'), None, title='"><script>') == (
        '<p title="&quot;&gt;&lt;script&gt;">a&lt;b<b>&quot;</b></p>'
    )
    assert join(["<", Html("<br>")], ", ") == "&lt;, <br>"
    assert isinstance(escape("x"), Html)


def test_models_are_called_by_name_only_where_names_tell_them_apart(compatible: dict[str, Any]) -> None:
    assert model_names(compatible) == ("glyphs-v1", "glyphs-v2 (UniBCT refined)")
    compatible["old_space"]["name"] = compatible["new_space"]["name"] = "vectors"
    assert model_names(compatible) == ("the old model", "the new model")
    compatible["old_space"]["name"] = ""
    assert model_names(compatible) == ("the old model", "vectors")


def test_when_every_metric_fails_that_is_said(failing: dict[str, Any]) -> None:
    failing["metrics"].pop("mAP")
    assert verdict(failing).remainder == "Both metrics fail."
