"""Options that make a step faster: what is learnt stays, and a training resumes as before."""

from __future__ import annotations

import os

import numpy as np
import pytest
from torch import nn

from samespace.files import read_json
from samespace.models import Embedder
from samespace.models.tensors import load_tensors
from samespace.train import Interrupted, loop, parse_recipe, run

SOURCE = "glyphs:classes=6,images=16,size=16"


def recipe(**changes):
    sections = {
        "data": {"source": SOURCE},
        "model": {"backbone": "convnet16", "embedding_dim": 8},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": {"epochs": 2, "batch_size": 32},
        "run": {"device": "cpu", "checkpoint_minutes": 0.0},
    }
    return parse_recipe({name: {**value, **changes.get(name, {})} for name, value in sections.items()})


def weights(out):
    return load_tensors(out / "model" / "model.safetensors", "weights")[0]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_fused_optimiser_learns_the_same_and_resumes_to_the_bit(name, tmp_path, monkeypatch):
    run(recipe(optim={"name": name}), tmp_path / "plain", quiet=True)
    fused = recipe(optim={"name": name, "fused": True})
    run(fused, tmp_path / "fused", quiet=True)
    plain, whole = weights(tmp_path / "plain"), weights(tmp_path / "fused")
    for key, value in plain.items():
        np.testing.assert_allclose(whole[key].float(), value.float(), atol=2e-3, err_msg=key)

    class Stopped(Exception):
        pass

    real, steps = loop.Training.step, []

    def step(self, *given):
        steps.append(given)
        if len(steps) == 5:
            raise Stopped
        return real(self, *given)

    monkeypatch.setattr(loop.Training, "step", step)
    with pytest.raises((Stopped, Interrupted)):
        run(fused, tmp_path / "resumed", quiet=True)
    monkeypatch.setattr(loop.Training, "step", real)
    run(fused, tmp_path / "resumed", quiet=True)
    for key, value in weights(tmp_path / "resumed").items():
        assert value.equal(whole[key]), key


def test_the_network_and_nothing_else_is_compiled_and_keeps_its_names(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **given: asked.append((type(self), given)))
    run(recipe(run={"compile": "reduce-overhead"}), tmp_path / "compiled", quiet=True)
    assert asked == [(Embedder, {"mode": "reduce-overhead"})]
    run(recipe(), tmp_path / "plain", quiet=True)
    for key, value in weights(tmp_path / "plain").items():
        assert value.equal(weights(tmp_path / "compiled")[key])
    assert read_json(tmp_path / "compiled" / "model" / "config.json", "a model")["backbone"] == "convnet16"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif("SAMESPACE_EXAMPLES" not in os.environ, reason="a recorded run: set SAMESPACE_EXAMPLES")
def test_a_network_compiled_by_inductor_learns_the_same(tmp_path):
    run(recipe(run={"compile": "default"}), tmp_path / "compiled", quiet=True)
    run(recipe(), tmp_path / "plain", quiet=True)
    for key, value in weights(tmp_path / "plain").items():
        np.testing.assert_allclose(weights(tmp_path / "compiled")[key].float(), value.float(), atol=2e-2, err_msg=key)
