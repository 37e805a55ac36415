"""Models saved with a card, loaded by folder or by a name of the Hub; the Hub itself is stood in for."""

from __future__ import annotations

import socket
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from samespace.errors import InputError
from samespace.evaluate import Certificate, check
from samespace.models import Embedder
from samespace.models.embedder import EmbedderConfig
from samespace.models.preprocessing import Preprocessing
from samespace.vectors import VectorSet


@pytest.fixture
def no_network(monkeypatch):
    """Any connection fails the test."""

    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Embedder(EmbedderConfig("convnet16", 16, Preprocessing(size=16, channels=1)), name="marks v2").eval()


@pytest.fixture
def certificate(model):
    """Of the model's own vectors against those of a random old model."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(30), 4)
    vectors = random.normal(size=(30, 16))[labels] + 0.3 * random.normal(size=(120, 16))
    weak = vectors + random.normal(size=(120, 16))
    sets = [
        VectorSet.from_arrays(values.astype(np.float32), labels=labels, space=space)
        for values, space in ((vectors, model.space), (weak, None), (weak, None), (vectors, model.space))
    ]
    queries, gallery, baseline, own = sets
    return check(queries=queries, gallery=gallery, baseline=baseline, new_gallery=own, replicates=100, examples=0)


def front_matter(folder) -> tuple[dict, str]:
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_what_is_saved_loads_from_its_folder_without_the_network(model, tmp_path, no_network):
    model.save_pretrained(tmp_path / "out")
    loaded = Embedder.from_pretrained(tmp_path / "out")
    assert loaded.space == model.space
    assert Embedder.load(tmp_path / "out").name == "marks v2"
    front, text = front_matter(tmp_path / "out")
    assert front["library_name"] == "samespace"
    assert "model-index" not in front
    assert model.space.id in text
    assert "Certificate" not in text
    assert not (tmp_path / "out" / "certificate.json").exists()


def test_the_card_carries_the_certificate(model, certificate, tmp_path, no_network):
    model.save_pretrained(tmp_path / "out", certificate=certificate, license="apache-2.0")
    front, text = front_matter(tmp_path / "out")
    assert front["license"] == "apache-2.0"
    verdict = "**Compatible.**" if certificate.compatible else "**Not compatible.**"
    assert verdict in text
    for name, result in certificate.metrics.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {100 * result.old:.2f} | {100 * result.cross:.2f} | {100 * result.new:.2f} |" in row
        assert row.endswith("| yes |" if result.compatible else "| no |")
    listed = {m["name"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    assert listed["rank@1, new queries, old gallery"] == certificate["rank@1"].cross
    kept = Certificate.load(tmp_path / "out" / "certificate.json")
    assert kept.to_dict() == certificate.to_dict()


def test_a_certificate_file_does_as_well_and_the_card_is_one_the_hub_reads(model, certificate, tmp_path):
    hub = pytest.importorskip(
        "huggingface_hub", reason="huggingface_hub is not installed: pip install 'samespace[hub]'"
    )
    certificate.save(tmp_path / "certificate.json")
    model.save_pretrained(tmp_path / "out", certificate=tmp_path / "certificate.json")
    data = hub.ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.model_name == "marks v2"
    assert {result.metric_type for result in data.eval_results} == set(certificate.metrics)


def test_saving_again_replaces_the_whole_folder_and_no_other(model, certificate, tmp_path):
    model.save_pretrained(tmp_path / "out", certificate=certificate)
    model.save_pretrained(tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(InputError, match="exists and is not a model folder"):
        model.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_a_certificate_of_another_model_is_refused_before_anything_is_written(model, certificate, tmp_path):
    with torch.no_grad():
        next(model.parameters()).add_(1)
    with pytest.raises(InputError, match="give the certificate whose --queries this model made"):
        model.save_pretrained(tmp_path / "out", certificate=certificate)
    (tmp_path / "other.json").write_text('{"format": "something/1"}')
    with pytest.raises(InputError, match=r"other\.json: expected a certificate of format"):
        model.save_pretrained(tmp_path / "out", certificate=tmp_path / "other.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "folder/nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_folder_that_is_not_there_never_asks_the_network(name, tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is not a model folder"):
        Embedder.from_pretrained(name)


def test_a_local_folder_has_no_revision(model, tmp_path):
    model.save_pretrained(tmp_path / "out")
    with pytest.raises(InputError, match="a local folder has no revision"):
        Embedder.from_pretrained(tmp_path / "out", revision="main")


def test_a_name_of_the_hub_is_fetched_and_pushed(model, certificate, tmp_path, monkeypatch, no_network):
    """The stand-in keeps repositories as folders."""
    asked = []

    class Api:
        def __init__(self, token):
            self.token = token

        def create_repo(self, repo, private, exist_ok):
            asked.append(("create", repo, private, exist_ok, self.token))

        def create_branch(self, repo, branch, exist_ok):
            asked.append(("branch", repo, branch))

        def upload_folder(self, repo_id, folder_path, revision, commit_message):
            folder_path.rename(tmp_path / "hub")
            return f"https://hub/{repo_id}/commit/1 {commit_message}"

    def snapshot_download(repo, revision, token, cache_dir, allow_patterns):
        asked.append(("fetch", repo, revision, token))
        if repo != "somebody/marks":
            raise OSError(f"404: no repository\n{repo}")
        return str(tmp_path / "hub")

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download))
    address = model.push_to_hub("somebody/marks", certificate=certificate, private=True, token="t", revision="v2")
    assert address.startswith("https://hub/somebody/marks/commit/1")
    assert 'Embedder.from_pretrained("somebody/marks")' in (tmp_path / "hub" / "README.md").read_text()
    assert Embedder.from_pretrained("somebody/marks", revision="v2").space == model.space
    assert asked == [
        ("create", "somebody/marks", True, True, "t"),
        ("branch", "somebody/marks", "v2"),
        ("fetch", "somebody/marks", "v2", None),
    ]
    with pytest.raises(
        InputError, match=r"could not load somebody/else from the Hugging Face Hub: 404: no repository s"
    ):
        Embedder.from_pretrained("somebody/else")
    with pytest.raises(InputError, match="expected owner/name"):
        model.push_to_hub("marks")


def test_without_the_extra_one_line_says_what_to_install(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'samespace\[hub\]'"):
        Embedder.from_pretrained("somebody/marks")
    with pytest.raises(InputError, match=r"pip install 'samespace\[hub\]'"):
        model.push_to_hub("somebody/marks")


def test_offline_a_name_of_the_hub_is_one_line(monkeypatch):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: pip install 'samespace[hub]'")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="could not load somebody/marks from the Hugging Face Hub") as error:
        Embedder.from_pretrained("somebody/marks")
    assert "\n" not in str(error.value)
