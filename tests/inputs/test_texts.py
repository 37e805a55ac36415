"""Files of texts to embed, in every form, encoding and damage: a row is a text, is counted, or refused by its line."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from samespace.cli.main import run
from samespace.data.texts import read_texts
from samespace.encoders import from_callable
from samespace.encoders.texts import embed_texts
from samespace.errors import InputError, counted
from samespace.vectors import VectorSet

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))


def many(share: int = 1) -> settings:
    return settings(
        max_examples=max(25 * EXAMPLES // share, 5),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


NAMES = {
    "id": ["id", "_id", "ids", "doc_id", "DocID", "docno", "QID", "key"],
    "text": ["text", "contents", "Body", "passage", "sentence", "QUERY"],
    "title": ["title", "Title"],
    "label": ["label", "class", "Category", "target"],
}
ODD = st.sampled_from(["\u2028", "\u0085", "\x0b", "\x1c", "\u00a0", ",", "\t", '"', "'", "\r\n", "\n", "é", "𝄞", "​"])
CELL = st.lists(st.one_of(ODD, st.characters(exclude_categories=("Cs",), exclude_characters="\0")), max_size=6).map(
    "".join
)
BLANK = st.sampled_from(["", " ", "\t", "\u00a0 ", "\n"])
NAME = st.one_of(CELL, st.sampled_from(["1", "01", "1.0", "true", "-7", "9" * 25, "a", "b"]))
WHOLE = st.one_of(st.integers(-3, 3), st.integers(-(2**70), 2**70))
ANY = st.one_of(st.none(), st.booleans(), st.floats(), st.lists(st.just(1), max_size=1), st.just({}), WHOLE, CELL)
VALUES = {"text": st.one_of(CELL, BLANK), "title": st.one_of(CELL, BLANK), "id": NAME, "label": NAME}
LOOSE = {
    "text": st.one_of(CELL, BLANK, st.none(), ANY),
    "title": st.one_of(CELL, st.none(), ANY),
    "id": st.one_of(NAME, WHOLE, ANY),
    "label": st.one_of(NAME, WHOLE, ANY),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@st.composite
def tables(draw: st.DrawFn, values: dict[str, st.SearchStrategy[Any]]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The column of each role, and rows by role."""
    roles = ["text", *draw(st.lists(st.sampled_from(["id", "title", "label"]), unique=True))]
    columns = {role: draw(st.sampled_from(NAMES[role])) for role in draw(st.permutations(roles))}
    rows = draw(st.lists(st.fixed_dictionaries({role: values[role] for role in columns}), max_size=6))
    if "id" in roles and draw(st.booleans()):
        for number, row in enumerate(rows):
            row["id"] = f"{number}{row['id']}"
    return columns, rows


class Refused(Exception):
    """What the slow reading refuses."""


def slow_texts(columns: dict[str, str], rows: list[dict[str, Any]], skip: bool) -> tuple[Any, ...]:
    """Texts, ids, classes and the numbers of rows left out, row by row."""
    texts, ids, labels, left_out = [], [], [], []
    for number, row in enumerate(rows):
        title, body = (row.get(role) for role in ("title", "text"))
        if not all(value is None or isinstance(value, str) for value in (title, body)):
            raise Refused
        has_title, has_body = (value is not None and value.strip() != "" for value in (title, body))
        if not has_title and not has_body:
            left_out.append(number)
            continue
        texts.append(title if not has_body else f"{title} {body}" if title else body)
        for role, kept in (("id", ids), ("label", labels)):
            if role in columns:
                value = row[role]
                if type(value) not in (str, int) or value == "" or "\0" in str(value):
                    raise Refused
                kept.append(value)
    if (left_out and not skip) or not texts or len(set(map(str, ids))) < len(ids):
        raise Refused
    numbers = True
    for value in labels:
        try:
            numbers = numbers and str(int(value)) == str(value) and -(2**63) <= int(value) < 2**63
        except ValueError:
            numbers = False
    classes = [int(value) if numbers else str(value) for value in labels]
    return texts, list(map(str, ids)) if "id" in columns else None, classes if "label" in columns else None, left_out


