"""The memory of a service over an hour's worth of requests: does it grow?

A gallery in the middle of a backfill, so that two spaces serve, is searched by `--clients` threads without a pause, by
vectors of both models, until `--searches` are answered (100,000: an hour at 28 a second); each answer is looked at as
in `serve_load.py`. One thread asks for everything else a service answers, adds an item and removes it. At every
hundredth of the searches the private memory of each process is written down. The first fifth warms up; over the rest it
prints the first, last and largest value and the slope of the line of least squares, in MiB per 1,000 requests, and with
`--plot` draws all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from samespace import Gallery
from samespace.gallery import Limits
from serve_world import Clients, Connection, ServiceProcess, World, fill

_SAMPLES = 100
_WARM = 0.2
_ASKED = [
    (b"GET", "/v1"), (b"GET", "/v1/shop/status"), (b"GET", "/v1/shop/jobs"), (b"GET", "/v1/shop/certificates"),
    (b"GET", "/v1/shop/canary-curve"), (b"GET", "/v1/shop/items/item-1"), (b"GET", "/metrics"), (b"GET", "/readyz"),
    (b"GET", "/"), (b"GET", "/docs"), (b"GET", "/v1/shop/items/none"), (b"POST", "/v1/shop/search"),
    (b"POST", "/v1/shop/seal"),
]  # fmt: skip


def main() -> None:
    """Measure and print."""
    options = _options()
    world = World.of(options.rows, options.dim)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, world, options.rows, options.made)
        _half_upgraded(folder, world, options)
        service = ServiceProcess(str(folder / "shop"), "--workers", str(options.workers), log=folder / "log")
        try:
            service.wait()
            while (folder / "log").read_bytes().count(b'"message": "ready"') < options.workers:
                time.sleep(0.1)
            clients = Clients(world, [service.port], options.clients)
            clients.models = [number % 2 for number in range(options.clients)]
            others = Others(world, service.port)
            samples = _watched(service, clients, others, options.searches)
            others.stop()
            asked = clients.stop()
        finally:
            service.stop()
    rows = _rows(samples)
    print(f"{len(asked.times):,} searches, {len(asked.faults)} failed or wrong; {others.asked:,} other requests")
    print("| MiB | first | last | largest | per 1,000 requests |\n|---|---:|---:|---:|---:|")
    for row in rows:
        values = " | ".join(f"{row[key]:.1f}" for key in ("first", "last", "largest"))
        print(f"| {row['process']} | {values} | {row['slope']:+.3f} |")
    if options.json:
        options.json.write_text(json.dumps({**vars(options), "table": rows, "samples": samples}, indent=2, default=str))
    if options.plot:
        _draw(samples, options.plot)
    for fault in [*asked.faults[:10], *others.faults[:10]]:
        print(fault, file=sys.stderr)
    if asked.faults or others.faults:
        sys.exit(1)


def _half_upgraded(folder: Path, world: World, options: argparse.Namespace) -> None:
    """Bring the gallery into the middle of a backfill, with grace for queries of the old model."""
    from samespace.vectors import VectorSet

    old, new = world.spaces
    with Gallery.open(folder / "shop") as gallery:
        gallery.upgrade(new, accept_uncertified=True, grace=True)
        for space in (old, new):
            gallery.calibrate(world.queries_of(new), world.set_of(space, 0, min(2000, options.rows)))
        gallery.backfill(vectors=VectorSet.load(folder / "new"), limits=Limits(items=options.rows // 2))


class Others:
    """A thread that asks for everything but searches, adds an item and removes it, about twenty requests a second."""

    def __init__(self, world: World, port: int) -> None:
        self.asked, self.faults = 0, list[str]()
        self._connection = Connection([port])
        vector = world.items[world.spaces[1]][0].tolist()
        item = {"space": world.spaces[1].id, "vectors": [vector], "ids": ["another"]}
        changes = [("items", {"vectors": item}), ("remove", {"ids": ["another"]})]
        self._requests = [(method, path, b"{}" if method == b"POST" else b"") for method, path in _ASKED]
        self._requests += [(b"POST", f"/v1/shop/{path}", json.dumps(body).encode()) for path, body in changes]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let it end with the answer that it waits for."""
        self._over.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        while not self._over.wait(0.05):
            method, path, body = self._requests[self.asked % len(self._requests)]
            status, content = self._connection.ask(method, path, body)
            self.asked += 1
            if status >= 500 or (status >= 400 and body not in (b"", b"{}")):
                self.faults.append(f"{status} {path}: {content[:200]!r}")


def _watched(service: ServiceProcess, clients: Clients, others: Others, searches: int) -> list[dict[str, Any]]:
    """Memory by process at every hundredth of the searches."""
    samples: list[dict[str, Any]] = []
    while (done := len(clients.asked.times)) < searches and len(clients.asked.faults) < 100:
        if done >= searches * len(samples) / _SAMPLES:
            samples.append({"requests": done + others.asked, "memory": service.memory()})
            if len(samples) % 10 == 0:
                print(f"{done:,} searches, {sum(samples[-1]['memory'].values()):.0f} MiB", file=sys.stderr, flush=True)
        time.sleep(0.1)
    return [*samples, {"requests": len(clients.asked.times) + others.asked, "memory": service.memory()}]


def _series(samples: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """MiB by process, and of all together."""
    pids = list(samples[-1]["memory"])
    names = ["service"] if len(pids) == 1 else ["supervisor", *(f"worker {one}" for one in range(1, len(pids)))]
    found = {
        name: np.array([one["memory"].get(pid, 0.0) for one in samples])
        for name, pid in zip(names, pids, strict=True)
    }  # fmt: skip
    return found if len(pids) == 1 else {**found, "together": np.sum(list(found.values()), axis=0)}


def _rows(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    requests = np.array([one["requests"] for one in samples])
    warm = requests >= _WARM * requests[-1]
    rows = []
    for name, values in _series(samples).items():
        slope = np.polyfit(requests[warm] / 1000, values[warm], 1)[0]
        after = values[warm]
        rows.append(
            {"process": name, "first": after[0], "last": after[-1], "largest": after.max(), "slope": float(slope)}
        )
    return rows


def _draw(samples: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    requests = [one["requests"] for one in samples]
    for name, values in _series(samples).items():
        axes.plot(requests, values, label=name)
    axes.axvline(_WARM * requests[-1], color="0.6", linestyle=":", linewidth=1)
    axes.set(xlabel="requests", ylabel="private memory, MiB", ylim=(0, None))
    axes.legend(frameon=False)
    figure.savefig(path, dpi=140)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=1, help="processes of the service")
    parser.add_argument("--searches", type=int, default=100_000)
    parser.add_argument("--made", type=Path, help="folder to keep the gallery in, for the next run of the same size")
    parser.add_argument("--plot", type=Path, help="write the drawing here")
    parser.add_argument("--json", type=Path, help="write all figures here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
