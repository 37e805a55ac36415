"""Settings of studies: the shipped ones fit both studies, wrong ones are one clear line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from samespace.errors import InputError
from samespace.studies import bct, beyond, load_settings, shipped, unibct

STUDIES = (bct(), unibct())


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", shipped())
def test_shipped_settings_give_a_legal_recipe_for_every_model(name):
    settings = load_settings(name)
    for study in STUDIES:
        for model in study.models:
            old = None if model.old is None else Path("old/model")
            recipe = settings.recipe_of(study, model, source="images", seed=3, old=old)
            assert recipe.resolved().compatibility.method == model.method
            assert recipe.seed == 30 + model.generation
            assert recipe.model.name == model.name


def test_the_settings_named_ms1mv3_are_unibcts():
    recipe = (
        load_settings("ms1mv3")
        .recipe_of(unibct(), unibct().model("refined-extended-data"), source="x", seed=666, old=Path("old"))
        .resolved()
    )
    optim, tie = recipe.optim, recipe.compatibility
    assert (optim.epochs, optim.batch_size, optim.lr, optim.momentum, optim.weight_decay) == (35, 256, 0.1, 0.9, 1e-4)
    assert (optim.schedule, optim.milestones, optim.gamma) == ("step", (20, 26, 32), 0.1)
    assert (recipe.head.margin, recipe.head.scale, recipe.head.margin_value) == ("arcface", 64.0, 0.5)
    assert (recipe.model.backbone, recipe.model.embedding_dim, recipe.model.image_size) == ("iresnet18", 512, 112)
    assert (tie.warmup_epochs, tie.refresh_epochs, tie.weight) == (10, (10, 20), 1.0)
    assert (tie.damping, tie.refine_temperature) == (0.9, 0.05)
    assert load_settings("ms1mv3").seeds == (666,)
    deeper = load_settings("ms1mv3").recipe_of(
        unibct(), unibct().model("paragon-identical"), source="x", seed=0, old=None
    )
    assert deeper.model.backbone == "iresnet50"


def test_the_settings_named_imdb_face_are_bcts():
    settings = load_settings("imdb-face")
    recipe = settings.recipe_of(bct(), bct().model("beta"), source="x", seed=0, old=Path("old")).resolved()
    optim = recipe.optim
    assert (optim.epochs, optim.batch_size, optim.lr, optim.weight_decay) == (16, 320, 0.1, 5e-4)
    assert optim.milestones == (8, 12, 14)
    assert (recipe.head.margin, recipe.head.scale, recipe.head.margin_value) == ("cosface", 32.0, 0.4)
    assert (recipe.model.backbone, recipe.model.embedding_dim) == ("iresnet100", 128)
    assert recipe.compatibility.warmup_epochs == 0
    wider = settings.recipe_of(bct(), bct().model("beta-deeper-wider"), source="x", seed=0, old=Path("old"))
    assert (wider.model.backbone, wider.model.embedding_dim, wider.compatibility.prefix) == ("iresnet152", 256, True)


def test_market1501_checks_table_5_on_its_own_protocol():
    settings = load_settings("market1501")
    assert settings.check.benchmark == "market1501"
    assert settings.metric("mAP") == "mAP"
    assert settings.metric("TAR@FAR=1e-4") is None


def test_overrides_reach_recipe_and_check():
    settings = load_settings("omniglot", ["optim.epochs=2", "check.replicates=100", "seeds=[5]"])
    assert settings.recipe["optim"]["epochs"] == 2
    assert settings.recipe["optim"]["batch_size"] == load_settings("omniglot").recipe["optim"]["batch_size"]
    assert (settings.check.replicates, settings.seeds) == (100, (5,))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("about: x\nrecipee: {}\n", "unknown settings key 'recipee'; did you mean 'recipe'"),
        ("about: x\nrecipe: {optimm: {}}\n", "unknown settings key 'recipe.optimm'; did you mean 'optim'"),
        ("recipe: {}\n", "the settings lacks 'about'"),
        ("about: x\ncheck: {fraction: 1.5}\n", "check.fraction lies between 0 and 1"),
        ("about: x\ncheck: {benchmark: ijbc}\n", "check.benchmark=ijbc needs check.files and check.images"),
        ("about: x\ncheck: {files: meta}\n", "belong to check.benchmark"),
        ("about: x\ncheck: {classes: a, groups: b}\n", "exclude each other"),
        ("about: x\ncheck: {replicates: 5}\n", "check.replicates should be at least 100, got 5"),
        ("about: x\nseeds: []\n", "seeds should be whole numbers"),
        ("about: x\nmetrics: {mAP: rank@0}\n", "unknown metric 'rank@0'"),
        ("- a\n", "should hold keys such as 'about:'"),
        ("about: [\n", "is not valid YAML"),
    ],
)
def test_illegal_settings_are_one_clear_line(tmp_path, text, message):
    with pytest.raises(InputError) as caught:
        load_settings(write(tmp_path / "mine.yaml", text))
    assert message in str(caught.value)


def test_unknown_settings_are_suggested():
    with pytest.raises(InputError, match="did you mean 'omniglot'"):
        load_settings("omniglott")


def test_a_missing_variant_is_named(tmp_path):
    settings = load_settings(write(tmp_path / "mine.yaml", "about: x\nrecipe: {}\n"))
    with pytest.raises(InputError, match="lack the variant 'deeper' that model 'beta-deeper' of bct asks for"):
        settings.recipe_of(bct(), bct().model("beta-deeper"), source="x", seed=0, old=Path("old"))


def test_models_that_are_replaced_train_longer_where_the_settings_say_so(tmp_path):
    text = "about: x\nrecipe: {optim: {epochs: 6}}\n"
    plain = load_settings(write(tmp_path / "plain.yaml", text))
    longer = load_settings(write(tmp_path / "longer.yaml", text + "variants: {old: [optim.epochs=9]}\n"))
    for study in (bct(), unibct(), beyond()):
        first = next(model for model in study.models if model.generation == 0)
        later = next(model for model in study.models if model.generation == 1 and model.old is None)
        epochs = [
            settings.recipe_of(study, replace(model, variants=()), source="x", seed=0, old=None).optim.epochs
            for settings in (plain, longer)
            for model in (first, later)
        ]
        assert epochs == [6, 6, 9, 6]


def test_an_illegal_recipe_is_found_when_it_is_built(tmp_path):
    settings = load_settings(write(tmp_path / "mine.yaml", "about: x\nrecipe: {optim: {epochs: 0}}\n"))
    with pytest.raises(InputError, match=r"optim\.epochs should be at least 1"):
        settings.recipe_of(bct(), bct().model("old"), source="x", seed=0, old=None)


def test_models_of_two_generations_start_from_unlike_weights():
    settings = load_settings("small")
    seeds = {
        model.generation: settings.recipe_of(
            bct(), model, source="x", seed=1, old=Path("old") if model.old else None
        ).seed
        for model in bct().models
    }
    assert len(set(seeds.values())) == len(seeds) == 3