def assert_as_slow(address: str | Path, columns: dict[str, str], rows: list[dict[str, Any]], skip: bool) -> None:
    try:
        texts, ids, labels, left_out = slow_texts(columns, rows, skip)
    except Refused:
        with pytest.raises(InputError) as caught:
            read_texts(address, skip_empty=skip)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
        return
    found = read_texts(address, skip_empty=skip)
    assert (found.texts, found.ids) == (texts, ids)
    assert (None if found.labels is None else found.labels.tolist()) == labels
    assert len(found.left_out) == len(left_out)


def table(columns: dict[str, str], rows: list[dict[str, str]], comma: str, end: str) -> str:
    """By RFC 4180, every field quoted."""
    lines = [list(columns.values()), *([row[role] for role in columns] for row in rows)]
    return end.join(comma.join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines)


ENCODINGS, BREAKS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), st.sampled_from(["\n", "\r\n", "\r"])


@many()
@given(tables(VALUES), st.sampled_from([".csv", ".tsv"]), ENCODINGS, BREAKS, st.booleans())
def test_tables_are_read_as_a_slow_reader_would(place, made, ending, encoding, end, skip):
    columns, rows = made
    # a blank line is no row, and a table of one column cannot tell the two apart
    assume(len(columns) > 1 or all(row["text"].strip() for row in rows))
    path = place / f"t{ending}"
    path.write_bytes(table(columns, rows, "\t" if ending == ".tsv" else ",", end).encode(encoding))
    assert_as_slow(path, columns, rows, skip)


@many()
@given(tables(LOOSE), st.booleans(), ENCODINGS, BREAKS, st.booleans())
def test_json_lines_of_any_values_are_read_or_refused(place, made, escapes, encoding, end, skip):
    columns, rows = made
    lines = [json.dumps({columns[role]: value for role, value in row.items()}, ensure_ascii=escapes) for row in rows]
    (place / "t.jsonl").write_bytes(end.join(lines).encode(encoding))
    assert_as_slow(place / "t.jsonl", columns if rows else {}, rows, skip)


@many()
@given(tables({**VALUES, "text": st.one_of(CELL, BLANK, st.none())}), st.booleans(), st.booleans(), st.integers(1, 3))
def test_parquet_is_read_as_a_slow_reader_would(place, made, skip, coded, groups):
    columns, rows = made
    arrays = [pyarrow.array([row[role] for row in rows], type=pyarrow.string()) for role in columns]
    arrays = [one.dictionary_encode() if coded else one.cast(pyarrow.large_string()) for one in arrays]
    whole = pyarrow.Table.from_arrays(arrays, names=list(columns.values()))
    pyarrow.parquet.write_table(whole, place / "t.parquet", row_group_size=groups)
    assert_as_slow(place / "t.parquet", columns, rows, skip)


@many()
@given(tables(VALUES), st.permutations(["a", "b b", "text", "id"]))
def test_columns_that_are_named_after_the_path_are_taken(place, made, names):
    roles, rows = made
    columns = dict(zip(roles, names, strict=False))
    lines = [json.dumps({columns[role]: value for role, value in row.items()}) for row in rows]
    (place / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    named = "".join(f",{role}={column}" for role, column in columns.items())
    assume(rows)
    # what is not named is still looked for among the usual names
    taken = {**columns} if set(columns.values()) >= {"text", "id"} or len(columns) == 4 else columns
    assert_as_slow(f"{place / 't.jsonl'}{named}", taken, rows, skip=True)


DAMAGE = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [b"id", b"text", b"label", b",", b"\t", b" ", b'"', b"\n", b"\r", b"\0", b"\xff", b"1", b"{", b"}",
             b'"id":',
             b'"text":', b'"a"', b"[", b"NaN", b"9" * 5000, b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b"\xff\xfe",
             b"PAR1"]
        ),
        max_size=14,
    ).map(b"".join),
)  # fmt: skip


