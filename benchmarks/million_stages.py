"""One stage of `gallery_million.py` in a process of its own: what it did, and what that cost, as JSON on its last line.

It uses the public interface alone, so that it runs against an earlier checkout as well. Keys of results end with their
unit.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samespace.gallery import Gallery, Limits
from samespace.progress import bar
from samespace.vectors import VectorSet

EXACT, CALIBRATED = 60, 20_000

Results = dict[str, float]


@dataclass
class Meter:
    """What a block costs this process.

    Attributes:
        seconds, processor: by the clock, and of processor time.
        written: bytes that went to the disk, as the kernel counts them.
        peak: most bytes of private memory while it ran; files that are mapped do not count.
        acknowledged: seconds until the last rows were acknowledged; index files may be made after that.
    """

    seconds: float = 0.0
    processor: float = 0.0
    written: int = 0
    peak: int = 0
    acknowledged: float = 0.0
    _began: float = field(default_factory=time.perf_counter)

    def rows(self, done: int) -> None:
        """Take down that rows were acknowledged."""
        if done:
            self.acknowledged = time.perf_counter() - self._began


@contextmanager
def metered() -> Iterator[Meter]:
    """Measure the block."""
    meter, over = Meter(), threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            meter.peak = max(meter.peak, _kib("/proc/self/status", "RssAnon:"))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    written, processor = _bytes_written(), time.process_time()
    try:
        yield meter
    finally:
        meter.seconds, meter.processor = time.perf_counter() - meter._began, time.process_time() - processor
        meter.written = _bytes_written() - written
        over.set()
        watcher.join()


def _kib(file: str, *names: str) -> int:
    lines = (line.split() for line in Path(file).read_text().splitlines())
    return sum(1024 * int(parts[1]) for parts in lines if parts[0] in names)


def _bytes_written() -> int:
    (line,) = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("write_bytes")]
    return int(line.split()[1])


@dataclass(frozen=True)
class Stage:
    """Where a stage finds its things: the gallery's folder, the data's, and how many items there are."""

    gallery: Path
    data: Path
    rows: int

    def vectors(self, name: str) -> VectorSet:
        """The items (`old`, `new`) or queries (`old-queries`, `new-queries`) as a model sees them."""
        return VectorSet.load(self.data / name)

    def open(self) -> Gallery:
        """The gallery."""
        return Gallery.open(self.gallery)

    def disk(self) -> int:
        """Bytes that the gallery takes."""
        return sum(file.stat().st_blocks * 512 for file in self.gallery.rglob("*") if file.is_file())

    def raw(self) -> int:
        """Bytes of one space's vectors."""
        return (self.data / "old" / "vectors.npy").stat().st_size

    # the stages

    def add(self) -> Results:
        """Every item with its old vector."""
        items = self.vectors("old")
        made = self.gallery.exists()
        with (
            self.open() if made else Gallery.create(self.gallery, items.space) as gallery,
            metered() as meter,
            bar("add", self.rows, "items", summary=False) as show,
        ):

            def advance(done: int, note: str = "") -> None:
                meter.rows(done)
                show(done, note)

            added = gallery.add(items, advance=advance)
        assert added.added + added.present == self.rows
        return {
            "add, rows/s": added.added / meter.acknowledged,
            "add: index and graph after that, s": meter.seconds - meter.acknowledged,
            "add, bytes written per byte": meter.written / self.raw(),
            "add, peak of private memory, MiB": meter.peak / 2**20,
            "disk after add, bytes per raw byte": self.disk() / self.raw(),
        }

    def readers(self, at: str) -> Results:
        """Two processes open the gallery and search, both alive while their private memory is looked at."""
        command = [sys.executable, __file__, "reader", *map(str, (self.gallery, self.data, self.rows))]
        alive = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]  # fmt: skip
        for said in ("ready\n", "measured\n"):
            for reader in alive:
                assert reader.stdout is not None
                if reader.stdout.readline() != said:
                    raise SystemExit("a reader failed, see above")
            for reader in alive:
                # none ends before all are measured: what is mapped would be the last one's alone
                assert reader.stdin is not None
                reader.stdin.write("\n")
                reader.stdin.flush()
        found = [json.loads(reader.communicate()[0]) for reader in alive]
        first, private = (float(np.mean([one[key] for one in found])) for key in ("first", "private"))
        return {
            f"open to first answer {at}, s of processor time": first,
            f"private memory per reader {at}, MiB": private / 2**20,
        }

    def reader(self) -> Results:
        """Open, one answer, more answers of both kinds; then wait until all readers have come so far."""
        queries = self.vectors("old-queries")
        imported = time.process_time()
        with self.open() as gallery:
            if gallery.space != queries.space:
                queries = self.vectors("new-queries")
                imported = time.process_time()
            gallery.search(queries.subset(np.arange(1)), count=False)
            first = time.process_time() - imported
            for row in range(20):
                for exact in (False, True):
                    gallery.search(queries.subset(np.array([row])), exact=exact, count=False)
            print("ready", flush=True)
            sys.stdin.readline()
            private = _kib("/proc/self/smaps_rollup", "Private_Clean:", "Private_Dirty:")
            print("measured", flush=True)
            sys.stdin.readline()
        return {"first": first, "private": private}

    def visible(self) -> Results:
        """Items added one by one beside an open reader, which has to find each at once."""
        queries = self.vectors("old-queries")
        adds, sights, usual = [], [], []
        with self.open() as gallery, self.open() as reader:
            for row in range(12):
                one = queries.subset(np.array([row]))
                usual.append(_timed(lambda one=one: reader.search(one, count=False))[0])
                fresh = VectorSet.from_arrays(one.vectors, ids=[f"fresh-{row}"], space=one.space)
                adds.append(_timed(lambda fresh=fresh: gallery.add(fresh))[0])
                seconds, answer = _timed(lambda one=one: reader.search(one, count=False))
                sights.append(seconds)
                assert answer.hits[0][0].item == f"fresh-{row}"
            gallery.remove([f"fresh-{row}" for row in range(12)])
        return {
            "add of one item, ms": 1e3 * float(np.median(adds)),
            "it is seen by an open reader: that search, ms": 1e3 * float(np.median(sights)),
            "a search before it, ms": 1e3 * float(np.median(usual)),
        }

    def upgrade(self) -> Results:
        """Plan, upgrade, calibrations of the new pairs."""
        new_queries, some = self.vectors("new-queries"), np.arange(min(self.rows, CALIBRATED))
        with self.open() as gallery:
            with metered() as planning:
                gallery.plan(new_queries.space, order="random", accept_uncertified=True)
            with metered() as switching:
                gallery.upgrade(accept_uncertified=True)
            for items in ("old", "new"):
                gallery.calibrate(new_queries, self.vectors(items).subset(some))
        return {"plan, s": planning.seconds, "upgrade, s": switching.seconds}

    def backfill(self, share: float) -> Results:
        """New vectors, ready made, up to a share of the items."""
        new = self.vectors("new")
        with self.open() as gallery:
            (held,) = [kept.vectors for kept in gallery.status().spaces if kept.space == new.space]
            wanted = round(share * self.rows) - held
            if wanted < 1:
                return {}
            with metered() as meter, bar(f"backfill to {share:.0%}", wanted, "items", summary=False) as show:

                def advance(done: int, note: str = "") -> None:
                    meter.rows(done)
                    show(done, note)

                done = gallery.backfill(vectors=new, limits=Limits(items=wanted), advance=advance)
        at, stored = f"backfill to {share:.0%}", self.raw() * done.stored / self.rows
        return {
            f"{at}, rows/s": done.stored / meter.acknowledged,
            f"{at}: index and graph after that, s": meter.seconds - meter.acknowledged,
            f"{at}, bytes written per byte": meter.written / stored,
            f"{at}, peak of private memory, MiB": meter.peak / 2**20,
        }

    def rollback(self) -> Results:
        """Back, and forward again."""
        with self.open() as gallery:
            with metered() as back:
                gallery.rollback()
            with metered() as forward:
                gallery.upgrade(accept_uncertified=True)
        return {"rollback, ms": 1e3 * back.seconds, "forward again, ms": 1e3 * forward.seconds}

    def status(self) -> Results:
        """`status` from Python, and as a command with its start."""
        with self.open() as gallery, metered() as meter:
            gallery.status()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "samespace", "gallery", "status", str(self.gallery)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        whole = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"status, s of processor time": meter.processor, "samespace gallery status, s of processor time": whole}

    def doctor(self) -> Results:
        """Everything looked at."""
        with self.open() as gallery, metered() as meter:
            assert gallery.doctor().healthy
        return {"doctor, s of processor time": meter.processor, "doctor, s": meter.seconds}

    def seal(self) -> Results:
        """The old vectors deleted."""
        before = self.disk()
        with self.open() as gallery, metered() as meter:
            sealed = gallery.seal()
        assert sealed.deleted == self.rows
        return {
            "seal, s": meter.seconds,
            "disk before the seal, bytes per byte of both spaces": before / self.raw() / 2,
            "disk after the seal, bytes per raw byte": self.disk() / self.raw(),
        }

    def search(self, at: str) -> Results:
        """Latencies one query at a time, exact and approximate, and recall of the ten best by their space."""
        found: Results = {}
        with self.open() as gallery:
            queries = self.vectors("old-queries")
            if gallery.space != queries.space:
                queries = self.vectors("new-queries")
            answers = [gallery.search(queries, exact=exact, count=False).hits for exact in (True, False)]
            for exact, count in ((True, EXACT), (False, 500)):
                taken = [
                    _timed(
                        lambda row=row, exact=exact: gallery.search(
                            queries.subset(np.array([row])), exact=exact, count=False
                        )
                    )[0]
                    for row in range(min(count, len(queries)))
                ]
                kind = "exact" if exact else "approximate"
                for share in (50, 99):
                    found[f"search {at}, {kind}, p{share}, ms"] = 1e3 * float(np.percentile(taken, share))
            names = {kept.space.id: kept.space.name for kept in gallery.status().spaces}
        hits: dict[str, list[bool]] = {}
        for right, near in zip(*answers, strict=True):
            met = {hit.item for hit in near}
            for hit in right:
                hits.setdefault(f"{names[hit.space]} space", []).append(hit.item in met)
        return found | {f"search {at}, recall@10, {name}": float(np.mean(one)) for name, one in sorted(hits.items())}


def _timed(action: Callable[[], object]) -> tuple[float, object]:
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result


def main() -> None:
    """Run the stage that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage")
    parser.add_argument("gallery", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--memory", type=float, help="GiB of private memory that the process may take")
    given = parser.parse_args()
    if given.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(given.memory * 2**30),) * 2)
    stage = Stage(given.gallery, given.data, given.rows)
    what, _, at = given.stage.partition(":")
    began = time.perf_counter()
    found = stage.backfill(float(at)) if what == "backfill" else getattr(stage, what)(*([at] if at else []))
    if what != "reader":
        found[f"(stage {given.stage}), s"] = time.perf_counter() - began
    print(json.dumps(found), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
