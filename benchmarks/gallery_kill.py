"""Kills a gallery at random moments and looks whether anything that was acknowledged is lost.

One story is told again and again: items are added, queries upgraded to a new space, half the gallery backfilled by two
workers while a writer changes and removes items, the upgrade rolled back and taken up again, the backfill finished, the
old vectors sealed away. Every process of it is killed with SIGKILL at random moments, on PostgreSQL the server with all
its processes too. After each kill the gallery is opened anew and looked at:

- I1 every live item has a vector that serves; I2 old vectors are what they were until the seal; I3 one vector per item
  and space; I4 spaces are what they were; I5 a seal begins only when no item lacks its new vector;
- I6 a search finds each item once, from the space that serves it, and what brute force over the ledger finds;
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
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samespace.errors import GalleryError, SamespaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery import backfill as backfill_module
from samespace.gallery import seal as seal_module
from samespace.gallery import upgrade as upgrade_module
from samespace.gallery.adding import add_vectors
from samespace.gallery.backfill import FromVectors, Loop
from samespace.gallery.campaign import list_work
from samespace.gallery.ledger import Ledger
from samespace.gallery.opening import INDEX
from samespace.gallery.records import Link
from samespace.gallery.searching import search
from samespace.metrics.calibration import Calibration, calibrate
from samespace.space import Space
from samespace.vectors import VectorSet

OLD = Space(weights="old", preprocessing="none", dim=24, normalized=True, name="old")
NEW = Space(weights="new", preprocessing="none", dim=32, normalized=True, name="new")
BATCH = 50


@dataclass(frozen=True, eq=False)
class World:
    """Everything the story is about, made from a seed."""

    old: VectorSet
    new: VectorSet
    changed: VectorSet
    changed_old: VectorSet
    removed: tuple[str, ...]
    queries: VectorSet
    old_queries: VectorSet
    calibration: Calibration

    @classmethod
    def of(cls, items: int, seed: int) -> World:
        """Items in clusters; every tenth changes half way, every fifteenth is removed."""
        draw = np.random.default_rng(seed)
        centres = draw.normal(size=(items // 10, NEW.dim))
        base = centres[np.arange(items) % len(centres)] + 0.6 * draw.normal(size=(items, NEW.dim))
        other = centres[np.arange(items) % len(centres)] + 0.6 * draw.normal(size=(items, NEW.dim))
        ids = np.array([f"item-{number:05d}" for number in range(items)])
        labels = np.array([f"class-{number % len(centres)}" for number in range(items)])
        changed = np.arange(3, items, 10)
        removed = np.setdiff1d(np.arange(7, items, 15), changed)

        def made(values: np.ndarray, space: Space, rows: np.ndarray, prefix: str = "") -> VectorSet:
            part = values[rows, : space.dim]
            unit = (part / np.linalg.norm(part, axis=1, keepdims=True)).astype(np.float32)
            names = np.char.add(prefix, ids[rows]) if prefix else ids[rows]
            return VectorSet.from_arrays(unit, labels=labels[rows], ids=names, space=space)

        whole, some = np.arange(items), np.arange(0, items, max(1, items // 16))
        scores = np.clip(draw.normal(0.2, 0.2, 4000), -1, 1), np.clip(draw.normal(0.0, 0.15, 20000), -1, 1)
        return cls(
            old=made(base, OLD, whole),
            new=made(base, NEW, whole),
            changed=made(other, NEW, changed),
            changed_old=made(other, OLD, changed),
            removed=tuple(ids[removed].tolist()),
            queries=made(base, NEW, some, "query-"),
            old_queries=made(base, OLD, some, "query-"),
            calibration=calibrate(*scores),
        )


@dataclass
class Tally:
    """What happened in all the stories."""

    kills: Counter[str] = field(default_factory=Counter)
    interrupted: Counter[str] = field(default_factory=Counter)
    stories: int = 0
    checks: int = 0
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
        self.phase = ""
        self.spaces: dict[int, str] = {}
        self.old_rows: dict[str, int] = {}
        self.log = Path(tempfile.mkdtemp(prefix="kill-log-"))

    def tell(self) -> str:
        """Tell the story; the digest of what is in the gallery at its end."""
        Ledger.create(self.place, OLD, model=None, settings={}).close()
        self._fork_one("calibrate", self._prepare, may_kill=False)
        self._step("add", [self._add])
        before = self._answers(self.world.old_queries, OLD)
        self._remember()
        self._step("upgrade", [self._upgrade])
        self._step("backfill", [self._backfill_half, self._backfill_half, self._write])
        self._step("rollback", [self._rollback])
        self._compare_unchanged(before)
        self._step("upgrade", [self._upgrade])
        self._step("backfill", [self._backfill_all, self._backfill_all])
        self._step("seal", [self._seal])
        shutil.rmtree(self.log, ignore_errors=True)
        return self.digest()

    def _step(self, phase: str, roles: list[Callable[[], None]]) -> None:
        """Run the processes of a step until all of them end by themselves, killing them on the way."""
        self.phase = phase
        while True:
            children = [self._fork(role) for role in roles]
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

    def _fork_one(self, phase: str, role: Callable[[], None], *, may_kill: bool) -> None:
        self.phase = phase
        self._await([self._fork(role)], None if not may_kill else 0.0)

    def _fork(self, role: Callable[[], None]) -> int:
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = 1
        try:
            role()
            status = 0
        except SamespaceError as error:
            print(f"{role.__name__}: {error}", file=sys.stderr, flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)

    # what the processes do

    def _prepare(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.write() as change:
            change.put_calibration(1, 1, self.world.calibration, "made up")
        ledger.close()

    def _add(self) -> None:
        with Gallery.open(self.place) as gallery:
            done = 0

            def acknowledged(count: int, note: str = "") -> None:
                nonlocal done
                done += count
                self._acknowledge("add", done)

            add_vectors(gallery.ledger, self.world.old, batch_size=BATCH, advance=acknowledged)
            gallery.source.maintain()

    def _upgrade(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.read() as view:
            state = view.state()
        if state.spaces[state.query].space != NEW:
            upgrade_module.plan(ledger, NEW)
            with ledger.write() as change:
                rank = change.state().rank_of(NEW)
                assert rank is not None
                change.put_link(Link(rank, 1, OLD.dim, {"created": "made up"}))
                for gallery in (1, rank):
                    change.put_calibration(rank, gallery, self.world.calibration, "made up")
            upgrade_module.open_upgrade(ledger)
        self._acknowledge("upgrade", 1)
        ledger.close()

    def _backfill_half(self) -> None:
        self._backfill(len(self.world.old) // 4)

    def _backfill_all(self) -> None:
        self._backfill(None)

    def _backfill(self, items: int | None) -> None:
        with Gallery.open(self.place) as gallery:
            list_work(gallery.ledger, None)
            limits = Limits(batch_size=20, lease=60.0, items=items)
            supply = _Slow(self.world, gallery)
            stored = 0

            def acknowledged(count: int, note: str = "") -> None:
                nonlocal stored
                stored += count
                self._acknowledge(f"backfill-{os.getpid()}", stored)

            loop = Loop(gallery.ledger, gallery.state.query, supply, limits, advance=acknowledged)
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
        for row in range(max(len(self.world.changed), len(self.world.removed))):
            # slowly enough that workers have items in hand that change under them
            time.sleep(0.005)
            if row < len(self.world.changed):
                one = np.array([row])
                add_vectors(ledger, self.world.changed.subset(one), [self.world.changed_old.subset(one)], update=True)
            gone = self.world.removed[row : row + 1]
            with ledger.write() as change:
                known = [item.number for item in change.find(gone).values() if not item.deleted]
                change.remove_items(np.array(known, dtype=np.int64))
        ledger.close()

    def _rollback(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.read() as view:
            state = view.state()
        if state.query != 1:
            upgrade_module.rollback(ledger)
        self._acknowledge("rollback", 1)
        ledger.close()

    def _seal(self) -> None:
        ledger = Ledger.open(self.place)
        seal_module._BATCH = 25
        with ledger.read() as view:
            done = any(one.state == "sealed" for one in view.state().upgrades)
        if not done:
            seal_module.seal(ledger, advance=lambda gone: time.sleep(0.002))
        ledger.close()

    def _acknowledge(self, what: str, count: int) -> None:
        """Write down, past the process's own death, what its caller was told is done."""
        with (self.log / f"{what}.new").open("w") as file:
            file.write(str(count))
        (self.log / f"{what}.new").rename(self.log / what)

    def _acknowledged(self, what: str) -> int:
        return sum(int(file.read_text()) for file in self.log.glob(f"{what}*") if file.suffix != ".new")

    # what is looked at

    def _remember(self) -> None:
        ledger = Ledger.open(self.place)
        with ledger.read() as view:
            self.spaces = {rank: kept.space.id for rank, kept in view.state().spaces.items()}
            ids = {item.number: item.id for item in view.items(view.row_numbers(1)[0]).values()}
            for rows in view.batches(1):
                for item, crc in zip(rows.items.tolist(), rows.checksums.tolist(), strict=True):
                    self.old_rows[ids[item]] = crc
        ledger.close()

    def _check(self) -> None:
        """Open the gallery anew and look at everything; the process that does it leaves no trace of its own."""
        self.tally.checks += 1
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(read)
            found = ""
            try:
                found = "\n".join(self._problems())
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

    def _problems(self) -> list[str]:
        wrong = []
        ledger = Ledger.open(self.place)
        wrong += [f"the database: {line}" for line in ledger.engine.check()]
        with ledger.read() as view:
            state = view.state()
            if len(unserved := view.unserved(state.servable)):
                wrong.append(f"I1: {len(unserved)} items have no vector that serves")
            for rank in state.spaces:
                wrong += self._wrong_rows(view, rank, state)
            for rank, name in self.spaces.items():
                if state.spaces[rank].space.id != name:
                    wrong.append(f"I4: space {rank} is another")
            sealing = any(one.state in ("sealing", "sealed") for one in state.upgrades)
            if sealing and len(view.unserved([state.query])):
                wrong.append("I5: sealing while items lack the new vector")
            wrong += self._lost(view, state)
        ledger.close()
        wrong += self._searches(state)
        return wrong

    def _wrong_rows(self, view: object, rank: int, state: object) -> list[str]:
        wrong, seen = [], Counter[int]()
        names = {item.id: item for item in view.find([*self.old_rows, *self.world.removed]).values()}
        changed = set(self.world.changed.ids.tolist())
        found = {}
        for rows in view.batches(rank):
            seen.update(rows.items.tolist())
            torn = [
                item
                for item, value, crc in zip(rows.items, rows.values, rows.checksums, strict=True)
                if zlib.crc32(value.astype("<f4").tobytes()) != crc
            ]
            if torn:
                wrong.append(f"a vector of space {rank} is torn")
            found.update(zip(rows.items.tolist(), rows.checksums.tolist(), strict=True))
        if any(count > 1 for count in seen.values()):
            wrong.append(f"I3: an item has two vectors of space {rank}")
        if view.orphans(rank):
            wrong.append(f"space {rank} has vectors of items that are gone or have changed")
        sealing = any(one.state in ("sealing", "sealed") for one in state.upgrades)
        if rank == 1 and not sealing:
            for name, crc in self.old_rows.items():
                item = names[name]
                if name not in changed and not item.deleted and found.get(item.number) != crc:
                    wrong.append(f"I2: the old vector of {name} is gone or another")
                    break
        return wrong

    def _lost(self, view: object, state: object) -> list[str]:
        wrong = []
        added = view.live() + len(self.world.removed)
        if self._acknowledged("add") > added:
            wrong.append(f"{self._acknowledged('add')} items were acknowledged, {added} are there")
        if self.phase == "add" and view.live() % BATCH and view.live() != len(self.world.old):
            wrong.append(f"a batch is there in part: {view.live()} items")
        if (self.log / "upgrade").exists() and self.phase in ("backfill", "seal") and state.query == 1:
            wrong.append("an acknowledged upgrade is gone")
        if self.phase == "backfill" and len(state.spaces) > 1:
            # what was changed or removed since has lost its vector rightly, or gained another
            slack = len(self.world.changed) + len(self.world.removed)
            if self._acknowledged("backfill-") > view.stored(2) + slack:
                wrong.append(f"{self._acknowledged('backfill-')} vectors were acknowledged, {view.stored(2)} are there")
        return wrong

    def _searches(self, state: object) -> list[str]:
        """Search with the index files as they are, and without any, and by brute force."""
        wrong = []
        with Gallery.open(self.place) as gallery:
            queries = self.world.old_queries if state.query == 1 else self.world.queries
            first = gallery.search(queries, k=12, count=False).hits
            expected = _brute_force(gallery, queries, 12)
            for hits, wanted in zip(first, expected, strict=True):
                if len({hit.item for hit in hits}) != len(hits):
                    wrong.append("I6: an item was found twice")
                if [(hit.item, hit.space) for hit in hits] != wanted:
                    wrong.append("I6, I7: a search with the index files differs from brute force")
                    break
        if not self.place.startswith("postgres"):
            aside = Path(tempfile.mkdtemp(prefix="kill-copy-"))
            shutil.copytree(self.place, aside / "gallery", ignore=shutil.ignore_patterns(INDEX))
            with Gallery.open(aside / "gallery") as gallery:
                if gallery.search(queries, k=12, count=False).hits != first:
                    wrong.append("I8: without index files a search differs")
            shutil.rmtree(aside)
        return wrong

    def _answers(self, queries: VectorSet, space: Space) -> dict[str, list[tuple[str, float]]]:
        with Gallery.open(self.place) as gallery:
            found = search(gallery.source, queries.take(np.arange(len(queries))), space, k=len(self.world.old)).hits
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
        with ledger.read() as view:
            state = view.state()
            items = view.items(view.items_since(-1)[0])
            for rank in sorted(state.spaces):
                for rows in view.batches(rank):
                    for number, value, content in zip(rows.items.tolist(), rows.values, rows.contents, strict=True):
                        item = items[number]
                        crc = zlib.crc32(value.tobytes())
                        parts.append(f"{item.id} {rank} {item.label} {item.content == content} {crc}")
            parts += sorted(f"{item.id} deleted" for item in items.values() if item.deleted)
            parts += [f"{one.old}>{one.new} {one.state}" for one in state.upgrades]
            parts += [f"{rank} {kept.space.id} {kept.retired}" for rank, kept in state.spaces.items()]
            parts.append(f"{view.work(state.query, time.time())}")
        ledger.close()
        return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()[:16]


