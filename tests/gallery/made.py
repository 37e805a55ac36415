"""Galleries to test on: seeded clustered vectors, two or more spaces, a share of the items in the later ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Link, NewItem
from samespace.gallery.search.search import Answer
from samespace.metrics.calibration import Band, Calibration
from samespace.space import Score, Space

BAND = Band(slope=(1.0, 2.0), intercept=(-1.0, 1.0), rate=1e-4)
HONEST = {
    (1, 1): (12.0, -5.0),
    (2, 1): (11.0, -4.0),
    (2, 2): (14.0, -7.5),
    (3, 1): (10.0, -3.5),
    (3, 2): (13.0, -6.0),
    (3, 3): (15.0, -8.0),
}


def made_space(name: str, dim: int, *, normalized: bool = True) -> Space:
    """A space that differs from others by its name."""
    return Space(weights=name * 8, preprocessing="none", dim=dim, normalized=normalized, name=name)


def made_vectors(count: int, dim: int, seed: int, clusters: int = 20) -> np.ndarray:
    """Unit vectors around seeded centres, float32."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((clusters, dim))
    values = centres[generator.integers(0, clusters, count)] + 0.7 * generator.standard_normal((count, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def made_calibration(slope: float, intercept: float) -> Calibration:
    """A calibration whose false-match levels rise with the slope."""
    return Calibration(slope, intercept, (-1.0, 0.2, 1.0), (0.0, 0.3 + slope / 50, slope / 3), 1000, 100_000, BAND)


def stretched(vectors: np.ndarray, seed: int) -> np.ndarray:
    """The same vectors at lengths between about a quarter and four."""
    lengths = np.exp(np.random.default_rng(seed).normal(0, 0.5, (len(vectors), 1)))
    return (vectors * lengths).astype(np.float32)


def prefix(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Leading dimensions as float32 unit vectors."""
    wide = np.ascontiguousarray(vectors[:, :dim], dtype=np.float64)
    return (wide / np.sqrt((wide * wide).sum(axis=1))[:, None]).astype(np.float32)


class Made:
    """A ledger with spaces, and what a slow search needs to know about it.

    Attributes:
        ledger: the ledger.
        spaces: by generation.
        vectors: by generation, then item id, as stored.
        metadata: by item id.
    """

    def __init__(
        self, folder: Path | str | None, spaces: Sequence[Space], *, calibrated: bool = True, score: Score = "cosine"
    ) -> None:
        assert folder is not None
        place = folder if isinstance(folder, str) else folder / "gallery"
        self.ledger = Ledger.create(place, spaces[0], model=None, settings={}, score=score)
        self.score = score
        self.spaces = dict(enumerate(spaces, start=1))
        self.vectors: dict[int, dict[str, np.ndarray]] = {generation: {} for generation in self.spaces}
        self.metadata: dict[str, dict[str, Any]] = {}
        self.query = 1
        with self.ledger.write() as writer:
            for generation, space in list(self.spaces.items())[1:]:
                assert writer.add_space(space, None, score) == generation
                for old in range(1, generation):
                    writer.put_link(Link(generation, old, self.spaces[old].dim, {"certificate": 1}))
                writer.add_upgrade(generation - 1, generation, order="random", plan={})
                writer.set_upgrade(writer.state().upgrades[-1], state="open")
            if calibrated:
                for (query, gallery), (slope, intercept) in HONEST.items():
                    if query in self.spaces and gallery in self.spaces:
                        writer.put_calibration(query, gallery, made_calibration(slope, intercept), "test")

    def add(self, ids: Sequence[str], vectors: np.ndarray, generation: int = 1, **columns: Sequence[Any]) -> None:
        """Store new items with vectors of one space."""
        details = [{key: values[place] for key, values in columns.items()} for place in range(len(ids))]
        with self.ledger.write() as writer:
            numbers = writer.add_items([NewItem(name, "c", None, one) for name, one in zip(ids, details, strict=True)])
            writer.put_vectors(generation, numbers, ["c"] * len(ids), vectors)
        self.vectors[generation].update(zip(ids, vectors, strict=True))
        self.metadata.update(zip(ids, details, strict=True))

    def backfill(self, generation: int, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Give stored items the vectors of another space."""
        with self.ledger.write() as writer:
            known = writer.find(ids)
            numbers = np.array([known[name].number for name in ids], dtype=np.int64)
            writer.put_vectors(generation, numbers, [known[name].content for name in ids], vectors)
        self.vectors[generation].update(zip(ids, vectors, strict=True))

    def switch(self, generation: int) -> None:
        """Upgrade or roll back."""
        with self.ledger.write() as writer:
            writer.set_query(generation)
        self.query = generation

    def remove(self, ids: Sequence[str]) -> None:
        """Remove items."""
        with self.ledger.write() as writer:
            known = writer.find(ids)
            writer.remove_items(np.array([known[name].number for name in ids], dtype=np.int64))
        for kept in self.vectors.values():
            for name in ids:
                kept.pop(name, None)

    def change(self, ids: Sequence[str], vectors: np.ndarray, generation: int = 1) -> None:
        """Give items other content, embedded in one space."""
        with self.ledger.write() as writer:
            known = writer.find(ids)
            numbers = np.array([known[name].number for name in ids], dtype=np.int64)
            writer.change_items(numbers, [NewItem(name, "d", None, self.metadata[name]) for name in ids])
            writer.put_vectors(generation, numbers, ["d"] * len(ids), vectors)
        for kept in self.vectors.values():
            for name in ids:
                kept.pop(name, None)
        self.vectors[generation].update(zip(ids, vectors, strict=True))

    def slow(self, queries: np.ndarray, k: int, *, by: str = "score", keep: Any = None) -> list[list[tuple[Any, ...]]]:
        """What a search should find, one item at a time in float64: (id, score, raw, space id)."""
        lists = []
        ids = {generation: space.id for generation, space in self.spaces.items()}
        units = {
            generation: {name: self._compared(row, generation) for name, row in kept}
            for generation, kept in ((generation, kept.items()) for generation, kept in self.vectors.items())
        }
        for query in queries:
            rows = []
            wide = {
                generation: (
                    prefix(query[None], space.dim)[0] if self.score == "cosine" else query[: space.dim]
                ).astype(np.float64)
                for generation, space in self.spaces.items()
                if generation <= self.query
            }
            for name in {name for kept in self.vectors.values() for name in kept}:
                having = [generation for generation in range(1, self.query + 1) if name in self.vectors[generation]]
                if not having or (keep is not None and not keep(self.metadata[name])):
                    continue
                generation = having[-1]
                raw = self._raw(wide[generation], units[generation][name].astype(np.float64))
                slope, intercept = HONEST[self.query, generation]
                rows.append((name, raw * slope + intercept, raw, ids[generation]))
            rows.sort(key=lambda row: (-row[1] if by == "score" else -row[2], row[0]))
            lists.append(rows[:k])
        return lists

    def _compared(self, row: np.ndarray, generation: int) -> np.ndarray:
        if self.score != "cosine" or self.spaces[generation].normalized:
            return row
        return prefix(row[None], len(row))[0]

    def _raw(self, query: np.ndarray, row: np.ndarray) -> float:
        return 0.0 - float(((query - row) ** 2).sum()) if self.score == "l2" else float((query * row).sum())


def half_way(
    folder: Path | str,
    count: int = 300,
    share: float = 0.5,
    dims: tuple[int, int] = (16, 32),
    score: Score = "cosine",
) -> Made:
    """A gallery in mid-backfill, queried by the new space; its vectors differ in length where that counts."""
    old, new = (made_space(name, dim, normalized=score == "cosine") for name, dim in zip("ab", dims, strict=True))
    made = Made(folder, [old, new], score=score)
    ids = [f"item-{number:04d}" for number in range(count)]
    vectors = made_vectors(count, dims[1], seed=1)
    if score != "cosine":
        vectors = stretched(vectors, seed=1)
    made.add(
        ids,
        prefix(vectors, dims[0]) if score == "cosine" else vectors[:, : dims[0]],
        shop=["berlin", "paris"] * (count // 2),
        year=list(range(count)),
    )
    order = np.random.default_rng(2).permutation(count)[: round(share * count)]
    if len(order):
        made.backfill(2, [ids[place] for place in order], vectors[order])
    made.switch(2)
    return made


def as_rows(answer: Answer) -> list[list[tuple[Any, ...]]]:
    """Hits of an answer as tuples, as `Made.slow` gives them."""
    return [[(hit.item, hit.score, hit.raw, hit.space) for hit in hits] for hits in answer.hits]
