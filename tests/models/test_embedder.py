from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from samespace.errors import InputError
from samespace.models import Classifier, Embedder, EmbedderConfig, Preprocessing
from samespace.models.backbones import build_backbone, feature_dim
from samespace.models.iresnet import DEPTHS, iresnet
from samespace.models.tensors import save_tensors

CONFIG = EmbedderConfig("convnet16", 24, Preprocessing(size=16, channels=1), batch_norm=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Embedder(CONFIG, name="v1").eval()


def images(count=4, channels=1, size=16):
    return torch.randint(0, 256, (count, channels, size, size), generator=torch.Generator().manual_seed(1)).byte()


def test_copying_weights_gives_the_same_space_and_one_changed_weight_another(model):
    twin = Embedder(CONFIG, name="renamed")
    assert twin.space != model.space
    twin.load_state_dict(model.state_dict())
    assert twin.space == model.space
    with torch.no_grad():
        twin.projection[0].weight[0, 0] += 1e-6
    assert twin.space != model.space


def test_another_resize_gives_another_space(model):
    other = Embedder(replace(CONFIG, preprocessing=replace(CONFIG.preprocessing, mean=0.4)))
    other.load_state_dict(model.state_dict())
    assert other.space != model.space


def test_the_same_weights_in_another_architecture_are_another_space(model):
    other = Embedder(replace(CONFIG, relu=True))
    other.load_state_dict(model.state_dict())
    assert other.space != model.space


def test_vectors_are_unit_deterministic_and_independent_of_their_batch(model):
    model.train()
    whole = model.embed(images(6))
    assert model.training
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(6))
    torch.testing.assert_close(torch.cat([model.embed(images(6)[:2]), model.embed(images(6)[2:])]), whole)


def test_a_saved_model_comes_back_with_its_space_and_classifier(model, tmp_path):
    classifier = Classifier(torch.randn(3, 24), ("a", "b", "c"), "arcface", 64.0, 0.3, torch.randn(3))
    model.save(tmp_path / "m", classifier)
    loaded = Embedder.load(tmp_path / "m")
    assert loaded.space == model.space
    assert loaded.name == "v1"
    torch.testing.assert_close(loaded.embed(images()), model.embed(images()), rtol=0, atol=0)
    again = Classifier.load(tmp_path / "m" / "classifier.safetensors")
    assert (again.classes, again.margin, again.scale, again.margin_value) == (("a", "b", "c"), "arcface", 64.0, 0.3)
    torch.testing.assert_close(again.weight, classifier.weight)
    torch.testing.assert_close(again.bias, classifier.bias)


def test_truncated_weights_are_refused(model, tmp_path):
    model.save(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged or not safetensors"):
        Embedder.load(tmp_path / "m")


def test_weights_swapped_under_a_configuration_are_noticed(model, tmp_path):
    model.save(tmp_path / "m")
    Embedder(CONFIG).save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(tmp_path / "m" / "model.safetensors")
    with pytest.raises(InputError, match="not those the configuration was written for"):
        Embedder.load(tmp_path / "m")


def test_weights_of_another_shape_are_one_clear_line(model, tmp_path):
    model.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["embedding_dim"] = 32
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="do not fit the configuration: size mismatch"):
        Embedder.load(tmp_path / "m")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (images(channels=3), r"expects 1 channel\(s\), got images of 3"),
        (images().float(), "expected uint8 images"),
        (images()[0], "expected uint8 images of shape"),
    ],
)
def test_foreign_images_are_refused(model, batch, message):
    with pytest.raises(InputError, match=message):
        model.embed(batch)


def test_images_of_another_size_are_resized(model):
    assert model.embed(images(size=40)).shape == (4, 24)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnet8x", "did you mean 'convnet"),
        ("iresnet51", "did you mean 'iresnet50'"),
        ("no.such.module:net", "cannot be imported"),
    ],
)
def test_an_unknown_backbone_is_one_clear_line(name, message):
    with pytest.raises(InputError, match=message):
        Embedder(replace(CONFIG, backbone=name))


