"""Encoders of other libraries' models, made here with random weights; a stand-in where a library cannot be had."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from samespace.cli.main import run
from samespace.encoders import (
    Encoder,
    from_onnx,
    from_open_clip,
    from_sentence_transformers,
    from_timm,
    from_transformers,
    open_encoder,
)
from samespace.errors import InputError
from samespace.models import Embedder, EmbedderConfig, Preprocessing, export_onnx
from samespace.models.items import pixels_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pictures(count: int = 3, shape: tuple[int, int] = (40, 30)) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, *shape), dtype=np.uint8))


def unit(vectors: torch.Tensor) -> np.ndarray:
    return nn.functional.normalize(vectors, dim=1).numpy()


class TinyTimm(nn.Module):
    """A network in the form of timm's: features of images, and a configuration of its data."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.pretrained_cfg = {"architecture": "tiny", "input_size": (3, 16, 16)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body(images)


DATA_CONFIG = {
    "input_size": (3, 16, 16),
    "interpolation": "bicubic",
    "mean": MEAN,
    "std": STD,
    "crop_pct": 0.8,
    "crop_mode": "center",
}


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in with the calls of timm that are used."""
    module, data = types.ModuleType("timm"), types.ModuleType("timm.data")

    def create_model(name: str, pretrained: bool = False, num_classes: int = 1000, **more: Any) -> nn.Module:
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        assert num_classes == 0
        return TinyTimm()

    module.create_model, module.data = create_model, data  # type: ignore[attr-defined]
    data.resolve_model_data_config = lambda model: dict(DATA_CONFIG)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "timm", module)
    monkeypatch.setitem(sys.modules, "timm.data", data)
    return module


def test_a_timm_model_takes_its_own_preprocessing(timm: types.ModuleType, tmp_path: Path) -> None:
    encoder = from_timm("tiny", device="cpu")
    assert isinstance(encoder, Encoder)
    prepared = encoder.preprocessing
    assert prepared == Preprocessing(
        16, 3, MEAN, STD, resize_mode="shorter", crop_mode="centre", crop_share=0.8, interpolation="bicubic"
    )
    images = pictures()
    expected = TinyTimm().eval()(prepared(pixels_of(images, prepared))).detach()
    np.testing.assert_allclose(encoder.encode(images, batch_size=2), unit(expected), atol=1e-6)
    assert from_timm(TinyTimm(), device="cpu").space == encoder.space
    torch.save({"state_dict": {f"module.{k}": v for k, v in TinyTimm().state_dict().items()}}, tmp_path / "w.pth")
    assert open_encoder(f"timm:tiny,weights={tmp_path / 'w.pth'}").space == encoder.space
    assert from_timm("tiny", revision="2", device="cpu").space != encoder.space
    other = TinyTimm()
    nn.init.constant_(other.body[0].bias, 1.0)
    assert from_timm(other, device="cpu").space != encoder.space


def test_what_timm_cannot_give(timm: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="timm cannot make 'huge': Unknown model"):
        from_timm("huge")
    torch.save({"body.0.weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not fit 'tiny': 2 of 2 layers"):
        from_timm("tiny", weights=tmp_path / "w.pth")
    torch.save({"weights": Path("x")}, tmp_path / "objects.pth")
    with pytest.raises(InputError, match="holds Python objects besides tensors, which are never run"):
        from_timm("tiny", weights=tmp_path / "objects.pth")
    with pytest.raises(InputError, match="keeps no configuration of its data"):
        from_timm(nn.Flatten())
    with pytest.raises(InputError, match="has no option 'weight'; did you mean 'weights'"):
        open_encoder("timm:tiny,weight=x")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("timm", "open_clip", "sentence_transformers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for text, extra in [
        ("timm:tiny", "timm"),
        ("open_clip:ViT-B-32,weights=x", "open-clip"),
        ("sentence-transformers:x", "sentence-transformers"),
        ("transformers:x", "transformers"),
    ]:
        with pytest.raises(InputError, match=rf"pip install 'samespace\[{extra}\]'"):
            open_encoder(text)


class TinyClip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.visual = nn.Linear(3 * 16 * 8, 5)
        config = {"size": (16, 8), "mean": MEAN, "std": STD, "interpolation": "bicubic", "resize_mode": "squash"}
        self.visual.preprocess_cfg = config  # type: ignore[assignment]
        self.words = nn.Embedding(128, 5)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.visual(images.flatten(1))

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words(tokens).mean(1)


def test_both_sides_of_a_clip_model_share_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("open_clip")
    module.create_model_and_transforms = lambda name, pretrained=None: (TinyClip(), None, None)  # type: ignore[attr-defined]
    module.get_tokenizer = lambda name: lambda texts: torch.tensor([[ord(text[0])] * 3 for text in texts])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "open_clip", module)
    images = from_open_clip("ViT-tiny", weights="tag", device="cpu")
    texts = open_encoder("open_clip:ViT-tiny,weights=tag,part=text", device="cpu")
    assert images.space == texts.space
    assert (images.modality, texts.modality) == ("image", "text")
    prepared = Preprocessing((16, 8), 3, MEAN, STD, interpolation="bicubic")
    expected = TinyClip().encode_image(prepared(pixels_of(pictures(), prepared))).detach()
    np.testing.assert_allclose(images.encode(pictures()), unit(expected), atol=1e-6)
    words = TinyClip().words.weight.detach()
    np.testing.assert_allclose(texts.encode(["ab", "b"]), unit(words[[ord("a"), ord("b")]]), atol=1e-6)


def tiny_bert(folder: Path) -> Path:
    """A transformer of random weights with its own vocabulary, as transformers keeps one in a folder."""
    transformers = pytest.importorskip("transformers", reason="the extra 'transformers' is not installed")
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", "red", "green", "blue"]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizerFast(
        vocab=str(folder / "vocab.txt"), vocab_file=str(folder / "vocab.txt")
    ).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore")
def test_a_transformer_by_each_pooling(tmp_path: Path) -> None:
    folder = tiny_bert(tmp_path / "bert")
    import transformers

    network = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["red green", "blue", "a b c d e f"]
    spaces = []
    for pooling in ("mean", "cls", "pooler"):
        encoder = from_transformers(folder, pooling=pooling, device="cpu")  # type: ignore[arg-type]
        spaces.append(encoder.space)
        expected = []
        for text in texts:
            with torch.no_grad():
                output = network(**tokenizer([text], return_tensors="pt"))
            hidden = output.last_hidden_state
            vector = {"mean": hidden.mean(1), "cls": hidden[:, 0], "pooler": output.pooler_output}[pooling]
            expected.append(vector)
        np.testing.assert_allclose(encoder.encode(texts), unit(torch.cat(expected)), atol=1e-5)
    assert len(set(spaces)) == 3
    assert open_encoder(f"transformers:{folder},pooling=cls", device="cpu").space == spaces[1]
    with pytest.raises(InputError, match="pooling is 'max'; legal: mean, cls, pooler"):
        from_transformers(folder, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="transformers cannot load"):
        from_transformers(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_sentence_transformer(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers", reason="the extra 'sentence-transformers' is not installed")
    folder = tiny_bert(tmp_path / "bert")
    from sentence_transformers import models

    word, pooling = models.Transformer(str(folder)), models.Pooling(8)
    model = library.SentenceTransformer(modules=[word, pooling], device="cpu")
    model.save(str(tmp_path / "st"))
    encoder = open_encoder(f"sentence-transformers:{tmp_path / 'st'}", device="cpu")
    texts = ["red green", "blue", "a b c d e f"]
    expected = model.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(encoder.encode(texts, batch_size=2), expected, atol=1e-5)
    again = from_sentence_transformers(tmp_path / "st", device="cpu")
    assert again.space == encoder.space
    assert from_sentence_transformers(tmp_path / "st", prompt="a ", device="cpu").space != encoder.space
    with pytest.raises(InputError, match="does not exist; expected the folder"):
        from_sentence_transformers(tmp_path / "missing")


@pytest.fixture
def ours() -> Embedder:
    torch.manual_seed(0)
    prepared = Preprocessing((24, 16), 3, MEAN, STD, resize_mode="shorter", crop_mode="centre")
    return Embedder(EmbedderConfig("convnet16", 8, prepared), name="ours").eval()


def test_an_exported_file_is_the_model_it_was_exported_from(
    ours: Embedder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    export_onnx(ours, tmp_path / "m.onnx")
    encoder = open_encoder(tmp_path / "m.onnx")
    assert encoder.space == ours.space
    np.testing.assert_allclose(encoder.encode(pictures()), ours.encode(pictures()), atol=1e-4)
    (tmp_path / "images" / "a").mkdir(parents=True)
    for row, image in enumerate(pictures()):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / "images" / "a" / f"{row}.png")
    command = ["embed", str(tmp_path / "m.onnx"), str(tmp_path / "images"), "--out", str(tmp_path / "v"), "--json", "-"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["space"]["id"] == ours.space.id
    altered = onnx.load(tmp_path / "m.onnx")
    weight = altered.graph.initializer[0]
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(altered, tmp_path / "altered.onnx")
    assert from_onnx(tmp_path / "altered.onnx").space != ours.space


def test_any_other_onnx_file_needs_to_know_how_images_are_prepared(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    helper = onnx.helper
    entry = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3, 8, 8])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 192])
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "flat", [entry], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(InputError, match="does not say how images are prepared"):
        open_encoder(tmp_path / "flat.onnx")
    prepared = Preprocessing(8, 3, MEAN, STD)
    encoder = from_onnx(tmp_path / "flat.onnx", preprocessing=prepared)
    expected = unit(prepared(pixels_of(pictures(), prepared)).flatten(1))
    np.testing.assert_allclose(encoder.encode(pictures()), expected, atol=1e-6)
    with pytest.raises(InputError, match="cannot take images of shape"):
        from_onnx(tmp_path / "flat.onnx", preprocessing=Preprocessing(16, 3))
    with pytest.raises(InputError, match="has no output 'z'; it has y"):
        from_onnx(tmp_path / "flat.onnx", preprocessing=prepared, output="z")
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="is damaged or no ONNX network"):
        open_encoder(tmp_path / "bad.onnx")
