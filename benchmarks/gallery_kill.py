"""Kills a gallery at random moments and looks whether anything that was acknowledged is lost.

One story is told again and again: items are added, queries upgraded to a new space, half the gallery backfilled by two
workers while a writer changes and removes items, the upgrade rolled back and taken up again, the backfill finished, the
old vectors sealed away. Every process of it is killed with SIGKILL at random moments, on PostgreSQL the server with all
its processes too. After each kill the gallery is opened anew and looked at:

- I1 every live item has a vector that serves; I2 old vectors are what they were until the seal; I3 one vector per item
  and space; I4 spaces are what they were; I5 a seal begins only when no item lacks its new vector;
- I6 a search finds each item once, from the space that serves it, and what brute force over the ledger finds; where
  there is a graph, hits of an approximate search have the scores of the exact one, and at least 90 % are its best;
  I7 that holds with the index files as the kill left them; I8 it holds when they are deleted;
- what was acknowledged is there, every vector has the checksum it was written with, the database calls itself whole.

Then the same step is begun again, and killed again. At the end of each story the gallery must equal one that was never
interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kill_checks import BATCH, Look
from kill_world import NEW, OLD, SlowVectors, Told, World
from processes import forked
from samespace.errors import GalleryError
from samespace.gallery import Gallery, Limits
from samespace.gallery.backfill.run import list_work
from samespace.gallery.backfill.worker import Worker
from samespace.gallery.index.local import compaction, loading
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.index.open import INDEX
from samespace.gallery.ingest.add import add_vectors
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link
from samespace.gallery.search.search import search
from samespace.gallery.upgrade import seal as seal_module
from samespace.gallery.upgrade import upgrade as upgrade_module
from samespace.space import Space
from samespace.vectors import VectorSet


@dataclass
class Tally:
    """What happened in all the stories."""

    kills: Counter[str] = field(default_factory=Counter)
    stories: int = 0
    checks: int = 0
    indexed: int = 0
    graphs: int = 0
    failures: list[str] = field(default_factory=list)


class Story:
    """One gallery from its first item to the seal, killed on the way.

    Args:
        world: what it is about.
        place: folder or address of the gallery.
        draw: decides when to kill.
        tally: of all stories.
        most: kills in all, over all stories.
        crash: kills the database server and starts it again; None where there is none.
        pace: how much longer than usual it takes until a kill.
    """

    def __init__(
        self,
        world: World,
        place: str,
        draw: random.Random,
        tally: Tally,
        most: int,
        crash: Callable[[], None] | None = None,
        pace: float = 1.0,
    ) -> None:
        self.world, self.place, self.draw, self.tally, self.most, self.crash = world, place, draw, tally, most, crash
        self.pace = pace
        self.phase, self.turn = "", 0
        self.told = Told(Path(tempfile.mkdtemp(prefix="kill-log-")))

    def tell(self) -> str:
        """Tell the story; the digest of what is in the gallery at its end."""
        Ledger.create(self.place, OLD, model=None, settings={}).close()
        self._await([forked(self._prepare)], None)
        self._step("add", [self._add])
        before = self._answers(self.world.old_queries, OLD)
        self._step("upgrade", [self._upgrade])
        self._step("backfill", [self._backfill_half, self._backfill_half, self._write])
        self._step("rollback", [self._rollback])
        self._compare_unchanged(before)
        self._step("upgrade", [self._upgrade])
        self._step("backfill", [self._backfill_all, self._backfill_all])
        self._step("seal", [self._seal])
        shutil.rmtree(self.told.folder, ignore_errors=True)
        return self.digest()

    def _step(self, phase: str, roles: list[Callable[[], None]]) -> None:
        """Run the processes of a step until all of them end by themselves, killing them on the way."""
        self.phase, self.turn = phase, self.turn + 1
        while True:
            children = [forked(role) for role in roles]
            kill_after = self.pace * self.draw.expovariate(1 / _TYPICAL[phase]) if self._killing() else None
            killed = self._await(children, kill_after)
            self._check()
            if not killed:
                return

    def _killing(self) -> bool:
        return sum(self.tally.kills.values()) < self.most

    def _await(self, children: list[int], kill_after: float | None) -> bool:
        """Wait for the processes; whether any was killed."""
        began, left, killed = time.monotonic(), set(children), False
        victims = set(children)
        if kill_after is not None and len(children) > 1 and self.draw.random() < 0.5:
            victims = {self.draw.choice(children)}
        while left:
            for child in list(left):
                done, status = os.waitpid(child, os.WNOHANG)
                if done:
                    left.discard(child)
                    if os.WIFSIGNALED(status):
                        killed = True
                    elif os.WEXITSTATUS(status) and not killed:
                        raise SystemExit(f"{self.phase}: a process failed, see above")
            if kill_after is not None and not killed and left & victims and time.monotonic() - began >= kill_after:
                crash = self.crash if len(victims) == len(children) else None
                for child in left & victims:
                    os.kill(child, signal.SIGKILL)
                if crash is not None:
                    crash()
                killed = True
                self.tally.kills[self.phase] += 1
            time.sleep(0.001)
        return killed

    # what the processes do

    def _prepare(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.write() as writer:
            writer.put_calibration(1, 1, self.world.calibration, "made up")
        ledger.close()

    def _add(self) -> None:
        with Gallery.open(self.place) as gallery:
            done = 0

            def acknowledged(count: int, note: str = "") -> None:
                nonlocal done
                done += count
                self.told.say("add", done)

            add_vectors(gallery.ledger, self.world.old, batch_size=BATCH, advance=acknowledged)
            gallery.source.maintain()

    def _upgrade(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.read() as reader:
            state = reader.state()
        if state.spaces[state.query].space != NEW:
            upgrade_module.plan(ledger, upgrade_module.NewSpace(NEW))
            with ledger.write() as writer:
                generation = writer.state().generation_of(NEW)
                assert generation is not None
                writer.put_link(Link(generation, 1, OLD.dim, {"created": "made up"}))
                for gallery in (1, generation):
                    writer.put_calibration(generation, gallery, self.world.calibration, "made up")
            upgrade_module.open_upgrade(ledger)
        self.told.say("query", 10 * self.turn + 2)
        ledger.close()

    def _backfill_half(self) -> None:
        self._backfill(len(self.world.old) // 4)

    def _backfill_all(self) -> None:
        self._backfill(None)

    def _backfill(self, items: int | None) -> None:
        with Gallery.open(self.place) as gallery:
            list_work(gallery.ledger, None)
            limits = Limits(batch_size=20, lease=60.0, items=items)
            vector_source, completed = SlowVectors(self.world), 0

            def acknowledged(stored: int, note: str = "") -> None:
                nonlocal completed
                if not note:
                    # batches are handed in one by one, in the order in which they were taken
                    self.told.embedded(loop.owner, stored, vector_source.taken[completed])
                    completed += 1

            loop = Worker(gallery.ledger, gallery.state.query, vector_source, limits, advance=acknowledged)
            stop = threading.Event()
            keeper = threading.Thread(target=_keep, args=(gallery, stop), daemon=True)
            keeper.start()
            try:
                loop.run()
            finally:
                stop.set()
                keeper.join()

    def _write(self) -> None:
        """Change items and remove others, while they are being embedded."""
        ledger = Ledger.open(self.place)
        self.told.say("writing", 1)
        for row in range(max(len(self.world.changed), len(self.world.removed))):
            # slowly enough that workers have items in hand that change under them
            time.sleep(0.005)
            if row < len(self.world.changed):
                one = np.array([row])
                add_vectors(ledger, self.world.changed.subset(one), [self.world.changed_old.subset(one)], update=True)
            gone = self.world.removed[row : row + 1]
            with ledger.write() as writer:
                known = [item.number for item in writer.find(gone).values() if not item.deleted]
                writer.remove_items(np.array(known, dtype=np.int64))
            self.told.say("wrote", row + 1)
        ledger.close()

    def _rollback(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.read() as reader:
            state = reader.state()
        if state.query != 1:
            upgrade_module.rollback(ledger)
        self.told.say("query", 10 * self.turn + 1)
        ledger.close()

    def _seal(self) -> None:
        ledger = Ledger.open(self.place)
        seal_module._BATCH = 25
        with ledger.read() as reader:
            done = any(one.state == "sealed" for one in reader.state().upgrades)
        if not done:
            seal_module.seal(ledger, advance=lambda gone: time.sleep(0.002))
        self.told.say("sealed", 1)
        ledger.close()

    # what is looked at

    def _check(self) -> None:
        """Open the gallery anew and look at everything; the process that does it leaves no trace of its own."""
        self.tally.checks += 1
        self.tally.indexed += any((Path(self.place) / INDEX).glob("*/segment-*"))
        self.tally.graphs += any((Path(self.place) / INDEX).glob("*/graph-*"))
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            found = ""
            try:
                found = "\n".join(Look(self.world, self.place, self.told, self.phase, self.turn).problems())
            except BaseException:
                found = traceback.format_exc()
            os.write(write, found.encode()[:60_000])
            os._exit(0)
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            found = pipe.read().decode()
        os.waitpid(child, 0)
        if found:
            self.tally.failures.append(f"after a kill in '{self.phase}': {found}")
            print(self.tally.failures[-1], flush=True)

    def _answers(self, queries: VectorSet, space: Space) -> dict[str, list[tuple[str, float]]]:
        with Gallery.open(self.place) as gallery:
            asked = queries.take(np.arange(len(queries)))
            found = search(gallery.source, asked, space, k=len(self.world.old), exact=True).hits
        return {
            name: [(hit.item, hit.raw) for hit in hits] for name, hits in zip(queries.ids.tolist(), found, strict=True)
        }

    def _compare_unchanged(self, before: dict[str, list[tuple[str, float]]]) -> None:
        """After the rollback, items that nobody changed come in the order and with the bits of before the upgrade."""
        touched = {*self.world.changed.ids.tolist(), *self.world.removed}
        after = self._answers(self.world.old_queries, OLD)
        for name, hits in before.items():
            then = [hit for hit in hits if hit[0] not in touched]
            now = [hit for hit in after[name] if hit[0] not in touched]
            if then != now:
                self.tally.failures.append("after the rollback answers differ from those before the upgrade")
                print(self.tally.failures[-1], flush=True)
                return

    def digest(self) -> str:
        """The sha256 of all items with their contents and vectors, and of the state of the upgrade."""
        parts = []
        ledger = Ledger.open(self.place)
        with ledger.read() as reader:
            state = reader.state()
            items = reader.items(reader.items_since(-1)[0])
            for generation in sorted(state.spaces):
                for rows in reader.batches(generation):
                    for number, value, content in zip(rows.items.tolist(), rows.values, rows.contents, strict=True):
                        item = items[number]
                        crc = zlib.crc32(value.tobytes())
                        parts.append(f"{item.id} {generation} {item.label} {item.content == content} {crc}")
            parts += sorted(f"{item.id} deleted" for item in items.values() if item.deleted)
            parts += [f"{one.old}>{one.new} {one.state}" for one in state.upgrades]
            parts += [f"{generation} {kept.space.id} {kept.retired}" for generation, kept in state.spaces.items()]
            parts.append(f"{reader.work(state.query, time.time())}")
        ledger.close()
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


_TYPICAL = {"add": 0.06, "upgrade": 0.08, "backfill": 0.15, "rollback": 0.04, "seal": 0.06}
"""Mean seconds until a kill, about as long as half the step takes."""


def _keep(gallery: Gallery, stop: threading.Event) -> None:
    """Write index files all the time, so that kills meet them half written."""
    while not stop.wait(0.01):
        gallery.source.maintain()


def set_graph_from(rows: int) -> None:
    """From how many rows on a space gets an approximate index, in this process and its children."""
    LocalSource.__init__.__kwdefaults__["graph_from"] = rows  # type: ignore[index]
    with suppress(ImportError):
        from samespace.gallery.index.pgvector.source import PgvectorSource

        PgvectorSource.__init__.__kwdefaults__["exact_rows"] = rows  # type: ignore[index]


def run(
    kills: int,
    *,
    items: int,
    seed: int,
    places: Callable[[int], str],
    crash: Callable[[], None] | None = None,
    pace: float = 1.0,
    say: Callable[[str], None] = print,
) -> Tally:
    """Tell stories until so many processes or servers were killed; the last one to its end."""
    # few items fill an index file
    compaction.FLUSH, compaction._SMALL, loading._SPILL = items // 10, items // 20, items // 3
    # and get an approximate index
    set_graph_from(items // 5)
    world, tally, draw = World.of(items, seed), Tally(), random.Random(seed)
    expected = Story(world, places(0), random.Random(0), Tally(), 0).tell()
    began = time.monotonic()
    while sum(tally.kills.values()) < kills:
        tally.stories += 1
        found = Story(world, places(tally.stories), draw, tally, kills, crash, pace).tell()
        if found != expected:
            tally.failures.append(f"story {tally.stories} ended with another gallery than the uninterrupted one")
            print(tally.failures[-1], flush=True)
        say(
            f"story {tally.stories}: {sum(tally.kills.values())} kills, {tally.checks} checks, "
            f"{len(tally.failures)} failures, {time.monotonic() - began:.0f} s"
        )
    return tally


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["sqlite", "postgres"], default="sqlite")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-") as folder:
        if options.store == "sqlite":
            tally = run(
                options.kills,
                items=options.items,
                seed=options.seed,
                places=lambda number: f"{folder}/gallery-{number}",
            )
        else:
            tally = _on_postgres(options)
    print(f"\nPython {platform.python_version()}, {platform.system()}, {options.store}, {options.items} items, "
          f"seed {options.seed}")  # fmt: skip
    print("| killed in | times |\n|---|---:|")
    for phase, count in sorted(tally.kills.items()):
        print(f"| {phase} | {count} |")
    print(f"| all | {sum(tally.kills.values())} |")
    print(f"\n{tally.stories} stories, each ended equal to the uninterrupted one" if not tally.failures else "")
    print(f"{tally.checks} checks of I1-I8, {len(tally.failures)} failures, {time.monotonic() - began:.0f} s; "
          f"{tally.indexed} checks met index files, {tally.graphs} a graph in files")  # fmt: skip
    sys.exit(1 if tally.failures else 0)


def _on_postgres(options: argparse.Namespace) -> Tally:
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gallery"))
    import servers

    server = servers.start()

    def crash() -> None:
        server.kill9()
        server.restart()

    try:
        return run(
            options.kills, items=options.items, seed=options.seed, crash=crash, pace=4.0,
            places=lambda number: f"{server.address}&schema=story_{number}",
        )  # fmt: skip
    finally:
        server.close()


if __name__ == "__main__":
    try:
        main()
    except GalleryError as error:
        sys.exit(str(error))
