"""Kills service processes with SIGKILL at random moments while clients search, add, remove and upgrade through them.

Two processes answer at one address, as `samespace serve --workers 2` lets them; one that is killed is begun again. A
story: items are added and removed while an upgrade with grace is opened, filled by jobs of the service, rolled back,
opened again and sealed; clients search by the old model until before the seal, then by the new one. What a client does
when its connection breaks is to ask again. Of every answer it asks what `serve_load.py` asks. Of every acknowledged
change: is it there, at once and in the end? Of every job whose process was killed: do the jobs say so, and
does the next one do the rest? In the end the gallery is looked through, and each item has its new vector and no other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from processes import forked
from samespace import Client, Gallery
from samespace.errors import GalleryError, SpaceError
from samespace.gallery import Limits
from samespace.serve.app import answer, listen
from samespace.serve.limits import Limits as RequestLimits
from samespace.serve.workers import Serving
from samespace.vectors import VectorSet
from serve_world import Clients, World

T = TypeVar("T")
_BATCH = 8


def main() -> None:
    """Tell stories until enough processes were killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--items", type=int, default=600)
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, kills, told, began = random.Random(options.seed), 0, [], time.monotonic()
    while kills < options.kills:
        told.append(_story(options, draw, options.kills - kills))
        kills += told[-1]["kills"]
    totals = Counter[str]()
    for one in told:
        totals.update({name: value for name, value in one.items() if isinstance(value, int)})
    faults = [fault for one in told for fault in one["faults"]]
    print(f"Python {platform.python_version()}, {platform.system()}, {options.items} items, seed {options.seed}")
    print(f"{totals['kills']} kills in {len(told)} stories, {time.monotonic() - began:.0f} s")
    print(f"{totals['searches']} searches, {totals['added']} items added, {totals['removed']} removed")
    print(f"{totals['jobs']} jobs, {totals['died']} of them killed; {totals['again']} requests asked again")
    print(f"{len(faults)} failures")
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    sys.exit(1 if faults else 0)


def _story(options: argparse.Namespace, draw: random.Random, most: int) -> dict[str, Any]:
    world = World.of(2 * options.items, 32, queries=64)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Gallery.create(folder / "shop", world.spaces[0]) as gallery:
            gallery.add(world.set_of(world.spaces[0], 0, options.items))
        with listen("127.0.0.1", 0) as listening:
            role = partial(_serve, folder, listening)
            role.__name__ = "serve"  # type: ignore[attr-defined]
            services = [forked(role) for _ in range(2)]
            tell = partial(_tell, folder, world, listening.getsockname()[1], options)
            tell.__name__ = "tell"  # type: ignore[attr-defined]
            story, kills = forked(tell), 0
            while os.waitpid(story, os.WNOHANG) == (0, 0):
                time.sleep(min(draw.expovariate(1 / options.every), 5 * options.every))
                if kills < most:
                    place = draw.randrange(2)
                    os.kill(services[place], signal.SIGKILL)
                    os.waitpid(services[place], 0)
                    services[place], kills = forked(role), kills + 1
            for service in services:
                os.kill(service, signal.SIGKILL)
                os.waitpid(service, 0)
        found: dict[str, Any] = json.loads((folder / "told.json").read_text())
        found["faults"] += _lost(folder, world, found.pop("ids"))
    return {**found, "kills": kills}


def _serve(folder: Path, listening: socket.socket) -> None:
    sys.stderr = (folder / "log").open("a")
    serving = Serving({"shop": str(folder / "shop")}, {}, "cpu", None, RequestLimits(), None, None)
    answer(serving.open(), listening, warm=True)


class NotYet(Exception):
    """The upgrade is open and its calibrations are not there yet."""


