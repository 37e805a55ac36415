from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from samespace.data import Allocation, ImageSource, ListedSource, allocate, open_source
from samespace.data.sources.recordio import record_listing
from samespace.data.sources.records import RecordFile, read_index
from samespace.errors import InputError

MAGIC = struct.pack("<I", 0xCED7230A)


def opened(path: Path, **options: object) -> ListedSource:
    return ListedSource(record_listing(path), **options)  # type: ignore[arg-type]


def refusal(path: Path, **options: object) -> str:
    with pytest.raises(InputError) as caught:
        opened(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def skipped(path: Path, **options: object) -> list[tuple[str, str]]:
    return list(opened(path, broken="skip", **options).skipped)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("budget", [0, 2**20])
def test_a_published_face_set_gives_its_images_and_first_labels(tmp_path, write_faces, decoded, kind, budget):
    images = write_faces(tmp_path, (2, 3), kind=kind)
    source = opened(tmp_path, budget=budget)
    assert isinstance(source, ImageSource)
    assert source.ids.tolist() == ["1", "2", "3", "4", "5"]
    assert source.labels.tolist() == [0, 0, 1, 1, 1]
    assert source.classes == ("0", "1")
    assert source.image_shape == (3, 8, 8)
    assert source.skipped == ()
    expected = np.stack([decoded(image) for image in images])
    np.testing.assert_array_equal(source.load(range(5)).numpy(), expected)
    np.testing.assert_array_equal(source.load([3, 0]).numpy(), expected[[3, 0]])


def test_records_of_one_label_without_ranges_are_all_images(tmp_path, write_recordio, picture):
    write_recordio(tmp_path / "some.rec", [(7, 20.0, picture(0)), (3, 100.0, picture(1)), (5, 3.0, picture(2))])
    source = open_source(str(tmp_path / "some.rec"))
    assert source.ids.tolist() == ["7", "3", "5"]
    assert source.classes == ("3", "20", "100")
    assert source.labels.tolist() == [1, 2, 0]


def test_without_an_index_the_file_is_read_through(tmp_path, write_faces):
    write_faces(tmp_path / "with")
    write_faces(tmp_path / "without", index=False)
    with_index, without = opened(tmp_path / "with"), opened(tmp_path / "without")
    assert without.ids.tolist() == with_index.ids.tolist()
    assert torch.equal(without.load(range(5)), with_index.load(range(5)))
    assert without.fingerprint() == with_index.fingerprint()


def test_a_folder_needs_one_record_file(tmp_path, write_recordio, picture):
    assert "holds no .rec file; expected train.rec" in refusal(tmp_path)
    write_recordio(tmp_path / "val.rec", [(0, 1.0, picture(0))])
    assert len(opened(tmp_path)) == 1
    write_recordio(tmp_path / "test.rec", [(0, 1.0, picture(0)), (1, 1.0, picture(0))])
    assert "holds 2 .rec files; name one" in refusal(tmp_path)
    write_recordio(tmp_path / "train.rec", [(key, 1.0, picture(0)) for key in range(3)])
    assert len(opened(tmp_path)) == 3
    assert "does not exist" in refusal(tmp_path / "absent.rec")
    (tmp_path / "empty.rec").write_bytes(b"")
    assert "is empty" in refusal(tmp_path / "empty.rec")


def bitmap_with_magic() -> bytes:
    """A BMP whose pixels hold the magic number many times; its pixels begin at byte 54."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "BMP")
    held = bytearray(file.getvalue())
    for at in (60, 64, 100, len(held) - 4):  # with a payload head of 24 bytes these are multiples of four
        held[at : at + 4] = MAGIC
    return bytes(held)


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("budget", [0, 2**20])
def test_payloads_cut_at_the_magic_number_are_joined(tmp_path, write_recordio, picture, decoded, index, budget):
    image = bitmap_with_magic()
    records = [(0, 4.0, picture(0)), (1, (2.0, 9.0), image), (2, 4.0, picture(2))]
    write_recordio(tmp_path / "train.rec", records, index=index)
    assert (tmp_path / "train.rec").read_bytes().count(MAGIC) == 3 + 4  # heads; each cut leaves only the next head
    source = opened(tmp_path, budget=budget)
    assert source.classes == ("2", "4")
    np.testing.assert_array_equal(source.load([1])[0].numpy(), decoded(image))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    payloads=st.lists(
        st.lists(st.one_of(st.just(MAGIC), st.binary(max_size=9)), max_size=6).map(b"".join), min_size=1, max_size=4
    )
)
def test_any_payload_comes_back_byte_for_byte(tmp_path, frame, payloads):
    path = tmp_path / "any.rec"
    path.unlink(missing_ok=True)
    path.write_bytes(b"".join(map(frame, payloads)))
    file = RecordFile(path)
    offsets, problem = file.scan()
    assert problem is None
    assert [file.payload(int(offset)) for offset in offsets] == payloads


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(cut=st.integers(1, 10_000), flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=3))
@pytest.mark.parametrize("index", [True, False])
def test_damage_ends_in_one_line_or_in_a_whole_set(tmp_path, write_faces, cut, flips, index):
    write_faces(tmp_path, (1, 2), index=index)
    (tmp_path / "property").unlink()
    path = tmp_path / "train.rec"
    data = bytearray(path.read_bytes())
    for at, value in flips:
        data[at % len(data)] = value
    path.unlink()
    path.write_bytes(bytes(data[: max(1, len(data) - cut % len(data))]))
    for broken in ("refuse", "skip"):
        try:
            source = opened(tmp_path, broken=broken, image_size=8)
        except InputError as error:
            line = str(error)
        else:
            line = ""
            assert source.load(range(len(source))).shape == (len(source), 3, 8, 8)
        assert "\n" not in line


def cut_to(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:size])


@pytest.mark.parametrize("index", [True, False])
def test_a_truncated_file_is_refused_or_its_whole_records_are_kept(tmp_path, write_recordio, picture, index):
    path = tmp_path / "train.rec"
    records = [(0, (4, 4), b""), (1, 0.0, picture(1)), (2, 1.0, picture(2)), (3, 1.0, picture(3))]
    offsets = write_recordio(path, records, index=index)
    cut_to(path, offsets[2] + 30)
    line = refusal(tmp_path)
    assert "cut short" in line
    assert "--broken skip" in line
    source = opened(tmp_path, broken="skip")
    assert source.ids.tolist() == ["1"]
    reasons = dict(source.skipped)
    if index:
        assert "cut short" in reasons["record 2"]
        assert f"byte {offsets[3]} lies past the end" in reasons["record 3"]
    else:
        assert "cut short" in reasons["after record 1"]
        assert reasons[str(path)] == "2 of the 3 images are in no record"


def test_an_index_that_points_elsewhere_is_caught_record_by_record(tmp_path, write_recordio, picture):
    path = tmp_path / "train.rec"
    offsets = write_recordio(path, [(key, float(key), picture(key)) for key in range(5)])
    places = {0: offsets[0], 1: 10**9, 2: offsets[2] + 4, 3: offsets[3] + 1, 4: -8}
    path.with_suffix(".idx").write_text("".join(f"{key}\t{place}\n" for key, place in places.items()))
    assert "holds 4 that cannot be used" in refusal(tmp_path)
    source = opened(tmp_path, broken="skip")
    assert source.ids.tolist() == ["0"]
    reasons = dict(source.skipped)
    assert "past the end of the file" in reasons["record 1"]
    assert "wrong magic number" in reasons["record 2"]
    assert "cannot be the start" in reasons["record 3"]
    assert "cannot be the start" in reasons["record 4"]


def test_an_index_into_the_middle_of_a_record_is_caught(tmp_path, write_recordio, picture, frame):
    path = tmp_path / "train.rec"
    image = bitmap_with_magic()
    offsets = write_recordio(path, [(0, 0.0, picture(0)), (1, 1.0, image)])
    inside = path.read_bytes().index(MAGIC, offsets[1] + 4)
    path.with_suffix(".idx").write_text(f"0\t0\n1\t{inside}\n")
    assert "in the middle of a record" in dict(skipped(tmp_path))["record 1"]


def test_a_bad_magic_number_without_an_index_ends_the_search(tmp_path, write_recordio, picture):
    path = tmp_path / "train.rec"
    offsets = write_recordio(path, [(key, float(key), picture(key)) for key in range(4)], index=False)
    data = bytearray(path.read_bytes())
    data[offsets[2]] ^= 1
    path.write_bytes(bytes(data))
    assert "after record 1: no record begins at byte" in refusal(tmp_path)
    assert opened(tmp_path, broken="skip").ids.tolist() == ["0", "1"]
    path.write_bytes(b"PK\x03\x04 a zip archive, say, of some length")
    assert "is not RecordIO: no record begins at byte 0 (wrong magic number)" in refusal(tmp_path)


@pytest.mark.parametrize("budget", [0, 2**20])
@pytest.mark.parametrize("image_size", [None, 8])
def test_payloads_that_are_no_whole_image_are_named(tmp_path, write_recordio, picture, budget, image_size):
    jpeg = picture(3, "JPEG", (64, 64))
    records = [
        (0, 0.0, picture(0, "JPEG", (64, 64))),
        (1, 1.0, b"not a picture, but long enough to be one"),
        (2, 1.0, b""),
        (3, 1.0, jpeg[: len(jpeg) // 2]),
        (4, 1.0, b"\xff\xd8"),
        (5, 0.0, picture(5, "PNG", (64, 64))),
        (6, 0.0, picture(6, "WEBP", (64, 64))),
    ]
    write_recordio(tmp_path / "train.rec", records)
    options = {"budget": budget, "image_size": image_size}
    assert "record 2: holds no image" in refusal(tmp_path, **options)
    source = opened(tmp_path, broken="skip", **options)
    assert source.ids.tolist() == ["0", "5", "6"]
    reasons = dict(source.skipped)
    assert set(reasons) == {"record 1", "record 2", "record 3", "record 4", "class 1"}
    assert reasons["record 1"] == "not an image of a known kind"
    assert "truncated" in reasons["record 3"]
    assert reasons["class 1"] == "a class whose images are all broken"
    assert len(source.load([0, 1, 2])) == 3


def test_labels_must_be_exact_whole_numbers(tmp_path, write_recordio, picture):
    labels = {0: 3.0, 1: 0.5, 2: float("nan"), 3: float("inf"), 4: 2.0**24, 5: 2.0**24 - 1}
    write_recordio(tmp_path / "train.rec", [(key, label, picture(key)) for key, label in labels.items()])
    assert "record 1: label 0.5 is no whole number below 2^24" in refusal(tmp_path)
    source = opened(tmp_path, broken="skip")
    assert source.classes == ("3", "16777215")
    assert [name for name, _ in source.skipped] == [f"record {key}" for key in (1, 2, 3, 4)]


def test_more_labels_than_bytes_are_refused(tmp_path, write_recordio, picture, frame):
    write_recordio(tmp_path / "train.rec", [(0, 0.0, picture(0))])
    short = frame(b"abc")
    promised = frame(struct.pack("<IfQQ", 2**30, 0, 1, 0) + b"xxxx")
    path = tmp_path / "train.rec"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + short + promised)
    path.with_suffix(".idx").write_text(f"0\t0\n1\t{size}\n2\t{size + len(short)}\n")
    reasons = dict(skipped(tmp_path))
    assert "3 bytes are too few" in reasons["record 1"]
    assert "1073741824 labels do not fit" in reasons["record 2"]


def test_record_zero_must_give_a_usable_range(tmp_path, write_recordio, picture):
    path = tmp_path / "train.rec"
    write_recordio(path, [(0, (4.0, 5.0), b""), (1, 0.0, picture(1)), (3, 1.0, picture(3)), (4, (1.0, 4.0), b"")])
    assert "1 of the 3 images are in no record" in refusal(tmp_path)
    assert opened(tmp_path, broken="skip").ids.tolist() == ["1", "3"]
    for first in (0.0, -3.0, float("nan")):
        write_recordio(path, [(0, (first, 5.0), b""), (1, 0.0, picture(1))])
        assert "first key after the images" in refusal(tmp_path)
    write_recordio(path, [(0, (1.0, 1.0), b"")])
    assert "holds no image" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no records"),
        ("0\t0\n\n1 12\n", r"line 3 is '1 12'; expected KEY, a tab and OFFSET"),
        ("0\t0\n1\ttwelve\n", "line 2 is"),
        ("0\t0\n1\t\n", "line 2 is"),
        ("0\t0\n1\t4\t5\n", "line 2 is"),
        ("0\t0\n1\t4\n1\t8\n", "gives key 1 2 times"),
    ],
)
def test_an_unusable_index_is_refused_by_line(tmp_path, text, message):
    path = tmp_path / "train.idx"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_index(path)
    assert "\n" not in str(caught.value)


def test_an_index_reads_as_it_was_written(tmp_path):
    (tmp_path / "i.idx").write_text("5179510\t26843545600\r\n2\t8")
    keys, offsets = read_index(tmp_path / "i.idx")
    assert (keys.tolist(), offsets.tolist()) == ([5179510, 2], [26843545600, 8])


def test_property_gives_the_size_and_is_checked(tmp_path, write_faces, write_recordio, picture):
    write_faces(tmp_path)
    (tmp_path / "property").write_text("2,16,12\n")
    assert opened(tmp_path).image_shape == (3, 16, 12)
    assert opened(tmp_path, image_size=4).image_shape == (3, 4, 4)
    (tmp_path / "property").write_text("1,8,8")
    assert "go up to 1, but" in refusal(tmp_path)
    (tmp_path / "property").write_text("many,8,8")
    assert "expected classes,height,width" in refusal(tmp_path)
    write_recordio(tmp_path / "bare" / "train.rec", [(0, 0.0, picture(0)), (1, 0.0, picture(1, "PNG", (9, 8)))])
    assert "differ in size" in refusal(tmp_path / "bare")


def test_a_file_that_shrinks_while_in_use_is_refused(tmp_path, write_faces, monkeypatch):
    write_faces(tmp_path)
    source = opened(tmp_path, budget=0)
    monkeypatch.setattr(source._listing.read.args[0], "size", 10**9)
    with pytest.raises(InputError, match=r"^record 1 of .* cannot be read \(.*has been changed while it was read"):
        source.load([0])


def test_the_fingerprint_follows_labels_and_pixels_but_not_size_or_times(tmp_path, write_recordio, picture):
    def write(name: str, records: list[tuple[int, float, bytes]]) -> ListedSource:
        write_recordio(tmp_path / name / "train.rec", records)
        return opened(tmp_path / name)

    records = [(key, float(key % 2), picture(key, "BMP")) for key in range(4)]
    first = write("a", records).fingerprint()
    assert write("b", records).fingerprint() == first
    assert opened(tmp_path / "a", image_size=4, channels=1).fingerprint() == first
    assert write("c", [*records[:3], (3, 0.0, records[3][2])]).fingerprint() != first
    assert write("d", [*records[:3], (3, 1.0, picture(9, "BMP"))]).fingerprint() != first


def test_an_allocation_fits_the_same_records_at_every_size(tmp_path, write_faces):
    write_faces(tmp_path, (4, 4, 4))
    small = opened(tmp_path, image_size=4)
    allocate(small, "open-data").save(tmp_path / "split.json", small)
    again = Allocation.load(tmp_path / "split.json", opened(tmp_path, image_size=16))
    assert len(again.rows("old")) + len(again.rows("new")) == 12


def test_many_threads_read_the_same_as_one(tmp_path, write_faces):
    write_faces(tmp_path, (8, 8))
    source = opened(tmp_path, budget=0)
    rows = [np.random.default_rng(seed).integers(0, 16, 5) for seed in range(8)]
    expected = [source.load(row) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        assert all(torch.equal(a, b) for a, b in zip(pool.map(source.load, rows), expected, strict=True))
