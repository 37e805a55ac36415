from __future__ import annotations

from pathlib import Path

import pytest

from samespace.data import open_for_model, open_source
from samespace.data.opening import holds_encoded
from samespace.errors import InputError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rec:", r"rec: names no place; expected rec:PLACE$"),
        ("list:,root=x", r"list: names no place; expected list:PLACE\[,root=…\]"),
        ("rec:faces,part=train", "rec: has no option 'part'; it takes none"),
        ("list:l.txt,rot=x", "list: has no option 'rot'; did you mean 'root'"),
        ("market1501:m,part=", "give 'part' once, as part=VALUE, got 'part='"),
        ("msmt17:m,part=test,part=train", "give 'part' once"),
        ("gldv2:g,Clean=true", "gldv2: has no option 'Clean'; did you mean 'clean'"),
        ("hf:x,config=y", "hf: has no option 'config'; legal: split, image, label"),
        ("market:m", "'market:m' does not exist; did you mean 'market1501'"),
        ("list", "list: names no place; expected list:PLACE"),
        ("rec:no/such/folder", "no/such/folder does not exist; expected a RecordIO file"),
        ("no/such.rec", r"no/such\.rec does not exist; expected a RecordIO file"),
        ("list:no.txt", r"no\.txt does not exist; expected a list of images"),
        ("gldv2:nowhere", r"nowhere/train\.csv does not exist; expected a table of id and landmark_id"),
        ("nonsense", "gldv2:DIR.* or hf:NAME_OR_FOLDER"),
    ],
)
def test_a_spec_that_cannot_be_used_is_refused_in_one_line(spec, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["faces, cut=1,2 and more", "faces,cut=1"])
def test_places_may_hold_commas_and_equals_signs(write_faces, picture, tmp_path, name):
    write_faces(tmp_path / name)
    assert len(open_source(f"rec:{tmp_path / name}")) == 5
    (tmp_path / "l,1.txt").write_text("a.png 1\n")
    (tmp_path / "sub,2").mkdir()
    (tmp_path / "sub,2" / "a.png").write_bytes(picture())
    assert len(open_source(f"list:{tmp_path}/l,1.txt,root={tmp_path}/sub,2")) == 1


def test_a_record_file_is_known_by_its_ending(write_faces, tmp_path):
    write_faces(tmp_path)
    for spec in (f"{tmp_path}/train.rec", tmp_path / "train.rec", f"rec:{tmp_path}/train.rec", f"rec:{tmp_path}"):
        assert open_source(spec, image_size=4, channels=1).image_shape == (1, 4, 4)
    assert open_for_model(f"rec:{tmp_path}", 6).image_shape == (3, 6, 6)


def test_a_path_object_is_never_taken_for_a_format(write_faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_faces(Path("rec:faces"))
    assert len(open_source(Path("rec:faces/train.rec"))) == 5
    with pytest.raises(InputError, match="no class folders"):
        open_source(Path("rec:faces"))
    with pytest.raises(InputError, match="faces does not exist"):
        open_source("rec:faces")


def test_encoded_images_are_told_from_arrays_and_glyphs(tmp_path):
    assert [holds_encoded(spec) for spec in (tmp_path, "rec:x", "list:y", "x.rec", "hf:z")] == [True] * 5
    assert [holds_encoded(spec) for spec in ("glyphs", "glyphs:classes=3", "x.npz", Path("glyphs"))] == [False] * 4
