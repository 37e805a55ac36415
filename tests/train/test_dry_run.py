"""A dry run opens, builds and tries everything, and writes nothing."""

from __future__ import annotations

import dataclasses
import io
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import samespace.train.loop as loop
from samespace.cli.main import run as cli
from samespace.data import open_source
from samespace.errors import InputError
from samespace.models import Embedder
from samespace.progress import patience
from samespace.train import Interrupted, load_recipe, parse_recipe, run
from samespace.train.dry_run import dry_run
from samespace.train.old_side import _stand_in
from samespace.train.recipe import Recipe

GLYPHS = "glyphs:classes=12,images=10,size=16,seed=3"


def plan(old: Path | None = None, **sections) -> dict:
    return {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": 16},
        "optim": {"epochs": 5, "batch_size": 32, "lr": 0.05},
        "run": {"device": "cpu"},
        **({} if old is None else {"compatibility": {"old_model": str(old)}, "seed": 1}),
        **sections,
    }


def tried(value: dict, out: Path, *overrides: str):
    return dry_run(parse_recipe(value, overrides), out, quiet=True)


def files_in(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.stat().st_mtime_ns) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def old_model(tmp_path_factory) -> Path:
    value = plan(optim={"epochs": 1, "batch_size": 32})
    return run(parse_recipe(value), tmp_path_factory.mktemp("old") / "v1", quiet=True).model.parent


def test_it_prints_a_recipe_and_what_it_takes_and_writes_nothing(old_model, tmp_path, capsys):
    value = plan(old_model, validation={"classes": 2, "every": 3})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(value))
    before = files_in(tmp_path), files_in(old_model.parent)
    assert cli(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "v2"), "--dry-run", "--quiet"]) == 0
    assert (files_in(tmp_path), files_in(old_model.parent)) == before
    text = capsys.readouterr().out
    assert cli(["train", str(tmp_path / "recipe.yaml"), "--dry-run", "--quiet"]) == 0
    assert capsys.readouterr().out.partition("\n# ")[0] == text.partition("\n# ")[0]
    assert cli(["train", str(tmp_path / "recipe.yaml")]) == 2
    assert "Missing option '--out'" in capsys.readouterr().err
    (tmp_path / "printed.yaml").write_text(text)
    assert load_recipe(tmp_path / "printed.yaml") == parse_recipe(value).resolved()
    said = [line for line in text.splitlines() if line.startswith("# ")]
    # every key, whether it is used or not
    assert yaml.safe_load(text).keys() >= {"data", "model", "compatibility", "run"}
    for section in dataclasses.fields(Recipe):
        whole = getattr(parse_recipe(value), section.name)
        if dataclasses.is_dataclass(whole):
            assert yaml.safe_load(text)[section.name].keys() == {one.name for one in dataclasses.fields(whole)}
    for name in ("images:", "network:", "old model:", "validation:", "memory:", "time:", "finish:", "disk:"):
        assert any(line.startswith(f"# {name}") for line in said), name
    assert "120 vectors are made first" in text


def test_the_figures_add_up(old_model, tmp_path):
    value = plan(old_model, validation={"classes": 2, "every": 3})
    found = tried(value, tmp_path / "v2", "compatibility.warmup_epochs=1").to_dict()
    json.dumps(found, allow_nan=False)
    assert found["images"]["count"] == 100
    assert found["validation"] == {"classes": 2, "images": 20, "times": 5}
    assert found["old"]["to_embed"] == 120
    time, memory = found["time"], found["memory"]
    assert (time["tried"], time["steps"], time["steps_per_epoch"], time["epochs"]) == (20, 15, 3, 5)
    assert time["training"] == pytest.approx(3 * time["warmup_step"] + 12 * time["step"])
    assert time["total"] == pytest.approx(time["training"] + time["preparation"] + time["validation"])
    parts = ("weights", "gradients", "momentum", "activations", "old_model", "read_ahead")
    assert memory["estimate"] == sum(memory[part] for part in parts)
    old = Embedder.load(old_model / "model")
    assert memory["old_model"] >= sum(value.numel() * 4 for value in old.parameters()) * 0.9
    assert found["network"]["head_parameters"] == 10 * 16


def test_time_to_compile_is_told_apart_and_counts(tmp_path, monkeypatch):
    def slow_at_first(network, **options):
        hook = network.register_forward_pre_hook(lambda *given: (time.sleep(1.5), hook.remove())[0])

    monkeypatch.setattr(torch.nn.Module, "compile", slow_at_first)
    found = tried(plan(), tmp_path / "v1", "run.compile=default")
    assert found.time["compiling"] >= 1.4
    assert found.time["total"] == pytest.approx(found.time["training"] + found.time["compiling"])
    assert any(" to compile" in line for line in found.lines())
    assert tried(plan(), tmp_path / "v1").time["compiling"] == 0


def test_activations_grow_with_the_batch(tmp_path):
    small, large = (
        tried(plan(), tmp_path / "v1", f"optim.batch_size={size}").memory["activations"] for size in (20, 80)
    )
    # the head's weights count the same in both
    assert 3.5 < large / small <= 4.0


