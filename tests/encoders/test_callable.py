"""Any function as an encoder, its canaries, and where an encoder is named on the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import samespace
from samespace.cli.main import run
from samespace.encoders import Encoder, as_image_model, from_callable, open_encoder
from samespace.errors import InputError, SpaceError
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed_rows
from samespace.vectors import VectorSet


def letters(texts: list[str]) -> list[list[float]]:
    return [[float(text.lower().count(letter)) + 0.1 for letter in "aeiou"] for text in texts]


def means(images: list[np.ndarray]) -> np.ndarray:
    return np.stack([image.reshape(3, -1)[:, :8].reshape(-1) / 255.0 + 0.1 for image in images])


def test_a_function_of_texts() -> None:
    encoder = from_callable(letters, name="letters", revision="1")
    assert isinstance(encoder, Encoder)
    assert (encoder.space.dim, encoder.space.normalized, encoder.modality) == (5, True, "text")
    texts = ["banana", "tree", "cucumber"]
    vectors = encoder.encode(texts, batch_size=2)
    expected = np.array(letters(texts))
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
    assert encoder.encode([]).shape == (0, 5)


def test_the_space_follows_name_and_revision() -> None:
    first = from_callable(letters, name="letters", revision="1").space
    assert first == from_callable(letters, name="letters", revision="1", dim=5).space
    assert first != from_callable(letters, name="letters", revision="2").space
    assert first != from_callable(letters, name="other", revision="1").space


def test_canaries_tell_a_changed_model(tmp_path: Path) -> None:
    file = tmp_path / "canaries.npz"
    first = from_callable(letters, name="letters", revision="1", canaries=file)
    noisy = from_callable(
        lambda texts: np.array(letters(texts)) * (1 + 1e-5), name="letters", revision="1", canaries=file
    )
    assert noisy.space == first.space == from_callable(letters, name="letters", revision="1").space
    with pytest.raises(SpaceError, match=r"letters 1 is no longer the model whose canaries .* holds: item \d"):
        from_callable(lambda texts: np.array(letters(texts))[:, ::-1], name="letters", revision="1", canaries=file)
    with pytest.raises(SpaceError, match="gives 4 dimensions, 5 when"):
        from_callable(lambda texts: np.array(letters(texts))[:, :4], name="letters", revision="1", canaries=file)
    with pytest.raises(InputError, match="canaries of other items"):
        from_callable(letters, name="letters", revision="1", canaries=file, canary_items=["mine"])
    file.write_bytes(b"no zip")
    with pytest.raises(InputError, match="cannot be read as"):
        from_callable(letters, name="letters", revision="1", canaries=file)


def test_what_a_function_must_not_give() -> None:
    def encoder(given: object) -> Encoder:
        return from_callable(lambda texts: given, name="bad", revision="1", dim=2)

    with pytest.raises(InputError, match=r"bad 1 gave vectors of shape \(1, 3\) for 1 items; expected \(1, 2\)"):
        encoder(np.ones((1, 3))).encode(["a"])
    with pytest.raises(InputError, match="NaN or infinity for item 0"):
        encoder([[np.nan, 1]]).encode(["a"])
    with pytest.raises(InputError, match="a vector of zeros for item 0"):
        encoder([[0, 0]]).encode(["a"])
    with pytest.raises(InputError, match="item 1 should be a string, got int"):
        encoder(np.ones((2, 2))).encode(["a", 3])
    with pytest.raises(InputError, match="items should be a list, got one text"):
        encoder(np.ones((1, 2))).encode("a")
    with pytest.raises(InputError, match="needs a revision"):
        from_callable(letters, name="letters", revision="")
    with pytest.raises(InputError, match="rows have no canaries"):
        from_callable(letters, name="letters", revision="1", modality="row")
    rows = from_callable(lambda rows: [[row["a"], 1] for row in rows], name="r", revision="1", modality="row", dim=2)
    assert rows.encode([{"a": 0}]).tolist() == [[0, 1]]


def test_an_embedder_is_an_encoder_of_paths_pictures_and_arrays(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Embedder(EmbedderConfig("convnet16", 8, Preprocessing(16, 3)), name="ours").eval()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    items = [tmp_path / "a" / "x.png", Image.fromarray(pixels), pixels.transpose(2, 0, 1)]
    assert isinstance(model, Encoder)
    vectors = model.encode(items, batch_size=2)
    source = samespace.open_source(tmp_path, image_size=16)
    np.testing.assert_allclose(vectors, np.repeat(embed_rows(model, source), 3, axis=0), atol=1e-6)
    assert as_image_model(model) is model
    (tmp_path / "bad.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"bad.png cannot be read as an image: not an image of a known kind"):
        model.encode([tmp_path / "bad.png"])
    with pytest.raises(InputError, match="image 0 should be a path, a PIL image or a uint8 array"):
        model.encode([np.zeros((16, 16))])


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a function that returns an encoder of images."""
    (tmp_path / "my_encoders.py").write_text(
        "import numpy as np\n"
        "from samespace.encoders import from_callable\n"
        "from samespace.models import Preprocessing\n"
        "def means(images):\n"
        "    return np.stack([image.reshape(3, -1)[:, :8].reshape(-1) / 255.0 + 0.1 for image in images])\n"
        "def service():\n"
        "    return from_callable(means, name='means', revision='1', modality='image', dim=24,\n"
        "                         preprocessing=Preprocessing(16, 3))\n"
        "def texts():\n"
        "    return from_callable(means, name='texts', revision='1', dim=24)\n"
        "def failing(images):\n"
        "    return images[0]['pixels']\n"
        "def broken():\n"
        "    return from_callable(failing, name='broken', revision='1', modality='image', dim=24)\n"
        "def offline():\n"
        "    raise ConnectionError('vendor.example does not answer')\n"
        "def nothing():\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_encoders", None)
    return "my_encoders:service"


