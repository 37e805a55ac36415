"""What the kill benchmark looks at after each kill: the invariants, and everything that was acknowledged."""

from __future__ import annotations

import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kill_world import NEW, OLD, Told, World, brute_force
from samespace.gallery import Gallery
from samespace.gallery.index.open import INDEX
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Item, State
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.vectors import VectorSet

BATCH = 50


@dataclass(frozen=True)
class Look:
    """One look at a gallery.

    Attributes:
        world: what it is about.
        place: of the gallery.
        told: what callers were told.
        phase: the step in hand.
        turn: its number.
    """

    world: World
    place: str
    told: Told
    phase: str
    turn: int

    def problems(self) -> list[str]:
        """Everything that is not as it should be, a line each."""
        ledger = Ledger.open(self.place)
        # an index that a kill left half-built is named, not used, and built anew
        found = [line for line in ledger.engine.check() if "half-built" not in line]
        wrong = [f"the database: {line}" for line in found]
        with ledger.read() as reader:
            state = reader.state()
            items = {item.id: item for item in reader.find(self.world.old.ids.tolist()).values()}
            live = {name: item for name, item in items.items() if not item.deleted}
            if reader.live() != len(live):
                wrong.append("there are items that nobody added")
            if len(unserved := reader.unserved(state.servable)):
                wrong.append(f"I1: {len(unserved)} items have no vector that serves")
            if [kept.space for _, kept in sorted(state.spaces.items())] != [OLD, NEW][: len(state.spaces)]:
                wrong.append("I4: a space is another")
            if _sealing(state) and len(reader.unserved([state.query])):
                wrong.append("I5: sealing while items lack the new vector")
            checksums = {}
            for generation in state.spaces:
                found, problems = self._rows(reader, generation, live)
                wrong += problems
                checksums[generation] = found
            wrong += self._vectors(state, live, checksums)
            wrong += self._items(items, live)
            wrong += self._embedded(checksums)
            wrong += self._switched(state)
        ledger.close()
        return wrong + self._searches(state)

    def _rows(
        self, reader: LedgerReader, generation: int, live: Mapping[str, Item]
    ) -> tuple[dict[str, int], list[str]]:
        """Checksum of each live item's vector in a space; what is wrong with its rows."""
        wrong, seen, found = [], Counter[int](), {}
        names = {item.number: item.id for item in live.values()}
        for rows in reader.batches(generation):
            seen.update(rows.items.tolist())
            found.update(zip(rows.items.tolist(), rows.checksums.tolist(), strict=True))
            computed = [zlib.crc32(value.astype("<f4").tobytes()) for value in rows.values]
            if computed != rows.checksums.tolist():
                wrong.append(f"a vector of space {generation} is torn")
        if any(count > 1 for count in seen.values()):
            wrong.append(f"I3: an item has two vectors of space {generation}")
        if reader.orphans(generation) or not set(seen) <= set(names):
            wrong.append(f"space {generation} has vectors of items that are gone or have changed")
        return {names[item]: checksum for item, checksum in found.items() if item in names}, wrong

    def _vectors(self, state: State, live: Mapping[str, Item], checksums: Mapping[int, Mapping[str, int]]) -> list[str]:
        """Each vector is that of what its item shows; every old one is there until the seal."""
        for name, item in live.items():
            expected = self.world.checksums.get((name, item.content))
            if expected is None:
                return [f"{name} shows what nobody gave it"]
            if not _sealing(state) and name not in checksums[1]:
                return [f"I2: the old vector of {name} is gone"]
            for generation, found in checksums.items():
                if name in found and found[name] != expected[generation - 1]:
                    return [f"I2: the vector of {name} in space {generation} is another"]
        return []

    def _items(self, items: Mapping[str, Item], live: Mapping[str, Item]) -> list[str]:
        """What was acknowledged to be added, changed or removed is; at most one more change than that."""
        wrong = []
        wrote = self.told.number("wrote")
        gone, may_go = set(self.world.removed[:wrote]), set(self.world.removed[: self._reached()])
        added = self.world.old.ids[: self.told.number("add")].tolist()
        if missing := [name for name in added if name not in live and name not in may_go]:
            wrong.append(f"{len(missing)} items were acknowledged and are gone, {missing[0]} among them")
        if back := gone & set(live):
            wrong.append(f"{len(back)} items were removed and are there, {min(back)} among them")
        changed = self.world.changed.ids.tolist()
        if old := [name for name in changed[:wrote] if live[name].content != self.world.later_contents[name]]:
            wrong.append(f"{len(old)} changes were acknowledged and are gone, of {old[0]} among them")
        touched = {*changed[: self._reached()], *may_go}
        first = self.world.first_contents
        if new := [name for name, item in live.items() if name not in touched and item.content != first[name]]:
            wrong.append(f"{len(new)} items changed that nobody touched, {new[0]} among them")
        if self.phase == "add" and len(items) % BATCH and len(items) != len(self.world.old):
            wrong.append(f"a batch is there in part: {len(items)} items")
        return wrong

    def _embedded(self, checksums: Mapping[int, Mapping[str, int]]) -> list[str]:
        """Each acknowledged vector is there, unless its item may have been changed or removed since."""
        touched = {*self.world.changed.ids[: self._reached()].tolist(), *self.world.removed[: self._reached()]}
        lost = 0
        for stored, ids in self.told.batches():
            alone = [name for name in ids if name not in touched]
            # of items that were touched it is not known whether their vectors were among those stored
            lost += max(0, stored - (len(ids) - len(alone)) - sum(name in checksums.get(2, {}) for name in alone))
        return [f"{lost} new vectors were acknowledged and are gone"] if lost else []

    def _reached(self) -> int:
        """Up to which row the writer may have come: one further than it was able to tell, once it has begun."""
        return self.told.number("wrote") + 1 if self.told.number("writing") else 0

    def _switched(self, state: State) -> list[str]:
        """An acknowledged upgrade, rollback or seal stands until a later one begins."""
        turn, generation = divmod(self.told.number("query"), 10)
        settled = turn == self.turn or self.phase not in ("upgrade", "rollback")
        if turn and settled and state.query != generation:
            return [f"an acknowledged switch to space {generation} is gone"]
        if self.told.number("sealed") and not any(one.state == "sealed" for one in state.upgrades):
            return ["an acknowledged seal is gone"]
        return []

    def _searches(self, state: State) -> list[str]:
        """Search with the index files as they are, and without any, and by brute force."""
        wrong = []
        with Gallery.open(self.place) as gallery:
            queries = self.world.old_queries if state.query == 1 else self.world.queries
            first = gallery.search(queries, k=12, exact=True, count=False).hits
            for hits, wanted in zip(first, brute_force(gallery, queries, 12), strict=True):
                if len({hit.item for hit in hits}) != len(hits):
                    wrong.append("I6: an item was found twice")
                if [(hit.item, hit.space) for hit in hits] != wanted:
                    wrong.append("I6, I7: a search with the index files differs from brute force")
                    break
            wrong += _approximate(gallery, queries)
        if not self.place.startswith("postgres"):
            aside = Path(tempfile.mkdtemp(prefix="kill-copy-"))
            shutil.copytree(self.place, aside / "gallery", ignore=shutil.ignore_patterns(INDEX))
            with Gallery.open(aside / "gallery") as gallery:
                if gallery.search(queries, k=12, exact=True, count=False).hits != first:
                    wrong.append("I8: without index files a search differs")
            shutil.rmtree(aside)
        return wrong


def _approximate(gallery: Gallery, queries: VectorSet) -> list[str]:
    """What is wrong with an approximate search, as far as there is a graph to search by."""
    everything = gallery.search(queries, k=max(1, len(gallery)), exact=True, count=False).hits
    near = gallery.search(queries, k=5, count=False).hits
    if any(not set(some) <= set(all_hits) for some, all_hits in zip(near, everything, strict=True)):
        return ["I6: an approximate search answered with another score or space than the exact one"]
    met = sum(len(set(some) & set(best[:5])) for some, best in zip(near, everything, strict=True))
    due = sum(len(best[:5]) for best in everything)
    return [f"I6: an approximate search found {met} of {due}"] if met < 0.9 * due else []


def _sealing(state: State) -> bool:
    return any(one.state in ("sealing", "sealed") for one in state.upgrades)
