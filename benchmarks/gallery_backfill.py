"""What a gallery adds to the work itself: bulk adding against the bare store, a backfill against the bare model.

- **add**: N x D vectors into a ledger, and into a gallery with its index files, against the same rows written to SQLite
  by hand: one table of items, one of vectors, the same page size, the same number of rows in a transaction, flushed to
  disk as often. Our side also hashes each vector, looks up each id, keeps checksums and revisions. With a graph for
  approximate search the other side is SQLite and FAISS by hand, with the same settings.
- **backfill**: images embedded by `Gallery.backfill`, read, claimed, hashed, committed, against the bare model on the
  same images in the same batches, in turn.
- **workers**: the same backfill by two processes, and by two Ray actors on this machine where Ray is installed. All end
  with the same gallery; what they cost above the work is printed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch

from prototypes import peak_above_start
from samespace.data import ArraySource, open_source
from samespace.gallery import Gallery, Limits
from samespace.gallery.index.local import hnsw
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ingest.add import add_vectors
from samespace.gallery.ledger.ledger import Ledger
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.space import Space
from samespace.vectors import VectorSet

BATCH = 5000


def unit_vectors(rows: int, dim: int) -> np.ndarray:
    """Seeded unit vectors, (rows, dim) float32."""
    values = np.random.default_rng(0).standard_normal((rows, dim), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def by_hand(folder: Path, vectors: VectorSet) -> None:
    """The rows alone, straight into SQLite."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE item (no INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)")
    connection.execute(
        "CREATE TABLE vector (no INTEGER PRIMARY KEY, item INTEGER NOT NULL UNIQUE, value BLOB NOT NULL)"
    )
    for start in range(0, len(vectors), BATCH):
        rows = range(start, min(start + BATCH, len(vectors)))
        values = vectors.take(np.arange(rows.start, rows.stop))
        connection.execute("BEGIN IMMEDIATE")
        names = vectors.ids[rows.start : rows.stop].tolist()
        connection.executemany("INSERT INTO item VALUES (?, ?)", zip(rows, names, strict=True))
        connection.executemany(
            "INSERT INTO vector VALUES (?, ?, ?)",
            ((row, row, value.tobytes()) for row, value in zip(rows, values, strict=True)),
        )
        connection.execute("COMMIT")
    connection.close()


