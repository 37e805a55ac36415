"""Services as processes, clients that ask them as fast as they can, and what an answer must be; for benchmarks."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samespace.gallery import Gallery
from samespace.space import Space
from samespace.vectors import VectorSet

K = 10
_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, eq=False)
class World:
    """Items and queries as two models see them.

    Attributes:
        spaces: of the old model and of the new one.
        items: by space: (N, D) unit vectors of `item-0`, `item-1`, …
        queries: by space: (Q, D) of the same pictures.
        labels: (N,) of the items.
        query_labels: (Q,).
    """

    spaces: tuple[Space, Space]
    items: dict[Space, np.ndarray]
    queries: dict[Space, np.ndarray]
    labels: np.ndarray
    query_labels: np.ndarray

    @classmethod
    def of(cls, rows: int, dim: int, queries: int = 512) -> World:
        """Clusters of about fifty in a sixth of the dimensions, with the noise of each model."""
        draw = np.random.default_rng(0)
        latent = max(8, dim // 4)
        centres = draw.standard_normal((max(20, rows // 50), latent), dtype=np.float32)
        projection = draw.standard_normal((latent, dim), dtype=np.float32) / latent**0.5
        spaces = tuple(
            Space(weights=name, preprocessing="none", dim=dim, normalized=True, name=name) for name in ("old", "new")
        )
        seen: list[dict[Space, np.ndarray]] = []
        labels = [draw.integers(0, len(centres), count) for count in (rows, queries)]
        for some in labels:
            positions = centres[some] + 0.5 * draw.standard_normal((len(some), latent), dtype=np.float32)
            views = {}
            for space, noise in zip(spaces, (0.15, 0.1), strict=True):
                values = positions @ projection + noise * draw.standard_normal((len(some), dim), dtype=np.float32)
                views[space] = values / np.linalg.norm(values, axis=1, keepdims=True)
            seen.append(views)
        return cls((spaces[0], spaces[1]), seen[0], seen[1], *labels)

    def set_of(self, space: Space, start: int, end: int) -> VectorSet:
        """Some items as a model sees them."""
        ids = [f"item-{row}" for row in range(start, end)]
        labels = self.labels[start:end].astype(str)
        return VectorSet.from_arrays(self.items[space][start:end], ids=ids, labels=labels, space=space)

    def queries_of(self, space: Space) -> VectorSet:
        """All queries as a model sees them, labelled."""
        ids = [f"query-{row}" for row in range(len(self.query_labels))]
        labels = self.query_labels.astype(str)
        return VectorSet.from_arrays(self.queries[space], ids=ids, labels=labels, space=space)

    def wrong(self, space: Space, row: int, answer: dict[str, Any]) -> str:
        """What is wrong with the answer to a query of a space; empty if nothing is.

        Every item once, of a space that these queries may meet, with the score that the query has with the item's own
        vector in that space, best first.
        """
        (hits,) = answer["hits"]
        numbers = [int(hit["item"].removeprefix("item-")) for hit in hits]
        if answer["space"] != space.id or len(hits) != K or len(set(numbers)) != K:
            return f"{len(hits)} hits, {len(set(numbers))} items, answered for {answer['space']}"
        met = {one.id: one for one in (self.spaces if space == self.spaces[1] else self.spaces[:1])}
        query = self.queries[space][row].astype(np.float64)
        for hit, number in zip(hits, numbers, strict=True):
            if hit["space"] not in met:
                return f"{hit['item']} was found by its vector of {hit['space']}"
            raw = float(self.items[met[hit["space"]]][number].astype(np.float64) @ query)
            if abs(raw - hit["raw"]) > 1e-6:
                return f"{hit['item']} has the score {hit['raw']:.6f}, its own vector {raw:.6f}"
        scores = [hit["raw"] if hit["score"] is None else hit["score"] for hit in hits]
        return "" if scores == sorted(scores, reverse=True) else "not best first"


def fill(folder: Path, world: World, rows: int, made: Path | None) -> None:
    """Make `shop`, a gallery of the first rows by the old model, and `new`, the vectors of all by the new one.

    `made`: keep both there, and take them from there where an earlier run of the same size has made them.
    """
    old, new = world.spaces
    place = made or folder
    if not (place / "new").exists():
        shutil.rmtree(place / "shop", ignore_errors=True)
        with Gallery.create(place / "shop", old) as gallery:
            gallery.add(world.set_of(old, 0, rows))
        world.set_of(new, 0, len(world.labels)).save(place / "new")
    if place != folder:
        for name in ("shop", "new"):
            shutil.copytree(place / name, folder / name)


class ServiceProcess:
    """`samespace serve` as a process, which can be killed and started again at the same address."""

    def __init__(self, place: str, *options: str, log: Path) -> None:
        self._place, self._options, self._log = place, options, log
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def start(self) -> None:
        """Start it; `wait` says when it answers."""
        command = [sys.executable, "-m", "samespace", "serve", f"shop={self._place}", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen([*command, *self._options], stderr=log)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Until it is warm."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if Connection([self.port]).ask(b"GET", "/readyz")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise SystemExit(f"the service at {self.address} is not ready: {self._log.read_text()[-2000:]}")

    def memory(self) -> dict[int, float]:
        """MiB of its own (not of mapped files) that it has in memory, by process: itself and its workers."""
        return {pid: _anonymous(pid) / 1024 for pid in (self.process.pid, *self.workers())}

    def workers(self) -> list[int]:
        """Process numbers of its workers."""
        return [pid for pid in _children(self.process.pid) if b"spawn_main" in _read(f"/proc/{pid}/cmdline")]

    def stop(self) -> int:
        """End it as an operator does; its status."""
        self.process.terminate()
        return self.process.wait(_PATIENCE_SECONDS)


def _anonymous(pid: int) -> int:
    lines = _read(f"/proc/{pid}/status").decode().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


def _children(pid: int) -> list[int]:
    return [int(one) for one in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


class Connection:
    """A client that keeps a connection to one of several services, and goes to the next where one does not answer."""

    def __init__(self, ports: list[int]) -> None:
        self._ports, self._at, self.moved = ports, 0, 0
        self._socket: socket.socket | None = None

    def ask(self, method: bytes, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body of an answer."""
        head = b"%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._ports[self._at]), timeout=_PATIENCE_SECONDS)
            self._file = self._socket.makefile("rb")
        try:
            self._socket.sendall(head % (method, path.encode(), len(body)) + body)
            status, length = self._file.readline(), 0
            if not status:
                raise ConnectionResetError
            while (line := self._file.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            content = self._file.read(length)
            if len(content) < length:
                raise ConnectionResetError
            return int(status.split()[1]), content
        except OSError:
            self.close()
            raise

    def search(self, body: bytes) -> tuple[int, bytes]:
        """The answer to a search, of the next service where one went away: what a proxy does for its clients."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self.ask(b"POST", "/v1/shop/search", body)
            except OSError:
                self._at = (self._at + 1) % len(self._ports)
                self.moved += 1
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._file.close()
            self._socket.close()
            self._socket = None


def search_body(space: Space, query: np.ndarray) -> bytes:
    """A search for one query, as the client of samespace sends it."""
    text = base64.b64encode(np.ascontiguousarray(query, dtype="<f4").tobytes()).decode()
    return json.dumps({"queries": {"space": space.id, "base64": text}, "k": K}).encode()


@dataclass
class Asked:
    """What clients were answered: (when, seconds, space, query) of each search, and what was wrong."""

    times: list[tuple[float, float, str, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    moved: int = 0


class Clients:
    """Threads that search without a pause, each by the model that `models` says for it, and look at every answer."""

    def __init__(self, world: World, ports: list[int], count: int, pause: float = 0.0) -> None:
        self.world, self.asked, self._pause = world, Asked(), pause
        self.models = [0] * count
        self._bodies = [[search_body(space, query) for query in world.queries[space]] for space in world.spaces]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(one, ports), daemon=True) for one in range(count)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> Asked:
        """Let each end with the answer that it waits for."""
        self._over.set()
        for thread in self._threads:
            thread.join(_PATIENCE_SECONDS)
        return self.asked

    def _run(self, number: int, ports: list[int]) -> None:
        turn = number % len(ports)
        connection, row = Connection(ports[turn:] + ports[:turn]), 37 * number
        while not self._over.is_set():
            row = (row + 1) % len(self.world.query_labels)
            model = self.models[number]
            space, began = self.world.spaces[model], time.perf_counter()
            try:
                status, content = connection.search(self._bodies[model][row])
            except OSError as error:
                self.asked.faults.append(f"no answer: {error}")
                continue
            seconds = time.perf_counter() - began
            self.asked.times.append((time.monotonic(), seconds, space.name, row))
            wrong = content.decode() if status != 200 else self.world.wrong(space, row, json.loads(content))
            time.sleep(self._pause)
            if wrong:
                self.asked.faults.append(f"{status} {space.name} query-{row}: {wrong[:200]}")
        self.asked.moved += connection.moved
        connection.close()


def threads_of_this_machine() -> int:
    """How many cores there are."""
    return os.cpu_count() or 1
