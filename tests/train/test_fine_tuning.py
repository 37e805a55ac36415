"""AdamW, frozen weights and rates by layer; a user's own network with its own preprocessing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import samespace.train.loop as loop
from samespace.cli.main import run as cli
from samespace.data import open_source
from samespace.errors import InputError
from samespace.losses import MarginHead
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.freezing import freeze
from samespace.models.tensors import load_tensors
from samespace.train import CompatibleTask, dump_recipe, parse_recipe, run
from samespace.train.distributed import synchronize_batch_norm
from samespace.train.dry_run import dry_run
from samespace.train.optim import OptimSection, optimizer_of, stages
from samespace.train.run import build_task

GLYPHS = "glyphs:classes=6,images=8,size=16,seed=3"
ADAMW = {"name": "adamw", "epochs": 2, "batch_size": 16, "lr": 0.01, "layer_decay": 0.5, "clip_norm": 1.0}
FIRST_STAGE = ("backbone.0", "backbone.1")


def plan(**sections) -> dict:
    return {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": 8, "freeze": [*FIRST_STAGE]},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": ADAMW,
        "run": {"device": "cpu"},
        **sections,
    }


def task_of(backbone: str = "convnet16") -> CompatibleTask:
    torch.manual_seed(0)
    embedder = Embedder(EmbedderConfig(backbone, 8, Preprocessing(32, 1)))
    return CompatibleTask(embedder, MarginHead(6, 8))


def started(recipe: dict) -> dict[str, torch.Tensor]:
    """The weights a training begins with."""
    parsed = parse_recipe(recipe).resolved()
    source = open_source(GLYPHS)
    task, _ = build_task(parsed, source, Path("out"), torch.device("cpu"), loop.Processes(), quiet=True)
    return {name: value.clone() for name, value in task.embedder.state_dict().items()}


def test_adamw_decays_no_vectors_and_takes_torchs_values() -> None:
    task = task_of()
    optimizer = optimizer_of(task, OptimSection(name="adamw"))
    assert isinstance(optimizer, torch.optim.AdamW)
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"], optimizer.defaults["eps"]) == (
        1e-3,
        (0.9, 0.999),
        1e-8,
    )
    decay = {value: group["weight_decay"] for group in optimizer.param_groups for value in group["params"]}
    assert set(decay) == set(task.parameters())
    assert all(decay[value] == (0.01 if value.ndim > 1 else 0.0) for value in decay)
    (group,) = optimizer_of(task, OptimSection()).param_groups
    assert group["params"] == list(task.parameters())
    assert (group["lr"], group["momentum"], group["weight_decay"], group["share"]) == (0.1, 0.9, 1e-4, 1.0)


def test_each_stage_learns_at_a_share_of_the_next_ones_rate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, float] = {}
    real = torch.optim.AdamW.step

    def note(self, closure=None):
        for group in self.param_groups:
            for value in group["params"]:
                seen[names[tuple(value.shape), value.ndim]] = group["lr"]
        return real(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", note)
    shapes = started(plan())
    names = {(tuple(value.shape), value.ndim): name for name, value in shapes.items() if value.ndim > 1}
    names |= {(tuple(value.shape), 1): "vector" for value in shapes.values() if value.ndim == 1}
    names[(6, 8), 2] = "head"
    run(parse_recipe(plan(optim={**ADAMW, "epochs": 1, "milestones": [9]})), tmp_path / "v1", quiet=True)
    assert "backbone.0.weight" not in seen
    rates = [seen[f"backbone.{row}.weight"] for row in (3, 6, 9)]
    assert rates == pytest.approx([0.01 / 8, 0.01 / 4, 0.01 / 2])
    assert seen["head"] == seen["projection.0.weight"] == 0.01


def test_the_stages_of_our_networks_and_of_any_other() -> None:
    convnet, iresnet = task_of().embedder.backbone, task_of("iresnet18").embedder.backbone
    assert [len(stage) for stage in stages(convnet)] == [3, 3, 3, 3]
    assert len(stages(iresnet)) == 1 + 8
    assert sum(map(len, stages(iresnet))) == len(list(iresnet.parameters()))

    class WithToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(1, 2))
            self.blocks = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
            self.norm = nn.LayerNorm(2)

    network = WithToken()
    (only,) = stages(network)
    assert only[0] is network.token
    assert [len(stage) for stage in stages(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))))] == [2, 2]


def test_a_training_cut_off_carries_on_to_the_bit_and_frozen_weights_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe(plan(run={"device": "cpu", "checkpoint_minutes": 0.0}))
    run(recipe, tmp_path / "straight", quiet=True)
    real, count = loop.save_checkpoint, iter(range(100))

    def cut_off(*arguments, **options):
        real(*arguments, **options)
        if next(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "cut", quiet=True)
    monkeypatch.setattr(loop, "save_checkpoint", real)
    run(recipe, tmp_path / "cut", quiet=True)
    files = [tmp_path / name / "model" / "model.safetensors" for name in ("straight", "cut")]
    assert files[0].read_bytes() == files[1].read_bytes()
    before, (after, _) = started(plan()), load_tensors(files[0], "weights")
    for name, value in before.items():
        stays = name.startswith(("backbone.0.", "backbone.1."))
        assert torch.equal(value, after[name]) == stays, name


@pytest.mark.parametrize(("was", "now"), [("sgd", "adamw"), ("adamw", "sgd")])
def test_a_checkpoint_of_the_other_optimiser_is_refused(was: str, now: str, tmp_path: Path) -> None:
    sections = {name: {"name": name, "epochs": 1, "batch_size": 16} for name in (was, now)}
    recipes = {name: parse_recipe(plan(optim=section)) for name, section in sections.items()}
    source = open_source(GLYPHS)
    for name in (was, now):
        task, _ = build_task(recipes[name].resolved(), source, tmp_path, torch.device("cpu"), loop.Processes(), True)
        if name == was:
            loop.train(task, source, recipes[name], out=tmp_path, quiet=True)
            continue
        with pytest.raises(InputError, match=f"written with optim.name={was}, and this training has {now}"):
            loop.train(task, source, recipes[name], out=tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (["backbone.convs"], r"no module or weight is named 'backbone.convs'; the nearest are backbone"),
        (["backbone.2"], "no module or weight is named 'backbone.2'"),  # a ReLU, which has no weights
        (["*"], "leaves nothing of the model to train"),
    ],
)
def test_what_cannot_be_frozen_is_refused(patterns: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run(parse_recipe(plan(model={"backbone": "convnet16", "freeze": patterns})), tmp_path / "v1", quiet=True)


def test_names_and_patterns_choose_modules_and_weights() -> None:
    embedder = task_of().embedder
    frozen = freeze(embedder, ["backbone.[0-4]", "backbone.7.weight"])
    assert frozen.norms == {"backbone.1", "backbone.4"}
    trained = {name for name, value in embedder.named_parameters() if value.requires_grad}
    assert trained == {
        "backbone.6.weight", "backbone.7.bias", "backbone.9.weight", "backbone.10.weight", "backbone.10.bias",
        "projection.0.weight", "projection.0.bias",
    }  # fmt: skip
    embedder.frozen_norms = frozen.norms
    synchronize_batch_norm(embedder, torch.device("cpu"))
    embedder.train()
    assert not embedder.backbone[1].training
    assert not embedder.backbone[1].weight.requires_grad
    assert embedder.backbone[7].training
    embedder.embed(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))
    assert not embedder.backbone[4].training


def test_a_dry_run_counts_what_is_frozen_and_both_moments(tmp_path: Path) -> None:
    found = dry_run(parse_recipe(plan()), tmp_path / "v1", quiet=True)
    assert found is not None
    assert found.network["frozen"] == 9 * 16 + 32
    assert found.memory["momentum"] == 2 * found.memory["gradients"]
    assert "176 of them frozen" in found.lines()[1]
    assert "both moments of AdamW" in "\n".join(found.lines())
    assert any("without model.init" in text for text in found.warnings)
    plain = dry_run(
        parse_recipe(plan(model={"backbone": "convnet16"}, optim={"epochs": 1})), tmp_path / "v1", quiet=True
    )
    assert plain is not None
    assert "frozen" not in plain.network
    assert plain.memory["momentum"] == plain.memory["gradients"]


def test_a_recipe_that_uses_none_of_it_reads_as_before() -> None:
    tree = yaml.safe_load(dump_recipe(parse_recipe({"data": {"source": "x"}}).resolved()))
    assert tree["optim"] == {
        "epochs": 35, "batch_size": 256, "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "schedule": "step",
        "milestones": [20, 26, 32], "gamma": 0.1, "warmup_steps": 0, "clip_norm": None,
    }  # fmt: skip
    assert list(tree["optim"])[:5] == ["epochs", "batch_size", "lr", "momentum", "weight_decay"]
    assert "freeze" not in tree["model"]
    tuned = parse_recipe(plan()).resolved()
    assert parse_recipe(yaml.safe_load(dump_recipe(tuned))) == tuned


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "adam"}, "optim.name is 'adam'; did you mean 'adamw'"),
        ({"name": "adamw", "momentum": 0.9}, "optim.momentum belongs to sgd, and optim.name is adamw"),
        ({"betas": [0.9, 0.99]}, "optim.betas belongs to adamw, and optim.name is sgd"),
        ({"name": "adamw", "betas": [0.9]}, "optim.betas should be two numbers"),
        ({"name": "adamw", "eps": 0}, "optim.eps should be above 0"),
        ({"layer_decay": 1.5}, "optim.layer_decay should be above 0 and at most 1, got 1.5"),
    ],
)
def test_values_that_do_not_fit_are_one_line(section: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_recipe({"data": {"source": "x"}, "optim": section})


OWN = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.body = nn.Conv2d(4, 8, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        return self.pool(self.body(self.stem(images))).flatten(1)
"""