_TYPICAL = {"add": 0.06, "upgrade": 0.08, "backfill": 0.15, "rollback": 0.04, "seal": 0.06}
"""Mean seconds until a kill, about as long as half the step takes."""


class _Slow:
    """Vectors by item id, those of changed items too, a moment after they were asked for."""

    def __init__(self, world: World, gallery: Gallery) -> None:
        self.first = FromVectors(world.new, NEW)
        self.later = FromVectors(world.changed, NEW)
        self.changed = {
            f"{name} {content}"
            for name, content in zip(world.changed.ids.tolist(), _contents(world.changed), strict=True)
        }

    def take(self, claims: list) -> backfill_module.Batch:
        """Look up what each item shows now."""
        time.sleep(0.005)
        again = [claim for claim in claims if f"{claim.id} {claim.content}" in self.changed]
        rest = [claim for claim in claims if claim not in again]
        parts = [supply.take(some) for supply, some in ((self.first, rest), (self.later, again)) if some]
        return backfill_module.Batch(
            [claim for part in parts for claim in part.claims],
            lambda: np.concatenate([part.embed() for part in parts]),
            {},
        )


def _contents(vectors: VectorSet) -> list[str]:
    from samespace.gallery.adding import _content_of_vector

    return [_content_of_vector(value) for value in vectors.take(np.arange(len(vectors)))]