def test_a_named_encoder_embeds_and_fills_a_gallery(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out, gallery = tmp_path / "images.npz", tmp_path / "vectors", tmp_path / "gallery"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 20, 18, 3), dtype=np.uint8)
    np.savez(images, images=pixels, labels=np.arange(12) % 3, ids=[f"i{row}" for row in range(12)])
    assert run(["embed", named, str(images), "--out", str(out), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["space"]["name"] == "means 1"
    vectors = VectorSet.load(out)
    expected = open_encoder(named).encode(list(pixels.transpose(0, 3, 1, 2)))
    np.testing.assert_array_equal(vectors.vectors, expected)
    assert run(["gallery", "create", str(gallery), "--model", named, "--images", str(images)]) == 0
    assert run(["gallery", "add", str(gallery), "--images", str(images)]) == 0
    capsys.readouterr()
    assert run(["gallery", "search", str(gallery), "--images", str(images), "-k", "1", "--json", "-"]) == 0
    answer = capsys.readouterr().out
    assert all(f"i{row}" in answer for row in range(12))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_encoders:texts", "takes items of modality 'text'; an encoder of images is needed here"),
        ("my_encoders:broken", "the function of broken 1 failed: IndexError: only integers"),
        ("my_encoders:broken", "my_encoders.py, line 12)"),
        ("my_encoders:offline", "called without arguments, failed: ConnectionError: vendor.example does not answer ("),
        ("my_encoders:means", "called without arguments, failed: TypeError: means() missing 1 required"),
        ("my_encoders:nothing", "returned a int; expected an encoder"),
        ("my_encoders:servise", "it has no 'servise'; did you mean 'service'"),
        ("no_such_module:encoder", "cannot be imported"),
        ("nothing/here", "is not a model folder"),
    ],
)
def test_a_name_that_is_no_encoder_of_images(
    named: str, name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", name, "glyphs:classes=2,images=2", "--out", str(tmp_path / "v")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "v").exists()