def test_the_vectors_that_stand_in_are_unlike_unit_vectors(old_model):
    source = open_source(GLYPHS)
    stand_in = _stand_in(Embedder.load(old_model / "model"), source)
    assert stand_in.vectors.shape == (120, 16)
    assert np.allclose(np.linalg.norm(stand_in.vectors, axis=1), 1)
    assert len(np.unique(stand_in.vectors, axis=0)) == 120


@pytest.mark.parametrize("method", ["unibct-refined", "bct-synth", "none"])
def test_every_kind_of_method_can_be_tried(old_model, tmp_path, method):
    compatibility = {"method": method, **({} if method == "none" else {"old_model": str(old_model)})}
    assert tried(plan(compatibility=compatibility, seed=1), tmp_path / "v2").time["tried"] == 20


def test_views_that_are_not_made_yet_are_counted(old_model, tmp_path):
    found = tried(plan(old_model, augment={"rotate": 5}), tmp_path / "v2", "compatibility.views=3")
    assert (found.old["images"], found.old["views"]) == (120, 360)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.embedding_dim=8"], "model.embedding_dim=8 but the old model has 16 dimensions"),
        (["compatibility.old_model=nowhere"], "nowhere is not a model folder"),
        (["compatibility.old_model=null", "compatibility.old_vectors=old.npz"], "lacks 119 of 120 training images"),
        (["model.backbone=nets:small"], "PYTHONPATH"),
        (["data.allocation=split.json", "data.part=new"], "split.json"),
        (["data.source=nowhere/"], "does not exist"),
        (["model.image_size=0"], "model.image_size should be at least 1"),
        (["run.device=cuda:77"], "cannot be used"),
    ],
)
def test_what_would_stop_a_training_stops_a_dry_run(old_model, tmp_path, monkeypatch, overrides, message):
    monkeypatch.chdir(tmp_path)
    ids = open_source(GLYPHS).ids
    np.savez("old.npz", vectors=np.ones((1, 16), np.float32), ids=ids[:1])
    with pytest.raises(InputError, match=message):
        tried(plan(old_model), tmp_path / "v2", *overrides)


def test_several_processes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="leave torchrun out"):
        tried(plan(), tmp_path / "v1")


def test_a_finished_training_and_one_by_another_recipe_are_told(old_model, tmp_path):
    value = plan(optim={"epochs": 1, "batch_size": 32})
    assert tried(value, old_model) is None
    with pytest.raises(InputError, match="another recipe"):
        tried(plan(), old_model)


def test_an_interrupted_training_is_estimated_from_where_it_stands(tmp_path, monkeypatch):
    real = loop.save_checkpoint

    def save_and_stop(*arguments, **options):
        real(*arguments, **options)
        raise Interrupted

    monkeypatch.setattr(loop, "save_checkpoint", save_and_stop)
    with pytest.raises(Interrupted):
        run(parse_recipe(plan()), tmp_path / "v1", quiet=True)
    found = tried(plan(), tmp_path / "v1")
    assert found.done == {"epoch": 2, "step": 0}
    assert found.time["steps"] == 12


def test_the_old_models_seed_is_warned_of_where_the_network_is_the_same(old_model, tmp_path, capsys):
    same = [text for text in tried(plan(old_model), tmp_path / "v2", "seed=0").warnings if "seed 0 is also" in text]
    assert len(same) == 1
    for overrides in (["seed=3"], ["seed=0", "model.backbone=convnet32"]):
        assert not any("seed" in text for text in tried(plan(old_model), tmp_path / "v2", *overrides).warnings)
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(plan(old_model, seed=0, optim={"epochs": 1, "batch_size": 32})))
    assert cli(["train", str(tmp_path / "r.yaml"), "--out", str(tmp_path / "v2"), "--quiet"]) == 0
    assert "warning: seed 0 is also the old model's" in capsys.readouterr().err


def test_images_unlike_what_the_network_sees_are_told(tmp_path):
    for number in range(12):
        folder = tmp_path / "images" / f"class{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (24 + number, 20), 9 * number).save(folder / f"{number}.png")
    value = plan(data={"source": str(tmp_path / "images")}, optim={"epochs": 1, "batch_size": 4})
    with pytest.raises(InputError, match="image_size"):
        tried(value, tmp_path / "v1")
    warnings = " ".join(tried(value, tmp_path / "v1", "model.image_size=32").warnings)
    assert "12 of 12 images looked at are smaller than the 32×32 that the network sees, the smallest 24×20" in warnings
    assert "images differ in size or shape; each is brought to 32×32" in warnings
    warnings = " ".join(tried(value, tmp_path / "v1", "model.image_size=12", "optim.batch_size=64").warnings)
    assert "convnet16 is made for images of 16 to 64 pixels, and gets 12" in warnings
    assert "optim.batch_size=64 but only 12 images" in warnings


def test_a_long_preparation_says_what_it_is_doing_and_a_short_one_nothing(monkeypatch):
    # not capsys: what another thread writes while it is read and cleared is lost
    told = io.StringIO()
    monkeypatch.setattr(sys, "stderr", told)
    with patience("opening images/", after=60):
        pass
    assert told.getvalue() == ""
    with patience("opening images/", after=0.01):
        while not told.getvalue().endswith("\n"):
            time.sleep(0.001)
    assert told.getvalue() == "opening images/ …\n"
