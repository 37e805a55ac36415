"""Trainings tied to the old model and to earlier ones as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from samespace.data import Augment, FixedViews, ImageSource, open_source
from samespace.encoders import open_image_model
from samespace.errors import InputError
from samespace.losses import EveryGalleryLoss
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.progress import silent_bar
from samespace.train import embed_views, load_recipe, parse_recipe, run
from samespace.train.distributed import Processes
from samespace.train.dry_run import dry_run
from samespace.train.old_side import old_side
from samespace.train.task import CompatibleTask

GLYPHS = "glyphs:classes=6,images=6,size=16"
AUGMENT = {"rotate": 10.0, "translate": 0.1}


def tree(seed: int = 0, dim: int = 8, epochs: int = 5, **compatibility: Any) -> dict[str, Any]:
    return {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": dim, "batch_norm": True},
        "head": {"scale": 16.0, "margin_value": 0.2},
        "optim": {"epochs": epochs, "batch_size": 18, "schedule": "cosine"},
        "augment": AUGMENT,
        "compatibility": compatibility,
        "seed": seed,
    }


@pytest.fixture(scope="module")
def source() -> ImageSource:
    return open_source(GLYPHS)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, source: ImageSource) -> Path:
    """Two models, `v1` of 6 dimensions and `v2` of 8 whose leading 6 are tied to it, and vectors of both."""
    out = tmp_path_factory.mktemp("old")
    tied = {"old_model": str(out / "v1"), "prefix": True, "views": "stored"}
    for seed, (name, dim, keys) in enumerate((("v1", 6, {}), ("v2", 8, tied)), 1):
        model = Embedder.load(run(parse_recipe(tree(seed, dim, epochs=8, **keys)), out / name, quiet=True).model)
        embed_to(model, source, out / f"{name}-plain")
        views = FixedViews(Augment(**AUGMENT), 2)
        embed_views(model, source, views, out / f"{name}-views", progress=silent_bar)
    return out


def stored(old: Path, name: str, *, views: bool = False) -> dict[str, str]:
    return {"old_vectors": str(old / f"{name}-plain"), **({"old_views": str(old / f"{name}-views")} if views else {})}


def likeness(model: Path, old: Path, name: str, source: ImageSource, out: Path) -> float:
    """Mean cosine of a new model's vectors, their leading dimensions, and those of an old one."""
    before = Embedder.load(old / name / "model")
    dim = before.embedding_dim
    new = torch.from_numpy(embed_to(Embedder.load(model), source, out).vectors[:, :dim].copy())
    stored_vectors = torch.from_numpy(embed_to(before, source, out.with_name(f"{out.name}-{name}")).vectors.copy())
    return float(torch.nn.functional.cosine_similarity(new, stored_vectors).mean())


def test_a_model_comes_close_to_each_old_one_of_unlike_dimensions(
    old: Path, source: ImageSource, tmp_path: Path
) -> None:
    found = {}
    for name, earlier in {"one": [], "both": [{"old_model": str(old / "v1")}]}.items():
        recipe = parse_recipe(tree(epochs=16, old_model=str(old / "v2"), earlier=earlier))
        model = run(recipe, tmp_path / name, quiet=True).model
        found[name] = [likeness(model, old, one, source, tmp_path / f"{name}-vectors") for one in ("v1", "v2")]
    assert found["both"][0] > found["one"][0] + 0.2
    assert found["both"][1] > 0.3


@pytest.mark.parametrize("views", [None, 2, "stored"])
def test_models_and_stored_vectors_mix(old: Path, tmp_path: Path, views: Any) -> None:
    recipe = tree(epochs=2, old_model=str(old / "v2"), views=views, earlier=[stored(old, "v1")], warmup_epochs=0)
    run(parse_recipe(recipe), tmp_path / "v3", quiet=True)
    again = load_recipe(tmp_path / "v3" / "recipe.yaml")
    assert again.compatibility.earlier[0].old_vectors == str(old / "v1-plain")
    assert not run(again, tmp_path / "v3", quiet=True).fresh


