from __future__ import annotations

import io
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from samespace.data.decoding import jpeg, pixels
from samespace.data.decoding.fit import Fit

simplejpeg = pytest.importorskip("simplejpeg")
EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
FITS = [None, Fit(16, 16), Fit(40, 24), Fit(24, 24, "shorter", "centre", 0.875), Fit(20, 20, "letterbox")]


@st.composite
def files(draw):
    """The bytes of a JPEG, whole or damaged, and how it is asked for."""
    height, width = draw(st.integers(1, 150)), draw(st.integers(1, 150))
    mode = draw(st.sampled_from(["RGB", "RGB", "L", "CMYK"]))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    coarse = random.integers(0, 256, (5, 5, len(Image.new(mode, (1, 1)).getbands())), dtype=np.uint8)
    image = Image.fromarray(coarse.squeeze(-1) if mode == "L" else coarse, mode).resize((width, height))
    turned = Image.Exif()
    turned[pixels.ORIENTATION] = draw(st.integers(1, 8))
    options = {"exif": turned} if draw(st.integers(0, 4)) == 0 else {}
    if mode != "L":
        options["subsampling"] = draw(st.integers(0, 2))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=draw(st.integers(5, 100)), progressive=draw(st.booleans()), **options)
    data = bytearray(written.getvalue())
    damage = draw(st.sampled_from(["none", "none", "cut", "byte"]))
    if damage == "cut":
        del data[draw(st.integers(0, len(data))) :]
    elif damage == "byte":
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data), draw(st.sampled_from([1, 3])), draw(st.sampled_from(FITS))


def outcome(data, channels, fit):
    try:
        made, seen = pixels.read(io.BytesIO(data), channels, fit)
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        return type(error), str(error).split(" at 0x")[0]
    return made.tobytes(), made.shape, seen


@settings(max_examples=150 * EXAMPLES, deadline=None)
@given(files())
def test_an_image_is_the_same_with_and_without_simplejpeg(case):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jpeg, "_simplejpeg", lambda: None)
        expected = outcome(*case)
    assert outcome(*case) == expected


def test_an_ordinary_jpeg_does_not_reach_pillow(tmp_path, monkeypatch):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8))
    image.save(tmp_path / "a.jpg")
    expected = np.asarray(Image.open(tmp_path / "a.jpg")).transpose(2, 0, 1)
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(pixels.decode(tmp_path / "a.jpg", 3, None), expected)
