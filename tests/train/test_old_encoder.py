"""The old side of a training may be any encoder of images, named in the recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from samespace.cli.main import run
from samespace.encoders import open_encoder
from samespace.vectors import VectorSet

CODE = """
import numpy as np
from samespace.encoders import from_callable
from samespace.models import Preprocessing

def means(images):
    return np.stack([image.reshape(3, 8, -1).mean(2).reshape(-1) / 255.0 + 0.1 for image in images])

def service():
    prepared = Preprocessing(16, 3)
    return from_callable(means, name="means", revision="1", modality="image", dim=24, preprocessing=prepared)
"""


@pytest.mark.parametrize("views", ["live", "stored", 2])
def test_a_function_of_the_user_is_the_old_model(
    views: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old_service.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("old_service", None)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, labels=np.arange(24) % 4)
    recipe = {
        "data": {"source": str(tmp_path / "images.npz")},
        "model": {"backbone": "convnet16", "embedding_dim": 24},
        "optim": {"epochs": 2, "batch_size": 8, "lr": 0.01},
        "augment": {"translate": 0.1},
        "compatibility": {"old_model": "old_service:service", "views": views},
        "validation": {"classes": 2},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert run(["train", str(tmp_path / "r.yaml"), "--dry-run", "--out", str(tmp_path / "run")]) == 0
    assert run(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "run"), "--quiet"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any(line.get("influence", 0) > 0 for line in lines)
    kept = [VectorSet.load(place) for place in (tmp_path / "old-vectors").iterdir() if place.is_dir()]
    encoder = open_encoder("old_service:service")
    for vectors in kept:
        assert vectors.space == encoder.space
        expected = encoder.encode(list(pixels[vectors.ids.astype(int)].transpose(0, 3, 1, 2)))
        np.testing.assert_allclose(vectors.vectors, expected, atol=1e-6)
    assert kept
