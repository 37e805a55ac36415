"""A training killed at any moment ends with the weights of one never killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from samespace.errors import InputError
from samespace.train import Interrupted, parse_recipe, run

GLYPHS = "glyphs:classes=12,images=24,size=16,seed=3"
KILLS = 10


def plan(old: Path | None = None, **sections) -> dict:
    value = {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": 16},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": {"epochs": 3, "batch_size": 32, "schedule": "cosine"},
        "augment": {"rotate": 10.0, "noise": 0.05},
        "run": {"device": "cpu", "checkpoint_minutes": 0.0},
        **sections,
    }
    if old is not None:
        value["compatibility"] = {"method": "unibct-refined", "old_model": str(old), "warmup_epochs": 1}
    return value


def weights(out: Path) -> bytes:
    return (out / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def old_model(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("old") / "v1"
    return run(parse_recipe(plan()), out, quiet=True).model


def start(recipe_file: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "samespace", "train", str(recipe_file), "--out", str(out), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_ten_kills_at_random_moments_change_no_bit(old_model, tmp_path):
    value = plan(old_model, optim={"epochs": 40, "batch_size": 32, "schedule": "cosine"})
    recipe_file = tmp_path / "recipe.yaml"
    recipe_file.write_text(yaml.safe_dump(value))
    finish(recipe_file, tmp_path / "straight")

    moments = random.Random(666)
    out, killed = tmp_path / "killed", 0
    for _ in range(KILLS):
        before = progress_of(out)
        with start(recipe_file, out) as process:
            while process.poll() is None and progress_of(out) == before:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.15))
            killed += process.poll() is None
            process.kill()
    assert killed == KILLS
    finish(recipe_file, out)
    assert weights(out) == weights(tmp_path / "straight")
    assert lines_of(out) == lines_of(tmp_path / "straight")
    assert not list(out.rglob(".*.tmp")), "a killed write left its temporary file for good"


def finish(recipe_file: Path, out: Path) -> None:
    with start(recipe_file, out) as process:
        errors = process.stderr.read()
    assert process.returncode == 0, errors


def progress_of(out: Path) -> int:
    try:
        return (out / "checkpoint.safetensors").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def lines_of(out: Path) -> list[tuple[str, int, int, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(line["kind"], line["epoch"], line["step"], line.get("loss", 0.0)) for line in lines]


def test_ctrl_c_leaves_a_checkpoint_and_the_same_command_carries_on(old_model, tmp_path, monkeypatch):
    recipe = parse_recipe(plan(old_model))
    run(recipe, tmp_path / "straight", quiet=True)

    import samespace.train.loop as loop

    real = loop.save_checkpoint
    calls = []

    def save_then_interrupt(*arguments, **options):
        real(*arguments, **options)
        calls.append(arguments[3].epoch)
        if len(calls) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop, "save_checkpoint", save_then_interrupt)
    with pytest.raises(Interrupted):
        run(recipe, tmp_path / "stopped", quiet=True)
    monkeypatch.setattr(loop, "save_checkpoint", real)
    assert (tmp_path / "stopped" / "checkpoint.safetensors").exists()
    assert run(recipe, tmp_path / "stopped", quiet=True).fresh
    assert weights(tmp_path / "stopped") == weights(tmp_path / "straight")


def test_a_finished_training_does_nothing_and_another_recipe_is_refused(old_model):
    out = old_model.parent
    before = weights(out)
    assert not run(parse_recipe(plan()), out, quiet=True).fresh
    assert weights(out) == before
    with pytest.raises(InputError, match=r"another recipe \(optim.epochs: 3 → 4\)"):
        run(parse_recipe(plan(), ["optim.epochs=4"]), out, quiet=True)


def test_a_half_written_checkpoint_is_never_loaded_as_whole(tmp_path):
    recipe = parse_recipe(plan())
    interrupted = tmp_path / "out"
    interrupted.mkdir()
    other = tmp_path / "other"
    run(recipe, other, quiet=True)
    whole = (other / "model" / "model.safetensors").read_bytes()
    (interrupted / "checkpoint.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        run(recipe, interrupted, quiet=True)
