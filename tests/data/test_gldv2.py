from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.data import open_source
from samespace.data.published.gldv2 import read_landmarks
from samespace.errors import InputError

NAMES = ("6e158a47eb2ca3f6", "202cd79556f30760", "3ad87684c99c06e1")


@pytest.fixture
def root(tmp_path) -> Path:
    for value, name in enumerate(NAMES):
        for part in ("train", "index"):
            path = tmp_path / part / name[0] / name[1] / name[2] / f"{name}.jpg"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path, "PNG")
    quoted = [f'{n},"http://a.b/{n},x.jpg",{label}' for n, label in zip(NAMES, (142820, 7, 7), strict=True)]
    (tmp_path / "train.csv").write_text("\n".join(["id,url,landmark_id", *quoted]) + "\n")
    (tmp_path / "train_clean.csv").write_text(f"landmark_id,images\n7,{NAMES[2]} {NAMES[1]}\n142820,{NAMES[0]}\n")
    (tmp_path / "index.csv").write_text("\n".join(["id", *NAMES]))
    return tmp_path


def test_training_images_by_landmark(root):
    source = open_source(f"gldv2:{root}")
    assert source.ids.tolist() == list(NAMES)
    assert source.classes == ("7", "142820")
    assert source.labels.tolist() == [1, 0, 0]
    assert source.load([2, 0])[:, 0, 0, 0].tolist() == [2, 0]


def test_the_clean_list_has_a_line_per_landmark(root):
    source = open_source(f"gldv2:{root},clean=true")
    assert source.ids.tolist() == [NAMES[2], NAMES[1], NAMES[0]]
    assert source.labels.tolist() == [0, 0, 1]
    assert source.load([0])[0, 0, 0, 0] == 2
    assert open_source(f"gldv2:{root},clean=false").ids.tolist() == list(NAMES)


def test_index_images_have_no_landmark(root):
    source = open_source(f"gldv2:{root},part=index")
    assert source.ids.tolist() == list(NAMES)
    assert source.classes == ("unlabelled",)
    with pytest.raises(InputError, match=r"test\.csv does not exist; expected a table of images, column id"):
        open_source(f"gldv2:{root},part=test")
    with pytest.raises(InputError, match="clean=true goes with part=train"):
        open_source(f"gldv2:{root},part=index,clean=true")
    with pytest.raises(InputError, match="no part 'tset'; did you mean 'test'"):
        open_source(f"gldv2:{root},part=tset")
    with pytest.raises(InputError, match="true or false, got 'yes'"):
        open_source(f"gldv2:{root},clean=yes")


def test_missing_images_are_named(root):
    (root / "train" / "2" / "0" / "2" / f"{NAMES[1]}.jpg").unlink()
    with pytest.raises(InputError, match=f"holds 1 that cannot be used: {NAMES[1]}: no such file"):
        open_source(f"gldv2:{root}")
    assert open_source(f"gldv2:{root}", broken="skip").ids.tolist() == [NAMES[0], NAMES[2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has columns none; expected id and landmark_id, or landmark_id and images"),
        ("id,url\nabc,x\n", "has columns id, url; expected id and landmark_id"),
        ("landmark,images\n1,abc\n", "has columns landmark, images; expected"),
        ("id,landmark_id\n", "names no images"),
        ("landmark_id,images\n", "names no images"),
        ("id,landmark_id\nabc,one\n", "cannot be read"),
        ("id,landmark_id\nabc,\n", "cannot be read"),
        ("id,landmark_id\nabc\n", "cannot be read"),
        ("id,landmark_id\n../../etc,1\n", r"names image '\.\./\.\./etc'"),
        ("id,landmark_id\nab,1\n", "names image 'ab'; expected letters and digits"),
        ("landmark_id,images\n1,\n", "names image ''"),
        ("landmark_id,images\n1,abc abd\n2,abc\n", "names image abc 2 times"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_landmarks(tmp_path / "train.csv")
    assert "\n" not in str(caught.value)
