"""The short way from an old model that is no folder of ours: an ONNX file, a function, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from samespace import Gallery, VectorSet
from samespace.cli.main import run
from samespace.data import GlyphSource
from samespace.encoders import open_encoder
from samespace.evaluate import Certificate
from samespace.gallery.upgrade import upgrade
from samespace.models import Preprocessing
from samespace.project.cost import Pace
from samespace.project.plan import Plan
from samespace.report import page

SETTINGS = {"network": {"backbone": "convnet4", "dim": 8, "channels": 1}, "budget": {"epochs": 1, "batch_size": 32}}
SOURCE = "glyphs:classes=24,images=4,size=16"
FUNCTIONS = """
from samespace.encoders import from_callable

def means(images):
    return [[float(image.mean()) + 1, *image.reshape(-1)[:7].tolist()] for image in images]

def any_size():
    return from_callable(means, name="means", revision="1", modality="image", dim=8, normalized=False)

def of_texts():
    return from_callable(lambda texts: [[len(text), 1] for text in texts], name="lengths", revision="1")
"""


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "render_report", lambda *given, **options: "")
    # models of three steps have nothing in common
    monkeypatch.setattr(upgrade, "_require_right_model", lambda *given: [])
    (tmp_path / "my_old.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_old", raising=False)
    return tmp_path


def write_onnx(path: str) -> np.ndarray:
    """A projection of images of 16 x 16 grey pixels, (256, 8), with what an export says of their preparation."""
    onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    weights = np.random.default_rng(0).standard_normal((256, 8)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Flatten", ["images"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weights"], ["vectors"]),
    ]
    sides = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", *shape])
        for name, shape in (("images", (1, 16, 16)), ("vectors", (8,)))
    ]
    graph = onnx.helper.make_graph(
        nodes, "before", sides[:1], sides[1:], [onnx.numpy_helper.from_array(weights, "weights")]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.helper.set_model_props(model, {"samespace.preprocessing": json.dumps({"size": 16, "channels": 1})})
    onnx.save(model, path)
    return weights


def project(old: str, **changes: object) -> None:
    assert run(["start", SOURCE, "--old", old, "--quiet", "--force"]) == 0
    path = Path("project.yaml")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **SETTINGS, **changes}))


def test_an_onnx_file_is_upgraded_from_start_to_gallery(here, monkeypatch, capsys):
    weights = write_onnx("before.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(Plan, "pace", lambda *given: Pace(0.01, 0.01, 0.001, 4096))
        project("before.onnx")
    said = capsys.readouterr().out
    assert "# before: 8 dimensions, 16 pixels" in said
    assert "old: before.onnx" in said
    # its cost is measured in real steps beside the file's network
    assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    certificate = Certificate.load("project/report/certificate.json")
    assert any("Nothing says which classes the old model was trained on" in note for note in certificate.notes)
    gallery = VectorSet.load("project/vectors/old-gallery")
    images = GlyphSource(classes=24, images=4, size=16)
    pixels = images.load([int(np.flatnonzero(images.ids == name)[0]) for name in gallery.ids])
    prepared = Preprocessing(16, 1)(pixels).flatten(1).numpy() @ weights
    expected = prepared / np.linalg.norm(prepared, axis=1, keepdims=True)
    np.testing.assert_allclose(gallery.vectors, expected, atol=1e-5)
    assert yaml.safe_load(Path("project/recipes/new.yaml").read_text())["compatibility"]["old_model"] == "before.onnx"
    assert run(["gallery", "upgrade", "live", "--from", "project.yaml", "--accept-uncertified"]) == 0
    with Gallery.open("live") as live:
        assert len(live) == 96
    assert run(["gallery", "backfill", "live"]) == 0
    assert run(["build", "project.yaml", "--anyway", "--quiet", "--dry-run", "--json", "plan.json"]) == 0
    assert all(stage["there"] for stage in json.loads(Path("plan.json").read_text())["stages"])


def test_a_function_that_takes_images_of_any_size(here, monkeypatch):
    monkeypatch.setattr(Plan, "pace", lambda *given: Pace(0.01, 0.01, 0.001, 4096))
    project("my_old:any_size")
    assert run(["build", "project.yaml", "--anyway", "--quiet"]) in (0, 1)
    assert VectorSet.load("project/vectors/old-gallery").space == open_encoder("my_old:any_size").space


def test_what_cannot_be_an_old_model_is_refused_at_once(here, monkeypatch, capsys):
    monkeypatch.setattr(Plan, "pace", lambda *given: Pace(0.01, 0.01, 0.001, 4096))
    (here / "texts").mkdir()
    (here / "texts" / "modules.json").write_text("[]")
    for old, says in (
        ("my_old:of_texts", "items of modality 'text'; an encoder of images is needed"),
        ("texts", "texts is a model of sentence-transformers, an encoder of texts"),
        ("my_old:nothing", "nothing"),
        ("absent.onnx", "absent.onnx"),
    ):
        assert run(["start", SOURCE, "--old", old, "--quiet"]) == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("samespace: error: ")]
        assert says in line
        assert not Path("project.yaml").exists()
    project("my_old:any_size", methods=["bct"])
    assert run(["build", "project.yaml", "--quiet"]) == 2
    assert "'bct' needs its classifier, and my_old:any_size has none beside it; take auto" in capsys.readouterr().err
    assert not Path("project/runs").exists()
