"""Whatever is dropped, merged, passed over or changed is counted and named."""

from __future__ import annotations

import io
import json
import os
import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from samespace.cli.main import run
from samespace.data import FolderSource
from samespace.data.sources.kinds import ALWAYS, counted
from samespace.errors import InputError
from samespace.evaluate.equal_rows import equal_places
from samespace.metrics._arrays import look_alikes
from samespace.scoring.sides import SideVectors
from samespace.space import Space
from samespace.vectors import VectorSet

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(max_examples=25 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def encoded(kind: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (6, 4), colour: Any = 9) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind)
    return buffer.getvalue()


PICTURES = [encoded(), encoded("PNG"), encoded("GIF", "P")]
JUNK = [b"", b"text", PICTURES[0][:40]]
NAMES = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "", "", "."]),
    st.sampled_from(["a", "b", "Ä", "x y"]),
    st.sampled_from([".jpg", ".JPG", ".jfif", ".gif", ".Webp", ".heic", ".db", ".txt", "", ".tar.gz"]),
)
PATHS = st.lists(
    st.tuples(st.lists(st.sampled_from(["k", "l", ".git", "2023"]), max_size=3), NAMES).map(
        lambda p: "/".join([*p[0], p[1]])
    ),
    min_size=1,
    max_size=8,
    unique_by=str.casefold,
)


