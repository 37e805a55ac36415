"""The default method in a training: where views come from, what is drawn, and what `auto` takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from samespace.cli.main import cli
from samespace.data import Augment, FixedViews, ImageSource, ViewSource, open_source
from samespace.errors import InputError
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.train import embed_views, parse_recipe, run
from samespace.train.checkpoint import load_checkpoint  # noqa: F401
from samespace.train.old_side import align
from samespace.train.old_views import load_views
from samespace.train.task import CompatibleTask
from samespace.vectors import VectorSet

GLYPHS = "glyphs:classes=6,images=10,size=16"
AUGMENT = {"rotate": 10, "translate": 0.1}


@pytest.fixture(scope="module")
def source() -> ImageSource:
    return open_source(GLYPHS)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("old")
    return run(parse_recipe(_tree(seed=1)), out / "v1", quiet=True).model


def _tree(seed: int = 0, **compatibility: Any) -> dict[str, Any]:
    return {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": compatibility.pop("dim", 8), "batch_norm": True},
        "head": {"scale": 16.0, "margin_value": 0.2},
        "optim": {"epochs": compatibility.pop("epochs", 5), "batch_size": 20, "schedule": "cosine"},
        "augment": AUGMENT,
        "compatibility": compatibility,
        "seed": seed,
    }


def _weights(model: Path) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in Embedder.load(model).state_dict().items()}


def _lines(out: Path) -> list[str]:
    return (out / "metrics.jsonl").read_text().splitlines()


@pytest.mark.parametrize(
    "given", [{"views": "live"}, {"views": "live", "mixed": 0.25}, {"views": "stored"}, {"views": 2}]
)
def test_trains_with_each_kind_of_view_from_the_start_or_after_a_warm_up(
    old: Path, tmp_path: Path, given: dict[str, Any]
) -> None:
    for warmup in (None, 2):
        recipe = parse_recipe(_tree(old_model=str(old), epochs=4, warmup_epochs=warmup, **given))
        run(recipe, tmp_path / str(warmup), quiet=True)
        epochs = [json.loads(line) for line in _lines(tmp_path / str(warmup))]
        acts = [line["influence"] > 0 for line in epochs if line["kind"] == "epoch"]
        assert acts == [warmup is None, warmup is None, True, True]


def test_brings_new_vectors_to_the_old_ones(old: Path, tmp_path: Path, source: ImageSource) -> None:
    before = embed_to(Embedder.load(old), source, tmp_path / "old").vectors

    def likeness(**compatibility: Any) -> float:
        name = str(sorted(compatibility))
        model = run(parse_recipe(_tree(epochs=12, **compatibility)), tmp_path / f"{len(name)}", quiet=True).model
        new = embed_to(Embedder.load(model), source, tmp_path / f"new-{len(name)}").vectors
        return float((new * before).sum(axis=1).mean())

    assert likeness(old_model=str(old)) > likeness() + 0.3


def test_resumes_to_the_bit(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(_tree(old_model=str(old), mixed=0.25))
    whole = run(recipe, tmp_path / "whole", quiet=True).model
    original = CompatibleTask.forward
    calls = 0

    def dies(self: CompatibleTask, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 11:
            raise RuntimeError("killed")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(CompatibleTask, "forward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        run(recipe, tmp_path / "cut", quiet=True)
    monkeypatch.setattr(CompatibleTask, "forward", original)
    again = run(recipe, tmp_path / "cut", quiet=True).model
    assert all(torch.equal(value, _weights(again)[name]) for name, value in _weights(whole).items())


def test_views_made_by_the_command_serve_a_training_without_the_old_model(
    old: Path, tmp_path: Path, source: ImageSource
) -> None:
    import yaml

    recipe = tmp_path / "v2.yaml"
    recipe.write_text(yaml.safe_dump(_tree(old_vectors=str(tmp_path / "plain"), old_views=str(tmp_path / "views"))))
    made = CliRunner().invoke(
        cli,
        [
            "embed",
            str(old),
            GLYPHS,
            "--out",
            str(tmp_path / "views"),
            "--views",
            "3",
            "--recipe",
            str(recipe),
            "--quiet",
        ],
    )
    assert made.exit_code == 0, made.output
    assert "180 vectors" in made.output
    embed_to(Embedder.load(old), source, tmp_path / "plain")
    without = run(parse_recipe(yaml.safe_load(recipe.read_text())), tmp_path / "without", quiet=True).model
    with_model = run(parse_recipe(_tree(old_model=str(old), views=3)), tmp_path / "with", quiet=True).model
    assert all(torch.equal(value, _weights(with_model)[name]) for name, value in _weights(without).items())


def test_old_vectors_of_a_view_are_those_of_the_image_that_the_training_shows(
    old: Path, tmp_path: Path, source: ImageSource
) -> None:
    embedder = Embedder.load(old)
    views = FixedViews(Augment(**AUGMENT), count=3, seed=0)
    from samespace.progress import silent_bar

    embed_views(embedder, source, views, tmp_path / "views", progress=silent_bar)
    stored = load_views(tmp_path / "views", source, align)
    rows = np.array([4, 17, 30, 59])
    chosen = views.chosen(stored.numbers[rows], epoch=1)
    shown = views.apply(source.load(rows).float() / 255, stored.numbers[rows], chosen)
    expected = embedder.eval().embed_unit(shown).numpy()
    np.testing.assert_allclose(stored.take(rows, chosen), expected, atol=1e-5)


def test_a_view_depends_on_the_id_alone_and_all_views_come_in_turn(source: ImageSource) -> None:
    views = FixedViews(Augment(**AUGMENT), count=3)
    numbers = views.numbers(source.ids)
    assert np.array_equal(views.numbers(source.ids[::-1]), numbers[::-1])
    turns = np.stack([views.chosen(numbers, epoch) for epoch in range(3)])
    assert np.array_equal(np.sort(turns, axis=0), np.repeat(np.arange(3)[:, None], len(numbers), axis=1))
    one, other = ViewSource(source, views, 0), ViewSource(source, views, 1)
    assert torch.equal(one.load(np.array([3, 5]))[1:], one.load(np.array([5])))
    assert not torch.equal(one.load(np.array([3])), other.load(np.array([3])))
    assert one.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ({"old_model": "v1"}, "matched"),
        ({"old_vectors": "old.npz"}, "matched"),
        ({"old_classifier": "classifier.safetensors"}, "bct"),
        ({}, "none"),
    ],
)
def test_auto_takes_the_best_that_the_inputs_allow(given: dict[str, str], method: str) -> None:
    assert parse_recipe(_tree(**given)).resolved().compatibility.method == method


def test_matched_free_ties_the_leading_dimensions_and_leaves_the_others(
    old: Path, tmp_path: Path, source: ImageSource
) -> None:
    recipe = parse_recipe(_tree(method="matched-free", old_model=str(old), dim=12))
    assert recipe.resolved().compatibility.prefix
    model = run(recipe, tmp_path / "v2", quiet=True).model
    assert Embedder.load(model).embedding_dim == 12


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"old_vectors": "o", "views": "live"}, "needs compatibility.old_model"),
        ({"old_vectors": "o", "views": 4}, "needs compatibility.old_model"),
        ({"old_model": "v1", "views": 0}, "at least 1"),
        ({"old_model": "v1", "views": "many"}, "views is 'many'"),
        ({"old_model": "v1", "old_views": "w"}, "old_views goes with compatibility.old_vectors"),
        ({"old_vectors": "o", "old_views": "w", "views": "stored"}, "exclude each other"),
        ({"old_model": "v1", "views": "stored", "mixed": 0.5}, "mixed needs the old model"),
        ({"old_model": "v1", "far": 2.0}, "false accept rate"),
        ({"old_model": "v1", "method": "unibct-mean", "far": 0.1}, "does nothing for method=unibct-mean"),
        ({"old_model": "v1", "method": "mached"}, "matched"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_recipe(_tree(**given))
    assert "\n" not in str(caught.value)


def test_views_need_an_augmentation() -> None:
    tree = _tree(old_model="v1", views=4)
    del tree["augment"]
    with pytest.raises(InputError, match="views=4 needs random changes"):
        parse_recipe(tree)


def test_views_of_another_augmentation_are_refused(old: Path, tmp_path: Path, source: ImageSource) -> None:
    from samespace.progress import silent_bar

    embedder = Embedder.load(old)
    embed_views(embedder, source, FixedViews(Augment(rotate=30), 2), tmp_path / "views", progress=silent_bar)
    embed_to(embedder, source, tmp_path / "plain")
    recipe = parse_recipe(_tree(old_vectors=str(tmp_path / "plain"), old_views=str(tmp_path / "views")))
    with pytest.raises(InputError, match="rotate=30"):
        run(recipe, tmp_path / "v2", quiet=True)
    with pytest.raises(InputError, match="other settings"):
        embed_views(embedder, source, FixedViews(Augment(rotate=31), 2), tmp_path / "views", progress=silent_bar)
    VectorSet.load(tmp_path / "views" / "0")
    assert os.listdir(tmp_path / "views")