def test_a_users_own_network_by_name(monkeypatch, tmp_path):
    (tmp_path / "mynet.py").write_text(
        "from torch import nn\n"
        "def small(channels): return nn.Sequential(nn.Conv2d(channels, 4, 3, stride=4), nn.Flatten())\n"
        "def broken(channels): return 7\n"
        "def flatless(channels): return nn.Conv2d(channels, 4, 3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert Embedder(replace(CONFIG, backbone="mynet:small")).embed(images()).shape == (4, 24)
    with pytest.raises(InputError, match="returned a int"):
        Embedder(replace(CONFIG, backbone="mynet:broken"))
    with pytest.raises(InputError, match="add pooling or flatten"):
        Embedder(replace(CONFIG, backbone="mynet:flatless"))


def test_timm_says_how_to_install_it_where_it_is_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"samespace\[timm\]"):
        Embedder(replace(CONFIG, backbone="timm:resnet18"))


def test_a_model_of_timm_embeds_where_timm_is_installed():
    pytest.importorskip("timm", reason="the extra 'timm' is not installed")
    assert Embedder(replace(CONFIG, backbone="timm:resnet18")).embed(images()).shape == (4, 24)


@pytest.mark.parametrize("name", sorted(DEPTHS))
def test_the_face_family_has_as_many_convolutions_as_its_depths_say(name):
    network = iresnet(name, 3)
    convolutions = sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in network.modules())
    assert convolutions == 1 + 2 * sum(DEPTHS[name])


def test_a_face_network_takes_112_pixels():
    model = Embedder(EmbedderConfig("iresnet18", 128, Preprocessing(size=112, channels=3)))
    assert model.projection[0].in_features == 512 * 7 * 7
    assert model.embed(images(1, 3, 112)).shape == (1, 128)


@pytest.mark.parametrize("name", ["convnet0", "convnet016"])
def test_a_width_that_is_no_width_is_an_unknown_backbone(name):
    with pytest.raises(InputError, match=f"unknown backbone '{name}'"):
        build_backbone(name, 1)


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, ValueError])
def test_a_backbone_that_refuses_the_image_size_is_one_clear_line(kind):
    class Refuses(nn.Module):
        def forward(self, images):
            raise kind("224 expected")

    with pytest.raises(InputError, match="cannot take 1×16×16 images: 224 expected"):
        feature_dim(Refuses(), 1, 16)


@pytest.mark.parametrize("about", ["{}", "[]", "no json", '{"classes": 3, "margin": "arcface", "scale": 64}'])
def test_a_foreign_classifier_is_refused(tmp_path, about):
    save_tensors({"weight": torch.eye(3)}, tmp_path / "c.safetensors", {"classifier": about})
    with pytest.raises(InputError, match="is not a classifier"):
        Classifier.load(tmp_path / "c.safetensors")


def test_a_classifier_that_names_no_margin_value_has_the_default(tmp_path):
    about = {"classes": ["a", "b", "c"], "margin": "arcface", "scale": 64}
    save_tensors({"weight": torch.eye(3)}, tmp_path / "c.safetensors", {"classifier": json.dumps(about)})
    assert Classifier.load(tmp_path / "c.safetensors").margin_value is None


@pytest.mark.parametrize("change", [{"embedding_dim": "wide"}, {"embedding_dim": None}, {"backbone": 5}])
def test_a_configuration_with_a_wrong_value_is_refused(model, tmp_path, change):
    model.save(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(InputError, match=r"is not a whole configuration|unknown backbone '5'"):
        Embedder.load(tmp_path / "m")
    with pytest.raises(InputError, match=r"it has no 'smal'; did you mean 'small'\?"):
        Embedder(replace(CONFIG, backbone="mynet:smal"))


def test_a_network_that_python_does_not_find_is_answered_with_where_it_looks(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"PYTHONPATH=FOLDER before the command, where FOLDER holds unseennet\.py"):
        Embedder(replace(CONFIG, backbone="unseennet:small"))
    (tmp_path / "unseennet.py").write_text("")
    with pytest.raises(InputError, match=r"in this folder, where Python does not look: run with PYTHONPATH=\. before"):
        Embedder(replace(CONFIG, backbone="unseennet:small"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lacking.py").write_text("import no_such_package")
    with pytest.raises(InputError, match=r"cannot be imported: No module named 'no_such_package'$"):
        Embedder(replace(CONFIG, backbone="lacking:small"))
    (tmp_path / "faulty.py").write_text("1 / 0")
    with pytest.raises(InputError, match=r"cannot be imported: division by zero$"):
        Embedder(replace(CONFIG, backbone="faulty:small"))