def test_a_users_network_with_its_own_preprocessing_from_recipe_to_onnx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    (tmp_path / "own_net_of_a_user.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from own_net_of_a_user import Net

    torch.manual_seed(5)
    start = Net(3).state_dict()
    torch.save(start, "pretrained.pth")
    drawn = np.random.default_rng(0)
    np.savez("people.npz", images=drawn.integers(0, 256, (16, 32, 16, 3), dtype=np.uint8), labels=np.arange(16) % 4)
    model = {
        "backbone": "own_net_of_a_user:Net", "embedding_dim": 6, "image_size": [32, 16], "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225], "init": "pretrained.pth", "freeze": ["backbone.stem"],
    }  # fmt: skip
    recipe = {"data": {"source": "people.npz"}, "model": model, "optim": {**ADAMW, "batch_size": 8}}
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    assert cli(["train", "r.yaml", "--out", "v1", "--quiet"]) == 0
    assert cli(["embed", "v1", "people.npz", "--out", "vectors", "--quiet"]) == 0
    assert cli(["export", "v1", "m.onnx"]) == 0
    trained = Embedder.load("v1/model")
    assert torch.equal(trained.backbone.stem[0].weight, start["stem.0.weight"])
    assert torch.equal(trained.backbone.stem[1].running_mean, start["stem.1.running_mean"])
    assert not torch.equal(trained.backbone.body.weight, start["body.weight"])
    vectors = np.load("vectors/vectors.npy")
    session = onnxruntime.InferenceSession("m.onnx", providers=["CPUExecutionProvider"])
    images = np.load("people.npz")["images"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    (exported,) = session.run(["vectors"], {"images": images})
    assert np.abs(exported - vectors).max() <= 1e-4


@pytest.mark.skipif("SAMESPACE_EXAMPLES" not in os.environ, reason="starts three processes: set SAMESPACE_EXAMPLES")
def test_two_processes_fine_tune_as_one(tmp_path: Path) -> None:
    from tests.train.test_distributed import train

    for name, count in (("one", 1), ("two", 2)):
        train(plan(), tmp_path / name, count)
    one, two = (load_tensors(tmp_path / name / "model" / "model.safetensors", "weights")[0] for name in ("one", "two"))
    for name, value in started(plan()).items():
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-3)
        assert torch.equal(two[name], value) == name.startswith(("backbone.0.", "backbone.1.")), name
