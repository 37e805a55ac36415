"""Encoded images of any mode, format, orientation and damage: right values, or refused by name."""

from __future__ import annotations

import io
import os
import struct
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from samespace.data.decoding.pixels import decode, header, look, prepare_pillow
from samespace.data.listed import ListedSource
from samespace.data.listing import Listing
from samespace.data.readable import UnreadableImages, load_readable
from samespace.data.sources.folder import FolderSource
from samespace.errors import InputError

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
many = settings(max_examples=25 * EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

# what can be written without loss in each mode
LOSSLESS = {
    "1": ("PNG", "BMP", "TIFF"),
    "L": ("PNG", "BMP", "TIFF", "GIF"),
    "P": ("PNG", "BMP", "TIFF", "GIF"),
    "LA": ("PNG", "TIFF"),
    "RGB": ("PNG", "BMP", "TIFF", "WEBP", "JPEG2000", "PPM"),
    "RGBA": ("PNG", "TIFF", "WEBP"),
    "CMYK": ("TIFF",),
    "I;16": ("PNG", "TIFF"),
    "I;16B": ("TIFF",),
    "I": ("TIFF",),
    "F": ("TIFF",),
}
BANDS = {"LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}
TURNS: dict[int, Any] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@st.composite
def pictures(draw: Any) -> tuple[Image.Image, str, np.ndarray | None]:
    """An image, a format, and its RGB values (H, W, 3) by their definition; None where it must be refused."""
    mode = draw(st.sampled_from(sorted(LOSSLESS)))
    kind = draw(st.sampled_from(LOSSLESS[mode]))
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if mode in ("I;16", "I;16B", "I"):
        top = draw(st.sampled_from([0, 200, 255, 256, 4095, 65535] + ([70000, 2**31 - 1] if mode == "I" else [])))
        low = draw(st.sampled_from([0, 0, -5])) if mode == "I" else 0
        values = rng.integers(low, top + 1, (height, width))
        dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
        image = Image.fromarray(values.astype(dtype))
        unknown = mode == "I" and (values.min() < 0 or 0 < values.max() <= 255 or values.max() > 65535)
        return image, kind, None if unknown else np.repeat((values // 256)[..., None], 3, axis=2)
    if mode == "F":
        return Image.fromarray(rng.random((height, width), dtype=np.float32)), kind, None
    shape = (height, width, BANDS[mode]) if mode in BANDS else (height, width)
    values = rng.integers(0, 256, shape, dtype=np.uint8)
    if mode == "1":
        values = (values > 127).astype(np.uint8) * 255
        return Image.fromarray(values).convert("1"), kind, np.repeat(values[..., None], 3, axis=2)
    if mode == "P":
        colours = rng.integers(0, 256, (256, 3), dtype=np.uint8)
        image = Image.fromarray(values)
        image.putpalette(colours.tobytes())
        rgb = colours[values].astype(int)
        if kind in ("PNG", "GIF") and draw(st.booleans()):
            clear = int(values[0, 0])
            image.info["transparency"] = clear
            rgb[values == clear] = 255
        return image, kind, rgb
    image = Image.frombytes(mode, (width, height), values.tobytes())
    data = values.astype(float)
    if mode == "CMYK":
        return image, kind, (255 - data[..., :3]) * (255 - data[..., 3:]) / 255
    if mode in ("LA", "RGBA"):
        share = data[..., -1:] / 255
        return image, kind, np.broadcast_to(data[..., :-1] * share + 255 * (1 - share), (height, width, 3))
    return image, kind, data if mode == "RGB" else np.repeat(data[..., None], 3, axis=2)


def written(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    lossless = {"WEBP": {"lossless": True, "exact": True}, "JPEG2000": {"irreversible": False}}.get(kind, {})
    extra = {"transparency": image.info["transparency"]} if "transparency" in image.info else {}
    image.save(buffer, kind, **lossless, **extra, **options)
    return buffer.getvalue()


def source_of(files: list[bytes], **options: Any) -> ListedSource:
    ids = np.array([f"image{row}" for row in range(len(files))])
    classes = np.arange(len(files)) % 2
    return ListedSource(Listing("made", ids, classes, files.__getitem__, lambda rows: []), **options)


@many
@given(pictures(), st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8]))
def test_values_are_those_of_the_definition(picture: Any, turn: int) -> None:
    prepare_pillow()
    image, kind, expected = picture
    exif = Image.Exif()
    exif[0x0112] = turn
    turned = kind in ("PNG", "TIFF", "WEBP") and turn > 1
    data = written(image, kind, **({"exif": exif} if turned else {}))
    if expected is None:
        for call in (look, decode):
            with pytest.raises(ValueError, match="do not say their range"):
                call(io.BytesIO(data), 3, *((None,) if call is decode else ()))
        return
    upright = TURNS[turn if turned else 1](np.asarray(expected, dtype=float))
    found = decode(io.BytesIO(data), 3, None).transpose(1, 2, 0)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() <= 1.01
    seen = look(io.BytesIO(data), 3)
    assert seen.size == upright.shape[:2] == header(io.BytesIO(data))
    assert ("turned_upright" in seen.changes) == turned
    grey = decode(io.BytesIO(data), 1, None)[0]
    assert np.abs(grey - upright @ [0.299, 0.587, 0.114]).max() <= 2
    source = source_of([data, data])
    assert source.changes == dict.fromkeys(seen.changes, 2)


ENTRY = st.tuples(
    st.sampled_from([0x0112, 0x011A, 0x0132, 0x8769, 0x8825, 0x010F]) | st.integers(0, 65535),
    st.integers(0, 14),
    st.integers(0, 3) | st.integers(0, 2**32 - 1),
    st.binary(min_size=4, max_size=4),
)


@st.composite
def exif_bytes(draw: Any) -> bytes:
    """EXIF with any tags of any types, some in no form at all."""
    if draw(st.integers(0, 4)) == 0:
        return b"Exif\0\0" * draw(st.booleans()) + draw(st.binary(max_size=60))
    order = draw(st.sampled_from("<>"))
    entries = draw(st.lists(ENTRY, max_size=5))
    if draw(st.booleans()):
        entries.append((0x0112, 3, 1, struct.pack(order + "HH", draw(st.integers(0, 10)), 0)))
    count = draw(st.sampled_from([len(entries), len(entries), len(entries) + 1, 65535]))
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(
        order + "I", draw(st.sampled_from([8, 8, 8, 7, 10**9]))
    )
    return b"Exif\0\0" + head + struct.pack(order + "H", count) + body + draw(st.binary(max_size=20))


HALF = np.zeros((8, 16, 3), np.uint8)
HALF[:, :8] = 255
HALF_JPEG = written(Image.fromarray(HALF), "JPEG", quality=95)


def with_exif(exif: bytes) -> bytes:
    return HALF_JPEG[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + HALF_JPEG[2:]


def exif_of(turn: int, *others: tuple[int, int, int, bytes], order: str = "<", tail: bytes = b"") -> bytes:
    entries = [(0x0112, 3, 1, struct.pack(order + "HH", turn, 0)), *others]
    body = b"".join(struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in entries)
    head = b"II*\0\x08\0\0\0" if order == "<" else b"MM\0*\0\0\0\x08"
    return b"Exif\0\0" + head + struct.pack(order + "H", len(entries)) + body + b"\0\0\0\0" + tail


@many
@given(exif_bytes())
@example(exif_of(6, (0x011A, 2, 4, b"abc\0")))
@example(exif_of(6, (0x0132, 5, 1, struct.pack("<I", 38)), tail=struct.pack("<II", 72, 1)))
def test_exif_of_any_form_is_no_error(exif: bytes) -> None:
    prepare_pillow()
    data = with_exif(exif)
    found = decode(io.BytesIO(data), 3, None)
    plain = decode(io.BytesIO(HALF_JPEG), 3, None).transpose(1, 2, 0)
    assert any(np.array_equal(found.transpose(1, 2, 0), turn(plain)) for turn in TURNS.values())
    assert header(io.BytesIO(data)) == found.shape[1:]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_read_beside_tags_that_cannot_be_written(turn: int, order: str) -> None:
    rational = struct.pack(order + "I", 38)
    for others in ([(0x011A, 2, 4, b"abc\0")], [(0x0132, 5, 1, rational)]):
        data = with_exif(exif_of(turn, *others, order=order, tail=struct.pack(order + "II", 72, 1)))
        plain = decode(io.BytesIO(HALF_JPEG), 3, None).transpose(1, 2, 0)
        assert np.array_equal(decode(io.BytesIO(data), 3, None).transpose(1, 2, 0), TURNS[turn](plain))


FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "JPEG2000", "AVIF", "PPM", "TGA", "ICO", "EPS")


@st.composite
def damaged(draw: Any) -> bytes:
    """A file of any format, cut or with some bytes changed."""
    kind = draw(st.sampled_from([*FORMATS[:8]] * 3 + [*FORMATS[:-1]]))
    noise = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - noise)]}
    data = bytearray(written(Image.fromarray(noise), kind, **(frames if kind in ("GIF", "TIFF", "WEBP") else {})))
    for place, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
        data[place] = value
    end = draw(st.none() | st.integers(0, len(data)))
    return bytes(data[:end])


