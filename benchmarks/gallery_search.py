"""Search over a mixed gallery against search over one space, exact and approximate, at several shares of the backfill.

One gallery is filled with vectors of an old space, upgraded, and backfilled step by step; after each step the indexes
are brought up to date. The search before the upgrade is kept as it was, and both are timed in one process, in turn:
one query at a time, and a batch of 100. Vectors are 4,000 clusters in 64 latent dimensions with noise around them.
Each comparison gives the median and the 99th percentile by the clock, and the ratio of the medians by the clock and by
processor time, which other work on the machine blurs less. Recall is the share of the ten best hits of exact search
that approximate search finds, of those that the old space serves and of those that the new one does.

Approximate search needs `pip install samespace[faiss]`; without it only the exact part runs.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from samespace.gallery.index.base import Advance
from samespace.gallery.index.local import hnsw
from samespace.gallery.index.local.source import GRAPH_FROM, LocalSnapshot, LocalSource
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link, NewItem
from samespace.gallery.search.search import search
from samespace.metrics.calibration import Band, Calibration
from samespace.progress import silent
from samespace.space import Space

CLUSTERS, LATENT, BATCH = 4_000, 64, 100
SHARES = (0.0, 0.02, 0.1, 0.5, 0.9, 0.98, 1.0)
WRITE = 5_000


class World:
    """Latent positions of all items, and how each model sees them."""

    def __init__(self, rows: int, dim: int) -> None:
        generator = np.random.default_rng(0)
        self.centres = generator.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
        self.latent = self.around(generator, rows)
        self.projection = generator.standard_normal((LATENT, dim), dtype=np.float32) / LATENT**0.5
        self.dim = dim

    def around(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Positions in clusters drawn at random."""
        spread = 0.5 * generator.standard_normal((count, LATENT), dtype=np.float32)
        return self.centres[generator.integers(0, CLUSTERS, count)] + spread

    def seen(self, latent: np.ndarray, seed: int) -> np.ndarray:
        """Unit vectors of positions, with fresh noise."""
        noise = np.random.default_rng(seed).standard_normal((len(latent), self.dim), dtype=np.float32)
        vectors = latent @ self.projection + 0.1 * noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def queries(self, count: int) -> np.ndarray:
        """Vectors of positions that no item has."""
        return self.seen(self.around(np.random.default_rng(1), count), 2)


class Gallery:
    """The gallery that is measured."""

    def __init__(self, folder: Path, world: World, *, approximate: bool) -> None:
        self.world = world
        self.approximate = approximate
        names = ("old", "new")
        self.spaces = [
            Space(weights=name, preprocessing="", dim=world.dim, normalized=True, name=name) for name in names
        ]
        self.ledger = Ledger.create(folder / "gallery", self.spaces[0], model=None, settings={})
        self.source = LocalSource(
            self.ledger, folder / "gallery" / "index", graph_from=GRAPH_FROM if approximate else sys.maxsize
        )
        known = Calibration(12.0, -5.0, (-1.0, 1.0), (0.0, 5.0), 1000, 100_000, Band((11, 13), (-6, -4), 1e-4))
        with self.ledger.write() as writer:
            writer.add_space(self.spaces[1], None)
            writer.put_link(Link(2, 1, world.dim, {"made": "here"}))
            writer.add_upgrade(1, 2, order="random", plan={})
            writer.set_upgrade(writer.state().upgrades[-1], state="open")
            for pair in ((1, 1), (2, 1), (2, 2)):
                writer.put_calibration(*pair, known, "made here")
        self.order = np.random.default_rng(3).permutation(len(world.latent))
        self.done = 0

    def fill(self) -> None:
        """Add every item with its old vector."""
        for start in range(0, len(self.world.latent), WRITE):
            vectors = self.world.seen(self.world.latent[start : start + WRITE], 10 + start)
            with self.ledger.write() as writer:
                new = [NewItem(f"item-{start + place}", "content") for place in range(len(vectors))]
                writer.put_vectors(1, writer.add_items(new), ["content"] * len(new), vectors)

    def backfill(self, share: float) -> None:
        """Write new vectors up to a share of the items, in random order."""
        goal = round(share * len(self.order))
        while self.done < goal:
            some = np.sort(self.order[self.done : min(goal, self.done + WRITE)])
            with self.ledger.write() as writer:
                # items are numbered from 1 in the order in which they were added
                vectors = self.world.seen(self.world.latent[some], 10_000_000 + self.done)
                writer.put_vectors(2, some + 1, ["content"] * len(some), vectors)
            self.done += len(some)

    def maintain(self) -> float:
        """Bring indexes up to date; how many seconds it took."""
        start = time.perf_counter()
        self.source.maintain()
        return time.perf_counter() - start


