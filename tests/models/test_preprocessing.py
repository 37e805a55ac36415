"""Preprocessing: one canonical text for each way, sizes to the pixel, and the same in reader, network and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from samespace.cli.main import run
from samespace.data import Fit, open_for_model
from samespace.errors import InputError
from samespace.models import Embedder, Preprocessing
from samespace.train import parse_recipe
from samespace.vectors import VectorSet

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_what_was_written_before_stays_the_same_text() -> None:
    plain = Preprocessing(size=32, channels=1)
    assert plain.describe() == '{"channels": 1, "mean": 0.5, "resize": "bilinear-antialias", "size": 32, "std": 0.5}'
    assert plain.to_dict() == {"size": 32, "channels": 1, "mean": 0.5, "std": 0.5}


def test_two_ways_to_write_one_thing_are_one_space_and_everything_else_is_another() -> None:
    plain = Preprocessing(size=32, channels=3)
    assert plain == Preprocessing(size=(32, 32), channels=3, mean=(0.5, 0.5, 0.5), std=[0.5] * 3)  # type: ignore[arg-type]
    others = [
        Preprocessing((32, 16), 3),
        Preprocessing((16, 32), 3),
        Preprocessing(32, 3, MEAN, STD),
        Preprocessing(32, 3, MEAN),
        Preprocessing(32, 3, interpolation="bicubic"),
        Preprocessing(32, 3, antialias=False),
        Preprocessing(32, 3, resize_mode="letterbox"),
        Preprocessing(32, 3, resize_mode="letterbox", fill=0.5),
        Preprocessing(32, 3, crop_mode="centre", crop_share=0.8),
        Preprocessing(32, 3, resize_mode="shorter", crop_mode="centre"),
        Preprocessing(32, 3, resize_mode="shorter", crop_mode="centre", crop_share=0.8),
    ]
    texts = {one.describe() for one in (plain, *others)}
    assert len(texts) == len(others) + 1
    for one in others:
        assert Preprocessing(**one.to_dict()) == one


def test_mean_and_std_are_of_each_channel() -> None:
    images = torch.randint(0, 256, (2, 3, 16, 8), dtype=torch.uint8)
    prepared = Preprocessing((16, 8), 3, MEAN, STD)(images)
    for channel in range(3):
        expected = (images[:, channel].float() / 255 - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(prepared[:, channel], expected)


@pytest.mark.parametrize(
    ("fit", "size", "plan"),
    [
        # as torchvision's Resize(256) and CenterCrop(224) do
        (Fit(224, 224, "shorter", "centre", 0.875), (480, 640), ((256, 341), (16, 58))),
        (Fit(224, 224, "shorter", "centre", 0.875), (333, 250), ((340, 256), (58, 16))),
        (Fit(256, 128, "shorter", "centre"), (300, 300), ((256, 256), (0, 64))),
        (Fit(256, 128), (300, 300), ((256, 128), (0, 0))),
        (Fit(100, 100, "exact", "centre", 0.8), (50, 70), ((125, 125), (12, 12))),
        (Fit(256, 128, "letterbox"), (300, 300), ((128, 128), (-64, 0))),
        (Fit(10, 10, "letterbox"), (100, 71), ((10, 7), (0, -1))),
    ],
)
def test_sizes_and_offsets(fit: Fit, size: tuple[int, int], plan: object) -> None:
    assert fit.plan(size) == plan


@pytest.mark.parametrize(
    "fit",
    [
        Fit(32, 16),
        Fit(32, 16, "shorter", "centre", 0.8),
        Fit(16, 32, "letterbox", fill=0.5),
        Fit(24, 24, "exact", "centre", 0.75, "bicubic"),
        Fit(24, 24, interpolation="nearest"),
        Fit(24, 24, antialias=False),
    ],
    ids=str,
)
def test_reader_and_tensor_agree_to_rounding(fit: Fit, tmp_path: Path) -> None:
    down, right = np.mgrid[:61, :47] / 61
    smooth = np.stack([down, right, np.sin(5 * down + 3 * right) / 2 + 0.5], axis=2)
    pixels = (smooth * 255).astype(np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "x.png")
    read = open_for_model(tmp_path, fit).load([0])
    assert read.shape == (1, 3, *fit.size)
    np.savez(tmp_path / "x.npz", images=pixels[None], labels=[0])
    assert torch.equal(open_for_model(tmp_path / "x.npz", fit).load([0]), read)
    unit = fit.apply(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    difference = (unit * 255 - read.float()).abs()
    # Pillow's bicubic kernel is another than torch's without antialiasing; rounding is at most one step a pass
    assert difference.max() <= 2.5, difference.max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (32, 16, 3)}, "image_size must be a side or"),
        ({"size": (32, 4)}, "at least 8 pixels"),
        ({"mean": (0.5, 0.4)}, "mean should be one number, or one for each of 3 channel"),
        ({"std": (0.5, 0.4, 0.0)}, "should be above 0"),
        ({"resize_mode": "shorter"}, "set crop_mode=centre"),
        ({"resize_mode": "longest"}, "legal: exact, shorter, letterbox"),
        ({"resize_mode": "letterbox", "crop_mode": "centre"}, "set crop_mode=none"),
        ({"crop_share": 0.5}, "needs crop_mode=centre"),
        ({"fill": 0.5}, "set resize_mode=letterbox"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing(**{"size": 32, "channels": 3, **given})  # type: ignore[arg-type]


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Upright pictures of unlike sizes, four classes."""
    drawn = np.random.default_rng(0)
    for label in range(4):
        (tmp_path / "people" / f"p{label}").mkdir(parents=True)
        for row in range(4):
            shape = (int(drawn.integers(60, 90)), int(drawn.integers(25, 50)), 3)
            pixels = (drawn.integers(0, 256, shape) // 2 + 30 * label).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "people" / f"p{label}" / f"{row}.png")
    return tmp_path / "people"


def test_a_model_at_256_by_128_with_imagenet_statistics_from_recipe_to_onnx(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    recipe = {
        "data": {"source": str(people)},
        "model": {
            "backbone": "convnet16",
            "embedding_dim": 8,
            "image_size": [256, 128],
            "mean": [*MEAN],
            "std": [*STD],
            "resize_mode": "shorter",
            "crop_mode": "centre",
            "crop_share": 0.9,
            "interpolation": "bicubic",
        },
        "optim": {"epochs": 1, "batch_size": 8, "lr": 0.01},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    assert run(["embed", str(tmp_path / "run"), str(people), "--out", str(tmp_path / "v"), "--quiet"]) == 0
    assert run(["export", str(tmp_path / "run"), str(tmp_path / "m.onnx")]) == 0
    model, vectors = Embedder.load(tmp_path / "run" / "model"), VectorSet.load(tmp_path / "v")
    assert model.preprocessing == parse_recipe(recipe).model.preprocessing((3, 256, 128))
    assert vectors.space == model.space
    source = open_for_model(people, model.preprocessing.image_size)
    assert source.image_shape == (3, 256, 128)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (exported,) = session.run(["vectors"], {"images": source.load(range(len(source))).float().numpy() / 255})
    assert np.abs(exported - vectors.vectors).max() <= 1e-4
    np.testing.assert_allclose(model.encode([people / name for name in vectors.ids]), vectors.vectors, atol=1e-5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"image_size": [32, 16, 8]}, r"model.image_size should be a side or \[height, width\]"),
        ({"image_size": 32, "resize_mode": "shorter"}, "model.resize_mode=shorter leaves images"),
        ({"image_size": "big"}, "model.image_size"),
        ({"mean": [0.5, "x", 0.5]}, "model.mean"),
    ],
)
def test_a_recipe_says_which_key_is_wrong(section: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_recipe({"data": {"source": "x"}, "model": section})
