"""Names of files, classes and items: any is carried through as it is, or refused before the work, by name."""

from __future__ import annotations

import io
import json
import os
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samespace import Embedder, Space, VectorSet
from samespace.cli.main import run
from samespace.data import open_source
from samespace.data.listed import ListedSource
from samespace.data.listing import Listing
from samespace.data.sources.arrays import ArraySource
from samespace.errors import InputError
from samespace.files import read_json, write_json
from samespace.gallery import Gallery
from samespace.models import EmbedderConfig, Preprocessing
from samespace.names import escaped, fault, faults

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
PNG = io.BytesIO()
Image.new("L", (8, 8), 40).save(PNG, "PNG")
SPACE = Space(weights="a" * 64, preprocessing="none", dim=3, normalized=False, name="m")

PIECES = st.sampled_from(
    ["a", "A", "é", unicodedata.normalize("NFD", "é"), " ", "\n", "\t", "\u202e", "\u2028", "\x1b[31m", "中", "ß",
     "m\udcfc", "ss", "'", '"', ",", "-", "🙂", "%", "\u200b", "\u0085", "x" * 300, "0", "٣", "\ufeff", "\r"]
)  # fmt: skip
NAMES = (
    st.lists(PIECES, min_size=1, max_size=5).map("".join)
    | st.text(st.characters(codec=None), min_size=1, max_size=20)
    | st.binary(min_size=1, max_size=20).map(os.fsdecode)
)
UNIQUE = st.lists(NAMES, min_size=1, max_size=6, unique_by=lambda name: name.rstrip("\0")).filter(
    # numpy ends a text at its last character that is not NUL
    lambda names: all(name.rstrip("\0") for name in names)
)


@settings(max_examples=50 * EXAMPLES)
@given(NAMES)
def test_a_name_can_be_kept_where_json_and_databases_can_hold_it(name):
    keepable = "\0" not in name and not any(0xD800 <= ord(character) <= 0xDFFF for character in name)
    assert (fault(name) is None) == keepable
    assert set(faults(["a", name, "b"])) == (set() if keepable else {1})
    told = escaped(name)
    told.encode()
    assert len(told.splitlines()) <= 1
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in told)


def refused(names: list[str]) -> bool:
    """Whether there are names that cannot be kept."""
    return any(fault(name) is not None for name in names)


@settings(max_examples=25 * EXAMPLES)
@given(UNIQUE)
def test_vectors_keep_names_or_refuse_them(names):
    values = np.ones((len(names), 3), np.float32)
    if refused(names):
        with pytest.raises(InputError, match=r"ids should be UTF-8 text") as caught:
            VectorSet.from_arrays(values, ids=names)
        str(caught.value).encode()
        return
    made = VectorSet.from_arrays(values, ids=names, labels=names, templates=names, space=SPACE)
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / "v")
        found = VectorSet.load(Path(folder) / "v")
        np.savez(Path(folder) / "v.npz", vectors=values, ids=names, labels=names)
        bare = VectorSet.load(Path(folder) / "v.npz")
        write_json(Path(folder) / "n.json", {"names": names})
        assert read_json(Path(folder) / "n.json", "names")["names"] == names
    for one in (found, bare):
        assert one.ids.tolist() == names
        assert one.labels is not None and one.labels.tolist() == names  # noqa: PT018
        assert one.rows_of(names[::-1]).tolist() == list(range(len(names)))[::-1]


@settings(max_examples=25 * EXAMPLES)
@given(UNIQUE, st.booleans())
def test_arrays_keep_names_or_refuse_them(names, as_labels):
    images = np.zeros((len(names), 4, 4), np.uint8)
    given = {"labels": names} if as_labels else {"labels": list(range(len(names))), "ids": names}
    if refused(names):
        with pytest.raises(InputError, match="UTF-8 text without NUL"):
            ArraySource(images, **given)
        return
    found = ArraySource(images, **given)
    assert (sorted(found.classes) if as_labels else sorted(found.ids.tolist())) == sorted(names)


