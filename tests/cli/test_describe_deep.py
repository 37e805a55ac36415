"""`samespace data describe --deep`: what it prints, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace.cli.main import run
from samespace.data import open_source
from samespace.models import Embedder, EmbedderConfig, Preprocessing


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """Ten classes of one noisy glyph each as files, a copy in another class, a copy within, and a model folder."""
    glyphs = open_source("glyphs:classes=10,images=1,size=24,difficulty=0.2").load(np.arange(10)).numpy()[:, 0]
    noise = np.random.default_rng(0).integers(0, 40, (60, 24, 24), dtype=np.uint8)
    pixels = np.maximum(np.repeat(glyphs, 6, axis=0), noise)
    for row, image in enumerate(pixels):
        folder = tmp_path / "images" / f"c{row // 6}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row}.png")
    Image.fromarray(pixels[7]).save(tmp_path / "images" / "c4" / "stray.png")
    Image.fromarray(pixels[20]).save(tmp_path / "images" / "c3" / "again.png")
    torch.manual_seed(0)
    Embedder(EmbedderConfig("convnet16", 32, Preprocessing(24, 1), batch_norm=True)).save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_copies_are_counted_named_and_in_the_json(here, capsys):
    assert run(["data", "describe", "images", "--deep", "--quiet", "--json", "out.json"]) == 0
    out, err = capsys.readouterr()
    assert "the same pixels as an image of another class: 2" in out
    assert "  c4/stray.png = c1/7.png" in out
    assert "the same pixels as an earlier image of their class: 1" in out
    assert "labels: not looked at; --model MODEL does" in out
    assert err == ""
    deep = json.loads(Path("out.json").read_text())["deep"]
    assert [pair["id"] for pair in deep["copies_across_classes"]] == ["c1/7.png", "c4/stray.png"]
    assert len(deep["copies_within_classes"]) == 1
    assert "misplaced" not in deep


def test_with_a_model_doubtful_labels_are_named(here, capsys):
    assert run(["data", "describe", "images", "--deep", "--model", "model", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    deep = json.loads(out)["deep"]
    assert (deep["model"], deep["neighbours"]) == ("model", 5)
    assert "c4/stray.png" in [one["id"] for one in deep["misplaced"]]
    assert {one["among"] for one in deep["misplaced"] if one["id"] == "c4/stray.png"} == {"c1"}
    assert "comparing vectors" in err
    assert run(["data", "describe", "images", "--deep", "--model", "model", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert f"all 5 nearest by model are of one other class: {len(deep['misplaced'])}" in shown
    assert "  c4/stray.png (c4) among c1" in shown
    assert f"outliers of their class by model: {len(deep['outliers'])}" in shown


def test_without_deep_nothing_more_is_said(here, capsys):
    assert run(["data", "describe", "images", "--json", "-"]) == 0
    assert "deep" not in json.loads(capsys.readouterr().out)


def test_a_model_alone_and_one_that_is_none_are_refused(here, capsys):
    assert run(["data", "describe", "images", "--model", "model"]) == 2
    assert "--model goes with --deep" in capsys.readouterr().err
    assert run(["data", "describe", "images", "--deep", "--quiet", "--model", "images"]) == 2
    assert "Traceback" not in capsys.readouterr().err
