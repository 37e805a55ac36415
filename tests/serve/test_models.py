"""A service of a gallery that remembers its models and images: it embeds by itself, for backfills and for queries."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from samespace import Client
from samespace.data import open_source
from samespace.errors import GalleryError
from samespace.evaluate import check
from samespace.gallery import Gallery
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed
from samespace.serve.backfills.job import Job
from samespace.serve.encoders import Encoders
from samespace.serve.wording import WORDS
from samespace.vectors import VectorSet

from .running import Running, Service

Start = Callable[..., Running]
ITEMS = "glyphs:classes=24,images=4,size=16"


@pytest.fixture
def photos(tmp_path: Path) -> Gallery:
    """A gallery of images by one model, upgraded to another by a certificate of fused queries."""
    source, sets = open_source(ITEMS), list[VectorSet]()
    for name in ("old", "new"):
        torch.manual_seed(0)
        model = Embedder(EmbedderConfig("convnet16", 16, Preprocessing(size=16, channels=1)), name=name)
        with torch.no_grad():
            model.projection[0].weight.mul_(1.01 if name == "new" else 1)
        model.save(tmp_path / name)
        sets.append(embed(Embedder.load(tmp_path / name), source))
    old, new = sets
    found = check(
        queries=new, gallery=old, baseline=old, new_gallery=new, metrics=["mAP"], fuse=0.5, replicates=100
    )  # fmt: skip
    metrics = {name: replace(one, compatible=True) for name, one in found.metrics.items()}
    gallery = Gallery.create(tmp_path / "photos", model=tmp_path / "old", images=ITEMS)
    gallery.add_images()
    gallery.upgrade(tmp_path / "new", [replace(found, compatible=True, metrics=metrics)])
    return gallery


def test_images_are_embedded_by_both_models_while_old_items_are_served(
    photos: Gallery, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    file = io.BytesIO()
    Image.fromarray(open_source(ITEMS).load(np.array([5]))[0, 0].numpy()).save(file, "PNG")
    made = Service({"shop": photos})
    made._warm("shop", photos)
    assert "a first search was refused" not in caplog.text
    service = start(made)
    client = service.client()
    answer = client.search_images([file.getvalue()], k=3)
    assert "fused with share 0.5" in answer.notes[0]
    assert answer.hits == photos.search_images([file.getvalue()], k=3).hits
    body = {"images": [base64.b64encode(file.getvalue()).decode()], "k": 3}
    assert service.http.post("/v1/shop/search", json={**body, "fuse": 0.5}).json()["notes"] == list(answer.notes)
    shutil.move(Path(photos.location).parent / "old", Path(photos.location).parent / "moved")
    with pytest.raises(GalleryError, match="as well and fused; that cannot be used: the service has no encoder"):
        start(Service({"shop": photos})).client().search_images([file.getvalue()])


def test_a_job_by_a_model_that_the_gallery_does_not_remember(photos: Gallery, start: Start) -> None:
    with photos.ledger.write() as writer:
        writer.session.run("UPDATE space SET model = NULL WHERE rank = 2")
        writer._configured()
    new = str(Path(photos.location).parent / "new")
    service = start(Service({"shop": photos}, encoders=Encoders({"v2": new}, "cpu")))
    refused = service.http.post("/v1/shop/jobs", json={})
    said = 'none was given: name it with "model", or give vectors made elsewhere: "vectors"'
    assert (refused.status_code, said in refused.json()["detail"]) == (409, True)
    client = service.client()
    assert ended(client, client.backfill(model="v2").id).done == 96


def test_a_job_without_remembered_images_says_what_a_request_can_do(photos: Gallery, start: Start) -> None:
    with photos.ledger.write() as writer:
        writer.put_meta("settings", json.dumps({**photos.state.settings, "images": None}))
        writer._configured()
    service = start(Service({"shop": photos}))
    where = (
        "remembers no images, and none were given: name their source, by 'samespace gallery backfill --images SOURCE'"
    )
    for headers, vectors in ({}, '"vectors"'), ({WORDS: "python"}, "vectors=…"):
        said = service.http.post("/v1/shop/jobs", json={}, headers=headers).json()["detail"]
        assert f"{where} where the service runs, or give vectors made elsewhere: {vectors}" in said


def ended(client: Client, name: str) -> Job:
    """A job once it runs no more."""
    while (job := client.job(name)).state == "running":
        time.sleep(0.02)
    return job


def test_a_job_needs_nothing_but_the_remembered_model(photos: Gallery, start: Start) -> None:
    service = start(Service({"shop": photos}))
    client = service.client()
    now = ended(client, client.backfill().id)
    assert (now.state, now.done, now.result is not None and now.result.left) == ("done", 96, 0)
    shutil.rmtree(Path(photos.location).parent / "old")
    assert client.search(embed(Embedder.load(photos.location + "/../new"), open_source(ITEMS)), k=1).notes == ()
    assert json.loads(service.http.get("/v1/shop/status").text)["phase"] == "complete"
