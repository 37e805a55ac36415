from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from samespace.benchmarks.ijb import IJB
from samespace.benchmarks.ijb_files import read_meta
from samespace.errors import InputError

FACES = "1.jpg 10 100\n2.jpg 10 101\n3.jpg 20 102\n4.jpg 30 103\n5.jpg 30 103\n6.jpg 41 104\n"
PAIRS = "10 30 1\n10 41 0\n20 30 0\n20 41 0\n"
SCORES = "".join(f"{name}.jpg 1.5 2 3 4 5 6 7 8 9 10 0.{name}\n" for name in range(1, 7))
HEADER = "TEMPLATE_ID,SUBJECT_ID,FILENAME\n"


def write(folder: Path, prefix: str = "ijbc", **texts: str) -> Path:
    """The meta files, in true format; a text given replaces a file's, and empty text leaves it out."""
    one, two = ("G1", "G2") if prefix == "ijbc" else ("S1", "S2")
    files = {
        "face_tid_mid.txt": FACES,
        "template_pair_label.txt": PAIRS,
        "name_5pts_score.txt": SCORES,
        f"1N_gallery_{one}.csv": HEADER + "10,7,img/1.jpg\n10,7,img/2.jpg\n",
        f"1N_gallery_{two}.csv": HEADER + "20,8,img/3.jpg\n",
        "1N_probe_mixed.csv": HEADER + "30,7,frames/4.jpg\n41,9,frames/6.jpg\n",
    }
    keys = {"faces": "face_tid_mid.txt", "pairs": "template_pair_label.txt", "scores": "name_5pts_score.txt",
            "one": f"1N_gallery_{one}.csv", "two": f"1N_gallery_{two}.csv", "probes": "1N_probe_mixed.csv"}  # fmt: skip
    files |= {keys[key]: text for key, text in texts.items()}
    meta = folder / "meta"
    meta.mkdir(parents=True)
    for name, text in files.items():
        if text:
            (meta / f"{prefix}_{name}").write_text(text)
    return folder


@pytest.mark.parametrize("prefix", ["ijbb", "ijbc"])
@pytest.mark.parametrize("inside", ["", "meta"])
def test_the_true_format_is_read_from_either_folder(tmp_path, prefix, inside):
    meta = read_meta(write(tmp_path / "set", prefix) / inside, scores=True)
    assert meta.name == ("IJB-B" if prefix == "ijbb" else "IJB-C")
    assert meta.images.tolist() == [f"{number}.jpg" for number in range(1, 7)]
    assert meta.templates.tolist() == [10, 10, 20, 30, 30, 41]
    assert meta.media.tolist() == [100, 101, 102, 103, 103, 104]
    assert (meta.first.tolist(), meta.second.tolist()) == ([10, 10, 20, 20], [30, 41, 30, 41])
    assert meta.genuine.tolist() == [True, False, False, False]
    assert meta.scores.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert [templates.tolist() for templates, _ in meta.galleries.values()] == [[10, 10], [20]]
    assert [column.tolist() for column in meta.probes] == [[30, 41], [7, 9]]


def test_line_ends_and_extra_columns_do_not_matter(tmp_path):
    folder = write(tmp_path / "set", faces=FACES.replace("\n", "\r\n"), pairs=PAIRS.rstrip("\n"))
    np.testing.assert_array_equal(read_meta(folder).first, [10, 10, 20, 20])


def test_without_the_search_lists_there_is_only_verification(tmp_path):
    meta = read_meta(write(tmp_path / "set", one="", two="", probes=""))
    assert (dict(meta.galleries), meta.probes) == ({}, None)
    benchmark = IJB.of(meta)
    assert benchmark.metrics[0] == "TAR@FAR=1e-6"
    assert all(name.startswith("TAR@") for name in benchmark.metrics)
    assert any("1:N lists are not there" in note for note in benchmark.notes)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"faces": ""}, "holds no meta files"),
        ({"pairs": ""}, "template_pair_label.txt does not exist"),
        ({"scores": ""}, "name_5pts_score.txt does not exist"),
        ({"two": ""}, "gallery_G2.csv does not exist"),
        ({"probes": ""}, "probe_mixed.csv does not exist"),
        ({"pairs": PAIRS + "20 3"}, "is it whole"),
        ({"pairs": PAIRS + "20 30 "}, "pair_label.txt:5: the label is missing"),
        ({"pairs": PAIRS + "20 99 0\n"}, "1 templates that have no image in ijbc_face_tid_mid.txt, the first 99"),
        ({"pairs": PAIRS + "20 30 2\n"}, "pair_label.txt:5: a label is 1"),
        ({"pairs": PAIRS + "20 x 0\n"}, "second template"),
        ({"pairs": "\n"}, "is empty|is it whole|missing"),
        ({"faces": FACES + "7.jpg 50\n"}, "image template medium"),
        ({"faces": FACES.replace(" ", ",")}, "image template medium"),
        ({"one": "TEMPLATE,SUBJECT_ID\n10,7\n"}, "no column TEMPLATE_ID; it has TEMPLATE, SUBJECT_ID"),
        ({"one": HEADER}, "lists no template|should be integers"),
        ({"one": HEADER + "99,7,a\n"}, "gallery_G1.csv names 1 templates"),
        ({"one": HEADER + "10,,a\n20,7,a\n"}, "SUBJECT_ID is missing"),
        ({"one": HEADER + "10,joe,a\n"}, "should be integers"),
        ({"one": HEADER + "10,7\n"}, "TEMPLATE_ID and SUBJECT_ID"),
        ({"one": HEADER + "10,7,a\n10,8,b\n"}, "a template has two subjects, 7 and 8"),
        ({"probes": HEADER + "30,7,a\n10,9,b\n"}, "template 10 has subject 9 in the probes and 7 elsewhere"),
        ({"scores": SCORES[:-20]}, "5pts_score.txt:6: expected 12 words"),
        ({"scores": "".join(SCORES.splitlines(keepends=True)[:-1])}, "has 5 lines"),
        ({"scores": SCORES.replace("3.jpg", "9.jpg")}, "5pts_score.txt:3: expected the face '3.jpg'"),
        ({"scores": SCORES.replace("0.4", "none")}, "a score should be a number"),
        ({"pairs": PAIRS.replace(" 1\n", " 0\n")}, "pairs of one person and of two"),
    ],
)
def test_bad_files_are_one_clear_line(tmp_path, texts, message):
    folder = write(tmp_path / "set", **texts)
    with pytest.raises(InputError, match=message) as refused:
        IJB.read(folder, weights="detector")
    assert "\n" not in str(refused.value)


def test_an_absent_set_is_named(tmp_path):
    folder = write(tmp_path / "set")
    with pytest.raises(InputError, match="holds no meta files of IJB-B"):
        IJB.read(folder, name="IJB-B")
    with pytest.raises(InputError, match="legal: IJB-C, IJB-B"):
        IJB.read(folder, name="IJB-D")
    with pytest.raises(InputError, match="did you mean 'detector'"):
        IJB.read(folder, weights="detectors")
    with pytest.raises(InputError, match="at least 1 byte"):
        IJB.read(folder, memory=0)
