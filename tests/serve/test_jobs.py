"""Backfills belong to the gallery: any of its processes lists and stops them, and carries on those that others left."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from samespace import Client
from samespace.gallery import Gallery
from samespace.gallery.ledger.job_records import add_job_record, job_records
from samespace.serve.backfills.job import Job, record_of

from .running import NEW, Running, Service, made

Start = Callable[..., Running]


@pytest.fixture
def services(shop: Gallery, start: Start, monkeypatch: pytest.MonkeyPatch) -> list[Running]:
    """Two services of one gallery that is upgraded and paused; its model is at hand in both."""
    shop.upgrade(NEW, accept_uncertified=True)
    for space in (made(1).space, NEW):
        shop.calibrate(made(40, NEW), made(40, space, first=100))
    shop.pause()
    backfill = Gallery.backfill

    def by_model(self: Gallery, *, vectors: Any = None, **options: Any) -> Any:
        return backfill(self, vectors=made(40, NEW) if vectors is None else vectors, **options)

    monkeypatch.setattr(Gallery, "backfill", by_model)
    monkeypatch.setattr("samespace.gallery.filling.model_and_images", lambda *given: None)
    monkeypatch.setattr("samespace.serve.backfills.jobs._LOOK_SECONDS", 0.05)
    return [start(Service({"shop": one})) for one in (shop, Gallery.open(shop.location))]


def until(client: Client, name: str, *states: str) -> Job:
    """The job, once it is in one of these states."""
    while (job := client.job(name)).state not in states:
        time.sleep(0.02)
    return job


def test_one_process_stops_the_job_of_another(services: list[Running]) -> None:
    first, second = (one.client() for one in services)
    job = first.backfill()
    assert [one.id for one in second.jobs()] == [job.id]
    assert second.stop(job.id).state == "stopping"
    assert until(first, job.id, "stopped").done == 0
    # the other process reads the record, which follows
    assert until(second, job.id, "stopped") == first.job(job.id)


def test_a_service_that_stops_leaves_its_job_to_another(services: list[Running], shop: Gallery) -> None:
    first, second = services
    job = first.client().backfill(order="random")
    assert job.request == {"order": "random"}
    first.service.jobs.close()
    taken = until(second.client(), job.id, "running")
    assert taken.processes == 2
    assert taken.process == second.service.jobs.process
    shop.resume()
    ended = until(second.client(), job.id, "done")
    assert (ended.done, ended.result is not None and ended.result.left) == (40, 0)


def died(shop: Gallery, **fields: Any) -> None:
    """Put a job on record whose process is gone."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    process = f"{socket.gethostname()}-{gone.pid}-abcdef"
    job = Job("left", "shop", "running", time.time(), process=process, seen=time.time(), **fields)
    with shop.ledger.claiming() as writer:
        add_job_record(writer, job.id, record_of(job))


def test_the_job_of_a_process_that_died_is_carried_on(services: list[Running], shop: Gallery) -> None:
    died(shop, request={"items": 30}, done=10)
    client = services[1].client()
    until(client, "left", "running")
    assert client.job("left").processes == 2
    shop.resume()
    ended = until(client, "left", "done")
    assert (ended.done, ended.result is not None and ended.result.stored) == (30, 20)


def test_a_job_that_nobody_can_carry_on_says_why(services: list[Running], shop: Gallery) -> None:
    died(shop)
    client = services[0].client()
    assert "send them again to carry on" in (client.job("left").error or "")
    shop.resume()
    again = client.backfill(vectors=made(40, NEW))
    assert until(client, again.id, "done").done == 40
    with shop.ledger.read() as reader:
        assert set(job_records(reader)[0]) == {"left", again.id}


def test_a_job_that_kills_its_processes_is_left_alone(services: list[Running], shop: Gallery) -> None:
    died(shop, request={}, processes=5)
    client = services[0].client()
    assert "5 processes died" in (client.job("left").error or "")
    client.stop("left")
    assert until(client, "left", "stopped").processes == 5


def test_a_look_at_the_jobs_changes_nothing_that_a_search_could_notice(services: list[Running], shop: Gallery) -> None:
    revision = shop.state.revision
    job = services[0].client().backfill()
    time.sleep(0.2)
    services[1].client().stop(job.id)
    until(services[0].client(), job.id, "stopped")
    assert shop.state.revision == revision
