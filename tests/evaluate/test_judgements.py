"""Files of relevance judgements in the forms of TREC and BEIR."""

from __future__ import annotations

import pytest

from samespace.errors import InputError
from samespace.evaluate.relevance import Judgements


def rows(judgements: Judgements) -> list[tuple[str, str, int]]:
    return list(
        zip(judgements.queries.tolist(), judgements.documents.tolist(), judgements.grades.tolist(), strict=True)
    )


@pytest.mark.parametrize(
    "text",
    [
        "1 0 d1 2\n1 0 d2 0\n2 Q0 d1 -1\n",
        "1\t0\td1\t2\r\n1\t0\td2\t0\r\n\r\n2\tQ0\td1\t-1",
        "query-id\tcorpus-id\tscore\n1\td1\t2\n1\td2\t0\n2\td1\t-1\n",
        "\n1\td1\t2\n1\td2\t0\n2\td1\t-1\n",
    ],
)
def test_both_forms_are_read(tmp_path, text):
    path = tmp_path / "qrels"
    path.write_bytes(text.encode())
    assert rows(Judgements.read(path)) == [("1", "d1", 2), ("1", "d2", 0), ("2", "d1", -1)]


def test_ids_of_beir_may_hold_spaces(tmp_path):
    path = tmp_path / "test.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nwhat is it\tsome title\t1\n")
    assert rows(Judgements.read(path)) == [("what is it", "some title", 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no judgement"),
        ("query-id\tcorpus-id\tscore\n", "holds no judgement"),
        ("1 0 d1\n", "line 1: got '1 0 d1'; expected four columns"),
        ("1 0 d1 1\n1\td2\t1\n", "line 2: .*expected four columns"),
        ("1\td1\t1\n1 0 d2 1\n", "line 2: .*expected three columns with tabs"),
        ("1 0 d1 high\n", "line 1: the grade is 'high'; expected a whole number"),
        ("1\td1\t1\n1\td2\t0.5\n", "line 2: the grade is '0.5'"),
        ("1 0 d1 1\n1 0 d1 1\n", "line 2: query '1' and document 'd1' were judged on line 1"),
        ("1\t\t1\n", "line 1"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path, text, says):
    path = tmp_path / "qrels"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        Judgements.read(path)
    with pytest.raises(InputError, match="nowhere"):
        Judgements.read(tmp_path / "nowhere")


def test_grades_in_python_are_whole_numbers_and_there_is_one():
    with pytest.raises(InputError, match="no whole number"):
        Judgements.of({"q": {"d": 0.5}})
    with pytest.raises(InputError, match="holds no judgement"):
        Judgements.of({})
    with pytest.raises(InputError, match="judged twice"):
        Judgements.of({"1": {"d": 1}, 1: {"d": 1}})