def graph_by_hand(folder: Path, vectors: VectorSet) -> None:
    """The rows in SQLite, and beside them the same graph, built and written by FAISS alone."""
    import faiss

    by_hand(folder, vectors)
    index = faiss.IndexHNSWSQ(vectors.dim, faiss.ScalarQuantizer.QT_fp16, hnsw._NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = hnsw._BUILD_WIDTH
    index.train(np.zeros((1, vectors.dim), dtype=np.float32))
    for _, block in vectors.blocks(hnsw._ADDED_AT_ONCE):
        index.add(block)
    faiss.write_index(index, str(folder / "bare.faiss"))


def ledger_only(folder: Path, vectors: VectorSet) -> None:
    """Items into a ledger, without any index."""
    with closing(Ledger.create(folder / "gallery", vectors.space, model=None, settings={})) as ledger:
        add_vectors(ledger, vectors)


def with_index(folder: Path, vectors: VectorSet, *, graph_from: int) -> None:
    """Items into a gallery whose index files are written."""
    ledger = Ledger.create(folder / "gallery", vectors.space, model=None, settings={})
    source = LocalSource(ledger, folder / "gallery" / "index", graph_from=graph_from)
    with Gallery(ledger, source) as gallery:
        gallery.add(vectors)
        kind = "exact" if graph_from > len(vectors) else "hnsw"
        assert source.coverage()[1] == {"indexed": len(vectors), "lag": 0, "kind": kind}


def timed(sides: dict[str, Callable[[Path, VectorSet], None]], vectors: VectorSet, turns: int) -> dict[str, float]:
    """Median seconds of each side, in turn; the first is the store by itself."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(turns):
        for name, side in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                side(Path(folder), vectors)
                spent[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in spent.items()}


def print_rates(found: dict[str, float], rows: int) -> None:
    """A table of rows per second, and shares of the first."""
    bare = next(iter(found.values()))
    print("| | rows/s | share of the store's own rate |\n|---|---:|---:|")
    for name, seconds in found.items():
        print(f"| {name} | {rows / seconds:,.0f} | {bare / seconds:.0%} |")


def measure_add(rows: int, dim: int) -> None:
    """Print how fast items go in, bare and through the gallery: the ledger, exact index files, and a graph."""
    space = Space(weights="bench", preprocessing="none", dim=dim, normalized=True)
    vectors = VectorSet.from_arrays(
        unit_vectors(rows, dim), ids=[f"item-{row:08d}" for row in range(rows)], space=space
    )
    print(f"\nadd {rows:,} x {dim}, {BATCH:,} rows in a transaction, median of 3\n")
    exact = partial(with_index, graph_from=sys.maxsize)
    sides = {"SQLite by hand": by_hand, "ledger, no index": ledger_only, "gallery with exact index files": exact}
    print_rates(timed(sides, vectors, 3), rows)
    with tempfile.TemporaryDirectory() as folder, peak_above_start() as rise:
        exact(Path(folder), vectors)
    print(f"\npeak memory above the vectors themselves: {rise[0] / 2**20:,.0f} MiB")
    if not hnsw.available():
        print("\nFAISS is not installed: pip install 'samespace[faiss]'")
        return
    print(f"\nthe same with a graph (HNSW, M {hnsw._NEIGHBOURS}, efConstruction {hnsw._BUILD_WIDTH}, half precision), "
          "once each\n")  # fmt: skip
    sides = {"SQLite and FAISS by hand": graph_by_hand, "gallery with its graph": partial(with_index, graph_from=1)}
    print_rates(timed(sides, vectors, 1), rows)


def images_of(count: int, side: int) -> ArraySource:
    """Seeded colour images."""
    draw = np.random.default_rng(1)
    pixels = draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ArraySource(pixels, np.arange(count) % 50, ids=[f"item-{row:06d}" for row in range(count)])


def measure_backfill(backbone: str, side: int, count: int, batch: int, repeats: int) -> None:
    """Print how fast a backfill goes, against the model alone."""
    preprocessing = Preprocessing(size=side, channels=3)
    torch.manual_seed(0)
    old = Embedder(EmbedderConfig("convnet16", 64, preprocessing), name="old").eval()
    new = Embedder(EmbedderConfig(backbone, 512, preprocessing), name="new").eval()
    source = images_of(count, side)
    bare_rates, our_rates, processor, peak = [], [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            with Gallery.create(f"{folder}/{turn}", old.space) as gallery:
                _fill(gallery, old, source)
                _switch(gallery, new.space)
                # both sides begin with a warm model
                new.embed(source.load(range(batch)))
                began, busy = time.perf_counter(), time.process_time()
                for start in range(0, count, batch):
                    new.embed(source.load(range(start, min(start + batch, count)))).numpy()
                bare_rates.append(count / (time.perf_counter() - began))
                bare_busy = time.process_time() - busy
                space = new.space
                frozen = _Frozen(new, space)
                began, busy = time.perf_counter(), time.process_time()
                with peak_above_start() as rise:
                    done = gallery.backfill(model=frozen, images=source, limits=Limits(batch_size=batch))
                our_rates.append(count / (time.perf_counter() - began))
                processor.append(bare_busy / (time.process_time() - busy))
                peak = max(peak, rise[0])
                assert done.stored == count
    ratios = [ours / bare for ours, bare in zip(our_rates, bare_rates, strict=True)]
    print(f"\nbackfill of {count:,} images {side} x {side} by {backbone}, 512-d, batches of {batch}, {repeats} turns\n")
    print("| | images/s |\n|---|---:|")
    print(f"| the model alone | {statistics.median(bare_rates):,.1f} |")
    print(f"| the backfill: list, canaries, claims, commits, index | {statistics.median(our_rates):,.1f} |")
    print(f"\nratio {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) by the clock, "
          f"{statistics.median(processor):.3f} ({min(processor):.3f} to {max(processor):.3f}) by processor time, "
          f"peak memory {peak / 2**20:,.0f} MiB")  # fmt: skip


class _Frozen:
    """A model whose space is not worked out anew at every question."""

    def __init__(self, model: Embedder, space: Space) -> None:
        self.model, self.space = model, space

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Vectors of images."""
        return self.model.embed(images)


def _fill(gallery: Gallery, model: Embedder, source: ArraySource) -> None:
    draw = np.random.default_rng(2).standard_normal((len(source), 64), dtype=np.float32)
    unit = draw / np.linalg.norm(draw, axis=1, keepdims=True)
    gallery.add(VectorSet.from_arrays(unit, ids=source.ids, space=model.space))


def _switch(gallery: Gallery, space: Space) -> None:
    """Upgrade as a benchmark may: the certificate and the calibrations are made up."""
    from samespace.gallery.ledger.state import Link
    from samespace.gallery.upgrade.upgrade import NewSpace, open_upgrade, plan
    from samespace.metrics.calibration import calibrate

    draw = np.random.default_rng(3)
    made_up = calibrate(draw.normal(0.5, 0.1, 1000), draw.normal(0.0, 0.1, 1000))
    plan(gallery.ledger, NewSpace(space))
    dims = gallery.space.dim
    with gallery.ledger.write() as writer:
        writer.put_link(Link(2, 1, dims, {"created": "made up"}))
        for other in (1, 2):
            writer.put_calibration(2, other, made_up, "made up")
    open_upgrade(gallery.ledger)


def measure_workers(count: int) -> None:
    """Print what two processes and two Ray actors cost and that all end with the same gallery."""
    spec = f"glyphs:classes={count // 16},images=16,size=32"
    preprocessing = Preprocessing(size=32, channels=1)
    ways = ["one process", "two processes"] + (["two Ray actors"] if importlib.util.find_spec("ray") else [])
    found: dict[str, tuple[float, float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("old", "new")):
            torch.manual_seed(seed)
            Embedder(EmbedderConfig("convnet64", 128, preprocessing), name=name).save(Path(folder) / name)
        for way in ways:
            with Gallery.create(Path(folder) / way, model=Path(folder) / "old", images=spec) as gallery:
                vectors = unit_vectors(len(open_source(spec)), 128)
                gallery.add(VectorSet.from_arrays(vectors, ids=open_source(spec).ids, space=gallery.space))
                _switch(gallery, Embedder.load(Path(folder) / "new").space)
                with gallery.ledger.write() as writer:
                    writer.set_model(2, str(Path(folder) / "new"))
                began = time.perf_counter()
                done = gallery.backfill(
                    workers=1 if way == "one process" else 2,
                    on="ray" if "Ray" in way else "processes",
                    limits=Limits(batch_size=128), device="cpu",
                )  # fmt: skip
                found[way] = (time.perf_counter() - began, done.stored, digest(gallery))
    first = found["one process"][2]
    print(f"\nbackfill of {count:,} glyphs by convnet64, as a whole with loading and starting\n")
    print("| | seconds | seconds above half of one process | same gallery |\n|---|---:|---:|---|")
    alone = found["one process"][0]
    for way, (seconds, _, hashed) in found.items():
        above = "" if way == "one process" else f"{seconds - alone / 2:.1f}"
        print(f"| {way} | {seconds:.1f} | {above} | {'yes' if hashed == first else 'NO'} |")
    if len(ways) < 3:
        print("\nRay is not installed: pip install 'samespace[ray]'")


def digest(gallery: Gallery) -> str:
    """The sha256 of every item's new vector, rounded to what unlike numbers of threads agree on."""
    with gallery.ledger.read() as reader:
        parts = []
        for rows in reader.batches(2):
            names = reader.items(rows.items)
            parts += [
                f"{names[item].id} {zlib.crc32(np.round(value, 4).tobytes())}"
                for item, value in zip(rows.items.tolist(), rows.values + 0.0, strict=True)
            ]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=["add", "backfill", "workers", "all"], default="all")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--backbone", default="iresnet18")
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--glyphs", type=int, default=20_000)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.part in ("add", "all"):
        measure_add(options.rows, options.dim)
    if options.part in ("backfill", "all"):
        measure_backfill(options.backbone, options.side, options.images, options.batch, options.repeats)
    if options.part in ("workers", "all"):
        measure_workers(options.glyphs)


if __name__ == "__main__":
    main()
