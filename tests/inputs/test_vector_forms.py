"""Vectors in tables, CSV, `.npy` with ids and FAISS: what is read is what a slow reading gives, or it is refused."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from samespace.errors import SamespaceError
from samespace.vectors import VectorSet
from samespace.vectors.importing import import_vectors
from samespace.vectors.opening import source_of

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(
    max_examples=25 * EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ODD = st.sampled_from(
    [" ", ",", ";", "\t", '"', "'", "#", "\u2028", "\u0085", "\ufeff", "\x0b", "é", "𝄞", "7", "0", "-"]
)
TEXT = st.lists(st.one_of(ODD, st.characters(exclude_categories=("Cs",))), max_size=6).map("".join)
FORMS = ("t.parquet", "t.arrow", "t.feather", "t.ipc", "hf")
KINDS = {"float16": (np.float16, 16), "float32": (np.float32, 32), "float64": (np.float64, 64)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


def require_one_line(error: SamespaceError) -> None:
    assert "\n" not in str(error)


def read(address: Path | str) -> VectorSet | None:
    """What is read; None where it is refused in one line."""
    try:
        return VectorSet.load(address)
    except SamespaceError as error:
        require_one_line(error)
        return None


def agrees(found: VectorSet | None, vectors: object, ids: object, labels: object, templates: object = None) -> None:
    """Compare a set with lists of Python; `vectors` None means that it has to be refused."""
    if vectors is None:
        assert found is None
        return
    assert found is not None
    assert found.vectors.tobytes() == np.asarray(vectors).tobytes()
    assert found.has_ids == (ids is not None)
    assert ids is None or found.ids.tolist() == ids
    for held, expected in ((found.labels, labels), (found.templates, templates)):
        assert (None if held is None else held.tolist()) == expected


def slow_vectors(rows: list[list[float | None] | None], kind: type) -> np.ndarray | None:
    """The vectors as an array of what they are kept as; None where a row is none."""
    if not rows or any(not row or len(row) != len(rows[0]) or None in row for row in rows):
        return None
    with np.errstate(over="ignore"):
        made = np.array(rows, dtype=np.float64).astype(np.float16 if kind == np.float16 else np.float32)
    return made if np.isfinite(made).all() else None


def nameable(names: list[object] | None, *, unique: bool = False) -> bool:
    """Whether these can be ids or classes: none missing, no NUL, where `unique` none twice."""
    if names is None:
        return True
    texts = [str(name) for name in names]
    fits = all(name is not None and "\0" not in str(name) for name in names)
    return fits and (not unique or len(set(texts)) == len(texts))


def whole(names: list[str] | None) -> list[object] | None:
    """Classes as numbers where each is printed as a whole one, as in tables whose cells are all text."""
    if names is not None and all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", name) for name in names):
        return [int(name) for name in names]
    return names


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, str, type]:
    """A table of vectors, ids, classes and other columns, perhaps with a fault, and the name of the vectors' type."""
    count, dim = draw(st.integers(0, 6)), draw(st.integers(1, 4))
    kind, width = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    value = st.floats(width=width, allow_nan=False, allow_infinity=False)  # type: ignore[arg-type]
    rows: list[object] = [draw(st.lists(value, min_size=dim, max_size=dim)) for _ in range(count)]
    fault = draw(st.sampled_from([None] * 6 + ["null", "ragged", "hole", "nan", "empty"]))
    if fault is not None and rows:
        faulty = {
            "null": None,
            "ragged": [1.0] * (dim + 1),
            "hole": [None] * dim,
            "nan": [float("nan")] * dim,
            "empty": [],
        }
        rows[draw(st.integers(0, count - 1))] = faulty[fault]
    fixed = fault not in ("ragged", "empty") and draw(st.booleans())
    listed = pa.list_(pa.from_numpy_dtype(kind), dim if fixed else -1)
    columns: dict[str, pa.Array] = {draw(st.sampled_from(["vector", "Embedding", "f"])): pa.array(rows, listed)}

    def names() -> pa.Array:
        numbers = st.integers(-(2**40), 2**40)
        held = draw(st.lists(draw(st.sampled_from([TEXT, numbers])), min_size=count, max_size=count))
        if draw(st.integers(0, 9)) == 0 and held:
            held[0] = None
        made = pa.array(held, pa.int64() if held and isinstance(held[-1], int) else pa.string())
        return made.dictionary_encode() if pa.types.is_string(made.type) and draw(st.booleans()) else made

    for usual in (["id", "Item_ID", "key"], ["label", "CLASS"], ["template"]):
        if draw(st.booleans()):
            columns[draw(st.sampled_from(usual))] = names()
    for name in draw(st.lists(TEXT.map(lambda text: f"x{text}"), max_size=2, unique=True)):
        more = st.one_of(st.none(), draw(st.sampled_from([TEXT, st.integers(-5, 5), st.booleans()])))
        columns[name] = pa.array(draw(st.lists(more, min_size=count, max_size=count)))
    return pa.table(columns), draw(st.sampled_from(FORMS)), kind


