"""Texts as items: JSON lines, CSV, TSV and Parquet."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest

from samespace.data.texts import read_texts
from samespace.errors import InputError

ROWS = [
    {"id": "a", "text": "one, two", "label": 3},
    {"id": "b", "text": 'says "no"\nand goes', "label": 4},
    {"id": "007", "text": "drei\u2028vier", "label": 3},
]


def written(folder, ending, rows=ROWS):
    path = folder / f"texts{ending}"
    if ending == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif ending == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        comma = "\t" if ending == ".tsv" else ","
        lines = [list(rows[0]), *(list(map(str, row.values())) for row in rows)]
        quoted = [comma.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
        path.write_text("\r\n".join(quoted), encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_form_holds_the_same_texts(tmp_path, ending):
    found = read_texts(written(tmp_path, ending))
    assert found.texts == [row["text"] for row in ROWS]
    assert found.ids == ["a", "b", "007"]
    assert found.labels.tolist() == [3, 4, 3]
    assert found.origin == "ids from 'id', texts from 'text', labels from 'label'"


def test_columns_may_be_named_after_the_path(tmp_path):
    rows = [{"sku": "1", "body": "x", "text": "not this"}, {"sku": "2", "body": "y", "text": "nor this"}]
    found = read_texts(f"{written(tmp_path, '.jsonl', rows)},text=body,id=sku")
    assert (found.texts, found.ids, found.labels) == (["x", "y"], ["1", "2"], None)


def test_a_title_stands_before_its_text_as_in_beir(tmp_path):
    rows = [
        {"_id": "1", "title": "T", "text": "body"},
        {"_id": "2", "title": "", "text": "alone"},
        {"_id": "3", "title": "U", "text": ""},
    ]
    assert read_texts(written(tmp_path, ".jsonl", rows)).texts == ["T body", "alone", "U"]


def test_without_ids_there_are_none(tmp_path):
    assert read_texts(written(tmp_path, ".jsonl", [{"text": "x"}])).ids is None


def test_empty_texts_are_refused_by_line_or_counted(tmp_path):
    rows = [{"id": 1, "text": "x"}, {"id": 2, "text": " "}, {"id": 3, "text": None}, {"id": 4, "text": "y"}]
    path = written(tmp_path, ".jsonl", rows)
    with pytest.raises(InputError, match=r"line 2: no text in column 'text' \(2 such\)"):
        read_texts(path)
    found = read_texts(path, skip_empty=True)
    assert (found.texts, found.ids, found.left_out) == (["x", "y"], ["1", "4"], (2, 3))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"id": 1, "words": "x"}', "has no column 'text' or the like; it has id, words"),
        ("a.jsonl", '{"id": 1, "text": 5}', "line 1: column 'text' holds '5', no text"),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": "1", "text": "y"}', "line 2: the id '1' was on line 1"),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"text": "y"}', r"line 2: the id \(column 'id'\) is None"),
        ("a.csv", "id,text\n1,x,3\n", "line 2: 3 fields; the first line names 2"),
        ("a.csv", "id,text\n", "holds no text"),
        ("a.csv", "", "has no column 'text'"),
        ("a.csv", "id,text,id\n1,x,2\n", "names the column 'id' twice"),
        ("a.parquet", "nonsense", "cannot be read as Parquet"),
        ("a.doc", "x", "texts are read from files that end in .jsonl"),
    ],
)
def test_bad_files_are_one_line(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says):
        read_texts(tmp_path / name)


def test_a_column_that_is_not_there_is_answered(tmp_path):
    with pytest.raises(InputError, match=r"has no column 'body' \(text\)"):
        read_texts(f"{written(tmp_path, '.jsonl')},text=body")
    with pytest.raises(InputError, match="nowhere"):
        read_texts(tmp_path / "nowhere.jsonl")