def _keep(gallery: Gallery, stop: threading.Event) -> None:
    """Write index files all the time, so that kills meet them half written."""
    while not stop.wait(0.01):
        gallery.source.maintain()


def _brute_force(gallery: Gallery, queries: VectorSet, k: int) -> list[list[tuple[str, str]]]:
    """The best items from the ledger alone, in float64."""
    with gallery.ledger.read() as view:
        state = view.state()
        served: dict[int, tuple[int, np.ndarray]] = {}
        for rank in state.servable:
            for rows in view.batches(rank):
                served.update(
                    {item: (rank, value) for item, value in zip(rows.items.tolist(), rows.values, strict=True)}
                )
        names = {item.number: item.id for item in view.items(sorted(served)).values() if not item.deleted}
    found = []
    for query in queries.take(np.arange(len(queries))):
        scored = []
        for item, (rank, value) in served.items():
            if item not in names:
                continue
            part = query[: len(value)].astype(np.float64)
            part = (part / np.linalg.norm(part)).astype(np.float32).astype(np.float64)
            raw = float(part @ value.astype(np.float64))
            calibration = state.calibrations[state.query, rank]
            scored.append((-float(calibration.apply(np.array([raw]), "logistic")[0]), names[item], rank))
        scored.sort()
        found.append([(name, state.spaces[rank].space.id) for _, name, rank in scored[:k]])
    return found


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
    print(f"{tally.checks} checks of I1-I8, {len(tally.failures)} failures, {time.monotonic() - began:.0f} s")
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
