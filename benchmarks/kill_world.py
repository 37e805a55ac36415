"""What the kill benchmark's story is about: its items, what callers were told is done, and slow search."""

from __future__ import annotations

import json
import time
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from samespace.gallery import Gallery
from samespace.gallery.backfill.vector_source import FromVectors, Prepared
from samespace.gallery.ingest.images import content_of_vector
from samespace.gallery.ledger.state import Claim
from samespace.metrics.calibration import Calibration, calibrate
from samespace.space import Space
from samespace.vectors import VectorSet

OLD = Space(weights="old", preprocessing="none", dim=24, normalized=True, name="old")
NEW = Space(weights="new", preprocessing="none", dim=32, normalized=True, name="new")


@dataclass(frozen=True, eq=False)
class World:
    """Everything the story is about, made from a seed.

    Attributes:
        old, new: every item as the two models see it.
        changed, changed_old: the items that change half way, as the models see them then.
        removed: ids of those that go.
        queries, old_queries: in the two spaces.
        calibration: of every pair.
    """

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

    @cached_property
    def checksums(self) -> dict[tuple[str, str], tuple[int, int]]:
        """By id and content: CRC-32 of the item's vector in space 1 and in space 2."""
        sides = [(self.old, self.old, self.new), (self.changed, self.changed_old, self.changed)]
        return {
            (name, content): (_checksum(old), _checksum(new))
            for contents, first, second in sides
            for name, content, old, new in zip(
                contents.ids.tolist(), contents_of(contents), first.vectors, second.vectors, strict=True
            )
        }

    @cached_property
    def first_contents(self) -> dict[str, str]:
        """By id: what an item shows before anything changes."""
        return dict(zip(self.old.ids.tolist(), contents_of(self.old), strict=True))

    @cached_property
    def later_contents(self) -> dict[str, str]:
        """By id: what the items that change show in the end."""
        return dict(zip(self.changed.ids.tolist(), contents_of(self.changed), strict=True))


def contents_of(vectors: VectorSet) -> list[str]:
    """Content of items that were added by their vectors."""
    return [content_of_vector(value) for value in vectors.take(np.arange(len(vectors)))]


def _checksum(value: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(value, dtype="<f4").tobytes())


@dataclass(frozen=True)
class Told:
    """What callers were told is done, in files that outlive the process that told it.

    Attributes:
        folder: of the files.
    """

    folder: Path

    def say(self, what: str, value: int) -> None:
        """A number that only grows."""
        if value > self.number(what):
            (self.folder / f"{what}.new").write_text(str(value))
            (self.folder / f"{what}.new").rename(self.folder / what)

    def number(self, what: str) -> int:
        """The last number that was told; 0 before the first."""
        return int((self.folder / what).read_text()) if (self.folder / what).exists() else 0

    def embedded(self, worker: str, stored: int, ids: list[str]) -> None:
        """So many of these items have their new vector."""
        with (self.folder / f"{worker}.batches").open("a") as file:
            file.write(json.dumps([stored, ids]) + "\n")

    def batches(self) -> list[tuple[int, list[str]]]:
        """All that `embedded` was told."""
        lines = (line for file in self.folder.glob("*.batches") for line in file.read_text().splitlines(keepends=True))
        return [(stored, ids) for stored, ids in (json.loads(line) for line in lines if line.endswith("\n"))]


@dataclass
class SlowVectors:
    """Vectors by item id, those of changed items too, a moment after they were asked for.

    Attributes:
        world: where they come from.
        taken: ids of each batch, in the order in which they were asked for.
    """

    world: World
    taken: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._first, self._later = FromVectors(self.world.new, NEW), FromVectors(self.world.changed, NEW)

    def take(self, claims: list[Claim]) -> Prepared:
        """Look up what each item shows now."""
        time.sleep(0.005)
        self.taken.append([claim.id for claim in claims])
        again = [claim for claim in claims if self.world.later_contents.get(claim.id) == claim.content]
        rest = [claim for claim in claims if claim not in again]
        parts = [
            vector_source.take(some) for vector_source, some in ((self._first, rest), (self._later, again)) if some
        ]
        return Prepared(
            [claim for part in parts for claim in part.claims],
            lambda: np.concatenate([part.embed() for part in parts]),
            {},
        )


def brute_force(gallery: Gallery, queries: VectorSet, k: int) -> list[list[tuple[str, str]]]:
    """Id and space of the best items of each query, from the ledger alone, in float64."""
    with gallery.ledger.read() as reader:
        state = reader.state()
        served: dict[int, tuple[int, np.ndarray]] = {}
        for generation in state.servable:
            for rows in reader.batches(generation):
                served.update(
                    {item: (generation, value) for item, value in zip(rows.items.tolist(), rows.values, strict=True)}
                )
        names = {item.number: item.id for item in reader.items(sorted(served)).values() if not item.deleted}
    found = []
    for query in queries.take(np.arange(len(queries))):
        scored = []
        for item, (generation, value) in served.items():
            if item not in names:
                continue
            part = query[: len(value)].astype(np.float64)
            part = (part / np.linalg.norm(part)).astype(np.float32).astype(np.float64)
            raw = float(part @ value.astype(np.float64))
            calibration = state.calibrations[state.query, generation]
            scored.append((-float(calibration.apply(np.array([raw]), "logistic")[0]), names[item], generation))
        scored.sort()
        found.append([(name, state.spaces[generation].space.id) for _, name, generation in scored[:k]])
    return found
