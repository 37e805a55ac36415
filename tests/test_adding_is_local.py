"""Each path of CONTRIBUTING.md's "Adding …": a toy through its one table, from a user's words to a result."""

from __future__ import annotations

import io
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from samespace.data import Listing, open_source
from samespace.data.opening import FORMATS, Format
from samespace.errors import InputError
from samespace.gallery import Gallery
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.open import INDEXES, Index
from samespace.losses import MARGINS, InfluenceLoss
from samespace.losses.margin_forms import MarginForm
from samespace.models import Classifier, Embedder
from samespace.space import Space
from samespace.train import parse_recipe, run
from samespace.train.compatibility import METHODS
from samespace.train.methods.method import Method, Term
from samespace.vectors import VectorSet

GLYPHS = "glyphs:classes=6,images=6,size=16,seed=5"


def recipe(**sections):
    return parse_recipe(
        {
            "data": {"source": GLYPHS},
            "model": {"backbone": "convnet16", "embedding_dim": 8},
            "head": {"scale": 16.0},
            "optim": {"epochs": 1, "batch_size": 12, "schedule": "cosine"},
            "run": {"device": "cpu"},
            **sections,
        }
    )


class MeanCosineLoss(torch.nn.Module):
    """One minus the cosine between new and old embedding."""

    needs_old_embeddings = True

    def forward(self, embeddings, labels, old_embeddings):
        return 1 - torch.nn.functional.cosine_similarity(embeddings, old_embeddings).mean()


def test_a_compatibility_method_is_a_line_in_methods(monkeypatch, tmp_path):
    old = run(recipe(), tmp_path / "v1", quiet=True).model
    with pytest.raises(InputError, match=r"compatibility.method is 'cosine'"):
        recipe(compatibility={"method": "cosine", "old_model": str(old)})
    toy = Method(lambda section, head, source, old: Term(MeanCosineLoss()), needs=("vectors",))
    monkeypatch.setitem(METHODS, "cosine", toy)
    with pytest.raises(InputError, match=r"method=cosine needs compatibility.old_model or .old_vectors"):
        recipe(compatibility={"method": "cosine"})
    with pytest.raises(InputError, match="temperature does nothing for method=cosine"):
        recipe(compatibility={"method": "cosine", "old_model": str(old), "temperature": 0.1})
    tied = recipe(compatibility={"method": "cosine", "old_model": str(old), "warmup_epochs": 0})
    model = Embedder.load(run(tied, tmp_path / "v2", quiet=True).model)
    assert model.embedding_dim == 8
    assert '"influence": 0.0' not in (tmp_path / "v2" / "metrics.jsonl").read_text()


def test_a_margin_is_a_line_in_margins(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"head.margin is 'halved'"):
        recipe(head={"margin": "halved"})
    monkeypatch.setitem(MARGINS, "halved", MarginForm(lambda cosine, value: value * cosine, 0.5, 0.1, 1.0))
    trained = run(recipe(head={"margin": "halved", "margin_value": 0.7, "scale": 16.0}), tmp_path / "v1", quiet=True)
    classifier = Classifier.load(trained.model / "classifier.safetensors")
    assert (classifier.margin, classifier.margin_value) == ("halved", 0.7)
    with pytest.raises(InputError, match=r"margin_value 1.0 for 'halved'; expected at least 0.1 and below 1"):
        InfluenceLoss(torch.eye(3), margin="halved", margin_value=1.0)


def striped_listing(place, *, stripes="2"):
    """Images of one PNG each, with so many stripes; two of each class."""

    def read(row):
        pixels = np.zeros((16, 16), dtype=np.uint8)
        pixels[:: int(stripes) + int(row) // 2] = 255
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        return file.getvalue()

    return Listing(
        name=f"stripes of {place}",
        ids=np.array(["a0", "a1", "b0", "b1"]),
        classes=np.array(["a", "a", "b", "b"]),
        read=read,
        facts=lambda rows: [f"{row} {stripes}".encode() for row in rows],
    )


def test_an_image_format_is_a_line_in_formats(monkeypatch, tmp_path):
    monkeypatch.setitem(FORMATS, "striped", Format("PLACE[,stripes=2]", striped_listing))
    source = open_source("striped:somewhere,stripes=3", channels=1)
    assert (len(source), source.image_shape, source.classes) == (4, (1, 16, 16), ("a", "b"))
    images = source.load([0, 2])
    assert images.shape == (2, 1, 16, 16)
    assert not torch.equal(images[0], images[1])
    trained = run(recipe(data={"source": "striped:somewhere", "channels": 1}), tmp_path / "v1", quiet=True)
    assert Classifier.load(trained.model / "classifier.safetensors").classes == ("a", "b")
    with pytest.raises(InputError, match="striped: has no option 'strips'; did you mean 'stripes'"):
        open_source("striped:somewhere,strips=3")
    with pytest.raises(InputError, match=r"or striped:PLACE\[,stripes=2\]"):
        open_source("nowhere")


class CountingSource:
    """An index in memory that counts its searches."""

    snapshots = 0

    def __init__(self, ledger):
        self.inner = LocalSource(ledger, None)
        self.maintain, self.coverage, self.close = self.inner.maintain, self.inner.coverage, self.inner.close

    @contextmanager
    def snapshot(self, where=()):
        CountingSource.snapshots += 1
        with self.inner.snapshot(where) as snapshot:
            yield snapshot


def test_a_vector_index_is_a_line_in_indexes(monkeypatch, tmp_path):
    checked = []
    monkeypatch.setitem(
        INDEXES, "toy", Index(lambda ledger, *server: CountingSource(ledger), lambda *server: checked.append(server[0]))
    )
    space = Space(weights="00" * 32, preprocessing="none", dim=4, normalized=True, name="v1")
    vectors = VectorSet.from_arrays(np.eye(4, dtype=np.float32), ids=["a", "b", "c", "d"], space=space)
    with Gallery.create(tmp_path / "g", space, index="toy://somewhere") as gallery:
        gallery.add(vectors)
    assert checked == ["toy://somewhere"]
    with Gallery.open(tmp_path / "g", index="toy://somewhere") as gallery:
        answer = gallery.search(vectors.subset(np.array([2])), k=1)
    assert [hit.item for hit in answer.hits[0]] == ["c"]
    assert CountingSource.snapshots
