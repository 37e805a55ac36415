from __future__ import annotations

import pytest
import yaml

from samespace.errors import InputError
from samespace.train.optim import OptimSection, learning_rate
from samespace.train.recipe import Recipe
from samespace.train.recipe_file import differences, dump_recipe, load_recipe, parse_recipe

BASE = {"data": {"source": "glyphs"}}


def recipe(*overrides, **sections):
    return parse_recipe({**BASE, **sections}, overrides)


def test_the_defaults_are_the_papers_at_35_epochs():
    resolved = recipe(compatibility={"method": "unibct-refined", "old_model": "v1"}).resolved()
    assert resolved.optim.milestones == (20, 26, 32)
    assert resolved.compatibility.warmup_epochs == 10
    assert resolved.compatibility.refresh_epochs == (10, 20)
    assert (resolved.compatibility.damping, resolved.compatibility.refine_temperature) == (0.9, 0.05)
    assert (resolved.head.margin, resolved.head.scale) == ("arcface", 64.0)
    assert (resolved.optim.lr, resolved.optim.weight_decay, resolved.optim.batch_size) == (0.1, 1e-4, 256)


def test_defaults_follow_the_number_of_epochs():
    resolved = recipe("optim.epochs=7", compatibility={"method": "unibct-refined", "old_model": "v1"}).resolved()
    assert resolved.optim.milestones == (4, 5, 6)
    assert resolved.compatibility.refresh_epochs == (2, 4)


def test_a_resolved_recipe_comes_back_from_yaml(tmp_path):
    original = recipe("head.margin_value=0.2", "augment.flip=true", "run.loggers=[tensorboard]").resolved()
    (tmp_path / "r.yaml").write_text(dump_recipe(original))
    assert load_recipe(tmp_path / "r.yaml") == original


@pytest.mark.parametrize(
    ("override", "where", "value"),
    [
        ("optim.lr=1e-2", lambda r: r.optim.lr, 0.01),
        ("optim.milestones=[3, 4]", lambda r: r.optim.milestones, (3, 4)),
        ("seed=7", lambda r: r.seed, 7),
        ("model.name=v2", lambda r: r.model.name, "v2"),
        ("optim.clip_norm=null", lambda r: r.optim.clip_norm, None),
    ],
)
def test_overrides(override, where, value):
    assert where(recipe(override)) == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.epoch=3", r"unknown recipe key 'optim.epoch'; did you mean 'epochs'\?"),
        ("optimizer.lr=3", r"unknown recipe key 'optimizer'; did you mean 'optim'\?"),
        ("compatibility.method=unibct", "did you mean 'unibct-"),
        ("optim.epochs=three", "optim.epochs should be a whole number, got 'three'"),
        ("optim.epochs=true", "optim.epochs should be a whole number"),
        ("optim.epochs=0", "at least 1"),
        ("optim.lr=0", "above 0"),
        ("optim.clip_norm=0", "above 0"),
        ("optim.weight_decay=-1", "at least 0"),
        ("seed=-1", "at least 0"),
        ("model.batch_norm=1", "should be true or false"),
        ("head.kernel=tritn", r"head.kernel.* 'tritn'"),
        ("optim.milestones=3", "should be a list"),
        ("augment.rotate=-3", "rotate"),
        ("optim", "an override is section.key=value"),
        ("data.part=old", "data.part=old and data.allocation=None exclude each other"),
    ],
)
def test_bad_values_are_one_clear_line(override, message):
    with pytest.raises(InputError, match=message) as caught:
        recipe(override)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"method": "none", "old_model": "v1"}, "method=none uses no old model"),
        ({"method": "bct"}, "needs compatibility.old_model or .old_classifier"),
        ({"method": "bct", "old_vectors": "v"}, "needs compatibility.old_model or .old_classifier"),
        ({"method": "unibct-mean", "old_classifier": "c"}, "needs compatibility.old_model or .old_vectors"),
        ({"method": "l2", "old_model": "v1", "old_vectors": "v"}, "exclude each other"),
        ({"method": "unibct-mean", "old_model": "v1", "similarity_cap": 0.9}, "belongs to unibct-refined"),
        ({"method": "bct", "old_model": "v1", "temperature": 0.1}, "contrastive, bct-kd and lwf"),
        ({"method": "l2", "old_model": "v1", "margin": "cosface"}, "does nothing for method=l2"),
        ({"method": "l2", "old_model": "v1", "warmup_epochs": 35}, "would never act"),
        ({"method": "unibct-refined", "old_model": "v1", "refresh_epochs": [5]}, "from the end of the warm-up, 10, to"),
        ({"method": "unibct-refined", "old_model": "v1", "refresh_epochs": [35]}, "the last epoch, 34, got 35"),
        ({"method": "unibct-refined", "old_model": "v1", "refresh_epochs": []}, "got none"),
        ({"method": "unibct-mean", "old_model": "v1", "refresh_epochs": [20]}, "belongs to unibct-refined"),
        ({"method": "l2", "old_model": "v1", "margin_value": 0.1}, "margin_value does nothing for method=l2"),
        ({"method": "unibct-refined", "old_model": "v1", "damping": 1.0}, r"damping should be in \[0, 1\)"),
    ],
)
def test_options_that_exclude_each_other(section, message):
    with pytest.raises(InputError, match=message):
        recipe(compatibility=section)


def test_a_cosine_schedule_has_no_milestones():
    with pytest.raises(InputError, match="exclude each other"):
        recipe("optim.schedule=cosine", "optim.milestones=[3]")
    assert recipe("optim.schedule=cosine").resolved().optim.milestones == ()


def test_a_recipe_without_data_is_refused(tmp_path):
    with pytest.raises(InputError, match="the recipe lacks 'data'"):
        parse_recipe({})
    (tmp_path / "r.yaml").write_text("a: [1")
    with pytest.raises(InputError, match="not valid YAML"):
        load_recipe(tmp_path / "r.yaml")
    with pytest.raises(InputError, match="does not exist; expected a recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_yaml_cannot_build_objects(tmp_path):
    (tmp_path / "r.yaml").write_text("data: !!python/object/apply:os.getcwd []")
    with pytest.raises(InputError, match="not valid YAML"):
        load_recipe(tmp_path / "r.yaml")


def test_differences_ignore_how_a_recipe_is_run():
    assert differences(recipe(), recipe("run.device=cpu")) == []
    assert differences(recipe(), recipe("optim.lr=0.2")) == ["optim.lr: 0.1 → 0.2"]


def test_the_cosine_schedule_falls_to_zero_and_warms_up():
    optim = OptimSection(epochs=2, schedule="cosine", lr=1.0, warmup_steps=2)
    rates = [learning_rate(optim, epoch, step, 4) for epoch in range(2) for step in range(4)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert rates[-1] < 0.05


def test_every_key_is_documented():
    for section in (Recipe, *(type(getattr(recipe(), name)) for name in ("data", "model", "head", "optim"))):
        for name in section.__dataclass_fields__:
            assert f"        {name}: " in (section.__doc__ or ""), f"{section.__name__}.{name}"


def test_an_empty_section_takes_its_defaults():
    assert parse_recipe({**BASE, **yaml.safe_load("optim:")}) == recipe()


def test_a_training_of_one_epoch_can_refine() -> None:
    recipe = parse_recipe(
        {
            "data": {"source": "x"},
            "optim": {"epochs": 1},
            "compatibility": {"method": "unibct-refined", "old_model": "v1"},
        }
    ).resolved()
    assert recipe.compatibility.refresh_epochs == (0,)
    assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
