"""Files that are damaged, foreign or of the wrong kind: read as they are, or refused in words of our own."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samespace import VectorSet, typed
from samespace.bridge import Bridge
from samespace.data.published.safe_pickle import load_plain
from samespace.data.sources.arrays import ArraySource
from samespace.errors import InputError, SamespaceError
from samespace.evaluate.certificate import Certificate
from samespace.files import read_json
from samespace.gallery.index.qdrant import points as qdrant_points
from samespace.models.classifier import Classifier
from samespace.models.tensors import load_tensors, save_tensors
from samespace.strict import read_yaml

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
# what numpy, pyarrow, safetensors, PyYAML, json, torch, SQLite, pickle and Python say
FOREIGN = re.compile(
    r"allow_pickle|Expecting |\(char \d|Errno|pyarrow|Arrow|[Mm]agic (bytes|number|string)|invalid literal|"
    r"could not convert|codec can't|HeaderToo|InvalidHeader|MetadataIncomplete|state_dict|copying a param|"
    r"mapping values|while (parsing|scanning)|not a database|Object arrays|has no attribute|not supported between|"
    r"buffer is (smaller|too)|cannot reshape|CRC-32|unpickl|subscriptable|unhashable|out of range|Error\(|Error:|"
    r"Exception|\bNoneType\b|object is not|EOF|mmap"
)
NUMBERS = np.arange(24, dtype=np.float32).reshape(6, 4) + 1


def whole(folder: Path) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A good file of each kind, and what reads it."""
    import pickle

    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet
    import torch

    np.savez(folder / "v.npz", vectors=NUMBERS, labels=np.arange(6), ids=list("abcdef"))
    np.savez(folder / "i.npz", images=np.zeros((6, 4, 4), np.uint8), labels=list("aabbcc"))
    VectorSet.from_arrays(NUMBERS, labels=list("aabbcc"), ids=list("abcdef")).save(folder / "set")
    table = {"vector": NUMBERS.tolist(), "id": list("abcdef"), "label": list("aabbcc")}
    pyarrow.parquet.write_table(pyarrow.table(table), folder / "t.parquet")
    pyarrow.feather.write_feather(pyarrow.table(table), folder / "t.feather")
    np.save(folder / "bare.npy", NUMBERS)
    (folder / "c.json").write_text(json.dumps({"format": "samespace.certificate/1", "metrics": {}, "compatible": True}))
    (folder / "r.yaml").write_text("data: {source: images}\noptim:\n  epochs: 3\n  milestones: [1, 2]\n")
    save_tensors({"weight": torch.eye(3)}, folder / "t.safetensors", {"classifier": json.dumps({"classes": ["a"]})})
    (folder / "p.pkl").write_bytes(pickle.dumps({"imlist": ["a"], "gnd": [{"easy": np.arange(3)}]}))

    def of_set(part: str) -> Callable[[Path], Any]:
        return lambda path: VectorSet.load(path.parent)

    return {
        "vectors.npz": (folder / "v.npz", VectorSet.load),
        "images.npz": (folder / "i.npz", ArraySource.from_npz),
        "vectors.npy": (folder / "set" / "vectors.npy", of_set("vectors.npy")),
        "items.parquet": (folder / "set" / "items.parquet", of_set("items.parquet")),
        "vectors.parquet": (folder / "t.parquet", VectorSet.load),
        "vectors.feather": (folder / "t.feather", VectorSet.load),
        "bare.npy": (folder / "bare.npy", VectorSet.load),
        "space.json": (folder / "set" / "space.json", of_set("space.json")),
        "certificate": (folder / "c.json", Certificate.load),
        "json": (folder / "c.json", lambda path: read_json(path, "an object")),
        "recipe": (folder / "r.yaml", lambda path: read_yaml(path, "a recipe (YAML)", "keys")),
        "tensors": (folder / "t.safetensors", lambda path: load_tensors(path, "weights")),
        "classifier": (folder / "t.safetensors", Classifier.load),
        "pickle": (folder / "p.pkl", lambda path: load_plain(path, "a list of landmarks")),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return whole(tmp_path_factory.mktemp("whole"))


def in_our_words(read: Callable[[Path], Any], path: Path) -> None:
    try:
        read(path)
    except SamespaceError as error:
        said = str(error).replace(str(path), "").replace(str(path.parent), "")
        assert not FOREIGN.search(said), said
        assert len(said.splitlines()) == 1, said


CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)


