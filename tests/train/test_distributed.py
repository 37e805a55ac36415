"""Two processes over gloo train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from samespace.errors import InputError
from samespace.models import Embedder
from samespace.models.tensors import load_tensors
from samespace.train import parse_recipe, run
from samespace.train.distributed import Processes, check_batch, synchronize_batch_norm

RECIPE = {
    "data": {"source": "glyphs:classes=8,images=12,size=16,seed=2"},
    "model": {"backbone": "convnet16", "embedding_dim": 12},
    "head": {"scale": 16.0, "margin_value": 0.1},
    "optim": {"epochs": 2, "batch_size": 24, "lr": 0.05, "schedule": "cosine"},
    "augment": {"rotate": 10.0, "noise": 0.05, "flip": True},
    "run": {"device": "cpu"},
}


def train(recipe: dict, out: Path, processes: int) -> None:
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    arguments = ["-m", "samespace", "train", str(file), "--out", str(out), "--quiet"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, *arguments] if processes > 1 else [sys.executable, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def measurements(file: Path) -> list[dict]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "validation"]


def test_two_processes_give_the_model_of_one(tmp_path):
    train(RECIPE, tmp_path / "v1", 1)
    tied = {
        **RECIPE,
        "compatibility": {
            "method": "unibct-refined",
            "old_model": str(tmp_path / "v1" / "model"),
            "warmup_epochs": 1,
        },
        "validation": {"classes": 2, "every": 2, "metrics": ["rank@1", "mAP"]},
    }
    train(tied, tmp_path / "one", 1)
    train(tied, tmp_path / "two", 2)
    shared = {**tied, "head": {**RECIPE["head"], "class_parallel": True}}
    train(shared, tmp_path / "shared", 2)
    for kind in ("model", "classifier"):
        one, two, parallel = (
            load_tensors(tmp_path / name / "model" / f"{kind}.safetensors", "weights")[0]
            for name in ("one", "two", "shared")
        )
        assert one.keys() == two.keys() == parallel.keys()
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(parallel[name], value, rtol=1e-3, atol=1e-4)
    lines = [measurements(tmp_path / name / "metrics.jsonl") for name in ("one", "two")]
    assert [line.keys() for line in lines[0]] == [line.keys() for line in lines[1]]
    assert [line["global_step"] for line in lines[1]] == [2, 4, 6]
    for one_line, two_line in zip(*lines, strict=True):
        assert {"rank@1/cross", "mAP/new"} < one_line.keys()
        assert all(abs(one_line[name] - two_line[name]) < 0.1 for name in one_line if "/" in name)
    images = torch.randint(0, 256, (16, 1, 16, 16), generator=torch.Generator().manual_seed(0)).byte()
    a, b = (Embedder.load(tmp_path / name / "model").embed(images) for name in ("one", "two"))
    assert float((a * b).sum(1).min()) > 0.9999


def test_two_processes_tie_to_two_old_models_as_one_does(tmp_path):
    """Without the tail, whose threshold each process takes from its own part of the batch."""
    brief = {**RECIPE, "optim": {**RECIPE["optim"], "epochs": 1}}
    old = [run(parse_recipe({**brief, "seed": seed}), tmp_path / f"v{seed}", quiet=True).model for seed in (1, 2)]
    earlier = [{"old_model": str(old[0])}]
    tied = {"old_model": str(old[1]), "earlier": earlier, "warmup_epochs": 0, "tail_weight": 0.0}
    both = {**brief, "compatibility": tied}
    one = Embedder.load(run(parse_recipe(both), tmp_path / "one", quiet=True).model).state_dict()
    train(both, tmp_path / "two", 2)
    two = Embedder.load(tmp_path / "two" / "model").state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
    untied = Embedder.load(run(parse_recipe(brief), tmp_path / "untied", quiet=True).model).state_dict()
    assert any(not torch.allclose(value, untied[name], atol=1e-2) for name, value in one.items())


def test_shares_cover_all_rows_once():
    for total in (1, 5, 6, 7):
        for count in (1, 2, 3):
            rows = [row for rank in range(count) for row in range(*Processes(rank, count).share(total))]
            assert rows == list(range(total))


def test_a_batch_that_does_not_divide_is_refused():
    check_batch(24, 2)
    with pytest.raises(InputError, match="batch_size=25 does not divide among 2 processes"):
        check_batch(25, 2)


def test_one_process_gathers_nothing(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    with Processes().gathered(rows, 0, 3, tmp_path / "guide.npy") as guide:
        assert guide is rows
    assert not list(tmp_path.iterdir())


class NormThenRelu(nn.BatchNorm2d):
    def forward(self, input):
        return super().forward(input).relu()


def test_a_batch_norm_that_does_more_is_refused_rather_than_stripped():
    with pytest.raises(InputError, match="0 is a NormThenRelu, which cannot be synchronised"):
        synchronize_batch_norm(nn.Sequential(NormThenRelu(3)), torch.device("cpu"))