@many()
@given(st.sampled_from([".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".pq"]), DAMAGE)
def test_anything_else_is_refused_in_one_line(place, ending, content):
    path = place / f"damaged{ending}"
    path.write_bytes(content)
    try:
        assert read_texts(path, skip_empty=True).texts
    except InputError as error:
        told = str(error)
        assert "\n" not in told
        assert path.name in told
        assert len(told) < 1000


@many()
@given(st.integers(0, 2**32), st.sampled_from(["cut", "bytes", "no text"]))
def test_a_damaged_parquet_is_refused_or_read(place, seed, how):
    dice = random.Random(seed)
    path = place / "damaged.parquet"
    cells = pyarrow.array([f"text {number}" for number in range(5)])
    if how == "no text":
        offsets, data = cells.buffers()[1:]
        raw = bytearray(data.to_pybytes())
        raw[dice.randrange(len(raw))] = 0xFF
        cells = pyarrow.Array.from_buffers(pyarrow.string(), 5, [None, offsets, pyarrow.py_buffer(bytes(raw))])
    pyarrow.parquet.write_table(pyarrow.table({"id": [str(row) for row in range(5)], "text": cells}), path)
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: dice.randrange(len(content))]
    elif how == "bytes":
        for _ in range(dice.randint(1, 3)):
            content[dice.randrange(len(content))] = dice.randrange(256)
    path.write_bytes(content)
    try:
        found = read_texts(path)
    except InputError as error:
        told = str(error)
        assert "\n" not in told
        assert "damaged.parquet" in told
    else:
        assert how == "bytes"
        assert len(found.texts) == len(found.ids or found.texts)


@many(10)
@given(st.lists(CELL.map(lambda cell: "x" + cell), min_size=1, max_size=9), st.integers(1, 4), st.integers(0, 3))
def test_every_text_is_embedded_once_and_empty_ones_are_counted(tmp_path_factory, capsys, texts, batch_size, empty):
    folder = tmp_path_factory.mktemp("embed")
    lines = [{"id": str(number), "text": text} for number, text in enumerate(texts)]
    lines += [{"id": f"empty {number}", "text": ""} for number in range(empty)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    given_texts: list[str] = []

    def lengths(some: list[str]) -> np.ndarray:
        given_texts.extend(some)
        return np.array([[len(text), 1.0] for text in some])

    encoder = from_callable(lengths, name="lengths", revision="1", normalized=False)
    given_texts.clear()
    read = read_texts(folder / "t.jsonl", skip_empty=True)
    embed_texts(encoder, read, folder / "v", batch_size=batch_size)
    assert given_texts == texts
    stored = VectorSet.load(folder / "v")
    assert stored.ids.tolist() == [str(number) for number in range(len(texts))]
    assert stored.vectors[:, 0].tolist() == [len(text) for text in texts]
    status = run(["embed", f"{__name__}:letters", str(folder / "t.jsonl"), "--out", str(folder / "w"), "--quiet"])
    told = capsys.readouterr()
    if empty:
        assert status == 2
        assert f"line {len(texts) + 1}: no text in column 'text' ({empty} such)" in told.err
    else:
        assert status == 0
        assert counted(len(texts), "vector") in told.out


def letters() -> Any:
    return from_callable(lambda some: [[len(text), 1.0] for text in some], name="letters", revision="1")


def test_a_column_twice_classes_beyond_64_bits_and_bytes_that_are_no_text(tmp_path):
    twice = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    pyarrow.parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(InputError, match="names the column 'text' twice"):
        read_texts(tmp_path / "twice.parquet")
    big = [{"text": "a", "label": 2**64}, {"text": "b", "label": 1}]
    (tmp_path / "big.jsonl").write_text("\n".join(map(json.dumps, big)))
    assert read_texts(tmp_path / "big.jsonl").labels.tolist() == [str(2**64), "1"]
    cells = pyarrow.Array.from_buffers(
        pyarrow.string(), 1, [None, pyarrow.array([0, 1], pyarrow.int32()).buffers()[1], pyarrow.py_buffer(b"\xff")]
    )
    pyarrow.parquet.write_table(pyarrow.table({"text": cells}), tmp_path / "bytes.parquet")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_texts(tmp_path / "bytes.parquet")
