"""Several processes at one address: changes, keys, jobs and counts are of all; one that dies is started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from samespace import Client
from samespace.gallery import Gallery
from samespace.serve.keys import add_key, revoke_key

from .running import NEW, httpx, made


class Process:
    """A service of several workers, its address and its log."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "samespace", "serve", "shop", "--port", "0", *options]
        self.process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = ""
        while not line.startswith("serving"):
            line = self.process.stderr.readline()
        self.address = line.split()[3]
        self.log: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self._reading.start()

    def _read(self, lines: Any) -> None:
        self.log.extend(json.loads(line) for line in lines if not line.startswith("without --keys"))

    def said(self, message: str, times: int = 1) -> list[dict[str, Any]]:
        """The lines with a message, once there are as many."""
        end = time.monotonic() + 120
        while len(found := [line for line in list(self.log) if line["message"] == message]) < times:
            assert time.monotonic() < end, self.log
            time.sleep(0.02)
        return found

    def end(self) -> int:
        self.process.terminate()
        status = self.process.wait(120)
        self._reading.join()
        return status

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reading.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@pytest.fixture
def service(tmp_path: Path, shop: Gallery) -> Iterator[Process]:
    shop.upgrade(NEW, accept_uncertified=True, grace=True)
    for space in (made(1).space, NEW):
        shop.calibrate(made(40, NEW), made(40, space, first=100))
    shop.close()
    process = Process(tmp_path, "--workers", "2", "--keys", "keys.json")
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def key(tmp_path: Path) -> str:
    return add_key(tmp_path / "keys.json", "all", "admin")


def counted(service: Process, key: str, name: str) -> float:
    text = httpx.get(f"{service.address}/metrics", headers={"Authorization": f"Bearer {key}"}).text
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_workers_answer_as_one_and_one_that_is_killed_is_replaced(service: Process, key: str, tmp_path: Path) -> None:
    pids = [line["worker"] for line in service.said("worker started", 2)]
    service.said("ready", 2)
    with Client(service.address, "shop", key=key) as client:
        # a connection stays with one worker: each client has its own
        for row in range(40, 46):
            with Client(service.address, "shop", key=key) as one:
                one.add(made(1, NEW, first=row), also=[made(1, first=row)])
            with Client(service.address, "shop", key=key) as other:
                assert other.search(made(1, NEW, first=row), k=1).hits[0][0].item == f"item-{row}"
        assert counted(service, key, "samespace_queries_total") == 6
        job = client.backfill(vectors=made(40, NEW))
        os.kill(pids[0], signal.SIGKILL)
        (died,) = service.said("worker died, another one is started")
        assert (died["worker"], died["exitcode"]) == (pids[0], -signal.SIGKILL)
    service.said("ready", 3)
    for _ in range(4):
        with Client(service.address, "shop", key=key) as client:
            assert len(client.search(made(2, NEW)).hits) == 2
            assert client.job(job.id).state in ("running", "done", "died")
    assert counted(service, key, "samespace_queries_total") == 6 + 8
    assert counted(service, key, "samespace_requests_in_flight") == 1
    revoke_key(tmp_path / "keys.json", "all")
    for _ in range(4):
        assert httpx.get(f"{service.address}/v1", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert service.end() == 0
    assert [line for line in service.log if line["level"] == "error"] == [died]
