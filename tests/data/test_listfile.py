from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from samespace.data import ListedSource, open_source
from samespace.data.sources.listfile import list_listing, read_list
from samespace.errors import InputError


def images(root: Path, *names: str) -> None:
    from PIL import Image

    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(root / name, "PNG")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.png 3\nb/c.png 20\n", [("a.png", "3"), ("b/c.png", "20")]),
        ("a.png   3\n\n  b.png 4  ", [("a.png", "3"), ("b.png", "4")]),
        ('"my a.png" 3\nb.png 4\n', [("my a.png", "3"), ("b.png", "4")]),
        ("a.png\tred cup\nmy b.png\tpen\n", [("a.png", "red cup"), ("my b.png", "pen")]),
        ("a, b.png\tred, cup\n", [("a, b.png", "red, cup")]),
        ("a.png,cup\nmy b.png, red pen\n", [("a.png", "cup"), ("my b.png", "red pen")]),
        ("a.png , cup\n", [("a.png", "cup")]),
        ('"a,b.png",cup\n"say ""x"".png",pen\n', [("a,b.png", "cup"), ('say "x".png', "pen")]),
        ("a,b.png 3\n", [("a,b.png", "3")]),
        ("my file.png,3\n", [("my file.png", "3")]),
        ("path,label\na.png,cup\n", [("a.png", "cup")]),
        ("Image\tClass\na.png\tcup\n", [("a.png", "cup")]),
        ("path cup\n", [("path", "cup")]),
        ("\ufeffä.png 1\r\nb.png 2\r\n", [("ä.png", "1"), ("b.png", "2")]),
    ],
)
def test_lines_are_split_by_what_parts_the_first(tmp_path, text, expected):
    (tmp_path / "l.txt").write_text(text, encoding="utf-8")
    names, labels = read_list(tmp_path / "l.txt")
    assert list(zip(names, labels.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no images"),
        ("path,label\n", "names no images"),
        ("a.png 1\nb.png\n", r"line 2 is 'b\.png'; expected a path and a label with a space between"),
        ("my a.png 1\n", r"line 1 is 'my a\.png 1'"),
        ("a.png,1\nb.png 2\n", r"line 2 .* with a comma between"),
        ("a.png\t1\nb.png\t2\t3\n", r"line 2 .* with a tab between"),
        ("a.png\t1\nb.png\t\n", "line 2"),
        ('a.png 1\n"b.png 2\n', "line 2"),
        ("a.png 1\nb.png 2\na.png 3\n", r"names 'a\.png' in line 1 and again in line 3"),
    ],
)
def test_lines_of_another_form_are_refused_by_number(tmp_path, text, message):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_list(tmp_path / "l.txt")
    assert "\n" not in str(caught.value)


def test_a_list_must_be_a_text_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        list_listing(tmp_path / "no.txt")
    with pytest.raises(InputError, match="is a folder"):
        list_listing(tmp_path)
    (tmp_path / "l.txt").write_bytes(b"a.png 1\n\xff\xfe")
    with pytest.raises(InputError, match=r"l\.txt, line 2: not UTF-8 text, at byte 8 of the file"):
        list_listing(tmp_path / "l.txt")


def test_paths_are_relative_to_the_list_or_to_root(tmp_path):
    images(tmp_path / "here", "b.png", "sub/a.png")
    images(tmp_path / "there", "sub/a.png", "b.png")
    (tmp_path / "here" / "l.txt").write_text("sub/a.png x\nb.png y\n")
    beside = open_source(f"list:{tmp_path}/here/l.txt")
    elsewhere = open_source(f"list:{tmp_path}/here/l.txt,root={tmp_path}/there")
    assert beside.ids.tolist() == elsewhere.ids.tolist() == ["sub/a.png", "b.png"]
    assert beside.load([0, 1])[:, 0, 0, 0].tolist() == [1, 0]
    assert elsewhere.load([0, 1])[:, 0, 0, 0].tolist() == [0, 1]
    with pytest.raises(InputError, match="is not a folder"):
        open_source(f"list:{tmp_path}/here/l.txt,root={tmp_path}/nowhere")


def test_whole_numbers_are_sorted_as_numbers_and_other_labels_as_text(tmp_path):
    images(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "n.txt").write_text("a.png 10\nb.png 9\nc.png -1\n")
    assert open_source(f"list:{tmp_path}/n.txt").classes == ("-1", "9", "10")
    (tmp_path / "t.txt").write_text("a.png 10\nb.png 9\nc.png 09\n")
    assert open_source(f"list:{tmp_path}/t.txt").classes == ("09", "10", "9")


@pytest.mark.parametrize("budget", [0, 2**20])
def test_missing_and_broken_images_are_named(tmp_path, budget):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "l.txt").write_text("a.png 1\nlost.png 1\nbad.png 2\nb.png 3\n")
    listing = list_listing(tmp_path / "l.txt")
    with pytest.raises(InputError, match=r"lost\.png: no such file; bad\.png: not an image of a known kind; repair"):
        ListedSource(listing, budget=budget)
    source = ListedSource(listing, broken="skip", budget=budget)
    assert source.ids.tolist() == ["a.png", "b.png"]
    assert source.labels.tolist() == [0, 1]
    assert [name for name, _ in source.skipped] == ["lost.png", "bad.png", "class 2"]


def test_the_fingerprint_follows_labels_and_files(tmp_path):
    images(tmp_path, "a.png", "b.png")
    (tmp_path / "one.txt").write_text("a.png 1\nb.png 2\n")
    (tmp_path / "two.txt").write_text("a.png 1\nb.png 1\n")
    first = open_source(f"list:{tmp_path}/one.txt").fingerprint()
    assert open_source(f"list:{tmp_path}/one.txt").fingerprint() == first
    assert open_source(f"list:{tmp_path}/two.txt").fingerprint() != first
    os.utime(tmp_path / "a.png", ns=(1, 1))
    assert open_source(f"list:{tmp_path}/one.txt").fingerprint() != first
