from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from samespace.errors import InputError
from samespace.report import markdown_table, write_comparison


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_table_has_a_row_for_each_metric_and_method(compatible: dict[str, Any], failing: dict[str, Any]) -> None:
    lines = markdown_table({"independent": failing, "BCT": compatible}).splitlines()
    assert cells(lines[0]) == [
        "Metric", "Method", "Old", "Cross", "Self", "Gain", "95 % interval", "Update gain", "Verdict",
    ]  # fmt: skip
    assert cells(lines[2]) == [
        "rank@1", "independent", "61.20", "0.60", "70.20", "−60.60", "−61.90 … −59.30", "–", "fails",
    ]  # fmt: skip
    assert cells(lines[3]) == [
        "rank@1", "BCT", "61.20", "**68.40**", "70.20", "+7.20", "+5.90 … +8.50", "82.8", "compatible",
    ]  # fmt: skip
    assert len(lines) == 2 + 3 + 5
    assert cells(lines[7])[8] == "compatible"
    assert cells(lines[6])[8] == "not proven"


def test_a_lone_method_is_not_called_best_and_absent_values_are_dashes(minimal: dict[str, Any]) -> None:
    lines = markdown_table({"only": minimal}).splitlines()
    assert "**" not in "".join(lines)
    assert cells(lines[3]) == ["TPIR@FPIR=1e-2", "only", *["–"] * 7]


def test_method_names_cannot_break_the_table(compatible: dict[str, Any]) -> None:
    lines = markdown_table({"a|b\n<script>*x*": compatible}).splitlines()
    assert len(lines) == 2 + 5
    assert "a\\|b \\<script\\>\\*x\\*" in lines[2]


def test_the_folder_holds_page_table_and_certificates(
    compatible: dict[str, Any], failing: dict[str, Any], tmp_path: Path
) -> None:
    given = {"<script>x</script>": failing, "BCT": compatible}
    page = write_comparison(given, tmp_path / "out", title="Which one?", notes=["One seed & no more."])
    assert sorted(file.name for file in page.parent.iterdir()) == [
        "certificates.json", "comparison.html", "comparison.md",
    ]  # fmt: skip
    html = page.read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "★ 68.40" in html
    assert "One seed &amp; no more." in html
    assert "http" not in html.replace("http-equiv", "")
    assert "different" not in html
    markdown = (page.parent / "comparison.md").read_text(encoding="utf-8")
    assert markdown.startswith("# Which one?\n\n| Metric |")
    assert markdown.endswith("One seed & no more.\n")
    assert json.loads((page.parent / "certificates.json").read_text(encoding="utf-8")) == given
    first = page.read_bytes()
    assert (
        write_comparison(given, tmp_path / "out", title="Which one?", notes=["One seed & no more."]).read_bytes()
        == first
    )


def test_rows_that_cannot_be_compared_are_pointed_out(compatible: dict[str, Any], tmp_path: Path) -> None:
    other = copy.deepcopy(compatible)
    other["old_space"]["id"] = "0" * 12
    other["data"]["queries"] = 7
    html = write_comparison({"a": compatible, "b": other}, tmp_path).read_text(encoding="utf-8")
    assert "The certificates are against different old models" in html
    assert "The certificates rest on different data" in html


def test_nothing_to_compare_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one certificate"):
        write_comparison({}, tmp_path)
    with pytest.raises(InputError, match="at least one certificate"):
        markdown_table({})