def test_stored_views_of_all_give_what_the_models_give(old: Path, tmp_path: Path) -> None:
    models = tree(old_model=str(old / "v2"), views=2, earlier=[{"old_model": str(old / "v1"), "weight": 2}])
    files = tree(**stored(old, "v2", views=True), earlier=[{**stored(old, "v1", views=True), "weight": 2}])
    made = [
        run(parse_recipe(one), tmp_path / str(number), quiet=True).model for number, one in enumerate((models, files))
    ]
    weights = [Embedder.load(one).state_dict() for one in made]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_resumes_to_the_bit(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe(tree(old_model=str(old / "v2"), memory=16, earlier=[{"old_model": str(old / "v1")}]))
    whole = Embedder.load(run(recipe, tmp_path / "whole", quiet=True).model).state_dict()
    original, calls = CompatibleTask.forward, []

    def dies(self: CompatibleTask, *args: Any, **kwargs: Any) -> Any:
        assert isinstance(self.influence, EveryGalleryLoss)
        calls.append(args)
        if len(calls) == 7:
            raise RuntimeError("killed")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(CompatibleTask, "forward", dies)
    with pytest.raises(RuntimeError, match="killed"):
        run(recipe, tmp_path / "cut", quiet=True)
    again = Embedder.load(run(recipe, tmp_path / "cut", quiet=True).model).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_a_dry_run_counts_the_vectors_of_all(old: Path, tmp_path: Path) -> None:
    recipe = parse_recipe(tree(old_model=str(old / "v2"), views=3, earlier=[{"old_model": str(old / "v1")}]))
    found = dry_run(recipe, tmp_path / "v3", quiet=True)
    assert found is not None
    assert (found.old["earlier"], found.old["images"], found.old["views"]) == (1, 72, 216)
    assert any("and 1 earlier" in line for line in found.lines())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"earlier": [{"old_model": "v1"}]}, "goes beside compatibility.old_model"),
        ({"old_model": "v2", "method": "unibct-mean", "earlier": [{"old_model": "v1"}]}, "earlier does nothing"),
        ({"old_model": "v2", "earlier": ["v1"]}, "compatibility.earlier' should hold keys and values"),
        ({"old_model": "v2", "earlier": [{}]}, "earlier, number 1: .* needs compatibility.old_model"),
        ({"old_model": "v2", "earlier": [{"old_model": "v1", "old_vectors": "v1.npz"}]}, "number 1: .* give one"),
        (
            {"old_model": "v2", "earlier": [{"old_model": "v0"}, {"old_model": "v1", "weight": 0}]},
            "earlier, number 2: weight should be above 0",
        ),
        (
            {"old_model": "v2", "earlier": [{"old_model": "v0"}, {"old_modle": "v1"}]},
            "earlier, number 2: unknown recipe key .* did you mean 'old_model'",
        ),
        ({"old_model": "v2", "mixed": 0.5, "earlier": [{"old_model": "v1"}]}, "mixed is for one old model"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        parse_recipe(tree(**given))
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_the_images_or_the_others_is_one_line_with_its_number(
    old: Path, source: ImageSource, tmp_path: Path
) -> None:
    other = open_source("glyphs:classes=6,images=4,size=16")
    embed_to(Embedder.load(old / "v1" / "model"), other, tmp_path / "few")
    embed_views(
        Embedder.load(old / "v1" / "model"), source, FixedViews(Augment(**AUGMENT), 3), tmp_path / "three",
        progress=silent_bar,
    )  # fmt: skip
    beside = stored(old, "v2", views=True)
    for given, told in (
        ({"old_model": str(old / "v2"), "earlier": [{"old_model": "nowhere"}]}, "nowhere is not a model folder"),
        ({"old_model": str(old / "v2"), "earlier": [{"old_vectors": "nowhere.npz"}]}, "nowhere.npz"),
        ({"old_model": str(old / "v2"), "earlier": [{"old_vectors": str(tmp_path / "few")}]}, "lacks 12 of 36"),
        ({"old_model": str(old / "v2"), "earlier": [{"old_model": str(old / "v2")}]}, "give each once"),
        ({"old_model": str(old / "v2"), "dim": 6}, "has 8 dimensions"),
        ({"old_model": str(old / "v1"), "dim": 6, "earlier": [{"old_model": str(old / "v2")}]}, "has 8 dimensions"),
        ({**beside, "earlier": [{**stored(old, "v1"), "old_views": str(tmp_path / "three")}]}, "3 and 2 views"),
    ):
        with pytest.raises(InputError, match=told) as caught:
            run(parse_recipe(tree(**given)), tmp_path / "out", quiet=True)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("compatibility.earlier, number 1: ") is ("earlier" in given)


def test_each_old_model_is_loaded_once(
    old: Path, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def counted(model: Path, **options: Any) -> Any:
        loaded.append(model.parent.name)
        return open_image_model(model, **options)

    monkeypatch.setattr("samespace.train.old_side.open_image_model", counted)
    recipe = parse_recipe(tree(old_model=str(old / "v2"), earlier=[{"old_model": str(old / "v1")}])).resolved()
    found = old_side(recipe, source, tmp_path / "v3", torch.device("cpu"), Processes(), True)
    assert loaded == ["v2", "v1"]
    assert [None if side.vectors is None else side.vectors.dim for side in found.each] == [8, 6]
