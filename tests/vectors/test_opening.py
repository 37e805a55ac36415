"""Every form of file is opened as a vector set, bit for bit, or refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.vectors import VectorSet

COUNT, DIM = 11, 5
VALUES = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
IDS = [f"{row:03d}" for row in range(COUNT)]
LABELS = [row % 3 for row in range(COUNT)]


def lists(values=VALUES, fixed=False):
    kind = pa.float16() if values.dtype == np.float16 else pa.from_numpy_dtype(values.dtype)
    return pa.array(list(values), type=pa.list_(kind, DIM) if fixed else pa.list_(kind))


def table(values=VALUES, fixed=False, **changes):
    columns = {"sku": pa.array(LABELS), "id": IDS, "embedding": lists(values, fixed), "label": LABELS} | changes
    return pa.table({name: column for name, column in columns.items() if column is not None})


def write(path, what):
    if path.suffix == ".parquet":
        pa.parquet.write_table(what, path, row_group_size=4)
    elif path.suffix == ".feather":
        pa.feather.write_feather(what, path, compression="lz4")
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, what.schema) as out:
            out.write_table(what, max_chunksize=4)
    elif path.suffix == ".ipc":
        with pa.ipc.new_stream(path, what.schema) as out:
            out.write_table(what, max_chunksize=4)
    return path


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow", ".ipc"])
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_table_comes_bit_for_bit(tmp_path, ending, fixed, dtype):
    values = VALUES.astype(dtype)
    loaded = VectorSet.load(write(tmp_path / f"t{ending}", table(values, fixed)))
    assert loaded.vectors.dtype == (np.float16 if dtype == np.float16 else np.float32)
    assert loaded.vectors.tobytes() == values.astype(loaded.vectors.dtype).tobytes()
    assert (loaded.ids.tolist(), loaded.labels.tolist()) == (IDS, LABELS)
    assert loaded.origin == "vectors from column 'embedding', ids from 'id', labels from 'label'"


def test_slices_of_lists_and_dictionaries_are_read_where_they_are(tmp_path):
    sliced = table(label=pa.array([f"c{label}" for label in LABELS]).dictionary_encode()).slice(3, 6)
    loaded = VectorSet.load(write(tmp_path / "t.arrow", sliced))
    assert loaded.vectors.tobytes() == VALUES[3:9].tobytes()
    assert loaded.labels.tolist() == [f"c{label}" for label in LABELS[3:9]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_with_a_column_a_dimension(tmp_path, delimiter):
    lines = [delimiter.join(["id", "label", *(f"v{place}" for place in range(DIM))])]
    for name, label, row in zip(IDS, LABELS, VALUES, strict=True):
        lines.append(delimiter.join([name, str(label), *(f"{value:.9g}" for value in row)]))
    (tmp_path / "t.csv").write_text("\n".join(lines))
    loaded = VectorSet.load(tmp_path / "t.csv")
    assert loaded.vectors.tobytes() == VALUES.tobytes()
    assert (loaded.ids.tolist(), loaded.labels.tolist()) == (IDS, LABELS)


def test_a_cell_that_only_begins_like_a_list_is_a_label(tmp_path):
    (tmp_path / "t.csv").write_text("v0,v1,id,label\n0,1,a,[\n1,0,b,[x]\n")
    assert VectorSet.load(tmp_path / "t.csv").labels.tolist() == ["[", "[x]"]


def test_csv_with_a_column_of_json(tmp_path):
    rows = [
        f'{name},c{label},"{json.dumps(row.tolist())}"' for name, label, row in zip(IDS, LABELS, VALUES, strict=True)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["item_id,class,emb", *rows]))
    loaded = VectorSet.load(tmp_path / "t.csv")
    assert loaded.vectors.tobytes() == VALUES.tobytes()
    assert (loaded.ids.tolist(), loaded.labels.tolist()) == (IDS, [f"c{label}" for label in LABELS])


@pytest.mark.parametrize("ending", [".txt", ".csv", ".parquet"])
def test_an_array_with_ids_beside_it_or_named(tmp_path, ending):
    np.save(tmp_path / "v.npy", VALUES)
    for name in (f"v.ids{ending}", f"other{ending}"):
        if ending == ".parquet":
            write(tmp_path / name, pa.table({"id": IDS, "label": LABELS}))
        else:
            cells = IDS if ending == ".txt" else [f"{i},{label}" for i, label in zip(IDS, LABELS, strict=True)]
            (tmp_path / name).write_text("\n".join(cells if ending == ".txt" else ["id,label", *cells]))
    for address in ("v.npy", f"v.npy,ids={tmp_path}/other{ending}"):
        loaded = VectorSet.load(f"{tmp_path}/{address}")
        assert not loaded.vectors.flags.writeable  # a view of the file
        assert loaded.vectors.tobytes() == VALUES.tobytes()
        assert loaded.ids.tolist() == IDS
        assert (None if loaded.labels is None else loaded.labels.tolist()) == (None if ending == ".txt" else LABELS)


def test_an_array_alone_has_no_ids(tmp_path):
    np.save(tmp_path / "v.npy", VALUES)
    loaded = VectorSet.load(tmp_path / "v.npy")
    assert not loaded.has_ids
    assert loaded.labels is None


def test_options_after_a_comma_name_the_columns(tmp_path):
    place = write(tmp_path / "t.parquet", table(other=lists(VALUES + 1)))
    assert VectorSet.load(f"{place},vector=other,id=id,label=sku").vectors.tobytes() == (VALUES + 1).tobytes()
    assert VectorSet.load(place).vectors.tobytes() == VALUES.tobytes()


HOLED = VALUES.copy()
HOLED[7, 2] = np.nan
BAD = {
    "holds NaN or infinity": table(HOLED),
    "'003' occurs 2 times": table(id=[*IDS[:4], "003", *IDS[5:]]),
    "the vector of row 7 .* has 3 dimensions, those before it 5": table(
        embedding=pa.array([row[: 3 if place == 7 else 5] for place, row in enumerate(VALUES.tolist())])
    ),
    "row 7 has no vector": table(embedding=pa.array([None if p == 7 else r for p, r in enumerate(VALUES.tolist())])),
    "the vector of row 7 .* holds a null": table(
        embedding=pa.array([[None, *r[1:]] if p == 7 else r for p, r in enumerate(VALUES.tolist())])
    ),
    "row 2 has no 'id'": table(id=[*IDS[:2], None, *IDS[3:]]),
    "no column 'vector' or the like": table(embedding=None),
    "2 columns of vectors, a, b; say which": table(embedding=None, a=lists(), b=lists()),
    "labels .* are double": table(label=np.ones(COUNT)),
    "holds no vectors": table().slice(0, 0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_tables_are_named(tmp_path, message):
    with pytest.raises(InputError, match=message):
        VectorSet.load(write(tmp_path / "t.parquet", BAD[message]))


@pytest.mark.parametrize("ending", [".parquet", ".feather", ".arrow", ".npy", ".csv"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_cut_short_is_refused(tmp_path, ending, share):
    place = tmp_path / f"t{ending}"
    if ending == ".npy":
        np.save(place, VALUES)
    elif ending == ".csv":
        place.write_text("id,v0,v1\n" + "1,2,3\n" * 4 + "1,2")
    else:
        write(place, table())
    content = place.read_bytes()
    place.write_bytes(content[: int(len(content) * share)] if ending != ".csv" or not share else content)
    with pytest.raises(InputError) as caught:
        VectorSet.load(place)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,v0,v1\na,1,x\n", "row 0 .* holds 'x'; expected a number"),
        ("id,v0,v1\na,1,\n", "row 0 .* holds ''; expected a number"),
        ("id,v0,v1\na,1,nan\n", "holds NaN"),
        ('id,e\na,"[1, 2]"\nb,"[1]"\n', "row 1 .* has 1 dimensions"),
        ('id,e\na,"[1, 2]"\nb,"[1, null]"\n', "holds NaN|expected a list of numbers"),
        ("id,label\na,b\n", "columns that may be vectors: none"),
        ("id,a0,a1,b0,b1\nx,1,2,3,4\n", "several: a, b"),
        ("id,v0,v0\na,1,2\n", "names the column 'v0' twice"),
        ("id,v0,v1\n", "holds no vectors"),
        ("id,v0,v1\na,1,1_000\n", "row 0 .* holds '1_000'; expected a number"),
        ('id,e\na,"[1, true]"\n', "expected a list of numbers"),
        ("id,v0,v1\na,1,2\nb,1\n", "line 3 has 2 cells, the first 3"),
        ("id,v0,v1\na,1\n", "line .*has 2 cells, the first 3"),
        ("id,v0,v1,\udce9\na,1,2,3\n", "the first line is not UTF-8 text"),
        ("id,v0,v1\n\udce9,1,2\n", "not UTF-8 text; save it as UTF-8"),
        ("id,v0,v1\na\0,1,2\n", "without NUL"),
    ],
)
def test_bad_csv_is_named(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError, match=message):
        VectorSet.load(tmp_path / "t.csv")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ("a\nb\n", "names 2 items, but .* holds 11 vectors"),
        ("\n".join(["a"] * COUNT), "'a' occurs 11 times"),
        ("", "names 0 items"),
    ],
)
def test_ids_that_do_not_fit_are_named(tmp_path, ids, message):
    np.save(tmp_path / "v.npy", VALUES)
    (tmp_path / "v.ids.txt").write_text(ids)
    with pytest.raises(InputError, match=message):
        VectorSet.load(tmp_path / "v.npy")


def test_check_takes_them_and_notes_what_was_taken_for_what(tmp_path, capsys):
    values = np.repeat(np.eye(4, DIM, dtype=np.float32), 6, axis=0)
    values += 0.1 * np.random.default_rng(1).standard_normal(values.shape).astype(np.float32)
    columns = pa.table({"id": [f"{row}" for row in range(24)], "embedding": list(values), "class": np.arange(24) // 6})
    for name, rows in (("q", slice(0, 24, 2)), ("g", slice(1, 24, 2))):
        part = columns.take(np.arange(24)[rows])
        write(tmp_path / f"{name}.parquet", part)
    queries, gallery = (str(tmp_path / f"{name}.parquet") for name in "qg")
    sides = ["--queries", queries, "--gallery", gallery, "--baseline", queries]
    assert run(["check", *sides, "--replicates", "100", "--metric", "rank@1", "--json", str(tmp_path / "c.json")]) == 1
    notes = json.loads((tmp_path / "c.json").read_text())["notes"]
    assert f"{queries}: vectors from column 'embedding', ids from 'id', labels from 'class'." in notes
    assert run(["check", *sides[:-1], f"{queries},vector=nothing"]) == 2
    assert "has no column 'nothing'" in capsys.readouterr().err


def test_a_line_of_names_is_no_item_though_there_are_as_many_lines_as_vectors(tmp_path):
    np.save(tmp_path / "v.npy", VALUES)
    (tmp_path / "v.ids.csv").write_text("\n".join(["id,label", *(f"{name},0" for name in IDS[1:])]))
    with pytest.raises(InputError, match=r"names 10 items, but .* holds 11 vectors"):
        VectorSet.load(tmp_path / "v.npy")


def test_the_order_of_bytes_changes_nothing(tmp_path):
    for kind in ("f2", "f4"):
        np.save(tmp_path / "v.npy", VALUES.astype(f">{kind}"))
        np.savez(tmp_path / "v.npz", vectors=VALUES.astype(f">{kind}"))
        for name in ("v.npy", "v.npz"):
            loaded = VectorSet.load(tmp_path / name).vectors
            assert loaded.tobytes() == VALUES.astype(kind).tobytes()


def test_blanks_around_a_number_are_none_of_it(tmp_path):
    (tmp_path / "t.csv").write_text("id, v0, v1\na, 1, 2.5\n")
    assert VectorSet.load(tmp_path / "t.csv").vectors.tolist() == [[1.0, 2.5]]
