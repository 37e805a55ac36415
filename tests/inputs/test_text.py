"""Text files of every encoding, line end, quoting and damage: read as a slow reader would, or refused by their line."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from samespace import text
from samespace.benchmarks.lfw import LFW
from samespace.cli.main import run
from samespace.data.sources.listfile import read_list
from samespace.data.sources.records import read_index
from samespace.errors import InputError
from samespace.gallery import Gallery
from samespace.gallery.backfill.order import read_order
from samespace.gallery.ledger.filters import conditions
from samespace.gallery.metadata import read_metadata, read_metadata_file
from samespace.space import Space
from samespace.strict import read_yaml
from samespace.vectors import VectorSet

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(
    max_examples=25 * EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
BREAKS = ("\n", "\r\n", "\r")
# what splits lines or fields for other readers, beside anything else
ODD = st.sampled_from(
    ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\u00a0", ",", ";", "\t", '"', "#", "'", "é", "é", "𝄞", "\ufeff"]
)
PLAIN = st.characters(exclude_categories=("Cs",), exclude_characters="\0\r\n")
CELL = st.lists(st.one_of(ODD, PLAIN), max_size=8).map("".join)
NUMERIC = st.one_of(
    st.integers(-(2**65), 2**65).map(str),
    st.floats(allow_nan=True).map(repr),
    st.from_regex(r"[+-]?[0 ]?[0-9_]{1,4}(\.[0-9]{0,3})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(
        ["true", "false", "True", "nan", "inf", "007", "1_000", "12E3", "+1", " 1", "1.0", "1", "-0", "2.50"]
    ),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


def written(path: Path, content: str, encoding: str) -> Path:
    path.write_bytes(content.encode(encoding))
    return path


@many
@given(st.lists(CELL, max_size=6), st.sampled_from(ENCODINGS), st.sampled_from(BREAKS), st.booleans())
def test_lines_are_what_was_written(place, given_lines, encoding, end, last):
    if given_lines and encoding == "utf-8":
        assume(not given_lines[0].startswith("\ufeff"))
    path = written(place / "ids.txt", end.join(given_lines) + end * last, encoding)
    expected = [(row, line) for row, line in enumerate(given_lines, start=1) if line.strip()]
    assert list(text.lines(path, "ids")) == expected


def quoted(cell: str, always: bool, delimiter: str) -> str:
    """A field by RFC 4180, written without the csv module."""
    needed = any(mark in cell for mark in (delimiter, '"', "\r", "\n")) or not cell.strip()
    return '"' + cell.replace('"', '""') + '"' if always or needed else cell


def slow_column(cells: list[str]) -> list[Any]:
    """What a column is, cell by cell and pair by pair."""
    filled = [cell for cell in cells if cell != ""]
    if filled and all(cell in ("true", "false") for cell in filled):
        return [{"true": True, "false": False, "": ""}[cell] for cell in cells]

    def one(cell: str) -> Any:
        for kind in (int, float):
            try:
                value = kind(cell)
            except ValueError:
                continue
            fits = math.isfinite(value) and (kind is float or -(2**63) <= value < 2**63)
            if str(value) == cell and fits:
                return value
        return None

    values = [one(cell) for cell in filled]
    whole = all(value is not None for value in values)
    twice = whole and any(a == b and x != y for a, x in zip(values, filled) for b, y in zip(values, filled))  # noqa: B905
    if not whole or twice:
        return list(cells)
    return ["" if cell == "" else one(cell) for cell in cells]


TABLES = st.integers(0, 4).flatmap(
    lambda width: st.lists(
        st.lists(
            st.one_of(st.just(""), NUMERIC, CELL, CELL.map(lambda cell: cell + "\r\n")), min_size=width, max_size=width
        ),
        min_size=1,
        max_size=5,
    )
)


@many
@given(
    TABLES,
    st.lists(st.booleans(), min_size=40, max_size=40),
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(ENCODINGS),
    st.sampled_from(BREAKS),
)
def test_a_table_of_metadata_is_what_was_written(place, cells, quotes, delimiter, encoding, end):
    names = [f"key {column}" for column in range(len(cells[0]))]
    table = [["id", *names], *([f"item {row}", *values] for row, values in enumerate(cells))]
    places = iter(quotes)
    content = end.join(delimiter.join(quoted(cell, next(places, True), delimiter) for cell in row) for row in table)
    found = read_metadata(written(place / "m.csv", content, encoding))
    columns = [slow_column([row[column] for row in cells]) for column in range(len(names))]
    expected = {
        f"item {row}": {name: column[row] for name, column in zip(names, columns, strict=True) if column[row] != ""}
        for row in range(len(cells))
    }
    assert found == expected
    kinds = [[type(value) for value in values.values()] for values in found.values()]
    assert kinds == [[type(value) for value in values.values()] for values in expected.values()]


@many
@given(st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)))
def test_every_number_is_read_from_what_is_printed(value):
    found = text.number(repr(value))
    assert found == value
    assert type(found) is type(value)
    assert [condition.value for condition in conditions([f"key>={value!r}"])] == [value]


@many
@given(st.one_of(NUMERIC, CELL))
def test_no_number_is_read_from_anything_else(cell):
    found = text.number(cell)
    assert found is None or (repr(found) == cell and math.isfinite(found))


VALUES = st.one_of(
    CELL, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)


@many
@given(
    st.dictionaries(
        CELL.filter(bool), st.dictionaries(CELL.filter(lambda key: key != "id"), VALUES, max_size=3), min_size=1
    ),
    st.booleans(),
    st.sampled_from(ENCODINGS),
    st.sampled_from(BREAKS),
)
def test_json_lines_are_what_was_written(place, items, escaped, encoding, end):
    lines = [json.dumps({"id": name, **values}, ensure_ascii=escaped) for name, values in items.items()]
    assert read_metadata(written(place / "m.jsonl", end.join(lines), encoding)) == items


READERS: dict[str, Callable[[Path], object]] = {
    "m.csv": read_metadata,
    "m.jsonl": read_metadata,
    "o.csv": read_order,
    "o.json": read_order,
    "l.txt": read_list,
    "l.lst": read_list,
    "train.idx": read_index,
    "pairs.txt": LFW.read,
    "recipe.yaml": lambda path: read_yaml(path, "a recipe", "sections"),
    "ids.txt": lambda path: list(text.lines(path, "ids")),
}
DAMAGE = st.one_of(
    st.binary(max_size=40),
    st.lists(
        st.sampled_from(
            [b"id", b"path", b"label", b",", b";", b"\t", b" ", b'"', b"\n", b"\r", b"\0", b"\xff", b"1", b"a.png",
             b"{", b"}", b'"id":', b'"a"', b"[", b"]", b"NaN", b"1e999", b"9" * 30, b"9" * 5000, b"\\ud800", b"\\u0000",
             b"\xef\xbb\xbf", b"\xff\xfe", b"2", b"- ", b": ", b"2024-99-99", b"&a ", b"*a", b"[" * 3000, b"?", b"<<"]
        ),
        max_size=12,
    ).map(b"".join),
)  # fmt: skip


@many
@given(st.sampled_from(sorted(READERS)), DAMAGE)
def test_anything_else_is_refused_in_one_line(place, name, content):
    path = place / name
    path.write_bytes(content)
    try:
        READERS[name](path)
    except InputError as error:
        told = str(error)
    else:
        return
    assert "\n" not in told
    assert name in told
    assert len(told) < 1000


@many
@given(st.lists(CELL, min_size=1, max_size=4), st.integers(0, 3), st.sampled_from([b"\xff", b"\xc3", b"\0"]))
def test_bytes_that_are_no_text_are_refused_by_file_and_line(place, cells, line, damage):
    parts = [cell.encode() for cell in cells]
    line = min(line, len(parts) - 1)
    parts[line] += damage
    (place / "m.jsonl").write_bytes(b"\n".join(parts))
    with pytest.raises(InputError, match=rf"m\.jsonl, line {line + 1}: "):
        read_metadata(place / "m.jsonl")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"id": "a", "x": 1, "x": 2}', "line 1: the key 'x' comes twice"),
        ("m.jsonl", '{"id": "a"}\n{"id": "b", "x": Infinity}', "line 2: 'x' of 'b' should be"),
        ("m.jsonl", '{"id": "a", "x": 9223372036854775808}', "more than 64 bits"),
        ("m.jsonl", '{"id": "a", "x": ' + "9" * 5000 + "}", "line 1: a number of too many digits"),
        ("m.jsonl", '{"id": "a", "x": ' + "[" * 100_000, "line 1: objects and lists are nested too deeply"),
        ("m.jsonl", '{"id": "a", "x": {"y": 1}}', "line 1: 'x' of 'a' should be"),
        ("m.jsonl", '{"id": "\\ud800"}', "line 1: '\\ud800' holds NUL or half a character"),
        ("m.csv", 'id,x\na,"1\nb,2\n', "line 2: a field in double quotes is not closed"),
        ("m.csv", 'id,x\na,"1"2\n', "line 2: a field in double quotes goes on after its end"),
        ("m.csv", "id,x,x\na,1,2\n", "line 1: the column 'x' comes twice"),
        ("m.csv", "id,x,\na,1,2\n", "line 1: column 3 has values but no name"),
        ("m.csv", 'id,x\n"a\nb",1\nc\n', "line 4: expected 2 values, got 1"),
        ("o.csv", "a,1\na,2\n", "line 2: the id 'a' comes twice"),
        ("o.csv", "a,1\nb,1_0\n", "the priority of 'b' should be a finite number"),
        ("o.json", '{"a": 1, "a": 2}', "the key 'a' comes twice"),
        ("recipe.yaml", "a: 1\na: 2\n", "the key 'a' comes twice"),
        ("recipe.yaml", "a: 2024-99-99\n", "not valid YAML"),
    ],
)
def test_a_fault_is_named_where_it_is(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        READERS[name](tmp_path / name)


def test_fields_may_be_long_and_a_last_delimiter_may_trail(tmp_path):
    long = "x" * 200_000
    (tmp_path / "m.csv").write_text(f"id,x,\na,{long},\n")
    assert read_metadata(tmp_path / "m.csv") == {"a": {"x": long}}


def test_postcodes_and_article_numbers_stay_text_in_a_gallery(tmp_path, capsys):
    import numpy as np

    (tmp_path / "m.csv").write_text(
        'id,sku,plz,year,price\na,"007","01234",2024,2.50\nb,7,1234,2023,3\nc,1_000,12E3,2022,\nd,1000,12000,2021,1\n'
    )
    space = Space(weights="aa" * 32, preprocessing="none", dim=4, normalized=True, name="v1")
    vectors = VectorSet.from_arrays(np.eye(4, dtype=np.float32), ids=list("abcd"), space=space)
    vectors.save(tmp_path / "v")
    Gallery.create(tmp_path / "g", space).close()
    assert run(["gallery", "add", str(tmp_path / "g"), str(tmp_path / "v"), "--metadata", str(tmp_path / "m.csv")]) == 0
    told = capsys.readouterr().out
    assert "metadata of 4 items: plz text, price text, sku text, year numbers" in told
    assert "note: 'price' is text, because '2.50' is not how a number is printed" in told
    with Gallery.open(tmp_path / "g") as gallery:

        def found(where: object) -> list[str]:
            hits = gallery.search(vectors.subset(np.array([0])), k=4, where=where).hits[0]
            return sorted(hit.item for hit in hits)

        assert found(["sku=007"]) == found({"sku": "007"}) == found(['plz="01234"']) == ["a"]
        assert found(["sku=1000"]) == ["d"]
        assert found(["sku=1000|7"]) == ["b", "d"]
        assert found(["sku!=1000"]) == ["a", "b", "c"]
        assert found(["year>=2023"]) == found(["year>=2.023e3"]) == ["a", "b"]
        assert found(["year!=2023"]) == ["a", "c", "d"]


def test_what_columns_were_taken_as_is_told(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"id": "a", "x": 1, "y": true}\n{"id": "b", "x": "1"}\n')
    assert read_metadata_file(tmp_path / "m.jsonl").columns == {"x": "mixed", "y": "true or false"}