@many
@given(PATHS, st.randoms(use_true_random=False))
def test_every_file_of_a_folder_is_used_or_named(paths: list[str], random: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        written = []
        for path in paths:
            with suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                link = random.random() < 0.1
                if link:
                    (root / path).symlink_to(random.choice(["nowhere", Path(path).name, str(root)]))
                else:
                    (root / path).write_bytes(random.choice(PICTURES * 3 + JUNK))
                written.append(path)
        source = None
        with suppress(InputError):
            source = FolderSource(root, broken="skip", image_size=8)
        if source is None:
            return
        told = {*source.ids.tolist(), *(name for name, _ in (*source.skipped, *source.passed_over))}
        for path in written:
            parts = Path(path).parts
            beginnings = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
            # other files deep inside are told by the folder that holds them, a link to a folder by what is in it
            deep = tuple(["/".join(parts[:2])] * (len(parts) > 2) + [path + "/"])
            assert beginnings & told or any(name.startswith(deep) for name in told), (path, told)
        assert len(source) == len(source.load(range(len(source))))
        assert sum(kind.count for kind in counted(source.passed_over)) == len(source.passed_over)


@many
@given(st.data())
def test_items_without_ids_are_told_by_vector_and_label(data: Any) -> None:
    dim = data.draw(st.integers(1, 3))
    rows = st.tuples(st.integers(0, 2), st.tuples(*[st.sampled_from([-0.0, 0.0, 1.0, -1.0, 0.5])] * dim))
    asked, held = data.draw(st.lists(rows, min_size=1, max_size=8)), data.draw(st.lists(rows, min_size=1, max_size=8))

    def units(given_rows: list[Any]) -> SideVectors:
        values = np.array([vector for _, vector in given_rows], dtype=np.float32).reshape(len(given_rows), dim)
        return SideVectors(VectorSet.from_arrays(values), np.arange(len(values)))

    codes = [np.array([label for label, _ in part]) for part in (asked, held)]
    places, foreign = equal_places(units(asked), units(held), *codes)
    used: dict[Any, int] = {}
    for row, item in enumerate(asked):
        equal = [place for place, other in enumerate(held) if other == item]
        expected = equal[min(used.get(item, 0), len(equal) - 1)] if equal else -1
        used[item] = used.get(item, 0) + 1
        assert places[row] == expected
    assert foreign == sum(item not in held and item[1] in [other for _, other in held] for item in asked)


@many
@given(st.lists(st.text(alphabet="0aA7é \u0301", max_size=4), max_size=6))
def test_labels_that_look_alike_are_paired(names: list[str]) -> None:
    def form(name: str) -> str:
        text = " ".join(unicodedata.normalize("NFKC", name).casefold().split())
        return str(int(text)) if text.isdecimal() else text

    pairs = look_alikes(names)
    groups = {form(name): {other for other in names if form(other) == form(name)} for name in names}
    assert len(pairs) == sum(len(group) - 1 for group in groups.values())
    assert all(one != other and form(one) == form(other) for one, other in pairs)


def write(root: Path, **files: bytes) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two classes of images of several kinds, and other things among them."""
    root = tmp_path / "mixed"
    for k in "ab":
        files = {f"{k}/{name}": PICTURES[0] for name in ("0.jpg", "1.JPG", "2.jfif", "2023/3.jpg", "2023/4.jpg")}
        files |= {f"{k}/web.gif": PICTURES[2], f"{k}/Thumbs.db": b"x", f"{k}/.DS_Store": b"x"}
        write(root, **files)
    write(root, **{"lonely.png": PICTURES[1], "a/grey.png": encoded("PNG", "L"), "a/bad.jpg": b"nothing"})
    (root / "b" / "gone.jpg").symlink_to("nowhere.jpg")
    (root / "b" / "loop.jpg").symlink_to("loop.jpg")
    (root / "b" / "up").symlink_to(root)
    return root


PASSED_OVER = {
    "images in nested folders": 4,
    ".db files": 2,
    "hidden files and folders": 2,
    "images outside any class folder": 1,
    "links to folders, not followed": 1,
}


def test_describe_counts_files_by_kind(mixed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "describe", str(mixed), "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 9
    assert {kind["kind"]: kind["count"] for kind in told["passed_over"]} == PASSED_OVER
    assert {each["path"]: each["reason"] for each in told["skipped"]} == {
        "a/bad.jpg": "not an image of a known kind",
        "b/gone.jpg": "a link to nothing",
        "b/loop.jpg": "a link that leads in a circle",
    }
    assert told["changes"] == {"grey_to_rgb": 1}
    assert (told["seen"], told["sizes"]) == (9, {"different": 1, "smallest": [4, 6], "largest": [4, 6]})
    assert run(["data", "describe", str(mixed)]) == 0
    text = capsys.readouterr().out
    for line in (
        "left out, because they cannot be read: 3",
        "b/gone.jpg: a link to nothing",
        "passed over, because they are no images of the set: 10",
        "images in nested folders: 4, such as a/2023/3.jpg",
        "images grey, made RGB: 1",
    ):
        assert line in text


def test_allocate_counts_them_too(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "allocation.json")
    options = ["--kind", "extended-data", "--held-out", "0", "--broken", "skip", "--out", out]
    assert run(["data", "allocate", str(mixed), *options, "--json", "-"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {kind["kind"]: kind["count"] for kind in told["passed_over"]} == PASSED_OVER
    assert len(told["skipped"]) == 3
    assert run(["data", "allocate", str(mixed), *options]) == 0
    assert "images in nested folders: 4" in capsys.readouterr().out


@pytest.mark.parametrize("suffix", sorted(ALWAYS))
def test_suffixes_are_images_in_capitals_or_not(tmp_path: Path, suffix: str) -> None:
    write(tmp_path, **{f"a/1{suffix}": PICTURES[0], f"b/2{suffix.upper()}": PICTURES[1]})
    assert FolderSource(tmp_path).ids.tolist() == [f"a/1{suffix}", f"b/2{suffix.upper()}"]


def test_a_format_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, **{"a/1.jpg": PICTURES[0], "a/2.jxl": b"x", "b/3.jpg": PICTURES[0]})
    source = FolderSource(tmp_path)
    assert source.passed_over == (("a/2.jxl", ".jxl images, which the installed Pillow cannot read"),)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    write(tmp_path, **{"a/1.jpg": PICTURES[0], "b/2.jpg": PICTURES[0], "c/3.jpg": PICTURES[0]})
    (tmp_path / "a" / "1.jpg").chmod(0)
    (tmp_path / "b").chmod(0)
    try:
        source = FolderSource(tmp_path, broken="skip")
    finally:
        (tmp_path / "b").chmod(0o700)
    assert dict(source.skipped)["a/1.jpg"] == "Permission denied"
    assert dict(source.skipped)["b"] == "a class folder that cannot be read: Permission denied"


RECIPE = """\
data: {{source: {source}, broken: skip, channels: 3}}
model: {{backbone: convnet16, embedding_dim: 8, image_size: 16}}
optim: {{epochs: 1, batch_size: 8}}
run: {{device: cpu}}
"""


def test_train_embed_and_gallery_add_count_them(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(*arguments: str) -> tuple[dict[str, Any], str]:
        assert run([*arguments, "--json", "-"]) == 0
        captured = capsys.readouterr()
        return json.loads(captured.out), captured.err

    def counts(result: dict[str, Any]) -> dict[str, int]:
        return {kind["kind"]: kind["count"] for kind in result["passed_over"]}

    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(source=mixed))
    trained, spoken = told("train", str(recipe), "--out", str(tmp_path / "v1"))
    assert (len(trained["skipped"]), trained["changes"], trained["resized"]) == (3, {"grey_to_rgb": 1}, 9)
    assert counts(trained) == PASSED_OVER
    assert "images in nested folders: 4" in spoken
    assert "brought to 16x16 pixels, whatever their proportions: 9" in spoken
    embedded, _ = told(
        "embed", str(tmp_path / "v1"), str(mixed), "--broken", "skip", "--out", str(tmp_path / "vectors")
    )
    assert (embedded["count"], len(embedded["skipped"]), counts(embedded)) == (9, 3, PASSED_OVER)
    location = str(tmp_path / "gallery")
    assert run(["gallery", "create", location, "--model", str(tmp_path / "v1"), "--images", str(mixed)]) == 0
    capsys.readouterr()
    added, _ = told("gallery", "add", location)
    assert (added["added"], sorted(added["skipped"]), counts(added)) == (
        9,
        ["a/bad.jpg", "b/gone.jpg", "b/loop.jpg"],
        PASSED_OVER,
    )
    assert run(["gallery", "add", location]) == 0
    text = capsys.readouterr().out
    assert "left out, because they cannot be read: 3" in text
    assert "passed over, because they are no images of the set: 10" in text


def test_adding_vectors_that_differ_in_length_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = Space(weights="ab" * 32, preprocessing="plain", dim=3, normalized=False, name="plain")
    vectors = np.array([[1, 0, 0], [0, 2, 0]], dtype=np.float32)
    VectorSet.from_arrays(vectors, ids=["x", "y"], space=space).save(tmp_path / "vectors")
    location = str(tmp_path / "gallery")
    assert run(["gallery", "create", location, "--space", str(tmp_path / "vectors")]) == 0
    assert run(["gallery", "add", location, str(tmp_path / "vectors")]) == 0
    assert "differ in length, 1 to 2; a search here goes by cosine" in capsys.readouterr().out
