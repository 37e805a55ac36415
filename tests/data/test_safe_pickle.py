from __future__ import annotations

import collections
import os
import pickle
import subprocess
from pathlib import Path

import numpy as np
import pytest

from samespace.data.published.safe_pickle import load_plain
from samespace.errors import InputError

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Runs:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    """A class of the user's own."""


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back_as_it_was(tmp_path, protocol):
    value = {
        "imlist": ["a", "ü", ""],
        "gnd": [{"easy": np.array([3, 1]), "hard": [], "junk": np.zeros((2, 0), np.int32), "bbx": [0.5, 1, -2, 3e9]}],
        "nested": (None, True, 2**70, 1.5, b"\x00\xff", 1 + 2j, {1, 2}, frozenset({"x"}), b""),
        "matrix": np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)),
        "text": np.array(["ab", "c"]),
        "flags": np.array([True, False]),
        "number": np.float64(2.5),
        "whole": np.int64(7),
    }
    found = load_plain(written(tmp_path / "x.pkl", pickle.dumps(value, protocol)), "a file")
    assert repr(found["nested"]) == repr(value["nested"])
    assert found["imlist"] == value["imlist"]
    assert (found["number"], found["whole"]) == (2.5, 7)
    assert found["gnd"][0]["hard"] == []
    assert found["gnd"][0]["bbx"] == value["gnd"][0]["bbx"]
    for name in ("matrix", "text", "flags"):
        assert np.array_equal(found[name], value[name])
        assert found[name].dtype == value[name].dtype
    assert found["gnd"][0]["easy"].tolist() == [3, 1]
    assert found["gnd"][0]["junk"].shape == (2, 0)


def test_a_pickle_of_python_2_is_read(tmp_path):
    # {'imlist': ['a'], 'easy': numpy.array([1, 2])} as cPickle of Python 2 writes it, text as bytes
    data = (
        b"\x80\x02}q\x01(U\x06imlistq\x02]q\x03U\x01aq\x04aU\x04easyq\x05cnumpy.core.multiarray\n_reconstruct\nq\x06"
        b"cnumpy\nndarray\nq\x07K\x00\x85q\x08U\x01bq\t\x87q\nRq\x0b(K\x01K\x02\x85q\x0ccnumpy\ndtype\nq\rU\x02i8q\x0e"
        b"K\x00K\x01\x87q\x0fRq\x10(K\x03U\x01<q\x11NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x12b\x89U\x10"
        b"\x01\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00q\x13tq\x14bu."
    )
    found = load_plain(written(tmp_path / "x.pkl", data), "a file")
    assert found["imlist"] == ["a"]
    assert found["easy"].tolist() == [1, 2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch {mark}",)),
        (subprocess.Popen, (["touch", "{mark}"],)),
        (eval, ("open('{mark}', 'w')",)),
        (exec, ("open('{mark}', 'w')",)),
        (os.mkdir, ("{mark}",)),
        (getattr, (Runs(__import__, "os"), "system")),
        (np.load, ("{mark}",)),
        (np.save, ("{mark}", 1)),
    ],
)
def test_a_pickle_with_code_in_it_is_refused_and_nothing_runs(tmp_path, protocol, function, arguments):
    mark = tmp_path / "mark"
    filled = [
        [word.format(mark=mark) for word in part]
        if isinstance(part, list)
        else part.format(mark=mark)
        if isinstance(part, str)
        else part
        for part in arguments
    ]
    data = pickle.dumps({"gnd": [1, Runs(function, *filled)]}, protocol)
    file = written(tmp_path / "x.pkl", data)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"refused, for this pickle asks for '.*nothing else is executed") as refusal:
        load_plain(file, "a file")
    assert "\n" not in str(refusal.value)
    assert sorted(tmp_path.iterdir()) == before
    if function in (os.system, os.mkdir, np.save):
        # the same bytes do harm where they are not restricted
        pickle.loads(data)
        assert sorted(tmp_path.iterdir()) != before


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [Plain(), collections.OrderedDict(a=1), Path("x"), np.random.default_rng, range(3)])
def test_anything_but_plain_data_is_refused_by_its_name(tmp_path, protocol, value):
    file = written(tmp_path / "x.pkl", pickle.dumps([value], protocol))
    with pytest.raises(InputError, match="this pickle asks for '"):
        load_plain(file, "a file")