@many
@given(st.lists(damaged(), min_size=1, max_size=3), st.sampled_from([0, 2**30]))
def test_damage_is_refused_by_name_or_counted(files: list[bytes], budget: int) -> None:
    try:
        source = source_of(files, broken="skip", image_size=8, budget=budget)
    except InputError as error:
        message = str(error)
        source = None
    if source is None:
        assert message.startswith(f"none of the {len(files)} images in made can be read; the first, image0: ")
        assert "\n" not in message
        return
    skipped = [name for name, _ in source.skipped if name.startswith("image")]
    assert sorted([*source.ids, *skipped]) == sorted(f"image{row}" for row in range(len(files)))
    assert source.seen == len(source)
    for row in range(len(source)):
        with suppress(UnreadableImages) if budget == 0 else nullcontext():
            assert source.load([row]).shape == (1, 3, 8, 8)


NOISE = [
    written(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)), "JPEG")
    for seed in range(8)
]


def spoilt(data: bytes) -> bytes:
    """A JPEG that looks whole, its end in place, and cannot be decoded."""
    return data[:20] + b"\0" + data[21:]


@many
@given(st.lists(st.booleans(), min_size=2, max_size=8), st.lists(st.integers(0, 7), max_size=6), st.booleans())
def test_what_only_decoding_shows_to_be_damaged_is_replaced_within_its_class(
    broken: list[bool], asked: list[int], skip: bool
) -> None:
    files = [spoilt(data) if bad else data for data, bad in zip(NOISE, broken, strict=False)]
    source = source_of(files, broken="skip" if skip else "refuse", image_size=8, budget=0)
    assert len(source) == len(files)
    rows = [row % len(files) for row in asked]
    lost = [row for row in rows if broken[row]]
    if lost and (not skip or all(broken)):
        with pytest.raises(InputError, match=r"none of the|cannot be read"):
            load_readable(source, rows)
        return
    read = load_readable(source, rows)
    assert sorted(missing.row for missing in read.unreadable.values()) == sorted(lost)
    for place, row in enumerate(rows):
        taken = row
        if broken[row]:
            turn = [(row + step) % len(files) for step in range(1, len(files))]
            good = [other for other in turn if not broken[other]]
            taken = next((other for other in good if (other - row) % 2 == 0), good[0])
        assert read.rows[place] == taken
        assert (read.images[place].numpy() == decode(io.BytesIO(NOISE[taken]), 3, (8, 8))).all()


