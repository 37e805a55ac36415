from __future__ import annotations

import pytest
import torch
from torch import nn

from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.folding import folded


def trained(backbone: str, *, batch_norm: bool, relu: bool = False) -> Embedder:
    """A model whose batch norms have seen images and have weights of their own."""
    torch.manual_seed(0)
    model = Embedder(EmbedderConfig(backbone, 16, Preprocessing(size=32, channels=3), batch_norm=batch_norm, relu=relu))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    model.train()
    for _ in range(3):
        model(torch.randn(8, 3, 32, 32))
    return model


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(
    ("backbone", "batch_norm", "relu", "left"),
    [("convnet16", False, False, 0), ("convnet16", True, True, 0), ("iresnet18", True, False, 9)],
)
def test_vectors_are_the_same_with_fewer_layers(backbone: str, batch_norm: bool, relu: bool, left: int) -> None:
    model = trained(backbone, batch_norm=batch_norm, relu=relu).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    unit = torch.rand(5, 3, 32, 32)
    fast = folded(model)
    assert norms(fast) == left < norms(model)
    torch.testing.assert_close(fast.embed_unit(unit), model.embed_unit(unit), rtol=0, atol=1e-5)
    assert not fast.training
    assert not any(value.requires_grad for value in fast.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "the model is untouched"


def test_a_model_in_training_mode_is_folded_as_in_evaluation_and_stays_in_training() -> None:
    model, unit = trained("convnet16", batch_norm=True), torch.rand(5, 3, 32, 32)
    fast = folded(model)
    assert model.training
    torch.testing.assert_close(fast.embed_unit(unit), model.eval().embed_unit(unit), rtol=0, atol=1e-5)


def test_layers_that_something_watches_or_that_keep_no_averages_stay() -> None:
    model = trained("convnet16", batch_norm=False).eval()
    seen = []
    model.backbone[0].register_forward_hook(lambda *_: seen.append(1))
    model.backbone[4] = nn.BatchNorm2d(32, track_running_stats=False)
    fast, unit = folded(model), torch.rand(5, 3, 32, 32)
    assert norms(fast) == 2
    torch.testing.assert_close(fast.embed_unit(unit), model.embed_unit(unit), rtol=0, atol=1e-5)
    assert len(seen) == 2