@settings(max_examples=25 * EXAMPLES)
@given(UNIQUE, st.lists(NAMES, min_size=6, max_size=6))
def test_a_listing_uses_or_names_every_image(names, classes):
    listing = Listing(
        "set", np.array(names), np.array(classes[: len(names)]), lambda row: PNG.getvalue(),
        lambda rows: [str(row).encode() for row in rows],
    )  # fmt: skip
    bad = [row for row in range(len(names)) if fault(str(listing.ids[row])) or fault(str(listing.classes[row]))]
    if bad:
        with pytest.raises(InputError) as caught:
            ListedSource(listing, workers=1)
        str(caught.value).encode()
    if len(bad) == len(names):
        return
    found = ListedSource(listing, broken="skip", workers=1)
    assert found.ids.tolist() == [name for row, name in enumerate(listing.ids.tolist()) if row not in bad]
    assert [name for name, reason in found.skipped if reason.startswith("its name")] == [
        escaped(str(listing.ids[row])) for row in bad
    ]
    assert len(found.load(np.arange(len(found)))) == len(found)


@settings(max_examples=10 * EXAMPLES)
@given(st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=3, unique=True))
def test_a_folder_of_files_with_any_bytes_in_their_names(raw):
    names = [name.replace(b"/", b"_").replace(b"\0", b"_") for name in raw]
    names = sorted({name for name in names if not name.startswith(b".")})
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            os.mkdir(os.fsencode(folder) + b"/" + name)
            for file in names:
                with open(os.fsencode(folder) + b"/" + name + b"/" + file + b".png", "wb") as image:
                    image.write(PNG.getvalue())
        fit = [name for name in names if fault(os.fsdecode(name)) is None]
        if not fit:
            with pytest.raises(InputError):
                open_source(Path(folder), broken="skip")
            return
        found = open_source(Path(folder), broken="skip")
        expected = {f"{os.fsdecode(name)}/{os.fsdecode(file)}.png" for name in fit for file in fit}
        assert set(found.ids.tolist()) == expected
        left = {name for name, reason in found.skipped if reason == "its name is not UTF-8"}  # type: ignore[attr-defined]
        assert len(left) == len(names) ** 2 - len(fit) ** 2


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    with Gallery.create(str(tmp_path_factory.mktemp("names") / "g"), SPACE) as made:
        yield made


@settings(max_examples=5 * EXAMPLES)
@given(names=UNIQUE)
def test_a_gallery_keeps_names_as_they_are(gallery, names):
    if refused(names):
        return
    values = np.random.default_rng(0).standard_normal((len(names), 3)).astype(np.float32)
    given = VectorSet.from_arrays(values, ids=names, labels=names, space=SPACE)
    try:
        stored = gallery.add(given)
        # one that an earlier example had added and removed is there again
        assert stored.added + stored.updated == len(names)
        found = gallery.search(given, k=1, where=(), count=False)
        assert [hits[0].item for hits in found.hits] == names
    finally:
        assert gallery.remove(names) == len(names)


def test_a_folder_unpacked_from_a_foreign_archive_is_told_before_the_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in (b"anna", b"m\xfcller", b"\xd6\xd0"):
        os.makedirs(b"im/" + name)
        for number in range(3):
            with open(b"im/" + name + b"/%d.png" % number, "wb") as image:
                image.write(PNG.getvalue())
    Embedder(EmbedderConfig("convnet16", 4, Preprocessing(size=8, channels=1)), name="m").save(tmp_path / "m")
    assert run(["data", "describe", "im"]) == 0
    told = capsys.readouterr().out
    assert "im/: 3 images of 1 class" in told
    assert "m\\xfcller/0.png: its name is not UTF-8" in told
    assert run(["embed", "m", "im", "--out", "v", "--quiet"]) == 2
    assert "m\\xfcller/0.png: its name is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "v").exists()
    assert run(["embed", "m", "im", "--out", "v", "--broken", "skip", "--quiet"]) == 0
    assert len(VectorSet.load("v")) == 3
    assert run(["gallery", "create", "g", "--model", "m", "--images", "im"]) == 0
    capsys.readouterr()
    assert run(["gallery", "add", "g", "--quiet"]) == 0
    assert "m\\xfcller/0.png: its name is not UTF-8" in capsys.readouterr().out


def test_classes_that_differ_in_case_or_unicode_form_are_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = [unicodedata.normalize("NFC", "José"), unicodedata.normalize("NFD", "José"), "josé", "anna"]
    for name in names:
        (tmp_path / "im" / name).mkdir(parents=True)
        (tmp_path / "im" / name / "0.png").write_bytes(PNG.getvalue())
    assert run(["data", "describe", "im", "--json", "d.json"]) == 0
    told = capsys.readouterr().out
    assert "4 images of 4 classes" in told
    assert "classes whose names look alike and are kept apart: 2, such as 'Jose\\u0301' and 'Jos\\xe9'" in told
    assert len(json.loads((tmp_path / "d.json").read_text())["look_alikes"]) == 2
