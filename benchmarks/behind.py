"""Upgrades a gallery behind its old model again and again, kills it at random moments, and looks at every answer.

One story: items are added; an upgrade to a model of another dimension and another score begins, with grace; a worker
fills the new space while a writer adds items (to both sides, to one), changes some and removes others; the switch,
the rollback, the switch, more items, the seal. Every process of it is killed with SIGKILL at random moments and begun
again. Meanwhile another process searches with queries of both models. Of every answer it asks: is every hit of the
queries' own space, each item there once, and each score the one that the query has with the item's own vector in that
space? An answer that mixes, or that shows an item by another's vector, fails.

After the rollback the old answers must be those from before, to the bit, for items that nobody touched. In the end each
item that is left has its new vector and no other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from processes import forked
from samespace.errors import SpaceError
from samespace.gallery import Gallery, Limits
from samespace.gallery.upgrade import seal as seal_module
from samespace.scoring.score import Score, score_table
from samespace.space import Space
from samespace.vectors import VectorSet

OLD = Space(weights="old", preprocessing="none", dim=24, normalized=True, name="old")
NEW = Space(weights="new", preprocessing="none", dim=40, normalized=False, name="new")
K = 10


@dataclass(frozen=True, eq=False)
class World:
    """Items and queries as two unrelated models see them; every tenth item changes on the way.

    Attributes:
        vectors: by space and state (0 at first, 1 after the change): id to vector.
        queries: by space.
        labels: of the items.
        first, later: ids of the items that are there from the start, and that come on the way.
        changing, leaving: ids of those that change, and that go.
        score: what the new space is searched by.
    """

    vectors: dict[tuple[Space, int], dict[str, np.ndarray]]
    queries: dict[Space, VectorSet]
    labels: dict[str, str]
    first: list[str]
    later: list[str]
    changing: list[str]
    leaving: list[str]
    score: Score

    @classmethod
    def of(cls, items: int, score: Score, seed: int) -> World:
        """Made of a seed."""
        draw = np.random.default_rng(seed)
        ids = [f"item-{number:04d}" for number in range(items)]
        centres = draw.normal(size=(items // 8, 20))
        kinds = np.arange(items) % len(centres)
        vectors, queries = {}, {}
        for space in (OLD, NEW):
            turn = draw.normal(size=(20, space.dim))
            for state in (0, 1):
                values = (centres[kinds] + 0.5 * draw.normal(size=(items, 20))) @ turn
                vectors[space, state] = dict(zip(ids, _of(values, space), strict=True))
            values = _of((centres + 0.5 * draw.normal(size=centres.shape)) @ turn, space)
            names = [f"query-{row}" for row in range(len(values))]
            queries[space] = VectorSet.from_arrays(values, ids=names, space=space)
        labels = {name: f"kind-{kind}" for name, kind in zip(ids, kinds.tolist(), strict=True)}
        cut = items * 3 // 5
        return cls(vectors, queries, labels, ids[:cut], ids[cut:], ids[3:cut:10], ids[5:cut:15], score)

    def set_of(self, space: Space, ids: list[str], state: int = 0) -> VectorSet:
        """Some items as a model sees them."""
        values = np.stack([self.vectors[space, state][name] for name in ids])
        return VectorSet.from_arrays(values, ids=ids, labels=[self.labels[name] for name in ids], space=space)


def _of(values: np.ndarray, space: Space) -> np.ndarray:
    lengths = np.linalg.norm(values, axis=1, keepdims=True) if space.normalized else 4.0
    return np.asarray(values / lengths, dtype=np.float32)


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    searches: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    stories: int = 0
    failures: list[str] = field(default_factory=list)


class Story:
    """One gallery from its first item to the seal."""

    seals = True

    def __init__(self, world: World, place: str, draw: random.Random, tally: Tally, most: int) -> None:
        self.world, self.place, self.draw, self.tally, self.most = world, place, draw, tally, most
        self.folder = Path(tempfile.mkdtemp(prefix="behind-"))

    def tell(self) -> None:
        """Tell it, with a process that searches from the beginning to the end."""
        self._create()
        searcher = forked(self._search)
        try:
            self._step("begin", [self._begin])
            before = self._answers()
            self._step("fill", [self._fill_some, self._write])
            self._step("fill", [self._fill_all])
            self._step("switch", [self._switch])
            self._step("rollback", [self._rollback])
            self._compare(before)
            self._step("switch", [self._switch])
            self._step("write", [self._write_after])
            self._step("fill", [self._fill_all])
            if self.seals:
                self._step("seal", [self._seal])
        finally:
            (self.folder / "over").touch()
            os.waitpid(searcher, 0)
        found = json.loads((self.folder / "searched").read_text())
        self.tally.searches.update(found["searches"])
        self.tally.refused += found["refused"]
        self.tally.failures += found["wrong"]
        self._check_end()

    def _create(self) -> None:
        with Gallery.create(self.place, OLD) as gallery:
            gallery.add(self.world.set_of(OLD, self.world.first))

    # processes

    def _step(self, name: str, roles: list[Callable[[], None]]) -> None:
        """Run the processes of a step until each has ended by itself."""
        running = {forked(role): role for role in roles}
        while running:
            killing = sum(self.tally.kills.values()) < self.most and self.draw.random() < 0.7
            moment = time.monotonic() + self.draw.expovariate(1 / 0.25) if killing else None
            while running:
                done, status = os.waitpid(-1, os.WNOHANG)
                if done in running:
                    role = running.pop(done)
                    if os.WIFSIGNALED(status):
                        running[forked(role)] = role
                    elif os.WEXITSTATUS(status):
                        raise SystemExit(f"{name}: {role.__name__} failed, see above")
                elif done:
                    raise SystemExit(f"{name}: the searching process ended")
                if moment is not None and running and time.monotonic() >= moment:
                    os.kill(self.draw.choice(sorted(running)), signal.SIGKILL)
                    self.tally.kills[name] += 1
                    break
                time.sleep(0.002)

    def _begin(self) -> None:
        with Gallery.open(self.place) as gallery:
            if gallery.state.filling is None:
                gallery.begin_behind(NEW, score=self.world.score, grace=True)

    def _fill_some(self) -> None:
        self._fill(len(self.world.first) // 2)

    def _fill_all(self) -> None:
        for state in (0, 1):
            self._fill(None, state)
        with Gallery.open(self.place) as gallery:
            # what came with its new vector alone
            gallery.backfill(vectors=self.world.set_of(OLD, self.world.later))

    def _fill(self, items: int | None, state: int = 0) -> None:
        world = self.world
        ids = world.first + world.later if state == 0 else world.changing
        with Gallery.open(self.place) as gallery, gallery.ledger.read() as reader:
            known = {item.id: item.content for item in reader.find(world.changing).values()}
            first = {item.id for item in reader.find(ids).values()}
        changed = {name for name in world.changing if (self.folder / f"changed-{name}").exists()}
        wanted = [name for name in ids if name in first and name in known and (name in changed) == bool(state)]
        wanted += [name for name in ids if state == 0 and name not in world.changing]
        if not wanted:
            return
        with Gallery.open(self.place) as gallery:
            gallery.backfill(vectors=world.set_of(NEW, wanted, state), limits=Limits(batch_size=20, items=items))

    def _write(self) -> None:
        """Add to both sides and to one, change, remove; a row at a time, told in files so that it is carried on."""
        world = self.world
        with Gallery.open(self.place) as gallery:
            self._add(gallery, world.later[::2])
            for name in world.changing:
                # told before, so that no worker stores what the item showed before as what it shows now
                (self.folder / f"changed-{name}").touch()
                self._change(gallery, name)
            with gallery.ledger.read() as reader:
                there = [item.id for item in reader.find(world.leaving).values() if not item.deleted]
            for name in there:
                self._remove(gallery, name)

    def _write_after(self) -> None:
        """Add further items while queries use the new space, at a pace that lets many searches see it."""
        with Gallery.open(self.place) as gallery:
            self._add(gallery, self.world.later[1::2], pause=0.02)

    def _add(self, gallery: Gallery, ids: list[str], pause: float = 0.0) -> None:
        for row, name in enumerate(ids):
            sides = ([OLD, NEW], [OLD], [NEW])[row % 3]
            sets = [self.world.set_of(space, [name]) for space in sides]
            gallery.add(sets[0], also=sets[1:], update=True)
            time.sleep(pause)

    def _change(self, gallery: Gallery, name: str) -> None:
        world = self.world
        gallery.add(world.set_of(OLD, [name], 1), also=[world.set_of(NEW, [name], 1)], update=True)

    def _remove(self, gallery: Gallery, name: str) -> None:
        gallery.remove([name])

    def _switch(self) -> None:
        with Gallery.open(self.place) as gallery:
            if gallery.space != NEW:
                gallery.switch(accept_worse=True)

    def _rollback(self) -> None:
        with Gallery.open(self.place) as gallery:
            if gallery.space != OLD:
                gallery.rollback()

    def _seal(self) -> None:
        seal_module._BATCH = 20
        with Gallery.open(self.place) as gallery:
            if not any(one.state == "sealed" for one in gallery.state.upgrades):
                gallery.seal(end_grace=True)

    # what is looked at

    def _search(self) -> None:
        """Search with queries of both models until the story is over; what was found goes to a file."""
        searches, refused, wrong = Counter[str](), 0, list[str]()
        draw = random.Random(len(self.place))
        with Gallery.open(self.place) as gallery:
            while not (self.folder / "over").exists() and len(wrong) < 5:
                for space in (OLD, NEW):
                    row = draw.randrange(len(self.world.queries[space]))
                    asked = self.world.queries[space].subset(np.array([row]))
                    try:
                        answer = gallery.search(asked, k=K)
                    except SpaceError:
                        refused += 1
                        continue
                    searches[space.name] += 1
                    wrong += self._problems(asked, space, [(hit.item, hit.raw, hit.space) for hit in answer.hits[0]])
        found = {"searches": dict(searches), "refused": refused, "wrong": wrong}
        (self.folder / "searched").write_text(json.dumps(found))

    def _problems(self, asked: VectorSet, space: Space, hits: list[tuple[str, float, str]]) -> list[str]:
        wrong = []
        if {found for _, _, found in hits} - {space.id}:
            wrong.append(f"MIXED: queries of {space.name} met another space")
        if len({name for name, _, _ in hits}) < len(hits):
            wrong.append("an item was found twice")
        query = asked.take(np.arange(1)).astype(np.float64)
        score: Score = self.world.score if space == NEW else "cosine"
        for name, raw, _ in hits:
            truth = []
            for state in (0, 1):
                vector = self.world.vectors[space, state][name][None].astype(np.float64)
                left, right = (query, vector) if score != "cosine" else (_unit(query), _unit(vector))
                truth.append(float(score_table(left, right, score)[0, 0]))
            if min(abs(raw - value) for value in truth) > 1e-4 * max(1.0, abs(raw)):
                wrong.append(f"{name} has a score of {raw}, and not {truth[0]}, in space {space.name}")
        return wrong

    def _answers(self) -> list[list[tuple[str, float]]]:
        with Gallery.open(self.place) as gallery:
            found = gallery.search(self.world.queries[OLD], k=len(self.world.labels)).hits
        return [[(hit.item, hit.raw) for hit in hits] for hits in found]

    def _compare(self, before: list[list[tuple[str, float]]]) -> None:
        """After the rollback the answers are those of before, but for what was changed, removed and added since."""
        untouched = set(self.world.first) - set(self.world.changing) - set(self.world.leaving)
        then, now = (
            [[hit for hit in hits if hit[0] in untouched] for hits in found] for found in (before, self._answers())
        )
        if then != now:
            self.tally.failures.append("after the rollback the old answers are others")

    def _check_end(self) -> None:
        world = self.world
        with Gallery.open(self.place) as gallery, gallery.ledger.read() as reader:
            state = reader.state()
            left = set(world.first + world.later) - set(world.leaving)
            items = {item.number: item for item in reader.find(world.first + world.later).values() if not item.deleted}
            rows = reader.rows_of(state.query, sorted(items))
            if {item.id for item in items.values()} != left or len(rows.items) != len(left):
                self.tally.failures.append("in the end items are missing, or have no new vector")
            for number, value in zip(rows.items.tolist(), rows.values, strict=True):
                name = items[number].id
                if not np.array_equal(value, world.vectors[NEW, int(name in world.changing)][name]):
                    self.tally.failures.append(f"in the end {name} has another vector")
            if state.spaces[1].retired != self.seals or not gallery.doctor().healthy:
                self.tally.failures.append("in the end the old space is there, or the doctor finds something")


def _unit(values: np.ndarray) -> np.ndarray:
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def run(
    kills: int,
    searches: int,
    *,
    items: int,
    score: Score,
    seed: int,
    places: Callable[[int], str],
    kind: type[Story] = Story,
) -> Tally:
    """Tell stories until there were so many kills and searches."""
    world, tally, draw = World.of(items, score, seed), Tally(), random.Random(seed)
    began = time.monotonic()
    while sum(tally.kills.values()) < kills or tally.searches.total() < searches:
        tally.stories += 1
        kind(world, places(tally.stories), draw, tally, kills).tell()
        print(
            f"story {tally.stories}: {sum(tally.kills.values())} kills, {tally.searches.total():,} searches, "
            f"{len(tally.failures)} failures, {time.monotonic() - began:.0f} s",
            flush=True,
        )
        if tally.failures:
            break
    return tally


def main() -> None:
    """Run it and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--searches", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--score", choices=["cosine", "ip", "l2"], default="l2", help="of the new space")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", choices=["sqlite", "postgres", "adopted"], default="sqlite")
    options = parser.parse_args()
    given = {"items": options.items, "score": options.score, "seed": options.seed}
    with tempfile.TemporaryDirectory(prefix="behind-") as folder:
        if options.store == "sqlite":
            tally = run(options.kills, options.searches, **given, places=lambda number: f"{folder}/gallery-{number}")
        else:
            sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "gallery"))
            import servers

            from behind_adopted import AdoptedStory

            server = servers.start()
            try:
                kind = AdoptedStory if options.store == "adopted" else Story
                tally = run(
                    options.kills, options.searches, **given, kind=kind,
                    places=lambda number: f"{server.address}&schema=story_{number}",
                )  # fmt: skip
            finally:
                server.close()
    print(f"\nPython {platform.python_version()}, {platform.system()}, {options.store}, {given}")
    print("| killed in | times |\n|---|---:|")
    for phase, count in sorted(tally.kills.items()):
        print(f"| {phase} | {count} |")
    print(f"| all | {sum(tally.kills.values())} |")
    asked = ", ".join(f"{count:,} by the {name} model" for name, count in sorted(tally.searches.items()))
    print(f"\n{tally.stories} stories; {tally.searches.total():,} searches ({asked}), {tally.refused:,} refused while "
          f"their model was not served; {len(tally.failures)} failures")  # fmt: skip
    for line in tally.failures:
        print(line)
    sys.exit(1 if tally.failures else 0)


if __name__ == "__main__":
    main()
