"""Lists, pairs and packs in every form that they come in: read as written, or refused by file and line."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from samespace.benchmarks.lfw import LFW
from samespace.data.sources.listfile import read_image_list
from samespace.errors import InputError

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(
    max_examples=25 * EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
BREAKS = ("\n", "\r\n", "\r")
WORD = st.lists(
    st.one_of(
        st.sampled_from([" ", ",", ";", '"', "\u2028", "\u0085", "é", "/", "#", "'", "\ufeff", "-", "_", "7"]),
        st.characters(exclude_categories=("Cs", "Zs", "Cc")),
    ),
    min_size=1,
    max_size=8,
).map("".join)
NAME = WORD.map(lambda word: f"im/{word}.jpg")
LABEL = WORD.map(lambda word: "c" + word).filter(lambda word: word == word.strip())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


def field(value: str, separator: str) -> str:
    """A field by RFC 4180; tabs part fields without quotes."""
    odd = any(mark in value for mark in ' ,;"\r\n')
    return '"' + value.replace('"', '""') + '"' if odd and separator != "\t" else value


@many
@given(
    st.dictionaries(NAME, LABEL, min_size=1, max_size=5),
    st.sampled_from([",", ";", "\t", " "]),
    st.sampled_from(["path,label", "label,path", "no names", "swapped", "extra", "lst"]),
    st.sampled_from(ENCODINGS),
    st.sampled_from(BREAKS),
    st.booleans(),
)
def test_a_list_is_what_was_written(place, images, separator, form, encoding, end, blank):
    rows = [[name, label] for name, label in images.items()]
    if form == "lst":
        separator, images = "\t", {name: str(number) for number, name in enumerate(images)}
        rows = [[str(row), f"{number}.000000", name] for row, (name, number) in enumerate(images.items())]
        assume("\t" not in "".join(images))
    elif form == "extra":
        rows = [["split", "class_id", "", "path"], *(["train", label, "", name] for name, label in images.items())]
        rows[0][2] = "other"
    elif form == "path,label":
        rows = [["path", "label"], *rows]
    elif form in ("label,path", "swapped"):
        rows = [["Label", "Path"]] * (form == "label,path") + [[label, name] for name, label in images.items()]
    lines = [separator.join(field(value, separator) or '""' * (separator == " ") for value in row) for row in rows]
    if blank:
        lines = ["", *lines, " "]
    (place / "l.txt").write_bytes(end.join(lines).encode(encoding))
    found = read_image_list(place / "l.txt")
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == images
    assert "is the image" in " ".join(found.notes)
    assert len(found.names) == len(images)


@pytest.mark.parametrize(
    ("text", "options", "expected", "note"),
    [
        ("0\t0.000000\ta.jpg\n1\t1.000000\tb.jpg\n", {}, ["0", "1"], "column 3 is the image, column 2 the class"),
        ("0\t3\t1\t2\ta.jpg\n1\t4\t1\t2\tb.jpg\n", {}, ["3", "4"], "column 5 is the image, column 2 the class"),
        ("label,path,split,is_query,is_gallery\n0,a.jpg,train,,\n1,b.jpg,train,,\n", {}, ["0", "1"],
         "columns: path is the image, label the class; not read: split, is_query, is_gallery"),
        ("label,path\nx,a.jpg\ny,b.jpg\n", {}, ["x", "y"], "path is the image"),
        ("image_id class_id super_class_id path\n1 1 1 a.jpg\n2 2 1 b.jpg\n", {}, ["1", "2"], "class_id the class"),
        ("a.jpg;x\nb.jpg;y\n", {}, ["x", "y"], "column 1 is the image"),
        ("x,a.jpg\ny,b.jpg\n", {}, ["x", "y"], "column 2 is the image"),
        ("x,a.jp2\ny,b.heif\n", {}, ["x", "y"], "column 2 is the image"),
        ("path,breed\na.jpg,x\nb.jpg,y\n", {}, ["x", "y"], "breed the class"),
        ("path,breed,age\na.jpg,x,1\nb.jpg,y,2\n", {"label": "breed"}, ["x", "y"], "not read: age"),
        ("a.jpg,1,x\nb.jpg,2,y\n", {"path": "1", "label": "3"}, ["x", "y"], "column 3 the class"),
        ("a.jpg,x,\nb.jpg,y,\n", {}, ["x", "y"], "column 2 the class"),
        ("# made by hand\n# twice\na.jpg x\nb.jpg y\n", {}, ["x", "y"], "2 lines of comment"),
        ("2\nimage_name item_id evaluation_status\na.jpg  x  train\nb.jpg  y  query\n", {}, ["x", "y"],
         "parts: train 1, query 1; taken: all of them"),
        ('"a\n1.jpg",x\nb.jpg,y\n', {}, ["x", "y"], "column 1 is the image"),
    ],
)  # fmt: skip
def test_each_form_of_list(tmp_path, text, options, expected, note):
    (tmp_path / "l.txt").write_text(text)
    found = read_image_list(tmp_path / "l.txt", **options)
    assert found.labels.tolist() == expected
    assert note in " ".join(found.notes)


def test_parts_of_a_list_are_taken_by_name(tmp_path):
    (tmp_path / "inshop.txt").write_text(
        "4\nimage_name item_id evaluation_status\na.jpg i1 train\nb.jpg i2 query\nc.jpg i2 gallery\nd.jpg i3 gallery\n"
    )
    (tmp_path / "oml.csv").write_text(
        "label,path,split,is_query,is_gallery\n0,a.jpg,train,,\n1,b.jpg,validation,True,False\n1,c.jpg,validation,False,True\n"
    )
    taken = {
        part: read_image_list(tmp_path / "inshop.txt", part=part) for part in ("train", "query", "gallery", "test")
    }
    assert {part: found.names for part, found in taken.items()} == {
        "train": ["a.jpg"],
        "query": ["b.jpg"],
        "gallery": ["c.jpg", "d.jpg"],
        "test": ["b.jpg", "c.jpg", "d.jpg"],
    }
    assert taken["query"].notes[-1] == "parts: train 1, query 1, gallery 2; taken: 1 of part query"
    for part, names in {"train": ["a.jpg"], "query": ["b.jpg"], "gallery": ["c.jpg"]}.items():
        assert read_image_list(tmp_path / "oml.csv", part=part).names == names


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            "3\nimage_name item_id\na.jpg x\nb.jpg y\n",
            {},
            "announces 3 images in its first line and names 2; is it cut short?",
        ),
        ("path,label,label\na.jpg,x,y\n", {}, "names the column 'label' twice"),
        ("path,breed,age\na.jpg,x,1\n", {}, "has columns path, breed, age; say which is the class: label=NAME"),
        ("path,breed\na.jpg,x\n", {"label": "bred"}, "no column 'bred' (label=); did you mean 'breed'?"),
        ("a.jpg,x,1\n", {}, "which columns they are: path=NUMBER and label=NUMBER"),
        ("a.jpg,x\n", {"label": "3"}, "has 2 columns, counted from 1; there is no column 3"),
        (
            "label,path,split\nx,a.jpg,train\ny,b.jpg\n",
            {},
            "l.txt line 3 is 'y,b.jpg'; expected 3 columns (label, path, split)",
        ),
        ("label,path,split\nx,a.jpg,train\n", {"part": "query"}, "names no images of part 'query'; it has train"),
        ("label,path\nx,a.jpg\n", {"part": "query"}, "no column that says which part"),
        ("0\t0.5\ta.jpg\n", {}, "line 1: label 0.5 is no whole number"),
        ("0\t0\ta.jpg\n1\tx\tb.jpg\n", {}, "line 2: label x is no whole number"),
    ],
)
def test_a_list_that_is_not_understood_says_what_was_found(tmp_path, text, options, message):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        read_image_list(tmp_path / "l.txt", **options)


PEOPLE = st.lists(
    WORD.filter(lambda word: word == word.strip() and "/" not in word), min_size=2, max_size=4, unique=True
)


@many
@given(PEOPLE, st.integers(1, 3), st.integers(1, 3), st.sampled_from(ENCODINGS), st.sampled_from(BREAKS), st.booleans())
def test_pairs_are_what_was_written(place, people, folds, each, encoding, end, spaced):
    people = [f"p{name}" for name in people]
    if spaced:
        assume(not any(part.isdecimal() for name in people for part in name.split()))
        people = [" ".join(name.split()) for name in people]
        assume(len(set(people)) == len(people))
    gap = "  " if spaced else "\t"
    lines, expected = [gap.join(map(str, (folds, each) if folds > 1 else (each,)))], []
    for _ in range(folds):
        for row in range(each):
            name = people[row % len(people)]
            lines.append(gap.join([name, "1", "2"]))
            expected.append((f"{name}/{name}_0001.jpg", f"{name}/{name}_0002.jpg"))
        for row in range(each):
            one, other = people[row % 2], people[1 - row % 2]
            lines.append(gap.join([one, "3", other, "12345"]))
            expected.append((f"{one}/{one}_0003.jpg", f"{other}/{other}_12345.jpg"))
    (place / "pairs.txt").write_bytes(end.join(lines).encode(encoding))
    found = LFW.read(place / "pairs.txt")
    images = [(str(found.ids[a]), str(found.ids[b])) for a, b in zip(found.first, found.second, strict=True)]
    assert images == expected
    assert found.same.tolist() == ([True] * each + [False] * each) * folds
    assert ("accuracy" in found.metrics) == (folds > 1)
    assert bool(found.notes) == (folds == 1)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1", "A 7 1 2", "A 7 1 B 8 1"], r"pairs.txt:3: expected 'name number name number', a pair of two"),
        (["1", "A\tx\t2", "A\t1\tB\t1"], r"pairs.txt:2: expected 'name number number'"),
        (["2", "A\t1\t2", "A\t1\tB\t1"], r"4 lines; got 2; for folds it has two numbers"),
        (["x 1"], "two numbers"),
    ],
)
def test_pairs_that_can_be_read_in_two_ways_are_refused(tmp_path, lines, message):
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        LFW.read(tmp_path)
