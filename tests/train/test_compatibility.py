"""Every method of the recipe trains, and says no where it cannot."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from samespace import prototypes
from samespace.data import open_source, subset
from samespace.errors import InputError, TrainingError
from samespace.losses import BctDistillationLoss, InfluenceLoss
from samespace.models import Classifier, Embedder
from samespace.models.extract import embed
from samespace.train import parse_recipe, run
from samespace.train.compatibility import METHODS, check_section, compatibility_term
from samespace.train.distributed import Processes
from samespace.train.methods.method import Method, OldSide, Term
from samespace.train.old_side import align
from samespace.train.run import build_task
from samespace.train.sections import CompatibilitySection
from samespace.vectors import VectorSet

GLYPHS = "glyphs:classes=10,images=8,size=16,seed=5"
OLD_CLASSES = 6


@pytest.fixture(scope="module")
def source():
    return open_source(GLYPHS)


@pytest.fixture(scope="module")
def old_model(tmp_path_factory, source):
    """A model of the first classes only."""
    rows = np.flatnonzero(source.labels < OLD_CLASSES)
    return run(recipe(), tmp_path_factory.mktemp("models") / "v1", source=subset(source, rows), quiet=True).model


def recipe(*overrides, **compatibility):
    value = {
        "data": {"source": GLYPHS},
        "model": {"backbone": "convnet16", "embedding_dim": 12},
        "head": {"scale": 16.0, "margin_value": 0.1},
        "optim": {"epochs": 2, "batch_size": 16, "schedule": "cosine"},
        "run": {"device": "cpu"},
    }
    if compatibility:
        value["compatibility"] = {"warmup_epochs": 1, **compatibility}
    return parse_recipe(value, overrides)


def term(recipe, source, old):
    return compatibility_term(recipe.compatibility, recipe.head, source, old)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "none"])
def test_each_method_trains_after_its_warm_up(method, source, old_model, tmp_path):
    dim = 16 if method == "matched-free" else 12
    parsed = recipe(f"model.embedding_dim={dim}", method=method, old_model=str(old_model))
    trained = run(parsed, tmp_path / "v2", source=source, quiet=True)
    lines = [json.loads(line) for line in (tmp_path / "v2" / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert [line["influence_weight"] for line in epochs] == [0.0, 1.0]
    assert epochs[1]["influence"] > 0
    assert Embedder.load(trained.model).embedding_dim == dim
    assert Classifier.load(trained.model / "classifier.safetensors").classes == source.classes


class _PullsViews(torch.nn.Module):
    needs_old_views = True

    def forward(self, embeddings, labels, old_views):
        assert not old_views.requires_grad
        torch.testing.assert_close(old_views.norm(dim=1), torch.ones(len(labels)))
        return (torch.nn.functional.normalize(embeddings) - old_views).square().sum(dim=1).mean()


def test_a_loss_that_asks_for_old_views_gets_the_old_models_embedding_of_them(source, old_model, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "views", Method(lambda *_: Term(_PullsViews()), needs=("model",)))
    run(recipe(method="views", old_model=str(old_model)), tmp_path / "v2", source=source, quiet=True)
    with pytest.raises(InputError, match=r"method=views needs compatibility.old_model$"):
        recipe(method="views", old_vectors="v")


def test_old_vectors_serve_as_well_as_the_old_model(source, old_model, tmp_path):
    vectors = embed(Embedder.load(old_model), source)
    shuffled = vectors.subset(np.random.default_rng(0).permutation(len(vectors)))
    shuffled.save(tmp_path / "old")
    by_model = recipe(method="unibct-mean", old_model=str(old_model))
    by_vectors = recipe(method="unibct-mean", old_vectors=str(tmp_path / "old"))
    a = run(by_model, tmp_path / "a", source=source, quiet=True).model
    b = run(by_vectors, tmp_path / "b", source=source, quiet=True).model
    assert (a / "model.safetensors").read_bytes() == (b / "model.safetensors").read_bytes()


def test_the_old_models_vectors_are_made_once_for_all_trainings(source, old_model, tmp_path):
    for name in ("a", "b"):
        run(recipe(method="l2", old_model=str(old_model)), tmp_path / name, source=source, quiet=True)
    assert len(list((tmp_path / "old-vectors").iterdir())) == 1


def test_refined_prototypes_are_built_from_the_present_model(source, old_model):
    old = OldSide(embed(Embedder.load(old_model), source))
    influence, refresh = term(recipe(method="unibct-refined", old_model="v1"), source, old)
    guide = torch.randn(len(source), 12, generator=torch.Generator().manual_seed(0))
    assert isinstance(influence, InfluenceLoss)
    expected = prototypes.refined(old.vectors.vectors, torch.from_numpy(source.labels), 10, guide=guide)
    torch.testing.assert_close(refresh(guide), expected)


def test_synthesised_rows_are_the_mean_where_no_class_is_shared(source, old_model):
    """Without a shared class BCT-synthesised has UniBCT's means as targets and the old rows as further negatives."""
    vectors = embed(Embedder.load(old_model), source)
    known = Classifier.load(old_model / "classifier.safetensors")
    stranger = Classifier(
        known.weight, tuple(f"x{n}" for n in range(OLD_CLASSES)), known.margin, known.scale, known.margin_value
    )
    options = {"margin": "arcface", "scale": 16.0, "margin_value": 0.1}
    synth, _ = term(recipe(method="bct-synth", old_model="v1", **options), source, OldSide(vectors, stranger))
    mean, _ = term(recipe(method="unibct-mean", old_model="v1", **options), source, OldSide(vectors))
    assert synth.rows.tolist() == list(range(OLD_CLASSES, OLD_CLASSES + 10))
    torch.testing.assert_close(synth.weight[:OLD_CLASSES], torch.nn.functional.normalize(known.weight))
    torch.testing.assert_close(synth.weight[synth.rows], mean.weight)
    embeddings = torch.randn(20, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 10
    assert synth(embeddings, labels) > mean(embeddings, labels)


def test_a_plain_softmax_head_keeps_its_bias_when_rows_are_synthesised(source, old_model):
    vectors = embed(Embedder.load(old_model), source)
    known = Classifier.load(old_model / "classifier.safetensors")
    bias = torch.arange(OLD_CLASSES).float()
    plain = Classifier(known.weight, known.classes, "softmax", 1.0, None, bias)
    synth, _ = term(recipe(method="bct-synth", old_model="v1"), source, OldSide(vectors, plain))
    torch.testing.assert_close(synth.offset, torch.cat([bias, bias.mean().expand(10 - OLD_CLASSES)]))
    lengths = synth.weight.norm(dim=1)
    torch.testing.assert_close(lengths[OLD_CLASSES:], lengths[:OLD_CLASSES].mean().expand(10 - OLD_CLASSES))


def test_bct_distillation_weighs_both_losses_by_their_samples(source, old_model):
    vectors = embed(Embedder.load(old_model), source)
    classifier = Classifier.load(old_model / "classifier.safetensors")
    loss, _ = term(recipe(method="bct-kd", old_model="v1"), source, OldSide(vectors, classifier))
    assert isinstance(loss, BctDistillationLoss)
    labels = torch.tensor([0, 1, 8])
    embeddings, old = torch.randn(3, 12), torch.randn(3, 12)
    influence = loss.influence(embeddings[:2], labels[:2])
    distillation = loss.distillation(embeddings[2:], labels[2:], old[2:])
    torch.testing.assert_close(loss(embeddings, labels, old), (2 * influence + distillation) / 3)


def test_a_wider_model_is_compared_by_its_leading_dimensions_where_asked(source, old_model, tmp_path):
    wider = ("model.embedding_dim=20",)
    with pytest.raises(InputError, match=r"embedding_dim=20 but the old model has 12.*prefix=true"):
        run(recipe(*wider, method="bct", old_model=str(old_model)), tmp_path / "a", source=source, quiet=True)
    tied = recipe(*wider, method="unibct-mean", old_model=str(old_model), prefix=True)
    model = Embedder.load(run(tied, tmp_path / "b", source=source, quiet=True).model)
    assert model.embedding_dim == 20
    with pytest.raises(InputError, match="prefix needs a new model wider"):
        run(recipe(method="bct", old_model=str(old_model), prefix=True), tmp_path / "c", source=source, quiet=True)


@pytest.mark.parametrize(
    ("options", "margin", "value"),
    [
        ({}, "arcface", 0.1),
        ({"margin_value": 0.3}, "arcface", 0.3),
        ({"margin": "arcface"}, "arcface", 0.1),
        ({"margin": "cosface"}, "cosface", 0.4),
        ({"margin": "cosface", "margin_value": 0.2}, "cosface", 0.2),
    ],
)
@pytest.mark.parametrize("method", ["bct", "unibct-mean"])
def test_the_margin_of_the_term_is_the_recipes_or_else_the_heads(source, old_model, method, options, margin, value):
    old = OldSide(embed(Embedder.load(old_model), source), Classifier.load(old_model / "classifier.safetensors"))
    loss, _ = term(recipe(method=method, old_model="v1", **options), source, old)
    assert (loss.margin, loss.margin_value, loss.scale) == (margin, value, 16.0)


def test_nameless_vectors_in_another_order_are_noticed_by_their_labels(source):
    names = np.asarray(source.classes)[source.labels]
    assert align(VectorSet.from_arrays(np.ones((80, 12)), labels=names), source).labels[0] == names[0]
    with pytest.raises(InputError, match="labels are not those of the images in their order"):
        align(VectorSet.from_arrays(np.ones((80, 12)), labels=np.roll(names, 3)), source)


def test_nameless_vectors_of_another_part_of_one_array_file_are_noticed(source):
    other_part = replace(VectorSet.from_arrays(np.ones((80, 12))), ids=np.arange(80, 160).astype(str))
    with pytest.raises(InputError, match="other rows than the training images"):
        align(other_part, source)


def test_other_images_than_those_trained_on_are_noticed(source, tmp_path):
    run(recipe(), tmp_path / "v1", source=source, quiet=True)
    fewer = subset(source, np.arange(len(source) - 1))
    with pytest.raises(InputError, match="was trained on other images"):
        run(recipe(), tmp_path / "v1", source=fewer, quiet=True)


def test_weights_that_are_no_longer_finite_are_never_saved(source, tmp_path, monkeypatch):
    real = torch.optim.SGD.step

    def break_weights(self, *arguments, **options):
        real(self, *arguments, **options)
        self.param_groups[0]["params"][0].data.fill_(torch.inf)

    monkeypatch.setattr(torch.optim.SGD, "step", break_weights)
    one_step = recipe("optim.batch_size=80", "optim.epochs=1")
    with pytest.raises(TrainingError, match=r"no longer finite.*weights of"):
        run(one_step, tmp_path / "v1", source=source, quiet=True)
    assert not (tmp_path / "v1" / "model").exists()
    assert not (tmp_path / "v1" / "checkpoint.safetensors").exists()


def test_bct_without_a_shared_class_is_refused(source, old_model, tmp_path):
    rows = np.flatnonzero(source.labels >= OLD_CLASSES)
    with pytest.raises(InputError, match="none of the 4 training classes is known to the old classifier"):
        run(
            recipe(method="bct", old_model=str(old_model)),
            tmp_path / "v2",
            source=subset(source, rows),
            quiet=True,
        )


def test_old_vectors_that_do_not_fit_the_images_are_named(source):
    some = VectorSet.from_arrays(np.eye(len(source), 12) + 1, ids=[f"other-{n}" for n in range(len(source))])
    with pytest.raises(InputError, match=r"lacks 80 of 80 training images, such as 'glyph-5-00000/00000'"):
        align(some, source)
    nameless = VectorSet.from_arrays(np.ones((7, 12)))
    with pytest.raises(InputError, match="has 7 vectors and no ids for 80 training images"):
        align(nameless, source)


def test_one_class_is_too_few_to_train_on(source, tmp_path):
    with pytest.raises(InputError, match="holds 1 class; training needs at least 2"):
        run(recipe(), tmp_path / "v1", source=subset(source, np.arange(5)), quiet=True)


def test_the_heads_kernel_is_that_of_the_influence_loss_and_a_line_says_where_it_cannot_be_used(
    source, old_model, tmp_path, capsys
):
    asked = recipe("head.kernel=bf16", method="bct", old_model=str(old_model)).resolved()
    task, _ = build_task(asked, source, tmp_path, torch.device("cpu"), Processes(), quiet=False)
    assert (task.head.kernel, task.influence.kernel) == ("float32", "float32")
    asked = recipe("head.kernel=auto", method="bct", old_model=str(old_model)).resolved()
    task, _ = build_task(asked, source, tmp_path, torch.device("cpu"), Processes(), quiet=True)
    assert (task.head.kernel, task.influence.kernel) == ("auto", "auto")
    assert "head.kernel=bf16: it needs a GPU; many classes are computed in float32\n" in capsys.readouterr().err


def test_a_loss_that_is_no_longer_finite_stops_with_its_cause(source, tmp_path):
    wild = recipe("optim.lr=1e30", "head.margin=softmax", "head.margin_value=null")
    with pytest.raises(TrainingError, match=r"classification loss is no longer finite at epoch 1.*lower optim.lr"):
        run(wild, tmp_path / "v1", source=source, quiet=True)


def test_a_broken_term_is_named_as_the_cause(source, old_model, tmp_path, monkeypatch):
    monkeypatch.setattr(InfluenceLoss, "forward", lambda self, e, y: e.sum() * torch.nan)
    with pytest.raises(TrainingError, match=r"compatibility term is no longer finite at epoch 2.*checkpoint in"):
        run(recipe(method="bct", old_model=str(old_model)), tmp_path / "v2", source=source, quiet=True)
    assert (tmp_path / "v2" / "checkpoint.safetensors").exists()


def test_metrics_go_to_tensorboard_too(source, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra 'tensorboard' is not installed")
    run(recipe("run.loggers=[tensorboard]"), tmp_path / "v1", source=source, quiet=True)
    assert list((tmp_path / "v1" / "tensorboard").iterdir())


def test_a_logger_that_is_not_installed_is_one_clear_line(source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install 'samespace\[wandb\]'"):
        run(recipe("run.loggers=[wandb]"), tmp_path / "v1", source=source, quiet=True)


def test_bf16_autocast_trains_on_a_cpu(source, tmp_path):
    run(recipe("run.precision=bf16"), tmp_path / "v1", source=source, quiet=True)
    assert (tmp_path / "v1" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("unibct", "unibct-refined"),
        ("UniBCT", "unibct-refined"),
        ("BCT", "bct"),
        ("Matched", "matched"),
        ("kd", "bct-kd"),
    ],
)
def test_a_method_that_is_none_is_answered_with_the_recommended_one(given, meant):
    with pytest.raises(InputError, match=f"did you mean '{meant}'\\?"):
        check_section(CompatibilitySection(method=given, old_model="runs/v1"))


def test_every_recommended_method_exists():
    from samespace.train import compatibility

    assert set(compatibility._MEANT.values()) <= {*compatibility.METHODS, "auto"}