def write(place: Path, made: pa.Table, form: str, size: int) -> Path:
    """Write a table in batches of `size` rows."""
    path = place / form
    if form == "hf":
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        parts = [made.slice(row, size) for row in range(0, len(made), size)] or [made]
        for number, part in enumerate(parts):
            with pa.ipc.new_stream(path / f"{number}.arrow", made.schema) as out:
                out.write_table(part)
        names = [{"filename": f"{number}.arrow"} for number in range(len(parts))]
        (path / "state.json").write_text(json.dumps({"_data_files": names, "_split": None}))
    elif form.endswith("parquet"):
        pa.parquet.write_table(made, path, row_group_size=size)
    elif form.endswith("feather"):
        pa.feather.write_feather(made, path, chunksize=size)
    else:
        new = pa.ipc.new_file if form.endswith("arrow") else pa.ipc.new_stream
        with new(path, made.schema) as out:
            out.write_table(made, max_chunksize=size)
    return path


def column(made: pa.Table, *usual: str) -> tuple[str | None, list[object] | None]:
    name = next((name for name in made.column_names if name.lower() in usual), None)
    return name, None if name is None else made.column(name).to_pylist()


def parts_of(made: pa.Table, kind: type) -> tuple[object, object, object, object]:
    """Vectors, ids, classes and templates by the rules of docs/files.md; vectors None where they are refused."""
    vectors = slow_vectors(made.column(0).to_pylist(), kind)
    ids, labels, templates = (
        column(made, *usual)[1] for usual in (("id", "item_id", "key"), ("label", "class"), ("template",))
    )
    if not (nameable(ids, unique=True) and nameable(labels) and nameable(templates)):
        vectors = None
    return vectors, None if ids is None else [str(name) for name in ids], labels, templates


@many
@given(tables(), st.integers(1, 4))
def test_a_table_is_read_as_its_lists_say(place, made, size):
    table, form, kind = made
    agrees(read(write(place, table, form, size)), *parts_of(table, kind))


@many
@given(tables(), st.integers(1, 4))
def test_an_import_keeps_every_column_and_what_it_writes_can_be_read(place, made, size):
    table, form, kind = made
    path = write(place, table, form, size)
    shutil.rmtree(place / "set", ignore_errors=True)
    expected = parts_of(table, kind)
    try:
        import_vectors(source_of(path, metadata=True), place / "set")
    except SamespaceError as error:
        require_one_line(error)
        agrees(None, *expected)
        return
    agrees(read(place / "set"), *expected)
    items = pa.parquet.read_table(place / "set" / "items.parquet")
    taken = {column(table, *usual)[0] for usual in (("id", "item_id", "key"), ("label", "class"), ("template",))}
    for name in table.column_names[1:]:
        if name not in taken:
            assert items.column(name).to_pylist() == table.column(name).to_pylist()


NUMBER = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda value: f"{value:.9g}"),
    st.integers(-(2**70), 2**70).map(str),
)
BAD = st.sampled_from(
    [
        "",
        "x",
        "nan",
        "inf",
        "1_000",
        " 1",
        "+2 ",
        "1e400",
        "0x1",
        "١",
        "1,5",
        "1 2",
        "true",
        "-",
        "infinity",
        "1e",
        "NULL",
    ]
)


def quoted(cell: str, delimiter: str, always: bool) -> str:
    odd = always or any(mark in cell for mark in f'{delimiter}"\r\n') or cell != cell.strip()
    return '"' + cell.replace('"', '""') + '"' if odd else cell


@many
@given(st.data())
def test_a_table_of_text_is_read_as_its_cells_say(place, data):
    draw = data.draw
    count, dim = draw(st.integers(0, 5)), draw(st.integers(2, 4))
    cells = [[draw(NUMBER) for _ in range(dim)] for _ in range(count)]
    if count and draw(st.integers(0, 3)) == 0:
        cells[draw(st.integers(0, count - 1))][draw(st.integers(0, dim - 1))] = draw(BAD)
    word = TEXT
    ids, labels, extra = (
        draw(st.lists(st.one_of(word, st.integers(0, 20).map(str)), min_size=count, max_size=count)) for _ in "ilx"
    )
    header = ["id", "label", draw(word.map(lambda text: f"x{text}x")), *(f"v{place}" for place in range(dim))]
    delimiter, end, always = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n"])), draw(st.booleans())
    order = draw(st.permutations(range(len(header))))
    rows = [header, *([i, c, x, *v] for i, c, x, v in zip(ids, labels, extra, cells, strict=True))]
    lines = [delimiter.join(quoted(row[place], delimiter, always) for place in order) for row in rows]
    # what parts the cells of the first line most often parts all of them
    sure = max(",;\t", key=lines[0].count) == delimiter
    mark = draw(st.sampled_from(["", "\ufeff"]))
    (place / "t.csv").write_bytes((mark + end.join(lines) + draw(st.sampled_from(["", end]))).encode())
    found = read(place / "t.csv")
    if not sure:
        return
    fits = all(re.fullmatch(r" *[-+]?[0-9.]+([eE][+-]?[0-9]+)? *", cell) for row in cells for cell in row)
    vectors = slow_vectors([[float(cell) for cell in row] for row in cells], np.float32) if fits else None
    if not (nameable(ids, unique=True) and nameable(labels) and nameable(header)):
        vectors = None
    agrees(found, vectors, ids, whole(labels))