class _Story:
    """What clients, a writer and an operator do through the service."""

    def __init__(self, world: World, port: int, options: argparse.Namespace) -> None:
        self.world, self.options = world, options
        self.address = f"http://127.0.0.1:{port}"
        self.clients = Clients(world, [port], 3, pause=0.01)
        self.count, self.faults = Counter[str](), list[str]()
        self.ids = {f"item-{row}" for row in range(options.items)}
        self.over = threading.Event()

    def again(self, change: Callable[[], T]) -> T:
        """Ask for a change until it is acknowledged."""
        while True:
            try:
                return change()
            except GalleryError as error:
                if "without calibrations" in str(error):
                    raise NotYet from None
                if "cannot be reached" not in str(error):
                    raise
            self.count["again"] += 1
            time.sleep(0.02)

    def write(self) -> None:
        """Add items and remove others; each acknowledged change has to show at once."""
        try:
            self._write()
        except Exception as error:
            self.faults.append(f"the writer failed: {type(error).__name__} {error}")

    def _write(self) -> None:
        draw = random.Random(1)
        with Client(self.address, "shop") as client:
            for start in range(self.options.items, 2 * self.options.items, _BATCH):
                end = min(start + _BATCH, 2 * self.options.items)
                old, new = (self.world.set_of(space, start, end) for space in self.world.spaces)
                self._add(client, old, new)
                gone = draw.choice(sorted(self.ids))
                # removed before the answer was lost is what was asked for
                if self.again(partial(client.get, gone)) is not None:
                    self.again(partial(self._removed, client, gone))
                self.ids = (self.ids | set(old.ids.tolist())) - {gone}
                self.count.update(added=end - start, removed=1)
                if self.over.is_set():
                    break
                for name in (*old.ids.tolist(), gone):
                    there = self.again(partial(client.get, name)) is not None
                    if there != (name in self.ids):
                        self.faults.append(f"{name}: the acknowledged change is not there")
                time.sleep(0.05)

    def _add(self, client: Client, old: VectorSet, new: VectorSet) -> None:
        while True:
            try:
                self.again(partial(client.add, old))
                return
            except SpaceError:
                # the upgrade is open
                with suppress(SpaceError, NotYet):
                    self.again(partial(client.add, new, also=[old]))
                    return

    def _removed(self, client: Client, name: str) -> None:
        try:
            client.remove([name])
        except Exception as error:
            if "has no item" not in str(error):
                raise

    def upgrade(self) -> None:
        """An upgrade day."""
        old, new = self.world.spaces
        with Client(self.address, "shop") as client:
            time.sleep(0.5)
            self.again(partial(client.upgrade, new, accept_uncertified=True, grace=True))
            for space in (old, new):
                items = self.world.set_of(space, 0, self.options.items)
                self.again(partial(client.calibrate, self.world.queries_of(new), items))
            self._fill(client)
            self.again(client.rollback)
            self.again(partial(client.upgrade, new, accept_uncertified=True, grace=True))
            self.clients.models = [1] * len(self.clients.models)
            time.sleep(0.5)
            self._fill(client)

    def seal(self) -> None:
        """After the last change."""
        with Client(self.address, "shop") as client:
            self._fill(client)
            try:
                self.again(partial(client.seal, end_grace=True))
            except GalleryError as error:
                # the answer to one that was carried out may have been lost
                if client.status().phase != "sealed":
                    self.faults.append(f"seal: {error}")

    def _fill(self, client: Client) -> None:
        """Give every item its new vector, by as many jobs as it takes."""
        vectors = self.world.set_of(self.world.spaces[1], 0, 2 * self.options.items)
        while True:
            try:
                limits = Limits(batch_size=16, rate=self.options.items / 2)
                job = self.again(partial(client.backfill, vectors=vectors, limits=limits))
            except GalleryError as error:
                if "fills 'shop' already" not in str(error):
                    raise
                # the answer that named it was lost
                job = self.again(client.jobs)[0]
            self.count["jobs"] += 1
            while (job := self.again(partial(client.job, job.id))).ended is None:
                time.sleep(0.05)
            if job.state == "died" and "send them again" in (job.error or ""):
                self.count["died"] += 1
            elif job.state != "done":
                self.faults.append(f"a job ended as {job.state}: {job.error}")
            if job.state == "done":
                return


def _tell(folder: Path, world: World, port: int, options: argparse.Namespace) -> None:
    story = _Story(world, port, options)
    writer = threading.Thread(target=story.write)
    writer.start()
    try:
        story.upgrade()
    finally:
        story.over.set()
        writer.join()
    story.seal()
    asked = story.clients.stop()
    told = {
        "searches": len(asked.times),
        "faults": asked.faults + story.faults,
        "ids": sorted(story.ids),
        **story.count,
    }
    (folder / "told.json").write_text(json.dumps(told))


def _lost(folder: Path, world: World, ids: list[str]) -> list[str]:
    """What a gallery at the end of its story lacks or has beyond what was acknowledged."""
    new = world.spaces[1]
    with Gallery.open(folder / "shop") as gallery:
        found = [str(one) for one in gallery.doctor().findings if one.level == "error"]
        with gallery.ledger.read() as reader:
            items = reader.find(sorted({f"item-{row}" for row in range(len(world.labels))}))
            live = {name: item.number for name, item in items.items() if not item.deleted}
            rows = reader.rows_of(2, np.array(sorted(live.values()), dtype=np.int64))
            if reader.stored(1):
                found.append(f"{reader.stored(1)} old vectors are left")
    found += [f"{name} was acknowledged and is lost" for name in sorted(set(ids) - set(live))]
    found += [f"{name} was removed and is there" for name in sorted(set(live) - set(ids))]
    names = {number: name for name, number in live.items()}
    if len(rows.items) != len(live):
        found.append(f"{len(live) - len(rows.items)} items lack their new vector")
    for number, values in zip(rows.items.tolist(), rows.values, strict=True):
        if values.tobytes() != world.items[new][int(names[number].removeprefix("item-"))].tobytes():
            found.append(f"{names[number]} has another's vector")
    return found


if __name__ == "__main__":
    main()
