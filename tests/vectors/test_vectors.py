from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from samespace.errors import InputError, SpaceError
from samespace.space import Space
from samespace.vectors import VectorSet

SPACE = Space(weights="a" * 64, preprocessing="none", dim=3, normalized=True, name="v1")


def some(**changes):
    values = {
        "vectors": np.arange(12, dtype=np.float32).reshape(4, 3),
        "labels": [1, 1, 2**40, 7],
        "ids": ["a", "b", "c", "d"],
        "templates": [0, 0, 1, 2],
        "space": SPACE,
    } | changes
    vectors = values.pop("vectors")
    return VectorSet.from_arrays(vectors, name="some", **values)


@pytest.mark.parametrize("labels", [[1, 1, 2**40, 7], ["x", "x", "y", "ß"]])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_saved_set_comes_back_memory_mapped_and_equal(tmp_path, labels, dtype):
    saved = some(labels=labels, vectors=np.arange(12, dtype=dtype).reshape(4, 3))
    saved.save(tmp_path / "set")
    loaded = VectorSet.load(tmp_path / "set")
    assert isinstance(loaded.vectors, np.memmap)
    assert loaded.vectors.dtype == dtype
    np.testing.assert_array_equal(loaded.vectors, saved.vectors)
    assert loaded.ids.tolist() == saved.ids.tolist()
    assert loaded.labels.tolist() == labels
    assert loaded.templates.tolist() == [0, 0, 1, 2]
    assert loaded.space == SPACE


def test_saving_again_replaces_the_whole_set(tmp_path):
    some().save(tmp_path / "set")
    some().subset(np.array([3, 0])).save(tmp_path / "set")
    assert VectorSet.load(tmp_path / "set").ids.tolist() == ["d", "a"]
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_saving_over_something_else_is_refused_and_keeps_it(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(InputError, match="not a vector set"):
        some().save(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_a_bare_npz_needs_only_vectors_and_has_no_items(tmp_path):
    np.savez(tmp_path / "v.npz", vectors=np.eye(3))
    loaded = VectorSet.load(tmp_path / "v.npz")
    assert not loaded.has_ids
    assert loaded.labels is None
    assert loaded.space is None
    assert loaded.vectors.dtype == np.float32


def test_has_ids_survives_saving(tmp_path):
    VectorSet.from_arrays(np.eye(3)).save(tmp_path / "set")
    assert not VectorSet.load(tmp_path / "set").has_ids


def test_blocks_cover_every_row_once():
    blocks = list(some().blocks(3))
    assert [(start, len(block)) for start, block in blocks] == [(0, 3), (3, 1)]
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), some().vectors)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vectors": np.zeros((4, 3, 1))}, r"should be \(items, dims\)"),
        ({"vectors": np.zeros((0, 3))}, "not empty"),
        ({"vectors": np.array([["a"] * 3] * 4)}, "should be float32 or float16"),
        ({"vectors": np.array([[0, 0, 0], [0, np.nan, 0], [0, 0, 0], [0, 0, 0]])}, r"row 1 \(id b\) holds NaN"),
        ({"labels": [1, 2]}, r"labels should be one per vector \(4\)"),
        ({"labels": [0.5, 1, 2, 3]}, "labels should be integers or strings"),
        ({"ids": ["a", "a", "b", "c"]}, "'a' occurs 2 times"),
        ({"vectors": np.zeros((4, 5))}, "5 dimensions but their space has 3"),
    ],
)
def test_bad_values_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        some(**changes)


