"""Canaries: items re-embedded whenever a model is attached, to catch one that is not what it claims to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samespace.errors import SpaceError
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.space import Space

_COUNT = 32
_SAME = 0.999
_FINDING = 0.75


@dataclass(frozen=True)
class Canaries:
    """What re-embedding the canaries of a space showed.

    Attributes:
        checked: how many were compared with vectors made earlier; 0 where there were none, or no images.
        worst: lowest cosine of an earlier vector with the one made now; None where none was compared.
        recorded: how many were recorded now, for the next time.
    """

    checked: int
    worst: float | None
    recorded: int


def require_same_model(ledger: Ledger, generation: int, embedder: ItemEmbedder) -> Canaries:
    """Compare what a model gives for the canaries of a space with what it gave before.

    Where a space has no canaries yet, they are chosen among the items and recorded. The stored vectors of these items,
    whoever made them, are compared too. Images that are gone or that have changed are left out.

    Raises:
        SpaceError: the model is of another space, or its vectors are not those that are stored.
    """
    kept, again = _again(ledger, generation, embedder)
    worst = again.worst()
    if worst is not None and worst < _SAME:
        name = again.ids[int(np.nanargmin(again.cosines))]
        raise SpaceError(
            f"the model given for space {kept} is not the one that made its vectors: for '{name}' the two agree "
            f"only to a cosine of {worst:.3f} (at least {_SAME} is expected); use the model that the gallery was made "
            "with, or register this one as a space of its own"
        )
    recorded = 0
    if not again.known and len(again.items) and not ledger.read_only:
        with ledger.write() as writer:
            writer.put_canaries(generation, again.items, again.now)
        recorded = len(again.items)
    return Canaries(checked=int(np.isfinite(again.cosines).sum()), worst=worst, recorded=recorded)


def canary_drift(ledger: Ledger, generation: int, embedder: ItemEmbedder) -> float | None:
    """1 − the lowest cosine of an earlier vector of a canary with the one that the model makes now; None without any.

    Raises:
        SpaceError: the model is of another space.
    """
    worst = _again(ledger, generation, embedder)[1].worst()
    return None if worst is None else max(0.0, 1.0 - worst)


@dataclass(frozen=True, eq=False)
class _Again:
    """The canaries of a space as a model embeds them now.

    Attributes:
        items: (C,) their numbers.
        ids: what users call them.
        now: (C, D) their vectors.
        cosines: (C,) the lower of those with the recorded and the stored vector; NaN where there is neither.
        known: whether they were recorded before.
    """

    items: Ints
    ids: list[str]
    now: Vectors
    cosines: Vectors
    known: bool

    def worst(self) -> float | None:
        """The lowest cosine; None where nothing could be compared."""
        return float(np.nanmin(self.cosines)) if np.isfinite(self.cosines).any() else None


def _again(ledger: Ledger, generation: int, embedder: ItemEmbedder) -> tuple[Space, _Again]:
    with ledger.read() as reader:
        state = reader.state()
        kept = state.spaces[generation]
        if embedder.space != kept.space:
            raise SpaceError(f"expected the model of space {kept.space}, got one of {embedder.space}")
        items, before = reader.canaries(generation)
        known = len(items)
        if not known:
            items = _choose(reader)
            before = np.full((len(items), kept.space.dim), np.nan, dtype=np.float32)
        rows = reader.rows_of(generation, items)
        stored = np.full_like(before, np.nan)
        stored[np.searchsorted(items, rows.items)] = rows.values
        ids = {item.number: (item.id, item.content) for item in reader.items(items).values()}
    present = [place for place, number in enumerate(items.tolist()) if number in ids]
    items, before, stored = items[present], before[present], stored[present]
    now, places = _embed(embedder, [ids[number] for number in items.tolist()])
    items = items[places]
    cosines = np.fmin(_cosines(before[places], now), _cosines(stored[places], now))
    names = [ids[number][0] for number in items.tolist()]
    return kept.space, _Again(items, names, now, cosines, bool(known))


def require_lineage(ledger: Ledger, old: int, embedder: ItemEmbedder, dims: int) -> float | None:
    """Refuse a new model whose vectors have nothing to do with the stored ones: a foreign one of the same dimension.

    The new vector of an image should be nearer to the stored vector of that image than to those of most others.
    Vectors that are unrelated manage that for half of the images; three quarters are asked for.

    Returns:
        The share of canaries for which it holds; None where there are too few images to tell.

    Raises:
        SpaceError: the share is too low.
    """
    with ledger.read() as reader:
        items = _choose(reader)
        rows = reader.rows_of(old, items)
        ids = {item.number: (item.id, item.content) for item in reader.items(rows.items).values()}
    now, places = _embed(embedder, [ids[number] for number in rows.items.tolist()])
    if len(places) < _COUNT // 2:
        return None
    scores = _unit(now[:, :dims]) @ _unit(rows.values[places][:, :dims]).T
    own = np.diag(scores)
    share = float(np.mean(own > np.median(scores, axis=1)))
    if share < _FINDING:
        raise SpaceError(
            f"vectors of the new model {embedder.space} do not go with the stored ones: only {share:.0%} of "
            f"{len(places)} canary images come out nearer to their own stored vector than to most others (unrelated "
            "vectors reach 50 %); is this the model that was certified? One that is not compatible takes over with "
            "gallery.begin_behind(model=…)"
        )
    return share


def _choose(reader: LedgerReader) -> Ints:
    """Items spread evenly over the gallery."""
    numbers, _ = reader.labels()
    if len(numbers) <= _COUNT:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, _COUNT).astype(np.int64)]


def _embed(embedder: ItemEmbedder, items: list[tuple[str, str]]) -> tuple[Vectors, list[int]]:
    """Vectors of items given by (id, content), and which of them these are; changed images are left out."""
    loaded = embedder.images.load([name for name, _ in items], [content for _, content in items])
    if not loaded.places:
        return np.empty((0, embedder.space.dim), dtype=np.float32), []
    return embedder.vectors(loaded.pixels), loaded.places


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _cosines(left: Vectors, right: Vectors) -> Vectors:
    return np.asarray((_unit(left) * _unit(right)).sum(axis=1), dtype=np.float32)
