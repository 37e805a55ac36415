"""Through the client a gallery behind a service gives what the gallery itself gives, errors included."""

from __future__ import annotations

import io
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace import Client, GalleryError, InputError, SpaceError
from samespace.gallery import Gallery
from samespace.vectors import VectorSet

from .running import NEW, OLD, Running, Service, httpx, made

THIRD = replace(NEW, weights="03" * 32, name="v3")

Start = Callable[..., Running]


def test_a_search_is_the_gallerys_own(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    for options in (
        {"k": 3},
        {"k": 50, "exact": True, "where": {"label": ["c1", "c2"]}},
        {"where": ["label=c3"], "merge": "raw", "scale": "fmr"},
        {"where": {"label": ("!=", "c0")}, "count": False},
    ):
        expected = shop.search(made(5), **options)
        found = client.search(made(5), **options)
        assert found.__dict__ == expected.__dict__
    assert len(client) == 40
    assert client.space == OLD


def test_an_upgrade_from_the_first_item_to_the_seal(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    metadata = {"item-40": {"shop": "berlin", "year": 2024, "new": True, "weight": 0.5}}
    assert client.add(made(2, first=40), metadata=metadata).added == 2
    assert client.get("item-40").metadata == metadata["item-40"]
    assert client.search(made(1), k=9, where={"year": (">=", 2020)}).hits[0][0].item == "item-40"
    assert client.remove(["item-41"]) == 1
    assert client.get("item-41") is None

    assert client.plan(NEW, accept_uncertified=True).to_embed == 41
    switched = client.upgrade(NEW, accept_uncertified=True, grace=True)
    assert (switched.before, switched.query, client.space) == (OLD, NEW, NEW)
    assert client.certificates()[-1]["certificate"] is None
    assert client.pause().paused
    assert client.status().phase == "paused"
    assert not client.resume().paused
    assert client.status().phase == "upgraded"
    assert client.rollback().query == OLD
    assert client.upgrade(accept_uncertified=True, grace=True).query == NEW

    calibrate(client)
    job = client.backfill(vectors=made(41, NEW, noise=0.1))
    while job.ended is None:
        time.sleep(0.01)
        job = client.job(job.id)
    assert (job.state, job.result.stored, job.done) == ("done", 41, 41)
    assert client.jobs() == (job,)
    assert client.stop(job.id) == job
    status = client.status()
    assert replace(status, bytes=0) == replace(shop.status(), bytes=0)
    assert (status.phase, status.spaces[1].served) == ("complete", 41)
    assert client.search(made(1), k=1).space == OLD.id
    with pytest.raises(GalleryError, match="still come"):
        client.seal()
    sealed = client.seal(end_grace=True)
    assert (sealed.space, sealed.retired) == (NEW, (OLD,))


def calibrate(client: Client) -> None:
    for space in (OLD, NEW):
        assert client.calibrate(made(40, NEW), made(40, space, first=100)).slope > 0


def test_an_upgrade_behind(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    assert client.begin_behind(NEW).behind
    job = client.backfill(vectors=made(40, NEW))
    while client.job(job.id).ended is None:
        time.sleep(0.01)
    assert client.quality().queries == 40
    assert client.switch().query == NEW
    assert client.rollback().query == OLD


class Lossy(httpx.BaseTransport):
    """Carries every request to the service, and loses the answer of some."""

    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport, self.lose = transport, False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._transport.handle_request(request)
        if self.lose:
            raise httpx.ReadTimeout("no answer", request=request)
        return answer


def test_a_step_whose_answer_is_lost_can_be_sent_again(shop: Gallery, start: Start) -> None:
    lossy = Lossy(start(Service({"shop": shop})).transport)
    client = Client("http://localhost", "shop", transport=lossy)

    def twice(step: Callable[[int], object]) -> None:
        known = client.status().steps_taken
        lossy.lose = True
        with pytest.raises(GalleryError, match="cannot be reached"):
            step(known)
        lossy.lose = False
        with pytest.raises(GalleryError, match="was carried out already"):
            step(known)

    twice(lambda known: client.begin_behind(NEW, expect=known))
    twice(lambda known: client.pause(expect=known))
    twice(lambda known: client.resume(expect=known))
    shop.backfill(vectors=made(40, NEW))
    twice(lambda known: client.switch(expect=known))
    assert client.space == NEW
    twice(lambda known: client.rollback(expect=known))
    assert (client.space, client.status().phase) == (OLD, "filled")
    client.switch()
    twice(lambda known: client.seal(expect=known))
    assert client.status().phase == "sealed"
    client.plan(THIRD, accept_uncertified=True)
    twice(lambda known: client.upgrade(accept_uncertified=True, expect=known))
    assert client.space == THIRD


def test_errors_are_the_gallerys_own(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    own = {"shop": shop, "client": client}
    for kind, what in (
        (InputError, lambda gallery: gallery.search(made(1), k=0)),
        (InputError, lambda gallery: gallery.search(made(1), where=["year"])),
        (InputError, lambda gallery: gallery.remove(["item-1", "none"])),
        (GalleryError, lambda gallery: gallery.rollback()),
        (GalleryError, lambda gallery: gallery.search(made(1), min_score=1.0)),
        (GalleryError, lambda gallery: gallery.upgrade()),
    ):
        for name, gallery in own.items():
            with pytest.raises(kind) as raised:
                what(gallery)
            assert "\n" not in str(raised.value), name
    with pytest.raises(SpaceError, match="has no space"):
        client.search(made(1, NEW))
    with pytest.raises(SpaceError, match="declares no space"):
        client.search(replace(made(1), space=None))
    with pytest.raises(InputError, match="no model 'v2'"):
        client.upgrade("v2")
    with pytest.raises(InputError, match="there is no gallery 'other'; legal: shop"):
        start(Service({"shop": shop})).client("other").status()
    with pytest.raises(GalleryError, match="cannot be reached"):
        Client("http://127.0.0.1:1", "shop").status()


def test_a_job_stops_after_the_batch_in_hand(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    client.upgrade(NEW, accept_uncertified=True)
    calibrate(client)
    client.pause()
    job = client.backfill(vectors=made(40, NEW))
    with pytest.raises(GalleryError, match=f"the job {job.id} fills 'shop' already"):
        client.backfill(vectors=made(40, NEW))
    assert client.stop(job.id).state == "stopping"
    while (job := client.job(job.id)).ended is None:
        time.sleep(0.01)
    assert (job.state, job.done) == ("stopped", 0)
    with pytest.raises(InputError, match="there is no job 'none'"):
        client.job("none")
    with pytest.raises(GalleryError, match="remembers no model of space"):
        client.backfill()


def test_many_threads_search_while_one_adds(shop: Gallery, start: Start) -> None:
    client = start(Service({"shop": shop})).client()
    wrong: list[Any] = []

    def ask() -> None:
        for _ in range(15):
            found = client.search(made(3), k=1)
            if [hits[0].item for hits in found.hits] != ["item-0", "item-1", "item-2"]:
                wrong.append(found)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for row in range(40, 50):
        client.add(made(1, first=row))
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(shop) == 50


def test_images_are_embedded_by_the_model_at_hand(tmp_path: Path, start: Start) -> None:
    from PIL import Image

    from samespace.models import Embedder, EmbedderConfig, Preprocessing
    from samespace.serve.encoders import Encoders

    config = EmbedderConfig("convnet16", 8, Preprocessing(size=16, channels=1))
    Embedder(config, "v1").save(tmp_path / "model")
    pictures = {}
    for row in range(4):
        file = io.BytesIO()
        pixels = np.random.default_rng(row).integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "png")
        pictures[f"p{row}"] = file.getvalue()
    gallery = Gallery.create(tmp_path / "gallery", model=tmp_path / "model")
    client = start(Service({"shop": gallery}, encoders=Encoders({"v1": str(tmp_path / "model")}))).client()
    added = client.add_images(pictures, labels=dict.fromkeys(pictures, "c"), metadata={"p1": {"n": 1}})
    assert (added.added, client.get("p1").label) == (4, "c")
    assert client.add_images(pictures).present == 4
    found = client.search_images(list(pictures.values()), k=1)
    assert [hits[0].item for hits in found.hits] == list(pictures)
    with pytest.raises(InputError, match="not an image of a known kind"):
        client.search_images([b"GIF"])
    with pytest.raises(GalleryError, match="no encoder of texts"):
        client.search_texts(["a red shoe"])


def test_texts_are_embedded_by_a_named_model(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from samespace.serve.encoders import Encoders

    code = """
        import numpy as np
        from samespace.encoders import from_callable

        def letters(texts):
            return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float32)

        def encoder():
            return from_callable(letters, name="letters", revision="1", modality="text", dim=8, normalized=False)
    """
    (tmp_path / "letter_model.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(str(tmp_path))
    encoders = Encoders({"letters": "letter_model:encoder"})
    gallery = Gallery.create(tmp_path / "gallery", encoders.load("letter_model:encoder").space)
    client = start(Service({"shop": gallery}, encoders=encoders)).client()
    client.add(VectorSet.from_arrays(np.eye(8), ids=list("abcdefgh"), space=gallery.space))
    found = client.search_texts(["cab ccc", "fee"], k=1)
    assert [hits[0].item for hits in found.hits] == ["c", "e"]
