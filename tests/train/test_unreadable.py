"""Images that only decoding shows to be damaged: training puts others in their place, vectors leave them out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from samespace.cli.main import run as command
from samespace.data import batches
from samespace.data.listed import ListedSource
from samespace.data.sources.folder import FolderSource
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed, embed_to, left_out
from samespace.train import Interrupted, parse_recipe, run
from samespace.train.loop import Training
from samespace.vectors import VectorSet

LOST, INSTEAD = "b/5.jpg", "b/0.jpg"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in "abc":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            noise = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / "images" / name / f"{number}.jpg")
    return tmp_path / "images"


def spoil(images: Path) -> None:
    data = (images / LOST).read_bytes()
    (images / LOST).write_bytes(data[:20] + b"\0" + data[21:])


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ListedSource.__init__.__kwdefaults__, "budget", 0)


def opened(images: Path) -> FolderSource:
    return FolderSource(images, image_size=16, broken="skip")


def plan(images: Path, **compatibility: object) -> dict:
    return {
        "data": {"source": str(images), "broken": "skip"},
        "model": {"backbone": "convnet16", "embedding_dim": 8, "image_size": 16},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": {"epochs": 2, "batch_size": 6, "schedule": "cosine"},
        "run": {"device": "cpu"},
        **({"compatibility": compatibility} if compatibility else {}),
    }


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


def model() -> Embedder:
    return Embedder(EmbedderConfig("convnet16", 8, Preprocessing(16, 3)), name="old")


@pytest.mark.parametrize("method", ["none", "unibct-refined", "stored vectors"])
def test_training_is_that_with_another_image_of_the_class_in_its_place(images, tmp_path, method):
    spoil(images)
    compatibility = {}
    if method != "none":
        model().save(tmp_path / "v1" / "model")
        if method == "unibct-refined":
            compatibility = {"method": method, "old_model": str(tmp_path / "v1" / "model"), "warmup_epochs": 1}
        else:
            embed_to(Embedder.load(tmp_path / "v1" / "model"), opened(images), tmp_path / "vectors")
            assert LOST not in VectorSet.load(tmp_path / "vectors").ids
            compatibility = {"method": "l2", "old_vectors": str(tmp_path / "vectors")}
    found = run(parse_recipe(plan(images, **compatibility)), tmp_path / "spoilt", quiet=True)
    assert found.unreadable == {LOST: "it cannot be decoded (broken data stream when reading image file)"}
    (images / LOST).write_bytes((images / INSTEAD).read_bytes())
    if method == "stored vectors":
        embed_to(Embedder.load(tmp_path / "v1" / "model"), opened(images), tmp_path / "all")
        compatibility["old_vectors"] = str(tmp_path / "all")
    whole = run(parse_recipe(plan(images, **compatibility)), tmp_path / "whole", quiet=True)
    assert whole.unreadable == {}
    assert weights(tmp_path / "spoilt") == weights(tmp_path / "whole")


def test_a_resumed_training_takes_the_same_and_counts_it_once(images, tmp_path, monkeypatch):
    spoil(images)
    recipe = parse_recipe(plan(images))
    straight = run(recipe, tmp_path / "straight", quiet=True)
    save = Training._save

    def stop(self, position):
        save(self, position)
        raise Interrupted

    monkeypatch.setattr(Training, "_save", stop)
    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "resumed", quiet=True)
    monkeypatch.setattr(Training, "_save", save)
    resumed = run(recipe, tmp_path / "resumed", quiet=True)
    assert weights(tmp_path / "straight") == weights(tmp_path / "resumed")
    assert resumed.unreadable == straight.unreadable == run(recipe, tmp_path / "resumed", quiet=True).unreadable
    assert list(resumed.unreadable) == [LOST]
    assert not (tmp_path / "resumed" / "unreadable.jsonl").exists()


def test_every_process_takes_the_same(images):
    spoil(images)
    source = opened(images)
    alone = [batch.rows for batch in batches(source, batch_size=6, seed=0, epoch=0)]
    parts = [
        [batch.rows for batch in batches(source, batch_size=6, seed=0, epoch=0, rank=rank, world_size=2)]
        for rank in range(2)
    ]
    for whole, *halves in zip(alone, *parts, strict=True):
        assert whole.tolist() == np.concatenate(halves).tolist()
    assert source.ids.tolist().index(LOST) not in np.concatenate(alone)


def test_the_command_names_and_counts_them(images, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text(json.dumps(plan(images)))
    spoil(images)
    assert command(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "v1"), "--json", "-"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["unreadable"][0]["path"] == LOST
    assert f"{LOST} cannot be read" in printed.err
    assert f"{INSTEAD} stands in its place" in printed.err
    assert command(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "v1")]) == 0
    assert f"in their place: 1\n  {LOST}: it cannot be decoded (broken data stream" in capsys.readouterr().out
    again = ["embed", str(tmp_path / "v1"), str(images), "--broken", "skip", "--out", str(tmp_path / "vectors")]
    for _ in range(2):
        assert command(again) == 0
        told = capsys.readouterr().out
        assert "17 vectors" in told
        assert f"left out, because they cannot be read: 1\n  {LOST}: " in told
    assert command([*again[:3], "--out", str(tmp_path / "none")]) == 2
    assert f"{LOST} cannot be read" in capsys.readouterr().err


def test_vectors_leave_them_out(images, tmp_path):
    spoil(images)
    source, embedder = opened(images), model()
    kept = np.flatnonzero(source.ids != LOST)
    written = embed_to(embedder, source, tmp_path / "vectors", batch_size=4)
    assert left_out(tmp_path / "vectors") == (
        (LOST, "it cannot be decoded (broken data stream when reading image file)"),
    )
    for found in (written, embed(embedder, source, batch_size=4), VectorSet.load(tmp_path / "vectors")):
        assert found.ids.tolist() == source.ids[kept].tolist()
        assert found.labels is not None
        assert found.labels.tolist() == np.asarray(source.classes)[source.labels[kept]].tolist()
        assert np.abs(found.vectors - embedder.embed(source.load(kept)).numpy()).max() < 1e-5
