"""Import and export: equal to the bit in every form, on from a kill, and what is bad is named with nothing lost."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.space import Space
from samespace.vectors import VectorSet
from samespace.vectors.columns import Names
from samespace.vectors.importing import Declared, import_vectors
from samespace.vectors.opening import source_of

COUNT, DIM = 23, 6
VALUES = np.random.default_rng(0).standard_normal((COUNT, DIM)).astype(np.float32)
VALUES[0] = [1e-42, -0.0, 3.4e38, 1 / 3, 1e-20, 16777217]
IDS = [f"{row:03d}ß" for row in range(COUNT)]
SPACE = Space.declared("clip", DIM, "v1", normalized=False)


def wants(module):
    found = importlib.util.find_spec(module) is not None
    return pytest.mark.skipif(not found, reason=f"{module} is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("given")
    columns = {"sku": IDS, "embedding": list(VALUES), "class": [row % 4 for row in range(COUNT)]}
    columns |= {"price": [row / 8 for row in range(COUNT)], "name": [f"n,{row}" for row in range(COUNT)]}
    pa.parquet.write_table(pa.table(columns), place / "t.parquet", row_group_size=5)
    declared = ["--space-name", "clip", "--revision", "v1", "--dim", str(DIM)]
    command = ["vectors", "import", str(place / "t.parquet"), "--id-column", "sku", "--out", str(place / "set")]
    assert run([*command, *declared, "--quiet"]) == 0
    return place / "set"


def test_an_import_keeps_every_column_and_the_declared_space(folder):
    loaded = VectorSet.load(folder)
    assert loaded.vectors.tobytes() == VALUES.tobytes()
    assert loaded.space == SPACE
    assert str(loaded.space).endswith("(clip@v1, 6-d)")
    items = pa.parquet.read_table(folder / "items.parquet")
    assert items.column_names == ["id", "label", "price", "name"]
    assert sorted(place.name for place in folder.iterdir()) == ["items.parquet", "space.json", "vectors.npy"]
    assert [place.name for place in folder.parent.glob("*.partial")] == []


def there_and_back(folder, place, address, tmp_path, *, table=None, columns=("id", "label", "price", "name")):
    chosen = [] if table is None else ["--table", table]
    assert run(["vectors", "export", str(folder), "--to", str(place), *chosen, "--quiet"]) == 0
    loaded = VectorSet.load(address)
    order = np.argsort(loaded.ids)
    assert loaded.ids[order].tolist() == IDS
    assert loaded.vectors[order].tobytes() == VALUES.tobytes()
    assert loaded.labels[order].tolist() == [row % 4 for row in range(COUNT)]
    assert run(["vectors", "import", str(place), *chosen, "--out", str(tmp_path / "back"), "--quiet"]) == 0
    items = pa.parquet.read_table(tmp_path / "back" / "items.parquet").sort_by("id")
    assert items.column_names == list(columns)
    if "price" in columns:
        assert [float(price) for price in items.column("price").to_pylist()] == [row / 8 for row in range(COUNT)]
        assert items.column("name").to_pylist() == [f"n,{row}" for row in range(COUNT)]
    return loaded


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".feather", ".npz", ".csv", ".tsv", ".npy"])
def test_files_there_and_back(folder, tmp_path, ending):
    place = tmp_path / f"x{ending}"
    loaded = there_and_back(folder, place, place, tmp_path)
    assert (loaded.space == SPACE) == (ending not in (".csv", ".tsv", ".npy"))
    if ending not in (".csv", ".tsv"):  # whose other columns come back as text
        before = place.stat().st_mtime_ns
        assert run(["vectors", "export", str(folder), "--to", str(place), "--quiet"]) == 0
        assert place.stat().st_mtime_ns == before


def test_what_an_export_would_replace_is_refused_and_the_same_is_left_alone(folder, tmp_path, capsys, monkeypatch):
    def export(to: str, *more: str, told: str = "") -> None:
        capsys.readouterr()
        assert run(["vectors", "export", str(folder), "--to", to, "--quiet", *more]) == (2 if told else 0)
        assert told in capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    already = "already; choose another place, or replace it with --force"
    other = VectorSet.from_arrays(VALUES[::-1].copy(), ids=IDS, labels=[row % 4 for row in range(COUNT)], space=SPACE)
    other.save("other")
    assert run(["vectors", "export", "other", "--to", "x.parquet", "--quiet"]) == 0
    export("x.parquet", told=f"x.parquet is there {already}")
    export("x.parquet", "--force")
    export("x.parquet")
    export("x.parquet", "--truncate", "3", told=f"x.parquet is there {already}")
    # the ids of other vectors
    assert run(["vectors", "export", "other", "--to", "y.npy", "--quiet"]) == 0
    Path("y.npy").rename("z.npy")
    export("y.npy", told=f"y.ids.parquet is there {already}")
    # a data set by the name of its folder
    export("hf:ds")
    export("ds")


@wants("faiss")
def test_faiss_there_and_back(folder, tmp_path):
    there_and_back(folder, tmp_path / "x.faiss", tmp_path / "x.faiss", tmp_path)
    assert run(["vectors", "export", str(folder), "--to", str(tmp_path / "x.faiss"), "--quiet"]) == 0


@wants("faiss")
@pytest.mark.parametrize("kind", ["Flat", "IVF4,Flat", "IDMap,Flat", "HNSW8"])
def test_indexes_that_keep_their_vectors_are_reconstructed(tmp_path, kind):
    import faiss

    values = VALUES[1:]
    index = faiss.index_factory(DIM, kind)
    index.train(values)
    index.add_with_ids(values, np.arange(len(values)) + 100) if kind == "IDMap,Flat" else index.add(values)
    faiss.write_index(index, str(tmp_path / "x.index"))
    loaded = VectorSet.load(tmp_path / "x.index")
    assert loaded.vectors.tobytes() == values.tobytes()
    assert loaded.has_ids == (kind == "IDMap,Flat")


@wants("qdrant_client")
@pytest.mark.filterwarnings("ignore")
def test_qdrant_there_and_back(folder, tmp_path, capsys):
    place = f"qdrant:{tmp_path}/q"
    there_and_back(folder, place, f"{place},table=items", tmp_path, table="items", columns=("id", "label", "payload"))
    assert run(["vectors", "export", str(folder), "--to", place, "--table", "items", "--quiet"]) == 2
    assert run(["vectors", "import", place, "--out", str(tmp_path / "no")]) == 2
    assert run(["vectors", "import", place, "--table", "item", "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "has a collection 'items' already" in line]
    assert [line for line in told if "name the collection" in line]
    assert [line for line in told if "no collection 'item'; did you mean 'items'?" in line]


@wants("qdrant_client")
def test_a_folder_that_is_none_of_qdrant_stays_as_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for place, told in (("qdrant:missing", "missing does not exist"), ("qdrant:empty", "empty is no folder of Qdrant")):
        assert run(["vectors", "import", place, "--table", "t", "--out", "no"]) == 2
        assert told in capsys.readouterr().err
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    Path("empty/meta.json").write_text('{"collections": {}, "aliases": {}}')
    assert run(["vectors", "import", "qdrant:empty", "--table", "t", "--out", "no"]) == 2
    assert "has no collection 't'; it has none" in capsys.readouterr().err


@wants("lancedb")
def test_lancedb_there_and_back(folder, tmp_path, capsys):
    place = f"lancedb:{tmp_path}/db"
    loaded = there_and_back(folder, place, f"{place},table=items", tmp_path, table="items")
    assert loaded.space == VectorSet.load(tmp_path / "db" / "items.lance").space == SPACE
    assert run(["vectors", "export", str(folder), "--to", f"{tmp_path}/db/again.lance", "--quiet"]) == 0
    assert VectorSet.load(f"{place},table=again").vectors.tobytes() == VALUES.tobytes()
    capsys.readouterr()
    assert run(["vectors", "export", str(folder), "--to", place, "--table", "items", "--quiet"]) == 2
    for wrong in (["--table", "item"], []):
        assert run(["vectors", "import", place, *wrong, "--out", str(tmp_path / "no")]) == 2
    assert run(["vectors", "import", f"{place}s", "--table", "items", "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(str(tmp_path))[2] for line in told] == [
        "/db has a table 'items' already; choose another name",
        "/db has no table 'item'; did you mean 'items'? legal: again, items",
        "/db: name the table, by --table or ',table=NAME'; it has again, items",
        f"/dbs: there is no folder {tmp_path}/dbs; expected the folder of a LanceDB database",
    ]
    assert not (tmp_path / "dbs").exists()


@wants("lancedb")
def test_a_damaged_table_of_lancedb_is_one_line(folder, tmp_path, capsys):
    assert run(["vectors", "export", str(folder), "--to", f"{tmp_path}/x.lance", "--quiet"]) == 0
    data = next((tmp_path / "x.lance" / "data").iterdir())
    data.write_bytes(data.read_bytes()[:40])
    capsys.readouterr()
    assert run(["vectors", "import", f"{tmp_path}/x.lance", "--out", str(tmp_path / "no")]) == 2
    assert "cannot be read as a LanceDB database" in (told := capsys.readouterr().err)
    assert told.count("\n") == 1


def test_a_hugging_face_data_set_there_and_back(folder, tmp_path):
    place = f"hf:{tmp_path}/ds"
    loaded = there_and_back(folder, place, place, tmp_path)
    assert loaded.space == VectorSet.load(tmp_path / "ds").space == SPACE
    assert run(["vectors", "export", str(folder), "--to", place, "--quiet"]) == 0  # the same is there
    assert run(["vectors", "export", str(folder), "--to", place, "--truncate", "3", "--quiet"]) == 2
    assert run(["vectors", "export", str(folder), "--to", place, "--force", "--quiet"]) == 0  # is replaced
    assert run(["vectors", "export", str(folder), "--to", f"hf:{folder}", "--force", "--quiet"]) == 2


@wants("datasets")
def test_what_the_datasets_library_saves_is_read_and_what_is_written_it_loads(folder, tmp_path):
    import datasets

    datasets.disable_progress_bars()
    assert run(["vectors", "export", str(folder), "--to", f"hf:{tmp_path}/ds", "--quiet"]) == 0
    loaded = datasets.load_from_disk(tmp_path / "ds")
    assert loaded["id"][:] == IDS
    assert np.array(loaded.with_format("numpy")["vector"][:], dtype=np.float32).tobytes() == VALUES.tobytes()
    columns = {"id": IDS, "emb": VALUES.tolist(), "label": [row % 3 for row in range(COUNT)]}
    features = {"id": datasets.Value("string"), "emb": datasets.Sequence(datasets.Value("float32"))}
    features["label"] = datasets.ClassLabel(names=["x", "y", "z"])
    made = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
    made.save_to_disk(tmp_path / "one", num_shards=3)
    datasets.DatasetDict(train=made, test=made.select([5, 2])).save_to_disk(tmp_path / "two")
    assert (one := VectorSet.load(tmp_path / "one")).vectors.tobytes() == VALUES.tobytes()
    assert (one.ids.tolist(), one.labels.tolist()) == (IDS, ["xyz"[row % 3] for row in range(COUNT)])
    two = VectorSet.load(f"hf:{tmp_path}/two,split=test")
    assert (two.ids.tolist(), two.labels.tolist()) == ([IDS[5], IDS[2]], ["z", "z"])
    with pytest.raises(InputError, match=r"has the splits train, test; say which: 'hf:.*,split=train'"):
        VectorSet.load(tmp_path / "two")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda place: (place / "state.json").unlink(), "is not a data set that save_to_disk wrote"),
        (lambda place: (place / "state.json").write_text("{}"), "does not say which files hold the rows"),
        (lambda place: next(place.glob("*.arrow")).unlink(), "data-00000-of-00001.arrow is missing"),
        (lambda place: next(place.glob("*.arrow")).write_bytes(b"ARROW"), "cannot be read"),
    ],
)
def test_a_damaged_data_set_is_one_line(folder, tmp_path, damage, message):
    assert run(["vectors", "export", str(folder), "--to", f"hf:{tmp_path}/ds", "--quiet"]) == 0
    damage(tmp_path / "ds")
    with pytest.raises(InputError, match=message) as caught:
        VectorSet.load(f"hf:{tmp_path}/ds")
    assert "\n" not in str(caught.value)


def test_pgvector_there_and_back(folder, tmp_path, postgres, capsys):
    there_and_back(folder, postgres, f"{postgres},table=items", tmp_path, table="items")
    assert run(["vectors", "export", str(folder), "--to", postgres, "--table", "items", "--quiet"]) == 2
    assert run(["vectors", "import", postgres, "--out", str(tmp_path / "no")]) == 2
    assert run(["vectors", "import", postgres, "--table", "nothing", "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "has a table 'items' already" in line]
    assert [line for line in told if "name the table" in line and re.search(r"tables with vectors: .*\bitems\b", line)]
    assert [line for line in told if "has no table 'nothing'" in line]
    assert not (tmp_path / "no").exists()


@wants("psycopg")
def test_a_server_that_is_not_there_is_one_line_without_the_password(tmp_path, capsys):
    address = "postgresql://me:secret@127.0.0.1:1/db"
    assert run(["vectors", "import", address, "--table", "t", "--out", str(tmp_path / "no")]) == 2
    told = capsys.readouterr().err
    assert "cannot be reached" in told
    assert "secret" not in told


@pytest.mark.parametrize("form", ["x.parquet", "x.npz", "x.npy", "x.csv", "x.arrow", "x.lance", "hf:x"])
@pytest.mark.parametrize("cut", [3, 10])
def test_an_import_that_was_cut_off_carries_on(folder, tmp_path, form, cut, monkeypatch):
    if form.endswith(".lance"):
        pytest.importorskip("lancedb", reason="lancedb is not installed: pip install 'samespace[lancedb]'")
    monkeypatch.setattr("samespace.vectors.importing._ROWS_BETWEEN_MARKS", 4)
    for module in ("tables", "arrays", "npz"):
        monkeypatch.setattr(f"samespace.vectors.{module}.ROWS", 4)
    scheme, _, name = form.rpartition(":")
    place = f"{scheme}{':' * bool(scheme)}{tmp_path}/{name}"
    assert run(["vectors", "export", str(folder), "--to", place, "--quiet"]) == 0
    source = source_of(place, Names(), metadata=True)

    def dying(start):
        done = 0
        for batch in source.batches(start):
            if done >= cut:
                raise KeyboardInterrupt
            done += len(batch.vectors)
            yield batch

    with pytest.raises(KeyboardInterrupt):
        import_vectors(replace(source, batches=dying), tmp_path / "set")
    assert not (tmp_path / "set").exists()
    done = import_vectors(source, tmp_path / "set", declared=None)
    assert done.resumed >= cut
    assert (tmp_path / "set" / "vectors.npy").read_bytes()[-VALUES.nbytes :] == VALUES.tobytes()
    loaded = VectorSet.load(tmp_path / "set")
    assert loaded.ids.tolist() == IDS
    assert len(loaded) == COUNT


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"id": ["a"] * COUNT}, [], "'a' occurs 23 times"),
        ({}, ["--dim", "5", "--space-name", "x"], "have 6 dimensions, and --dim says 5"),
        ({}, ["--dim", "5"], "go with --space"),
        ({}, ["--vector-column", "vektor"], "has no column 'vektor'"),
        ({}, ["--label-column", "price"], "has no column 'price'"),
        ({"vector": [[1.0, float("inf")]] * COUNT}, [], "row 0 holds NaN or infinity"),
    ],
)
def test_what_is_bad_is_one_line_and_leaves_what_was_there(tmp_path, change, options, message, capsys):
    VectorSet.from_arrays(np.eye(3), ids=["x", "y", "z"]).save(tmp_path / "set")
    table = pa.table({"id": IDS, "vector": list(VALUES)} | change)
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    command = ["vectors", "import", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "set"), "--force", *options]
    assert run(command) == 2
    told = capsys.readouterr().err.splitlines()
    assert message in told[-1]
    assert VectorSet.load(tmp_path / "set").ids.tolist() == ["x", "y", "z"]


def test_files_of_no_known_form_and_folders_that_are_no_sets_are_refused(folder, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert run(["vectors", "import", "x.docx", "--out", str(tmp_path / "a")]) == 2
    assert run(["vectors", "export", str(folder), "--to", "x.docx", "--quiet"]) == 2
    pa.parquet.write_table(pa.table({"vector": list(VALUES)}), tmp_path / "t.parquet")
    assert run(["vectors", "import", str(tmp_path / "t.parquet"), "--out", str(tmp_path / "photos"), "--quiet"]) == 2
    told = capsys.readouterr().err
    assert "vectors are imported from .parquet" in told
    assert "vectors are written to .parquet" in told
    assert "is not a vector set" in told


def test_a_declared_space_follows_from_name_revision_dimension_and_lengths(tmp_path):
    unit = VALUES[1:] / np.linalg.norm(VALUES[1:], axis=1, keepdims=True)
    for number, values in enumerate((unit, unit[:5], 2 * unit)):
        np.save(tmp_path / f"{number}.npy", values)
        source = source_of(tmp_path / f"{number}.npy", metadata=True)
        import_vectors(source, tmp_path / f"{number}", declared=Declared("clip", "v2"))
    spaces = [VectorSet.load(tmp_path / str(number)).space for number in range(3)]
    assert spaces[0] == spaces[1] == Space.declared("clip", DIM, "v2", normalized=True)
    assert spaces[2] == Space.declared("clip", DIM, "v2", normalized=False)
    assert not VectorSet.load(tmp_path / "0").has_ids


def test_results_as_json(folder, tmp_path, capsys):
    assert run(["vectors", "export", str(folder), "--to", str(tmp_path / "x.parquet"), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == {"to": str(tmp_path / "x.parquet"), "count": COUNT, "dim": DIM}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.csv", "id,v0,v1\na,1,2\nb,1\n", "short.csv: line 3 has 2 cells, the first 3"),
        ("huge.csv", 'id,vector\na,"[1e300, 2]"\n', "or a number too large for float32"),
        ("junk.faiss", "junk" * 100, "is no FAISS index, or is cut short; write it anew"),
        ("whole.npy", np.arange(12).reshape(4, 3), "got int64 of (4, 3); save array.astype('float32')"),
        ("empty.npy", np.zeros((0, 3), np.float32), "expected floats of shape (items, dims), got none"),
    ],
)
def test_what_cannot_be_imported_says_what_to_do(
    name: str, content: Any, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if name.endswith(".faiss"):
        pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    place = tmp_path / name
    if isinstance(content, str):
        place.write_text(content)
    else:
        np.save(place, content)
    assert (
        run(["vectors", "import", str(place), "--out", str(tmp_path / "o"), "--space-name", "m", "--revision", "1"])
        == 2
    )
    assert message in capsys.readouterr().err


def test_an_id_that_comes_twice_is_blamed_on_the_file_that_names_it(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", VALUES)
    (tmp_path / "names.txt").write_text("same\n" * COUNT)
    source = source_of(str(tmp_path / "v.npy"), Names(ids=str(tmp_path / "names.txt")))
    assert source is not None
    with pytest.raises(InputError, match=r"names\.txt: ids must be unique, 'same' occurs 23 times"):
        import_vectors(source, tmp_path / "out")
