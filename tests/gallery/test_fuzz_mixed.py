"""Made-up stories of a gallery with three spaces of unlike dimensions, against a slow search over plain dictionaries.

Items with ties are added, changed, removed and added again; queries go from space to space and back; backfills fill
some items, seals delete; the gallery is reopened, its index files are rewritten or lost. After every step some queries
with filters and thresholds are answered by the gallery that made the change and by another that was open all the time.
Exact answers are equal to the bit; approximate ones are some of the slow search's, with its scores.

The recorded run: SAMESPACE_EXAMPLES=60 python -m pytest tests/gallery/test_fuzz_mixed.py -s
"""

from __future__ import annotations

import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samespace.gallery import Gallery
from samespace.gallery.index.local import compaction
from samespace.gallery.index.local.source import LocalSource
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link
from samespace.space import Score, Space
from samespace.vectors import VectorSet

from .made import HONEST, made_calibration, prefix
from .slow_gallery import Row, SlowGallery

EXAMPLES = int(os.environ.get("SAMESPACE_EXAMPLES", "1"))
DIMS = {1: 8, 2: 12, 3: 20}
THINGS, STEPS, QUERIES, MOST = 60, 30, 3, 260


class Story:
    """A gallery and what it should be, changed together step by step.

    `graph_from`: rows from which a space gets an approximate index; None for exact searches alone.
    """

    def __init__(self, place: str, seed: int, graph_from: int | None) -> None:
        self.place, self.graph_from = place, graph_from
        self.draw = np.random.default_rng(seed)
        self.score: Score = ("cosine", "cosine", "ip", "l2")[seed % 4]
        unit = self.score == "cosine"
        self.spaces = {
            one: Space(weights=f"{one}" * 8, preprocessing="none", dim=dim, normalized=unit, name=f"v{one}")
            for one, dim in DIMS.items()
        }
        self.things = self.draw.standard_normal((THINGS, DIMS[3]))
        calibrations = {pair: made_calibration(*values) for pair, values in HONEST.items()}
        self.slow = SlowGallery(DIMS, self.score, calibrations)
        self.checks, self.met = Counter[str](), Counter[str]()
        self.names = [f"item-{number:03d}" for number in range(MOST)]
        self.gallery = self._opened(Ledger.create(place, self.spaces[1], model=None, settings={}, score=self.score))
        self._calibrate(1)
        self.reader = self._opened(Ledger.open(place))

    def tell(self) -> None:
        """Begin with some items, then steps at random, looking after each."""
        self.add(150)
        steps: list[tuple[Callable[[], None], int]] = [
            (lambda: self.add(int(self.draw.integers(1, 25))), 4),
            (self.change, 3),
            (self.remove, 2),
            (self.backfill, 6),
            (self.upgrade, 3),
            (self.rollback, 2),
            (self.seal, 1),
            (self.reopen, 1),
            (self.maintain, 3),
            (self.lose_index, 1),
        ]
        weights = np.array([weight for _, weight in steps], dtype=float)
        for _ in range(STEPS):
            steps[int(self.draw.choice(len(steps), p=weights / weights.sum()))][0]()
            self.look()
        self.close()

    def close(self) -> None:
        """Let go of both."""
        self.gallery.close()
        self.reader.close()

    # steps

    def add(self, count: int) -> None:
        """New items, some of them removed before; during an upgrade some with old vectors too."""
        free = sorted(set(self.names) - set(self.slow.items))
        chosen = self.draw.permutation(free)[:count].tolist()
        self._give(chosen, update=False)

    def change(self) -> None:
        """Items that are there get other contents."""
        known = sorted(self.slow.items)
        self._give(self.draw.permutation(known)[: int(self.draw.integers(1, 12))].tolist(), update=True)

    def remove(self) -> None:
        """Some go."""
        gone = self.draw.permutation(sorted(self.slow.items))[: int(self.draw.integers(1, 15))].tolist()
        if len(gone) < len(self.slow.items) and gone:
            assert self.gallery.remove(gone) == len(gone)
            for name in gone:
                del self.slow.items[name]

    def backfill(self) -> None:
        """Some of those that lack a vector of the query space get one."""
        lacking = self.draw.permutation(self.slow.lacking())
        some = lacking[: int(self.draw.integers(1, 60))].tolist()
        if not some:
            return
        values = self._vectors(self.slow.query, len(some))
        space = self.spaces[self.slow.query]
        done = self.gallery.backfill(vectors=VectorSet.from_arrays(values, ids=some, space=space))
        assert (done.stored, dict(done.failed), done.left) == (len(some), {}, len(lacking) - len(some))
        for name, value in zip(some, values, strict=True):
            self.slow.items[name].vectors[self.slow.query] = value

    def upgrade(self) -> None:
        """Queries use the next space."""
        if self.slow.query == 3:
            return
        new = self.slow.query + 1
        self.gallery.plan(self.spaces[new], order="random")
        self._calibrate(new)
        self.gallery.upgrade()
        self.slow.query = new

    def rollback(self) -> None:
        """Queries use the space before."""
        if self.slow.query > self.slow.sealed:
            self.gallery.rollback()
            self.slow.query -= 1

    def seal(self) -> None:
        """Old vectors go; where items lack the new one, they keep theirs."""
        if self.slow.query > self.slow.sealed:
            sealed = self.gallery.seal(partial=True)
            assert sealed.deleted >= self.slow.seal()

    def reopen(self) -> None:
        """Both are closed and opened."""
        self.close()
        self.gallery, self.reader = self._opened(Ledger.open(self.place)), self._opened(Ledger.open(self.place))

    def maintain(self) -> None:
        """Index files are brought up to date by one of the two."""
        (self.gallery, self.reader)[int(self.draw.integers(2))].maintain()

    def lose_index(self) -> None:
        """The index files are deleted under one that is open."""
        if not self.place.startswith("postgres"):
            shutil.rmtree(Path(self.place) / "index", ignore_errors=True)

    # looking

    def look(self) -> None:
        """Ask some queries, each of both galleries."""
        queries = self._vectors(self.slow.query, QUERIES)
        asked = VectorSet.from_arrays(queries, space=self.spaces[self.slow.query])
        options = self._options()
        k, exact = int(self.draw.integers(1, 8)), self.graph_from is None or bool(self.draw.random() < 0.3)
        if self.draw.random() < 0.1:
            k = MOST
        expected = [self.slow.search(query, **options) for query in queries]
        for gallery in (self.gallery, self.reader):
            answer = gallery.search(asked, k=k, exact=exact, count=False, **options)
            for hits, rows in zip(answer.hits, expected, strict=True):
                found = [(hit.item, hit.score, hit.raw, self._generation(hit.space)) for hit in hits]
                if exact:
                    assert found == rows[:k]
                else:
                    self._approximate(found, rows, k, by=2 if options.get("merge") == "raw" else 1)
                self.checks["exact" if exact else "approximate"] += 1
        assert len(self.reader) == len(self.slow.items)

    def _approximate(self, found: list[Row], rows: list[Row], k: int, by: int) -> None:
        assert set(found) <= set(rows)
        assert len({row[0] for row in found}) == len(found) <= k
        assert found == sorted(found, key=lambda row: (-row[by], row[0]))
        wanted = rows[:k]
        worst = wanted[-1][by] if wanted else math.inf
        for generation in DIMS:
            # of rows that tie with the last any will do
            due = sum(row[3] == generation and row[by] > worst for row in wanted)
            got = sum(row[3] == generation and row[by] > worst for row in found)
            self.met[f"wanted of space {generation}"] += due
            self.met[f"found of space {generation}"] += got

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        drawn = self.draw.random
        if drawn() < 0.5:
            conditions = {
                "shop": ["berlin", "paris", ["berlin", "rome"], ("!=", "paris")],
                "year": [("<", 30), (">=", 20), 7, ("<=", 44.5), [3, 5, 8, 13, 21]],
                "sale": [True, False],
                "sku": ["5", 5, ["5", 6]],
                "label": ["class-1", ["class-2", "class-3", "class-5"], ("!=", "class-0")],
            }
            keys = self.draw.permutation(sorted(conditions))[: int(self.draw.integers(1, 3))].tolist()
            options["where"] = {key: conditions[key][int(self.draw.integers(len(conditions[key])))] for key in keys}
        if drawn() < 0.2:
            options["merge"] = "raw"
        if drawn() < 0.3:
            options["scale"] = "fmr"
        if drawn() < 0.2:
            options["min_score"] = float(self.draw.normal(0, 2)) if "scale" not in options else 0.4
        if drawn() < 0.2:
            options["max_fmr"] = float(10 ** -self.draw.uniform(0.05, 3))
        return options

    def _generation(self, space: str) -> int:
        return next(generation for generation, kept in self.spaces.items() if kept.id == space)

    # making

    def _give(self, names: list[str], *, update: bool) -> None:
        if not names:
            return
        query = self.slow.query
        older = [one for one in range(self.slow.sealed, query) if self.draw.random() < 0.5]
        values = {one: self._vectors(one, len(names)) for one in [query, *older]}
        labels = [f"class-{self.draw.integers(6)}" for _ in names] if self.draw.random() < 0.7 else None
        metadata = {name: self._metadata() for name in names}
        sets = {
            one: VectorSet.from_arrays(given, ids=names, labels=labels, space=self.spaces[one])
            for one, given in values.items()
        }
        also = [sets[one] for one in older]
        added = self.gallery.add(sets[query], also=also, metadata=metadata, update=update)
        assert added.added + added.updated == len(names)
        for place, name in enumerate(names):
            label = None if labels is None else labels[place]
            self.slow.add(name, label, metadata[name], {one: given[place] for one, given in values.items()})

    def _metadata(self) -> dict[str, Any]:
        kinds: dict[str, list[Any]] = {
            "shop": ["berlin", "paris", "rome"],
            "year": [int(self.draw.integers(60))],
            "sale": [True, False],
            "sku": [5, "5", 6],
        }
        return {
            key: some[int(self.draw.integers(len(some)))] for key, some in kinds.items() if self.draw.random() < 0.8
        }

    def _vectors(self, generation: int, count: int) -> np.ndarray:
        """Of things that several items show, so that they tie, or near them."""
        chosen = self.things[self.draw.integers(0, THINGS, count)]
        spread = 0.5 * self.draw.standard_normal(chosen.shape) * (self.draw.random((count, 1)) < 0.5)
        values = (chosen + spread).astype(np.float32)
        return prefix(values, DIMS[generation]) if self.score == "cosine" else values[:, : DIMS[generation]].copy()

    def _calibrate(self, new: int) -> None:
        with self.gallery.ledger.write() as writer:
            for old in range(1, new + 1):
                if old < new:
                    writer.put_link(Link(new, old, DIMS[old], {"certificate": "made up"}))
                writer.put_calibration(new, old, self.slow.calibrations[new, old], "made up")

    def _opened(self, ledger: Ledger) -> Gallery:
        if self.place.startswith("postgres"):
            from samespace.gallery.index.pgvector.source import PgvectorSource

            return Gallery(ledger, PgvectorSource(ledger, exact_rows=self.graph_from or 10**9))
        return Gallery(ledger, LocalSource(ledger, Path(self.place) / "index", graph_from=self.graph_from or 10**9))


@pytest.mark.parametrize("kind", ["exact", "graphs"])
def test_a_mixed_gallery_is_what_dictionaries_say(
    place: str, kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if kind == "graphs" and not place.startswith("postgres"):
        pytest.importorskip("faiss", reason="faiss is not installed: pip install 'samespace[faiss]'")
    # few items fill an index file
    monkeypatch.setattr(compaction, "FLUSH", 30)
    checks, met = Counter[str](), Counter[str]()
    for seed in range(EXAMPLES):
        where = f"{place}_{seed}" if place.startswith("postgres") else f"{place}-{seed}"
        story = Story(where, seed, 40 if kind == "graphs" else None)
        try:
            story.tell()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        checks += story.checks
        met += story.met
        if not place.startswith("postgres"):
            shutil.rmtree(where)
    print(f"\n{place.partition(':')[0][-10:]} {kind}: {dict(checks)} {dict(met)}")
    for generation in DIMS:
        wanted = met[f"wanted of space {generation}"]
        assert met[f"found of space {generation}"] >= 0.99 * wanted
