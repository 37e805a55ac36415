from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.models import Embedder, EmbedderConfig, Preprocessing, export_onnx

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Embedder(EmbedderConfig("convnet16", 24, Preprocessing(size=16, channels=1), batch_norm=True)).eval()


def test_the_exported_network_gives_the_same_vectors_for_any_batch(model, tmp_path):
    assert export_onnx(model, tmp_path / "m.onnx") < 1e-5
    images = torch.randint(0, 256, (7, 1, 16, 16)).byte()
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (vectors,) = session.run(["vectors"], {"images": (images.float() / 255).numpy()})
    np.testing.assert_allclose(vectors, model.embed(images).numpy(), atol=1e-5)
    assert session.get_modelmeta().custom_metadata_map["samespace.space"] == model.space.id


def test_the_same_export_is_left_alone_and_any_other_file_refused(model, tmp_path, capsys):
    def export(*more: str) -> int:
        return run(["export", str(tmp_path / "v1"), str(file), *more])

    file = tmp_path / "m.onnx"
    model.save(tmp_path / "v1")
    assert export() == 0
    before = file.stat().st_mtime_ns
    assert export() == 0
    assert f"{file}: there already; vectors differ from torch's by at most" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before
    assert export("--tolerance", "0") == 2
    for content in (b"something else", file.read_bytes()[:-40]):
        file.write_bytes(content)
        assert export() == 2
        assert "is there already; choose another place, or replace it with --force" in capsys.readouterr().err
    assert export("--force") == 0


def test_a_network_that_differs_is_not_kept(model, tmp_path):
    with pytest.raises(InputError, match="differ from torch's"):
        export_onnx(model, tmp_path / "m.onnx", tolerance=0.0)
    assert not list(tmp_path.iterdir())


def test_a_torch_without_the_exporter_is_named_and_logging_stays_as_it_was(model, tmp_path, monkeypatch):
    def older(*arguments, **options):
        raise TypeError("export() got an unexpected keyword argument 'dynamic_shapes'")

    logger = logging.getLogger("torch.onnx")
    monkeypatch.setattr(torch.onnx, "export", older)
    monkeypatch.setattr(logger, "level", logging.INFO)
    with pytest.raises(InputError, match=r"needs torch 2\.6 or newer"):
        export_onnx(model, tmp_path / "m.onnx")
    assert logger.level == logging.INFO