class Kept:
    """A source whose snapshot stays as it was; it asks the ledger for its revision, as any search does."""

    def __init__(self, source: LocalSource) -> None:
        self.source = source
        self.state = source.state()

    @contextmanager
    def snapshot(self, where: Sequence[Condition] = ()) -> Iterator[LocalSnapshot]:
        """Always of the same revision."""
        with self.source.ledger.read() as reader:
            reader.revision()
        yield LocalSnapshot(self.source.ledger, self.state, None, self.source.graph_from)

    def maintain(self, advance: Advance = silent) -> None:
        """Nothing to do."""

    def coverage(self) -> dict[int, dict[str, int | str]]:
        """Not of interest here."""
        return {}

    def close(self) -> None:
        """Nothing to do."""


def in_turn(sides: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Seconds by the clock and of processor time, (runs, 2), of sides run in turn for so long, or ten times."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken[next(iter(sides))]) < 10:
        # each is first half of the time: what comes second meets what the first has brought into the caches
        order = list(sides.items())[:: 1 if len(taken[next(iter(sides))]) % 2 else -1]
        for name, side in order:
            start = time.perf_counter(), time.process_time()
            side()
            taken[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return {name: np.array(values) for name, values in taken.items()}


def compare(gallery: Gallery, single: Kept, queries: np.ndarray, seconds: float) -> list[str]:
    """Times of single and mixed search, and their ratios, a line each."""
    lines = []
    mixed = Kept(gallery.source)
    for exact in (True, False) if gallery.approximate else (True,):
        for count in (1, BATCH):
            turn = [0]

            def run(
                source: Kept, space: Space, count: int = count, exact: bool = exact, turn: list[int] = turn
            ) -> None:
                start = (turn[0] // 2 * count) % (len(queries) - count + 1)
                turn[0] += 1
                search(source, queries[start : start + count], space, exact=exact)

            found = in_turn(
                {
                    "single": lambda run=run: run(single, gallery.spaces[0]),
                    "mixed": lambda run=run: run(mixed, gallery.spaces[1]),
                },
                seconds,
            )
            what = f"{'exact' if exact else 'approximate'}, {count} {'query' if count == 1 else 'queries'}"
            ratios = np.median(found["mixed"], axis=0) / np.median(found["single"], axis=0)
            sides = (
                f"{name} {1e3 * np.median(one[:, 0]):7.2f} / {1e3 * np.percentile(one[:, 0], 99):7.2f} ms"
                for name, one in found.items()
            )
            lines.append(f"  {what:<24} {', '.join(sides)}; ratio {ratios[0]:.2f}, processor time {ratios[1]:.2f}")
    return lines


def recalls(gallery: Gallery, queries: np.ndarray) -> str:
    """Share of the ten best hits that approximate search finds, by the space that serves them."""
    found, exact = (search(gallery.source, queries, gallery.spaces[1], exact=one) for one in (False, True))
    parts = []
    for space in gallery.spaces:
        hits = [
            hit in some
            for some, every in zip(found.hits, exact.hits, strict=True)
            for hit in every
            if hit.space == space.id
        ]
        if hits:
            parts.append(f"{space.name} {statistics.fmean(hits):.4f} of {len(hits)} hits")
    return "  recall@10: " + ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each comparison")
    parser.add_argument("--exact", action="store_true", help="leave approximate search out")
    parser.add_argument("--folder", type=Path, help="where to put the gallery for the time being")
    options = parser.parse_args()
    print(f"{options.rows} x {options.dim}, {platform.machine()}, numpy {np.__version__}, faiss: {hnsw.available()}")
    world = World(options.rows, options.dim)
    queries = world.queries(10 * BATCH)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        gallery = Gallery(Path(folder), world, approximate=hnsw.available() and not options.exact)
        start = time.perf_counter()
        gallery.fill()
        print(f"filled in {time.perf_counter() - start:.1f} s; indexes in {gallery.maintain():.1f} s")
        single = Kept(gallery.source)
        # a first look, so that the files are in memory for both sides
        search(single, queries[:BATCH], gallery.spaces[0], exact=True)
        with gallery.ledger.write() as writer:
            writer.set_query(2)
        for share in SHARES:
            gallery.backfill(share)
            print(f"{100 * share:.0f} % backfilled, compaction {gallery.maintain():.1f} s", flush=True)
            search(gallery.source, queries[:BATCH], gallery.spaces[1], exact=True)
            for line in compare(gallery, single, queries, options.seconds):
                print(line, flush=True)
            if gallery.approximate:
                print(recalls(gallery, queries), flush=True)
        size = sum(file.stat().st_size for file in (Path(folder) / "gallery" / "index").rglob("*") if file.is_file())
        print(f"index files {size / 2**20:.0f} MiB; ledger {gallery.ledger.engine.size() / 2**20:.0f} MiB")
        gallery.source.close()
        gallery.ledger.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory {peak / 2**10:.0f} MiB, mapped index files included")


if __name__ == "__main__":
    main()
