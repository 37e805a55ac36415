"""A rolling upgrade: two services of one gallery, clients of both models, and no query that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from samespace import Client, GalleryError
from samespace.gallery import Gallery, Limits

from .running import NEW, OLD, Running, Service, made

Start = Callable[..., Running]
COUNT = 80


class Asking:
    """Clients that search in threads, through either service, by the model that each has now."""

    def __init__(self, services: list[Running], count: int) -> None:
        self.models = [OLD] * count
        self.faults: list[str] = []
        self.answered = dict.fromkeys((OLD.id, NEW.id), 0)
        self._sets = {space: made(COUNT, space, noise=noise) for space, noise in ((OLD, 0.0), (NEW, 0.2))}
        self._services, self._over = services, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        row = number
        while not self._over.wait(0.01):
            space, row = self.models[number], (row + 7) % COUNT
            client = self._services[row % 2].client()
            try:
                (hits,) = client.search(self._sets[space].subset(np.array([row])), k=3).hits
            except Exception as error:
                self.faults.append(f"{space} {type(error).__name__}: {error}")
                continue
            self.answered[space.id] += 1
            query = self._sets[space].vectors[row].astype(np.float64)
            met = {one.id: one for one in (OLD, NEW)} if space == NEW else {OLD.id: OLD}
            for hit in hits:
                if hit.space not in met:
                    self.faults.append(f"a query of {space} was answered from {hit.space}")
                    continue
                vector = self._sets[met[hit.space]].vectors[int(hit.item.removeprefix("item-"))]
                if abs(float(vector.astype(np.float64) @ query) - hit.raw) > 1e-6:
                    self.faults.append(f"{hit.item} was found by another vector")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of old queries reach the gallery at once."""
    monkeypatch.setattr("samespace.gallery.search.earlier._WRITE_SECONDS", 0.05)


def filled(client: Client, items: int | None = None) -> None:
    job = client.backfill(vectors=made(COUNT, NEW, noise=0.2), limits=Limits(batch_size=8, items=items))
    while job.ended is None:
        time.sleep(0.02)
        job = client.job(job.id)
    assert job.state == "done"


@pytest.mark.usefixtures("quick")
def test_no_query_fails_and_a_seal_waits_for_the_last_old_one(shop: Gallery, start: Start) -> None:
    shop.add(made(COUNT - 40, first=40))
    services = [start(Service({"shop": one})) for one in (shop, Gallery.open(shop.location))]
    first, second = (one.client() for one in services)
    asking = Asking(services, 4)
    first.upgrade(NEW, accept_uncertified=True, grace=True)
    for space, noise in ((OLD, 0.0), (NEW, 0.2)):
        second.calibrate(made(40, NEW, noise=0.2), made(40, space, noise=noise, first=40))
    asking.models[:2] = [NEW, NEW]
    filled(second, 30)
    asking.models[:2] = [OLD, OLD]
    time.sleep(0.2)
    second.rollback()
    first.upgrade(NEW, accept_uncertified=True, grace=True)
    asking.models[:3] = [NEW] * 3
    filled(first)
    time.sleep(0.2)
    with pytest.raises(GalleryError, match="still come"):
        first.seal(unused_for=0.5)
    asking.models[3] = NEW
    time.sleep(1.0)
    assert first.seal(unused_for=0.5).deleted == COUNT
    before = asking.answered[NEW.id]
    while asking.answered[NEW.id] < before + 10 and not asking.faults:
        time.sleep(0.02)
    asking.end()
    assert not asking.faults
    assert min(asking.answered.values()) > 10