def test_a_missing_or_foreign_file_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="does not exist; expected a vector set"):
        VectorSet.load(tmp_path / "nothing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        VectorSet.load(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", images=np.eye(3))
    with pytest.raises(InputError, match=r"no array 'vectors' \(it holds images\)"):
        VectorSet.load(tmp_path / "other.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"vectors\.npy is missing"):
        VectorSet.load(tmp_path / "empty")


def test_a_pickle_in_an_npz_is_refused(tmp_path):
    np.savez(tmp_path / "p.npz", vectors=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        VectorSet.load(tmp_path / "p.npz")


@pytest.mark.parametrize(
    ("part", "message"),
    [("vectors.npy", "is damaged"), ("items.parquet", "is damaged"), ("space.json", "is not valid JSON")],
)
def test_a_truncated_part_is_never_taken_as_whole(tmp_path, part, message):
    some().save(tmp_path / "set")
    content = (tmp_path / "set" / part).read_bytes()
    (tmp_path / "set" / part).write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match=message):
        VectorSet.load(tmp_path / "set")


class Vouch:
    def links(self, old, new):
        return (old.id, new.id) == (SPACE.id, WIDE.id)


WIDE = Space(weights="b" * 64, preprocessing="none", dim=4, normalized=True, name="v2")


def test_scores_are_cosines_within_one_space():
    queries = VectorSet.from_arrays(np.array([[3.0, 4.0, 0.0]]), space=SPACE)
    gallery = VectorSet.from_arrays(np.array([[1.0, 0.0, 0.0], [0.0, -2.0, 0.0]]), space=SPACE)
    np.testing.assert_allclose(queries.scores(gallery), [[0.6, -0.8]], rtol=1e-6)


def test_scores_across_spaces_need_a_certificate_and_compare_the_dimensions_both_have():
    queries = VectorSet.from_arrays(np.array([[3.0, 4.0, 0.0, 9.0]]), space=WIDE)
    gallery = VectorSet.from_arrays(np.array([[1.0, 0.0, 0.0]]), space=SPACE)
    with pytest.raises(SpaceError, match="run 'samespace check'"):
        queries.scores(gallery)
    np.testing.assert_allclose(queries.scores(gallery, certificate=Vouch()), [[0.6]], rtol=1e-6)


def test_a_zero_vector_has_no_cosine_and_is_named():
    gallery = some(vectors=np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]))
    with pytest.raises(InputError, match=r"row 2 \(id c\) is zero"):
        some(vectors=np.ones((4, 3))).scores(gallery)


def test_a_damaged_compressed_array_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "v.npz", vectors=np.random.default_rng(0).standard_normal((50, 8)))
    content = bytearray((tmp_path / "v.npz").read_bytes())
    content[60:2000] = b"\xff" * 1940
    (tmp_path / "v.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read as \.npz"):
        VectorSet.load(tmp_path / "v.npz")


def test_byte_strings_are_read_as_utf8_or_refused():
    assert some(labels=np.array(["ß".encode(), b"a", b"a", b"b"])).labels.tolist() == ["ß", "a", "a", "b"]
    with pytest.raises(InputError, match="labels are byte strings that are not UTF-8"):
        some(labels=np.array([b"\xff", b"a", b"a", b"b"]))


def test_further_columns_of_items_are_passed_over(tmp_path):
    some().save(tmp_path / "set")
    items = tmp_path / "set" / "items.parquet"
    table = pyarrow.parquet.read_table(items).append_column("quality", pyarrow.array([0.1, 0.2, 0.3, 0.4]))
    pyarrow.parquet.write_table(table, items)
    assert VectorSet.load(tmp_path / "set").labels.tolist() == [1, 1, 2**40, 7]


def test_a_space_that_is_no_object_is_refused(tmp_path):
    some().save(tmp_path / "set")
    (tmp_path / "set" / "space.json").write_text('{"space": "v1", "has_ids": true}')
    with pytest.raises(InputError, match=r"space\.json: a space should be a JSON object, got 'v1'"):
        VectorSet.load(tmp_path / "set")


def test_rows_are_found_by_id():
    given = some(ids=["d", "b", "cc", "a"])
    assert given.rows_of(["a", "cc", "c", "zzzz", "d"]).tolist() == [3, 2, -1, -1, 0]
    assert given.rows_of([]).tolist() == []


class TestTables:
    def table(self, path: Path, **columns: list[object]) -> Path:
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
        return path

    def test_a_table_has_a_column_of_lists_and_perhaps_ids_and_labels(self, tmp_path):
        path = self.table(tmp_path / "v.parquet", id=["b", "a"], vector=[[1.0, 0.0], [0.0, 2.0]], label=["x", "y"])
        read = VectorSet.load(path)
        assert read.ids.tolist() == ["b", "a"]
        assert read.vectors.tolist() == [[1.0, 0.0], [0.0, 2.0]]
        assert read.labels is not None
        assert read.labels.tolist() == ["x", "y"]
        assert not VectorSet.load(self.table(tmp_path / "w.parquet", embedding=[[1.0, 2.0]])).has_ids

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"x": [1]}, "has no column 'vector'"),
            ({"vector": [[1.0, 2.0], [1.0]]}, "all of one length"),
            ({"vector": [[1.0], None]}, "all of one length"),
            ({"vector": ["a"]}, "a list of numbers"),
            ({"vector": [[1.0]], "id": [None]}, "row 0 has no 'id'"),
        ],
    )
    def test_tables_that_are_refused(self, tmp_path, columns, says):
        with pytest.raises(InputError, match=says):
            VectorSet.load(self.table(tmp_path / "v.parquet", **columns))

    def test_a_file_that_is_no_table(self, tmp_path):
        (tmp_path / "v.parquet").write_bytes(b"PAR1 not really")
        with pytest.raises(InputError, match=r"cannot be read as \.parquet"):
            VectorSet.load(tmp_path / "v.parquet")
