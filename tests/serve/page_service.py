"""A running service for the page: galleries of made-up characters in several stages, two models, keys."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import uvicorn

from samespace.data import open_source
from samespace.evaluate import Certificate, check
from samespace.gallery import Gallery, Limits
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.extract import embed
from samespace.serve.app import listen, make_app
from samespace.serve.encoders import Encoders
from samespace.serve.keys import KeyRing, add_key
from samespace.serve.service import Service
from samespace.vectors.exporting import export_vectors, stored_at

GLYPHS = "glyphs:classes=24,images=8,size=16"
GALLERIES = ("fresh", "half", "rolled", "behind", "uncalibrated")


@dataclass(frozen=True)
class Running:
    """A service that answers.

    Attributes:
        address: of the page.
        admin: a key that may do everything.
        reader: a key that only looks.
        folder: of `certificate.json`, an image, `query.png`, and labelled vectors, `v2-queries.csv` and `v1-items.csv`.
        service: it.
    """

    address: str
    admin: str
    reader: str
    folder: Path
    service: Service


@contextmanager
def running(folder: Path) -> Iterator[Running]:
    """Start it on a free port, and stop it in the end."""
    _models_and_galleries(folder)
    admin, reader = (add_key(folder / "keys.json", scope, scope) for scope in ("admin", "read"))
    opened = {name: Gallery.open(folder / name) for name in GALLERIES}
    service = Service(opened, encoders=Encoders({"v2": str(folder / "v2")}, "cpu"), keys=KeyRing(folder / "keys.json"))
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(make_app(service), log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not service.ready:
            time.sleep(0.02)
        yield Running(f"http://127.0.0.1:{listening.getsockname()[1]}", admin, reader, folder, service)
        server.should_exit = True
        thread.join()


def _models_and_galleries(folder: Path) -> None:
    models = _models(folder)
    source = open_source(GLYPHS)
    vectors = {name: embed(model, source) for name, model in models.items()}
    certificate = _certificate(models)
    certificate.save(folder / "certificate.json")
    with Gallery.create(folder / "fresh", model=folder / "v1", images=GLYPHS) as gallery:
        gallery.add(vectors["v1"])
    for name in GALLERIES[1:]:
        shutil.copytree(folder / "fresh", folder / name)
    for name in ("half", "rolled"):
        with Gallery.open(folder / name) as gallery:
            gallery.upgrade(folder / "v2", [certificate])
            gallery.backfill(vectors=vectors["v2"], limits=Limits(items=80))
    with Gallery.open(folder / "behind") as gallery:
        gallery.begin_behind(folder / "v2")
        gallery.backfill(vectors=vectors["v2"], limits=Limits(items=60))
    with Gallery.open(folder / "uncalibrated") as gallery:
        gallery.upgrade(folder / "v2", accept_uncertified=True)
    asked = open_source(f"{GLYPHS},seed=1")
    for name, model in (("v2-queries", "v2"), ("v1-items", "v1")):
        embed(models[model], asked).save(folder / name)
        export_vectors(stored_at(str(folder / name)), str(folder / f"{name}.csv"))
    from PIL import Image

    pixels = source.load([0])[0]
    Image.fromarray(pixels[0].numpy()).resize((64, 64)).save(folder / "query.png")


def _models(folder: Path) -> dict[str, Embedder]:
    """Two models whose spaces go together, for the second is the first but for a little."""
    models = {}
    for name in ("v1", "v2"):
        torch.manual_seed(0)
        model = Embedder(EmbedderConfig("convnet16", 16, Preprocessing(size=16, channels=1)), name=name)
        if name == "v2":
            with torch.no_grad():
                model.projection[0].weight.mul_(1.01)
                model.projection[0].bias.add_(0.01)
        model.save(folder / name)
        models[name] = Embedder.load(folder / name)
    return models


def _certificate(models: dict[str, Embedder]) -> Certificate:
    """With calibrations and a sweep; the verdict is set, whatever the check found."""
    asked = open_source(GLYPHS.replace("classes=24", "classes=24,seed=1"))
    old, new = (embed(models[name], asked) for name in ("v1", "v2"))
    rows = range(len(old))
    queries, gallery = [row for row in rows if row % 4 == 0], [row for row in rows if row % 4]
    found = check(
        queries=new.subset(queries), gallery=old.subset(gallery), baseline=old.subset(queries),
        new_gallery=new.subset(gallery), metrics=["rank@1", "mAP"], replicates=100,
    )  # fmt: skip
    metrics = {name: replace(one, compatible=True) for name, one in found.metrics.items()}
    return replace(found, metrics=metrics, compatible=True)
