from __future__ import annotations

import threading
import time

import pytest

from samespace.errors import InputError
from samespace.files import locked, read_json, replacing, replacing_folder, sweep, write_json


def test_an_error_while_writing_leaves_the_old_file_and_no_debris(tmp_path):
    write_json(tmp_path / "a.json", {"v": 1})

    def fail_half_way():
        with replacing(tmp_path / "a.json") as temporary:
            temporary.write_text("{")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert read_json(tmp_path / "a.json", "a file") == {"v": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_an_error_while_writing_a_folder_leaves_the_old_one(tmp_path):
    with replacing_folder(tmp_path / "f") as temporary:
        (temporary / "x").write_text("1")

    def fail_half_way():
        with replacing_folder(tmp_path / "f") as temporary:
            (temporary / "x").write_text("2")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert (tmp_path / "f" / "x").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_json_refuses_values_that_are_no_json(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"v": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("text", "message"), [("{", "not valid JSON"), ("[1]", "a JSON list")])
def test_a_file_that_is_no_json_object_is_named(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json", "a recipe")


def test_a_sweep_removes_debris_and_puts_back_a_folder_whose_successor_never_came(tmp_path):
    for name in (".set.0123abcd.old", ".other.0123abcd.old", "other", ".set.0123abcd.tmp", ".mine.old"):
        (tmp_path / name).mkdir()
    (tmp_path / ".set.0123abcd.old" / "x").write_text("only copy")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.old", "other", "set"]
    assert (tmp_path / "set" / "x").read_text() == "only copy"


def test_a_lock_lets_one_in_at_a_time_and_leaves_nothing(tmp_path):
    inside, most = [], []

    def enter(number):
        for _ in range(20):
            with locked(tmp_path / "deep" / "set"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80
    assert not list((tmp_path / "deep").iterdir())
