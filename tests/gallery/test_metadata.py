"""Metadata files: what is read, and what is refused with its line."""

from __future__ import annotations

import pytest

from samespace.errors import InputError
from samespace.gallery.metadata import read_metadata


def test_json_lines_and_csv_give_the_same(tmp_path):
    (tmp_path / "m.jsonl").write_text(
        '{"id": "a", "shop": "berlin", "year": 2024, "new": true}\n\n{"id": "7", "p": 0.5}\n'
    )
    (tmp_path / "m.csv").write_text("id,shop,year,new,p\na,berlin,2024,true,\n7,,,,0.5\n")
    expected = {"a": {"shop": "berlin", "year": 2024, "new": True}, "7": {"p": 0.5}}
    assert read_metadata(tmp_path / "m.jsonl") == read_metadata(tmp_path / "m.csv") == expected


def test_a_label_like_a_number_stays_a_string_in_a_csv(tmp_path):
    (tmp_path / "m.csv").write_text("id,label\na,12\n")
    assert read_metadata(tmp_path / "m.csv") == {"a": {"label": "12"}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "name,year\na,1\n", "expected a header with a column 'id'"),
        ("m.csv", "", "expected a header with a column 'id', got nothing"),
        ("m.csv", "id,year\n", "holds no metadata"),
        ("m.csv", "id,year\na,1,2\n", "line 2: expected 2 values"),
        ("m.csv", "id,year\na\n", "line 2: expected 2 values"),
        ("m.csv", "id,year\n,1\n", "line 2: expected an id, a string, got None"),
        ("m.jsonl", "{", "is not valid JSON lines"),
        ("m.jsonl", "[1]", "line 1: expected an object with an id"),
        ("m.jsonl", '{"id": 7}', "line 1: expected an id, a string, got 7"),
        ("m.jsonl", '{"id": "a"}\n{"id": "a"}', "line 2: the id 'a' comes twice"),
        ("m.jsonl", '{"id": "a", "x": null}', "'x' of 'a' should be"),
        ("m.jsonl", '{"id": "a", "x": NaN}', "'x' of 'a' should be"),
    ],
)
def test_a_malformed_file_names_its_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_metadata(tmp_path / name)
    assert message in str(caught.value)


def test_what_is_no_text_or_not_there(tmp_path):
    (tmp_path / "m.csv").write_bytes(b"id,x\na,\xff\n")
    (tmp_path / "m.jsonl").write_bytes(b"\xff\n")
    for name, message in (("m.csv", "not UTF-8"), ("m.jsonl", "not UTF-8"), ("nowhere", "does not exist")):
        with pytest.raises(InputError, match=message):
            read_metadata(tmp_path / name)
