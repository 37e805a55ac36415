"""The encoders of timm and open_clip beside these libraries' own transforms and models, of random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from samespace.encoders import from_open_clip, from_timm, open_encoder
from samespace.encoders.timm import preprocessing_of
from samespace.errors import InputError
from samespace.models.items import pixels_of

pytestmark = pytest.mark.filterwarnings("ignore")
SIZES = ((300, 200), (180, 260), (160, 160))


def photographs() -> list[np.ndarray]:
    """Smooth colours: (3, H, W) uint8 of several sizes."""
    random = np.random.default_rng(0)
    small = [Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)) for _ in SIZES]
    return [
        np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)).transpose(2, 0, 1).copy()
        for image, (height, width) in zip(small, SIZES, strict=True)
    ]


def transformed(transform) -> torch.Tensor:
    return torch.stack([transform(Image.fromarray(image.transpose(1, 2, 0))) for image in photographs()])


def assert_same(encoder, network, pixels) -> None:
    prepared = encoder.preprocessing(pixels_of(photographs(), encoder.preprocessing))
    torch.testing.assert_close(prepared, pixels, atol=0.03, rtol=0)  # a 255th in units of std, and no more
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network(pixels))
    np.testing.assert_allclose(encoder.encode(photographs(), batch_size=2), expected, atol=2e-3)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
def test_a_model_of_timm_sees_what_timm_shows_it(name, tmp_path):
    timm = pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False, num_classes=0).eval()
    encoder = from_timm(network, device="cpu")
    config = timm.data.resolve_model_data_config(network)
    assert_same(encoder, network, transformed(timm.data.create_transform(**config, is_training=False)))
    torch.save(network.state_dict(), tmp_path / "w.pth")
    tagged = timm.list_pretrained(f"{name}.*")[0]
    for named in (name, tagged):
        assert open_encoder(f"timm:{named},weights={tmp_path / 'w.pth'}", device="cpu").space == encoder.space


def test_what_timm_itself_cannot_give():
    timm = pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    with pytest.raises(InputError, match="timm cannot make 'nope'"):
        open_encoder("timm:nope")
    config = timm.data.resolve_data_config(pretrained_cfg={"input_size": (3, 8, 8), "crop_pct": 1.15})
    with pytest.raises(InputError, match=r"volo crops 1\.15 of the side, more than there is"):
        preprocessing_of(config, "volo")


def test_both_sides_of_an_open_clip_model(tmp_path):
    open_clip = pytest.importorskip("open_clip", reason="the extra 'open-clip' is not installed")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = tmp_path / "tiny-clip.json"
    config.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(config)
    torch.manual_seed(1)
    network, _, transform = open_clip.create_model_and_transforms("tiny-clip")
    network.eval()
    torch.save(network.state_dict(), tmp_path / "clip.pt")
    images = from_open_clip("tiny-clip", weights=str(tmp_path / "clip.pt"), device="cpu")
    assert_same(images, network.encode_image, transformed(transform))
    texts = open_encoder(f"open_clip:tiny-clip,weights={tmp_path / 'clip.pt'},part=text", device="cpu")
    assert texts.space == images.space
    with torch.no_grad():
        expected = torch.nn.functional.normalize(
            network.encode_text(open_clip.get_tokenizer("tiny-clip")(["a", "dog"]))
        )
    np.testing.assert_allclose(texts.encode(["a", "dog"]), expected, atol=1e-5)
    with pytest.raises(InputError, match="open_clip cannot make 'tiny-clip' with weights 'nope'"):
        from_open_clip("tiny-clip", weights="nope")
