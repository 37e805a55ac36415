"""The pages of a study: the paper's figures labelled as measured elsewhere, marks over the seeds, nothing unescaped."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from samespace.studies.page import mark, markdown, summary, write_study


def cell(mean: float | None = None, **more: Any) -> dict[str, Any]:
    empty = {"published": None, "test": "cross", "mean": mean, "seeds": None, "difference": None}
    return {**empty, "criterion": None, "compatible": None, **more}


CROSS = {"difference": [-0.01, 0.03], "criterion": 2, "compatible": 1}


def column(
    header: str, quantity: str = "value", test: str | None = None, measured: str | None = "mAP"
) -> dict[str, Any]:
    return {
        "group": "1:N <search>",
        "header": header,
        "metric": "mAP",
        "quantity": quantity,
        "test": test,
        "measured": measured,
    }


@pytest.fixture
def found() -> dict[str, Any]:
    columns = [
        column("top-1", test="cross"),
        column("compatible?", "compatible"),
        column("update gain", "update_gain"),
        column("absolute gain", "absolute_gain"),
        column("missing", measured=None),
    ]
    cells = [
        cell(0.5312, published=72.89, **CROSS),
        cell(0.5, published=True, **CROSS),
        cell(0.25, published=None, **CROSS),
        cell(0.0125, published=2.39, **CROSS),
        cell(None, published=9.0, test=None),
    ]
    return {
        "title": "A <study>",
        "about": "Made-up images.",
        "source": "images.npz",
        "seeds": [0, 1],
        "confidence": 0.95,
        "published_on": "IJB-C",
        "data": [{"queries": 10, "gallery": 20, "identities": 5}] * 2,
        "models": [
            {
                "name": "old", "data": "100 %", "images": [1200, 1200], "classes": [30, 30], "method": "none",
                "old": None, "variants": ["deeper"], "seconds": [60.0, 62.0],
            }
        ],
        "tables": [
            {
                "name": "2", "title": "All | of it", "note": "A note.", "headers": ["Scenario"], "columns": columns,
                "rows": [{"labels": ["open|class"], "short": "", "test": "cross", "pair": {}, "cells": cells}],
            }
        ],
        "figure": None,
        "notes": ["Mind <this>."],
    }  # fmt: skip


def test_markdown_shows_value_mark_interval_and_the_papers_figure(found):
    text = markdown(found)
    row = next(line for line in text.splitlines() if line.startswith("| open"))
    assert row == (
        "| open\\|class | 53.12 ? 1/2 [−1.0 … +3.0]<br>*paper 72.89* | ? 1/2<br>*paper ✓* | 25.0 | "
        "+1.25 [−1.0 … +3.0]<br>*paper 2.39* | –<br>*paper 9.00* |"
    )
    assert "measured on **other data**: IJB-C" in text
    assert "1:N <search>: missing (not measured)" in text
    assert "| old | 100 % | 1,200 | 30 | none | – | deeper | 1:01 |" in text


@pytest.mark.parametrize(
    ("criterion", "compatible", "low", "expected"),
    [
        (2, 2, 0.01, "✓"),
        (2, 0, 0.01, "✓"),
        (2, 0, 0.0, "? 0/2"),
        (1, 1, -0.01, "? 1/2"),
        (0, 0, -0.01, "✗"),
        (None, None, None, ""),
    ],
)
def test_marks_tell_proven_open_and_failed_apart(found, criterion, compatible, low, expected):
    difference = None if low is None else [low, 0.05]
    assert mark(cell(0.5, criterion=criterion, compatible=compatible, difference=difference), found) == expected


def test_an_update_gain_that_some_seeds_leave_undefined_says_how_many_define_it(found):
    part = found["tables"][0]
    part["columns"] = [column("update gain", "update_gain")]
    for seeds, shown in (([0.3, None], "– 1/2"), ([None, None], "–")):
        part["rows"][0]["cells"] = [cell(None, **CROSS, seeds=seeds)]
        assert f"| open\\|class | {shown} |" in markdown(found)


def test_a_single_seed_needs_no_count_and_has_the_verdict_of_its_certificate(found):
    of_one = {**found, "seeds": [0]}
    assert mark(cell(0.5, criterion=1, compatible=0, difference=[0.01, 0.02]), of_one) == "?"
    assert mark(cell(0.5, criterion=1, compatible=1, difference=[0.01, 0.02]), of_one) == "✓"


def test_the_page_escapes_what_it_shows_and_needs_no_network(found, tmp_path):
    assert write_study(found, tmp_path, {})
    page = (tmp_path / "study.html").read_text()
    assert "A &lt;study&gt;" in page
    assert "Mind &lt;this&gt;." in page
    assert "<study>" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert json.loads((tmp_path / "study.json").read_text()) == found


def test_pages_that_would_not_change_are_left_alone(found, tmp_path):
    assert write_study(found, tmp_path, {})
    assert not write_study(found, tmp_path, {})
    changed = copy.deepcopy(found)
    changed["tables"][0]["rows"][0]["cells"][0]["mean"] = 0.6
    assert write_study(changed, tmp_path, {})


def test_the_summary_has_the_cross_tests_only(found):
    assert summary(found) == [["2", "open|class", "mAP", "53.12", "−1.0 … +3.0", "? 1/2"]]


def test_a_self_test_has_the_interval_of_its_lead_over_the_paragon(found):
    part = found["tables"][0]
    part["columns"] = [column("rank@1", test="new", measured="rank@1")]
    part["rows"][0]["cells"] = [cell(0.5, test="new", lead=[-0.004, 0.01])]
    assert "| open\\|class | 50.00 [−0.4 … +1.0] |" in markdown(found)


def test_tables_without_columns_for_the_mark_have_it_beside_the_value(found):
    part = found["tables"][0]
    part["columns"] = [column("rank@1", measured="rank@1")]
    part["rows"][0]["cells"] = [cell(0.5, **CROSS)]
    assert "| open\\|class | 50.00 ? 1/2 [−1.0 … +3.0] |" in markdown(found)