@pytest.mark.parametrize("budget", [0, 2**30])
@pytest.mark.parametrize(
    "data",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n",
        written(Image.fromarray(HALF), "ICO"),
        written(Image.fromarray(HALF), "PCX"),
    ],
    ids=["EPS", "ICO", "PCX"],
)
def test_a_file_of_another_kind_is_refused_whatever_it_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, budget: int
) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("PostScript was run"))
    for name, content in (("0.jpg", HALF_JPEG), ("1.png", data)):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(InputError, match=r"a/1\.png: not an image of a known kind"):
        FolderSource(tmp_path, image_size=8, budget=budget)
    assert FolderSource(tmp_path, image_size=8, broken="skip", budget=budget).ids.tolist() == ["a/0.jpg"]


def test_no_warning_or_library_message_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    files = []
    for kind, options in (
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "jpeg"}),
        ("JPEG", {}),
        ("PNG", {}),
    ):
        data = written(noise, kind, **options)
        files += [data, data[: len(data) // 2], data[:-40], data.replace(data[60:64], b"\xff\xff\xff\xff", 1)]
    files += [with_exif(b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff" * 3), b"", b"\0" * 100]
    for budget in (0, 2**30):
        source = source_of(files, broken="skip", image_size=16, budget=budget)
        assert len(source.skipped) >= 6
    assert capfd.readouterr() == ("", "")


def test_a_transparent_colour_of_a_png_is_read_at_its_own_depth() -> None:
    def png(depth: int, colour: int, row: bytes, key: bytes) -> bytes:
        import zlib

        def chunk(name: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        head = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
        parts = [(b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    cases = {
        1: (png(1, 0, b"\x00", b"\0\0"), [255, 255]),
        2: (png(2, 0, bytes([0b01100000]), b"\0\1"), [255, 170]),
        4: (png(4, 0, bytes([0x5A]), b"\0\5"), [255, 170]),
        8: (png(8, 0, bytes([85, 170]), b"\0\x55"), [255, 170]),
        16: (png(16, 0, bytes([0x55, 0x01, 0x55, 0x02]), b"\x55\1"), [255, 0x55]),
        48: (png(16, 2, bytes([16, 1] * 3 + [32, 1] * 3), bytes([16, 1] * 3)), [255, 32]),
    }
    for depth, (data, expected) in cases.items():
        assert decode(io.BytesIO(data), 1, None).ravel().tolist() == expected, depth


def test_sixteen_bit_tiff_that_counts_from_white_and_of_twelve_bits() -> None:
    buffer = io.BytesIO()
    values = np.array([[0, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo={262: 0})
    assert decode(buffer, 1, None).tolist() == [[[255, 0]]]
    # two values of 12 bits in three bytes: 0x000 and 0xFFF
    tags = [(256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8),
            (277, 3, 1, 1),
            (278, 4, 1, 1), (279, 4, 1, 3)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    data = b"II*\0" + struct.pack("<I", 12) + b"\x00\x0f\xff\0" + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    assert decode(io.BytesIO(data), 1, None).tolist() == [[[0, 255]]]


def test_more_than_eight_bits_in_each_form() -> None:
    ramp = np.linspace(0, 65535, 8).astype(np.uint16)[None]
    for kind in ("PNG", "TIFF"):
        found = decode(io.BytesIO(written(Image.fromarray(ramp), kind)), 1, None)
        assert found.ravel().tolist() == (ramp // 256).ravel().tolist()
    wide = io.BytesIO(written(Image.fromarray(ramp.astype(np.int32)), "TIFF"))
    assert decode(wide, 1, None).ravel().tolist() == (ramp // 256).ravel().tolist()
    eight = np.linspace(0, 255, 8).astype(np.int32)[None]
    with pytest.raises(ValueError, match="32-bit pixels from 0 to 255 do not say their range"):
        decode(io.BytesIO(written(Image.fromarray(eight), "TIFF")), 1, None)


def test_the_first_of_several_frames_is_taken_and_counted() -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ((250, 10, 10), (10, 250, 10))]
    more = {"save_all": True, "append_images": frames[1:]}
    files = [written(frames[0], kind, **more) for kind in ("GIF", "TIFF", "WEBP", "PNG")]
    source = source_of(files)
    assert source.changes == {"first_frame": 4}
    for image in source.load(range(4)).numpy():
        assert image[0].min() > 240
        assert image[1:].max() < 20


def test_too_many_pixels_are_refused_by_name() -> None:
    head = b"P5 30000 30000 255\n"
    source = source_of([head + b"\0" * 10, HALF_JPEG, HALF_JPEG], broken="skip")
    assert dict(source.skipped)["image0"] == "more than 178,956,970 pixels, which is too many to decode"
    assert source.ids.tolist() == ["image1", "image2"]


def test_a_tiff_that_is_turned_has_its_upright_size_everywhere() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = written(Image.fromarray(HALF), "TIFF", exif=exif)
    assert header(io.BytesIO(data)) == (16, 8)
    for budget in (0, 2**30):
        source = source_of([data, data], budget=budget)
        assert source.load([0]).shape == (1, 3, 16, 8)
        assert source.changes == {"turned_upright": 2}
