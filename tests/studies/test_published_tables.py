"""The papers' figures as transcribed: they must agree with each other wherever the papers say a thing twice."""

from __future__ import annotations

import pytest

from samespace.studies import Study, bct, unibct
from samespace.studies.study import Pair, Row, Share, Table, cell_test

STUDIES = {"bct": bct(), "unibct": unibct()}


def table(study: Study, name: str) -> Table:
    return next(table for table in study.tables if table.name == name)


def row(found: Table, pair: Pair, test: str) -> Row:
    return next(row for row in found.rows if row.pair == pair and row.test == test)


@pytest.mark.parametrize("name", ["1b", "1c", "3b", "3c", "4b", "4c", "5"])
def test_published_absolute_gains_are_cross_minus_old(name):
    found = table(bct(), name)
    old_of = {row.pair.old: row.published[0] for row in found.rows if row.test == "old"}
    checked = 0
    for line in found.rows:
        if line.test == "cross" and line.published[3] is not None:
            assert line.published[0] - old_of[line.pair.old] == pytest.approx(line.published[3], abs=0.011), line.labels
            checked += 1
    assert checked


@pytest.mark.parametrize("name", ["1b", "1c", "3b", "3c", "5"])
def test_published_update_gains_follow_equation_9(name):
    found = table(bct(), name)
    old_of = {row.pair.old: row.published[0] for row in found.rows if row.test == "old"}
    paragon = next(row.published[0] for row in found.rows if row.test == "paragon")
    for line in found.rows:
        if line.published[2] is not None:
            old = old_of[line.pair.old]
            assert 100 * (line.published[0] - old) / (paragon - old) == pytest.approx(line.published[2], abs=0.2)


def test_published_marks_are_the_criterion():
    for name in ("1b", "1c", "3b", "3c", "4b", "4c", "5"):
        found = table(bct(), name)
        old_of = {row.pair.old: row.published[0] for row in found.rows if row.test == "old"}
        for line in found.rows:
            if line.test == "cross":
                assert (line.published[0] > old_of[line.pair.old]) == line.published[1], (name, line.labels)


@pytest.mark.parametrize(("detail", "one", "many"), [("8", "1b", "1c"), ("7", "3b", "3c"), ("9", "4b", "4c")])
def test_detailed_tables_repeat_the_headline_operating_points(detail, one, many):
    found = table(bct(), detail)
    headers = [column.metric for column in found.columns]
    checked = 0
    for name, metric in ((one, "TAR@FAR=1e-4"), (many, "TPIR@FPIR=1e-2")):
        for line in table(bct(), name).rows:
            same = [row for row in found.rows if row.pair == line.pair and row.test == line.test]
            if same:
                assert same[0].published[headers.index(metric)] == line.published[0], (detail, line.labels)
                checked += 1
    assert checked >= 8


def test_unibct_tables_3_and_4_repeat_table_2():
    study = unibct()
    second = table(study, "2")
    for name in ("3", "4"):
        for line in table(study, name).rows:
            if line.pair.new.startswith(("trimmed", "bct")) or line.test != "cross":
                continue
            same = row(second, line.pair, "cross").published
            assert (line.published[0], line.published[2], line.published[3]) == (same[0], same[2], same[3])


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_comparison_names_models_of_the_study_and_old_ones_come_first(study):
    names = [model.name for model in study.models]
    assert len(set(names)) == len(names)
    for model in study.models:
        if model.old:
            assert names.index(model.old) < names.index(model.name)
            assert study.model(model.old).generation < model.generation
    for pair in study.pairs():
        assert {pair.new, pair.old, pair.paragon} <= set(names)
        assert study.model(pair.new).generation > study.model(pair.old).generation
    assert set(names) == {model.name for model in study.needed()}


def test_every_row_of_the_papers_is_there():
    assert [table.name for table in bct().tables] == ["1b", "1c", "2", "3b", "3c", "4b", "4c", "5", "7", "8", "9"]
    assert [len(table.rows) for table in bct().tables] == [8, 8, 5, 9, 9, 7, 7, 5, 12, 8, 6]
    assert [len(table.rows) for table in unibct().tables] == [30, 4, 5]
    assert bct().figure is not None


def test_a_study_cut_to_a_table_needs_only_its_models():
    study = unibct().only(["3"])
    assert {model.name for model in study.needed()} == {
        "old-images",
        "paragon-all",
        "mean-extended-data",
        "trimmed-extended-data",
        "refined-extended-data",
    }


def test_cells_of_old_models_and_paragons_have_no_cross_test():
    second = table(unibct(), "2")
    old, paragon, cross = (next(row for row in second.rows if row.test == test) for test in ("old", "paragon", "cross"))
    assert [cell_test(old, column) for column in second.columns[:2]] == [None, "old"]
    assert [cell_test(paragon, column) for column in second.columns[:2]] == [None, "paragon"]
    assert [cell_test(cross, column) for column in second.columns[:2]] == ["cross", "new"]
    first = table(bct(), "1b")
    assert [cell_test(first.rows[0], column) for column in first.columns] == ["old", None, None, None]
    assert [cell_test(first.rows[-1], column) for column in first.columns] == ["paragon", None, None, "paragon"]


def test_shares_say_what_they_are():
    assert [str(Share()), str(Share("classes", 0.25)), str(Share("images", 0.3, rest=True))] == [
        "100 %",
        "25 % of classes",
        "other 70 % of images",
    ]