@pytest.mark.parametrize(
    "value",
    [
        np.array([{}, []], dtype=object),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.dtype("i4"),
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.random.default_rng(0),
    ],
    ids=["objects", "fields", "dates", "bare dtype", "masked", "generator"],
)
def test_arrays_of_anything_but_numbers_and_text_are_refused(tmp_path, value):
    for protocol in PROTOCOLS:
        file = written(tmp_path / "x.pkl", pickle.dumps(value, protocol))
        with pytest.raises(InputError, match="this pickle asks for"):
            load_plain(file, "a file")


HANDMADE = {
    "a name that is not called": b"cnumpy\ndtype\n.",
    "a state for a name": b"cnumpy\ndtype\n(dU\x04makecposix\nsystem\nsb.",
    "a state for an allowed name": b"cnumpy\ndtype\n(dVmake\nVx\nsb.",
    "slots of an allowed name": b"cnumpy\ndtype\n(N(dVmake\nVx\nstb.",
    "a new array": b"cnumpy\nndarray\n(I5\ntR.",
    "a set of an iterator": b"cbuiltins\nset\n(cnumpy\ndtype\ntR.",
    "a dtype by an unknown code": b"cnumpy\ndtype\n(VO\ntR.",
    "an array that is larger than its bytes": (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(\x8a\x05\x00\x00\x00\x00\x01tcnumpy\ndtype\n(X\x02\x00"
        b"\x00\x00i8tR\x89C\x01xtb."
    ),
    "a negative shape": (
        b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(J\xff\xff\xff\xfftcnumpy\ndtype\n(X\x02\x00\x00\x00i8tR"
        b"\x89C\x00tb."
    ),
    "an object outside the file": b"Pname\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "an instance in the old way": b"(Vtrue\niposix\nsystem\n.",
    "an object in the old way": b"(cposix\nsystem\nVtrue\no.",
    "a class by new": b"\x80\x02cposix\nsystem\n)\x81.",
    "a name from the stack": b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    "nothing": b"",
    "text": b"hello there, this is no pickle",
    "a list within itself, then cut off": b"(lp0\ng0\na",
    "a huge promise": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
    "very deep": b"\x80\x02" + b"]" * 60_000 + b"a" * 59_999 + b".",
}


@pytest.mark.parametrize("data", HANDMADE.values(), ids=HANDMADE)
def test_damaged_and_crafted_files_get_one_line(tmp_path, data):
    with pytest.raises(InputError, match=r"x\.pkl") as refusal:
        load_plain(written(tmp_path / "x.pkl", data), "a file")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_off_anywhere_gets_one_line(tmp_path, protocol):
    data = pickle.dumps({"imlist": ["a", "b"], "easy": np.arange(4), "junk": (1, 2.5)}, protocol)
    for end in range(len(data) - 1):
        with pytest.raises(InputError, match=r"damaged or no pickle|asks for"):
            load_plain(written(tmp_path / "x.pkl", data[:end]), "a file")


def test_a_refused_pickle_leaves_the_next_one_readable(tmp_path):
    for data in HANDMADE.values():
        with pytest.raises(InputError):
            load_plain(written(tmp_path / "x.pkl", data), "a file")
    file = written(tmp_path / "x.pkl", pickle.dumps(np.arange(3)))
    assert load_plain(file, "a file").tolist() == [0, 1, 2]


def test_lists_that_hold_themselves_and_each_other_are_read_once(tmp_path):
    ring: list = [1]
    ring.append(ring)
    shared: list = []
    for _ in range(200):
        shared = [shared, shared]
    found = load_plain(written(tmp_path / "x.pkl", pickle.dumps([ring, shared])), "a file")
    assert found[0][1] is found[0]
    assert found[1][0] is found[1][1]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="expected the ground truth"):
        load_plain(tmp_path / "none.pkl", "the ground truth")
