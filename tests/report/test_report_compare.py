from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from samespace.errors import InputError
from samespace.evaluate import Certificate
from samespace.report import markdown_table, write_comparison


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_table_has_a_row_for_each_metric_and_method(compatible: Certificate, failing: Certificate) -> None:
    lines = markdown_table({"independent": failing, "BCT": compatible}).splitlines()
    assert cells(lines[0]) == [
        "Metric", "Method", "Old", "Cross", "Self", "Gain", "95 % interval", "Update gain", "Verdict",
    ]  # fmt: skip
    bad, good = failing["rank@1"], compatible["rank@1"]

    def points(value: float) -> str:
        return f"{100 * value:+.2f}".replace("-", "−")

    assert cells(lines[2]) == [
        "rank@1", "independent", f"{100 * bad.old:.2f}", f"{100 * bad.cross:.2f}", "–", points(bad.absolute_gain),
        " … ".join(map(points, bad.difference)), "–", "fails",
    ]  # fmt: skip
    assert cells(lines[3]) == [
        "rank@1", "BCT", f"{100 * good.old:.2f}", f"**{100 * good.cross:.2f}**", f"{100 * good.new:.2f}",
        points(good.absolute_gain), " … ".join(map(points, good.difference)), f"{100 * good.update_gain:.1f}",
        "compatible",
    ]  # fmt: skip
    assert points(bad.absolute_gain).startswith("−")
    assert len(lines) == 2 + 3 + 5
    assert cells(lines[7])[8] == "compatible"
    assert cells(lines[6])[8] == "not proven"


def test_a_lone_method_is_not_called_best_and_absent_values_are_dashes(minimal: Certificate) -> None:
    lines = markdown_table({"only": minimal}).splitlines()
    assert "**" not in "".join(lines)
    assert [cells(lines[3])[place] for place in (0, 1, 4, 7, 8)] == ["mAP", "only", "–", "–", "fails"]


def test_method_names_cannot_break_the_table(compatible: Certificate) -> None:
    lines = markdown_table({"a|b\n<script>*x*": compatible}).splitlines()
    assert len(lines) == 2 + 5
    assert "a\\|b \\<script\\>\\*x\\*" in lines[2]


def test_the_folder_holds_page_table_and_certificates(
    compatible: Certificate, failing: Certificate, tmp_path: Path
) -> None:
    given = {"<script>x</script>": failing, "BCT": compatible}
    page = write_comparison(given, tmp_path / "out", title="Which one?", notes=["One seed & no more."])
    assert sorted(file.name for file in page.parent.iterdir()) == [
        "certificates.json", "comparison.html", "comparison.md",
    ]  # fmt: skip
    html = page.read_text(encoding="utf-8")
    assert html.count("<script") == 1
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert f"★ {100 * compatible['rank@1'].cross:.2f}" in html
    assert "One seed &amp; no more." in html
    assert "http" not in html.replace("http-equiv", "")
    assert "different" not in html
    markdown = (page.parent / "comparison.md").read_text(encoding="utf-8")
    assert markdown.startswith("# Which one?\n\n| Metric |")
    assert markdown.endswith("One seed & no more.\n")
    assert json.loads((page.parent / "certificates.json").read_text(encoding="utf-8")) == {
        name: certificate.to_dict() for name, certificate in given.items()
    }
    first = page.read_bytes()
    assert (
        write_comparison(given, tmp_path / "out", title="Which one?", notes=["One seed & no more."]).read_bytes()
        == first
    )


def test_rows_that_cannot_be_compared_are_pointed_out(compatible: Certificate, tmp_path: Path) -> None:
    other = replace(
        compatible, old_space=replace(compatible.old_space, id="0" * 12), data={**compatible.data, "queries": 7}
    )
    html = write_comparison({"a": compatible, "b": other}, tmp_path).read_text(encoding="utf-8")
    assert "The certificates are against different old models" in html
    assert "The certificates rest on different data" in html


def test_nothing_to_compare_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one certificate"):
        write_comparison({}, tmp_path)
    with pytest.raises(InputError, match="at least one certificate"):
        markdown_table({})