JSON_VALUE = st.one_of(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.integers(-(2**40), 2**40),
)
JSON_BAD = st.sampled_from([None, True, "1", [1], {}, 10**400, float("nan"), float("inf")])


@many
@given(st.lists(st.lists(JSON_VALUE, min_size=2, max_size=2), min_size=1, max_size=4), st.integers(0, 9), JSON_BAD)
def test_lists_of_json_are_numbers_or_refused(place, rows, faulty, bad):
    written = [list(row) for row in rows]
    if faulty < len(rows):
        written[faulty][0] = bad
    out = io.StringIO()
    csv.writer(out).writerows([["id", "e"], *([f"i{number}", json.dumps(row)] for number, row in enumerate(written))])
    (place / "j.csv").write_text(out.getvalue())
    vectors = (
        None if faulty < len(rows) else slow_vectors([[float(value) for value in row] for row in rows], np.float32)
    )
    agrees(read(place / "j.csv"), vectors, [f"i{number}" for number in range(len(rows))], None)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    kind, width = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    shape = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    value = st.floats(width=width, allow_nan=draw(st.integers(0, 9)) == 0, allow_infinity=False)  # type: ignore[arg-type]
    flat = draw(st.lists(value, min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    made = np.array(flat, dtype=kind).reshape(shape)
    return (
        np.asfortranarray(made)
        if draw(st.booleans())
        else made.astype(made.dtype.newbyteorder(draw(st.sampled_from("<>"))))
    )


@many
@given(
    arrays(),
    st.sampled_from([".txt", ".csv", ".tsv", ".parquet", ".arrow", ""]),
    st.sampled_from(["npy", "faiss"]),
    st.data(),
)
def test_an_array_or_index_has_the_ids_of_the_file_beside_it(place, array, ending, form, data):
    if form == "faiss":
        faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install 'samespace[faiss]'")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype=np.float32)
    for old in place.glob("v.*"):
        old.unlink()
    if form == "npy":
        np.save(place / "v.npy", array)
    else:
        index = faiss.IndexFlatL2(array.shape[1])
        index.add(array)
        faiss.write_index(index, str(place / "v.faiss"))
    count = len(array) + data.draw(st.sampled_from([0] * 8 + [1, -1]))
    # in text, blanks around an id are none of it
    names = TEXT.filter(lambda text: ending not in (".txt", ".csv", ".tsv") or (text.strip() and "\0" not in text))
    names = names.map(lambda text: re.sub(r"[\r\n]", "", text).strip() or "a") if ending == ".txt" else names
    ids = data.draw(st.lists(names, min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, 5).map(str), min_size=count, max_size=count))
    beside = place / f"v.ids{ending}"
    if ending == ".txt":
        beside.write_bytes("\n".join(ids).encode("utf-8-sig"))
    elif ending in (".csv", ".tsv"):
        with beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",", quoting=csv.QUOTE_ALL)
            writer.writerows([["id", "label"], *zip(ids, labels, strict=True)])
    elif ending:
        write(
            place,
            pa.table({"id": pa.array(ids, pa.string()), "label": pa.array(map(int, labels), pa.int64())}),
            beside.name,
            2,
        )
    vectors = slow_vectors(array.astype(np.float64).tolist(), array.dtype.type)
    if ending and not (count == len(array) and nameable(ids, unique=True)):
        vectors = None
    labels = None if ending in (".txt", "") else [int(label) for label in labels]
    agrees(read(place / f"v.{form}"), vectors, ids if ending else None, labels)


@many
@given(tables(), st.sampled_from([*FORMS[:4], "v.npy", "t.csv"]), st.data())
def test_a_damaged_file_is_read_or_refused_in_one_line(place, made, form, data):
    table, _, _ = made
    if form == "v.npy":
        for old in place.glob("v.ids.*"):
            old.unlink()
        np.save(place / form, np.ones((4, 3), dtype=np.float32))
    elif form == "t.csv":
        (place / form).write_text("id,label,v0,v1\n" + "".join(f"i{row},{row},0.5,1.5\n" for row in range(4)))
    else:
        write(place, table, form, 2)
    content = bytearray((place / form).read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    (place / form).write_bytes(bytes(content))
    read(place / form)