@pytest.mark.parametrize(
    "kind",
    [
        "vectors.npz", "images.npz", "vectors.npy", "items.parquet", "vectors.parquet", "vectors.feather", "bare.npy",
        "space.json", "certificate", "recipe", "tensors", "classifier", "pickle",
    ],
)  # fmt: skip
@settings(max_examples=6 * EXAMPLES)
@given(changes=CHANGES, cut=st.floats(0, 1) | st.just(1.0), data=st.binary(max_size=30), replace=st.booleans())
def test_a_damaged_file(files, kind, changes, cut, data, replace):
    path, read = files[kind]
    before = path.read_bytes()
    damaged = bytearray(before[: int(cut * len(before))])
    for place, value in changes:
        if damaged:
            damaged[int(place * (len(damaged) - 1))] = value
    try:
        # a new file, since a set may be mapped to memory
        path.unlink()
        path.write_bytes(data if replace and cut < 0.2 else bytes(damaged))
        in_our_words(read, path)
    finally:
        path.unlink()
        path.write_bytes(before)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["format", "space", "count", "has_ids", "metrics", "compatible", "data", "old_space", "id", "dim"]
)


@pytest.mark.parametrize("kind", ["space.json", "certificate", "json"])
@settings(max_examples=12 * EXAMPLES)
@given(value=JSON | st.dictionaries(KEYS, JSON, max_size=5))
def test_json_of_any_other_shape(files, kind, value):
    path, read = files[kind]
    before = path.read_bytes()
    try:
        path.write_text(json.dumps(value))
        in_our_words(read, path)
    finally:
        path.write_bytes(before)


SIGNS = [
    "a: ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\n",
    "  ",
    "'",
    "&x ",
    "*x ",
    "!t ",
    "? ",
    "> ",
    "%",
    "@",
    "\t",
    ": ",
    "1",
    "#",
]


@settings(max_examples=25 * EXAMPLES)
@given(st.text(max_size=60) | st.lists(st.sampled_from(SIGNS), max_size=20).map("".join))
def test_any_text_as_a_recipe(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "r.yaml"
        path.write_bytes(text.encode(errors="replace"))
        in_our_words(lambda place: read_yaml(place, "a recipe (YAML)", "keys"), path)


@settings(max_examples=10 * EXAMPLES)
@given(
    st.sampled_from(["vectors", "labels", "ids", "templates"]),
    st.lists(st.none() | st.text(max_size=3) | st.integers(), min_size=3, max_size=3),
)
def test_an_array_of_objects_is_named_with_the_cure(name, values):
    arrays: dict[str, Any] = {"vectors": NUMBERS[:3], "labels": np.arange(3), name: np.array(values, dtype=object)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "o.npz"
        np.savez(path, **arrays)
        with pytest.raises(SamespaceError, match=f"array '{name}' holds Python objects.*{name}=np.array") as caught:
            VectorSet.load(path)
    assert "allow_pickle" not in str(caught.value)


def test_a_bridge_that_does_not_fit(tmp_path):
    (tmp_path / "b").mkdir()
    save_tensors({}, tmp_path / "b" / "model.safetensors")
    (tmp_path / "b" / "config.json").write_text("{}")
    in_our_words(Bridge.load, tmp_path / "b")


def test_a_required_field_that_may_be_null_is_missed_by_its_name():
    @dataclass(frozen=True)
    class Part:
        name: str | None
        count: int = 1

        def __post_init__(self) -> None:
            if self.count < 0:
                raise ValueError("object of type")
            if self.count > 9:
                raise InputError("count should be at most 9")

    with pytest.raises(InputError, match=r"^c\.json lacks 'name'$"):
        typed.read(Part, {"count": 2}, "c.json")
    with pytest.raises(InputError, match=r"^c\.json holds values that do not fit each other$"):
        typed.read(Part, {"name": None, "count": -1}, "c.json")
    with pytest.raises(InputError, match=r"^c\.json: count should be at most 9$"):
        typed.read(Part, {"name": "a", "count": 10}, "c.json")


def test_an_answer_of_qdrant_is_told_by_its_status_and_reason():
    class Response(Exception):
        status_code, reason_phrase, content = 400, "Bad Request", b'{"status": {"error": "Wrong input: dim"}}'

    assert qdrant_points._line(Response("Unexpected Response: b'{}'")) == "400 Wrong input: dim"
    Response.content = b"<html>"
    assert qdrant_points._line(Response()) == "400 Bad Request"
    assert qdrant_points._line(OSError()) == "no reason given"
