"""A training that starts from weights made elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

from samespace.cli.main import run
from samespace.errors import InputError
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.weights import start_from


def made(seed: int, dim: int = 8) -> Embedder:
    torch.manual_seed(seed)
    return Embedder(EmbedderConfig("convnet16", dim, Preprocessing(16, 1)), name="m")


@pytest.mark.parametrize("form", ["folder", "safetensors", "bare backbone", "wrapped, parallel"])
def test_each_form_of_file_is_taken_by_name(form: str, tmp_path: Path) -> None:
    old, new = made(1), made(2)
    state = dict(old.state_dict())
    file = tmp_path / "w"
    if form == "folder":
        old.save(file)
    elif form == "safetensors":
        file = tmp_path / "w.safetensors"
        save_file({name: value.contiguous() for name, value in state.items()}, file)
    elif form == "bare backbone":
        bare = dict(old.backbone.state_dict())
        torch.save({**bare, "fc.weight": torch.zeros(3)}, file)
    else:
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3}, file)
    fitted = start_from(new, file)
    for name, value in old.backbone.state_dict().items():
        assert torch.equal(new.backbone.state_dict()[name], value)
    if form == "bare backbone":
        assert fitted.absent == ("projection.0.weight", "projection.0.bias")
        assert fitted.unused == ("backbone.fc.weight",)
        assert "1 without a place: backbone.fc.weight" in fitted.describe()
    else:
        assert not fitted.absent
        assert not fitted.unused


def test_another_width_is_named_and_another_network_refused(tmp_path: Path) -> None:
    made(1, dim=4).save(tmp_path / "narrow")
    fitted = start_from(made(2), tmp_path / "narrow")
    assert fitted.unlike == ("projection.0.weight", "projection.0.bias")
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"no weight in .* fits this backbone"):
        start_from(made(2), tmp_path / "w.pth")
    with pytest.raises(InputError, match="does not exist; expected weights"):
        start_from(made(2), tmp_path / "absent.pth")


def test_a_recipe_starts_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(1).save(tmp_path / "start")
    recipe = {
        "data": {"source": "glyphs:classes=4,images=4,size=16"},
        "model": {"backbone": "convnet16", "embedding_dim": 8, "init": str(tmp_path / "start")},
        "optim": {"epochs": 1, "batch_size": 16, "lr": 1e-9, "weight_decay": 0.0},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert "tensors taken" in capsys.readouterr().err
    trained = Embedder.load(tmp_path / "run" / "model")
    torch.testing.assert_close(trained.backbone[0].weight, made(1).backbone[0].weight, atol=1e-6, rtol=0)
