"""A service under load through a whole upgrade day, against the library in process.

First both are asked alike, in turn: by `--clients` threads that search without a pause, once the library in this
process, once the service. Then the clients go on while items are added, an upgrade is planned and opened with grace,
the service's processes are replaced one after another, clients move to the new model one after another, a backfill
runs, clients move back, the upgrade is rolled back and opened again, a seal is refused while old queries come and
carried out afterwards. Of every answer it asks: was there one, is each item in it once, found by its own vector of a
space that these queries may meet, with that vector's score, best first? An acknowledged item must be found by its own
vector by the next search of either service. In the end memory is looked at while clients go on.

Clients share the machine with the service: they are threads of this process.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from samespace import Client, Gallery, GalleryError
from samespace.vectors import VectorSet
from serve_world import Clients, Connection, K, ServiceProcess, World, fill, search_body, threads_of_this_machine

_CHANGE_SECONDS = 3600.0
UNUSED_SECONDS = 6.0
"""Beyond the five seconds after which every process has written down which old queries came."""


def main() -> None:
    """Measure and print."""
    options = _options()
    world = World.of(options.rows + options.added, options.dim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.monotonic()
        fill(folder, world, options.rows, options.made)
        print(f"{options.rows:,} items of {options.dim} dimensions in {time.monotonic() - began:.0f} s", flush=True)
        services = [
            ServiceProcess(str(folder / "shop"), "--deadline", str(_CHANGE_SECONDS), log=folder / f"log-{one}")
            for one in range(options.services)
        ]
        try:
            for service in services:
                service.wait()
            result: dict[str, Any] = {"machine": _machine(), **vars(options)}
            result["alike"] = _alike(folder, world, services[0], options)
            print(_table(result["alike"]), flush=True)
            result["day"] = Day(folder, world, services, options).run()
            print(_table(result["day"]["phases"]), flush=True)
        finally:
            for service in services:
                service.process.kill()
                service.process.wait()
    day = result["day"]
    print(
        f"{day['searches']:,} searches, {day['failed']} failed or wrong; {day['moved']} went to another process as "
        f"theirs ended; recall at {K} of old queries {day['recall']:.4f}"
    )
    print(f"memory of the service's own, MiB over the last {day['soaked']:,} requests: {day['memory']}")
    for fault in day["faults"][:20]:
        print(fault, file=sys.stderr)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, default=str))
    if day["failed"]:
        sys.exit(1)


def _alike(folder: Path, world: World, service: ServiceProcess, options: argparse.Namespace) -> dict[str, Any]:
    """Latencies of the library and of one service at the same number of clients, in turn."""
    old = world.spaces[0]
    sets = [VectorSet.from_arrays(query[None], ids=["query"], space=old) for query in world.queries[old]]
    bodies = [search_body(old, query) for query in world.queries[old]]
    found: dict[str, list[float]] = {"library": [], "service": []}
    spent = dict.fromkeys(found, 0.0)
    with Gallery.open(folder / "shop", read_only=True) as gallery:
        gallery.search(sets[0], k=K)

        def by_library() -> Callable[[int], Any]:
            return lambda row: gallery.search(sets[row], k=K)

        def by_service() -> Callable[[int], Any]:
            connection = Connection([service.port])
            return lambda row: connection.ask(b"POST", "/v1/shop/search", bodies[row])

        for _ in range(3):
            for name, way in (("library", by_library), ("service", by_service)):
                began = time.monotonic()
                found[name] += _asked(way, options.clients, options.seconds, len(bodies))
                spent[name] += time.monotonic() - began
    return {name: _latencies(times, spent[name]) for name, times in found.items()}


def _asked(way: Callable[[], Callable[[int], Any]], clients: int, seconds: float, queries: int) -> list[float]:
    """Seconds of each search of threads that search without a pause."""
    times: list[float] = []
    end = time.monotonic() + seconds

    def run(number: int) -> None:
        ask, row = way(), 37 * number
        while time.monotonic() < end:
            row = (row + 1) % queries
            began = time.perf_counter()
            ask(row)
            times.append(time.perf_counter() - began)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


class Day:
    """An upgrade day under load."""

    def __init__(self, folder: Path, world: World, services: list[ServiceProcess], options: argparse.Namespace) -> None:
        self.folder, self.world, self.services, self.options = folder, world, services, options
        self.clients = Clients(world, [service.port for service in services], options.clients, options.pause)
        self.phases: dict[str, tuple[float, float]] = {}
        self.memory: list[tuple[int, float]] = []

    def run(self) -> dict[str, Any]:
        """The phases and what clients saw in them."""
        old, new = self.world.spaces
        first = Client(self.services[0].address, "shop", timeout=_CHANGE_SECONDS)
        last = Client(self.services[-1].address, "shop", timeout=_CHANGE_SECONDS)
        with self._phase("before"):
            time.sleep(self.options.seconds)
        with self._phase("add"):
            self._add(first, last)
        with self._phase("plan"):
            first.plan(new, accept_uncertified=True)
        with self._phase("upgrade, grace"):
            first.upgrade(new, accept_uncertified=True, grace=True)
            assert last.space == new
        for space in (old, new):
            last.calibrate(self.world.queries_of(new), self.world.set_of(space, 0, min(2000, self.options.rows)))
        if len(self.services) > 1:
            with self._phase("replace processes"):
                for service in self.services:
                    assert service.stop() == 0
                    service.start()
                    service.wait()
        with self._phase("clients move"):
            self._move(1, len(self.clients.models) // 2)
            time.sleep(self.options.seconds)
        with self._phase("backfill"):
            self._backfill()
        with self._phase("rollback"):
            self._move(0, len(self.clients.models))
            time.sleep(1.0)
            first.rollback()
            assert last.space == old
            time.sleep(self.options.seconds)
        with self._phase("upgrade again"):
            last.upgrade(new, accept_uncertified=True, grace=True)
            self._move(1, len(self.clients.models) - 1)
            time.sleep(self.options.seconds)
        with self._phase("seal"):
            time.sleep(UNUSED_SECONDS)
            self._seal(last)
        with self._phase("after"):
            self._soak()
        asked = self.clients.stop()
        return {
            "phases": self._measured(asked.times),
            "searches": len(asked.times),
            "failed": len(asked.faults),
            "faults": asked.faults,
            "moved": asked.moved,
            "recall": self._recall(),
            "soaked": self.memory[-1][0] - self.memory[0][0],
            "memory": [round(memory) for _, memory in self.memory],
        }

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.phases[name] = began, time.monotonic()

    def _add(self, first: Client, last: Client) -> None:
        """Add items, and find each acknowledged one by its own vector through the other service."""
        old, rows = self.world.spaces[0], self.options.rows
        for start in range(rows, rows + self.options.added, 100):
            end = min(start + 100, rows + self.options.added)
            first.add(self.world.set_of(old, start, end))
            hits = last.search(self.world.set_of(old, start, end), k=1).hits
            if [one[0].item for one in hits] != [f"item-{row}" for row in range(start, end)]:
                self.clients.asked.faults.append(f"items {start} to {end} were acknowledged and are not found")

    def _move(self, model: int, count: int) -> None:
        """Let clients use a model, one after another."""
        for place in range(count):
            self.clients.models[place] = model
            time.sleep(0.05)

    def _backfill(self) -> None:
        command = [sys.executable, "-m", "samespace", "gallery", "backfill", str(self.folder / "shop"), "--quiet"]
        limit = ["--seconds", str(self.options.backfill)]
        subprocess.run([*command, "--vectors", str(self.folder / "new"), *limit], check=True, capture_output=True)

    def _seal(self, client: Client) -> None:
        """Refused while one client is of the old model; carried out when none is."""
        done = {one.space: one.vectors for one in client.status().spaces}[self.world.spaces[1]]
        partial = done < len(self.world.labels)
        try:
            client.seal(partial=partial, unused_for=UNUSED_SECONDS)
        except GalleryError as error:
            print(f"refused: {error}")
        else:
            self.clients.asked.faults.append("the seal was not refused while old queries came")
        self._recalled = self._ask_old()
        self._move(1, len(self.clients.models))
        time.sleep(UNUSED_SECONDS + 1.0)
        client.seal(partial=partial, unused_for=UNUSED_SECONDS)

    def _ask_old(self) -> list[set[int]]:
        """What old queries find before the seal: item numbers."""
        old, connection, found = self.world.spaces[0], Connection([self.services[0].port]), []
        for query in self.world.queries[old][:200]:
            (hits,) = json.loads(connection.search(search_body(old, query))[1])["hits"]
            found.append({int(hit["item"].removeprefix("item-")) for hit in hits})
        connection.close()
        return found

    def _recall(self) -> float:
        """Share of the true best items of old queries that they found."""
        old = self.world.spaces[0]
        scores = self.world.queries[old][:200] @ self.world.items[old].T
        best = np.argpartition(-scores, K, axis=1)[:, :K]
        return float(
            np.mean([len(set(row.tolist()) & found) / K for row, found in zip(best, self._recalled, strict=True)])
        )

    def _soak(self) -> None:
        for _ in range(13):
            self.memory.append(
                (len(self.clients.asked.times), sum(sum(one.memory().values()) for one in self.services))
            )
            time.sleep(self.options.soak / 12)

    def _measured(self, times: list[tuple[float, float, str, int]]) -> dict[str, Any]:
        found = {}
        for name, (began, ended) in self.phases.items():
            inside = [seconds for when, seconds, _, _ in times if began <= when <= ended]
            found[name] = _latencies(inside, ended - began)
        return found


def _latencies(times: list[float], seconds: float) -> dict[str, float]:
    if not times:
        return {"seconds": round(seconds, 1)}
    p50, p99 = np.percentile(np.array(times) * 1000, [50, 99])
    return {
        "seconds": round(seconds, 1), "per_second": round(len(times) / seconds),
        "p50_ms": round(p50, 1), "p99_ms": round(p99, 1), "longest_ms": round(1000 * max(times)),
    }  # fmt: skip


def _table(rows: dict[str, dict[str, float]]) -> str:
    lines = ["| | seconds | searches/s | p50 ms | p99 ms | longest ms |", "|---|---:|---:|---:|---:|---:|"]
    keys = ("seconds", "per_second", "p50_ms", "p99_ms", "longest_ms")
    lines += [f"| {name} | {' | '.join(str(row.get(key, '')) for key in keys)} |" for name, row in rows.items()]
    return "\n".join(lines)


def _machine() -> str:
    return f"Python {platform.python_version()}, {platform.system()}, {threads_of_this_machine()} cores"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--added", type=int, default=2000, help="items added under load")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a client waits after each answer")
    parser.add_argument("--services", type=int, default=1, help="service processes of the same gallery")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measured phase")
    parser.add_argument("--backfill", type=float, default=45.0, help="most seconds of the backfill")
    parser.add_argument("--soak", type=float, default=60.0, help="seconds in which memory is looked at")
    parser.add_argument("--made", type=Path, help="folder to keep the gallery in, for the next run of the same size")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
