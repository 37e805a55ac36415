from __future__ import annotations

import pytest

from samespace.errors import InputError
from samespace.files import read_json, replacing, replacing_folder, write_json


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
