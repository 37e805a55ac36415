"""Where the vectors of a backfill come from: a model and images, or a set that was made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from samespace.errors import InputError
from samespace.gallery.ingest.checks import require_precision, require_vectors
from samespace.gallery.ingest.images import ItemEmbedder
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Claim, Ints, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.space import Score, Space
from samespace.vectors import VectorSet

_AT_ONCE = 10_000


@dataclass(frozen=True)
class Prepared:
    """Claimed items that are ready to be embedded.

    Attributes:
        claims: of the items that `embed` gives vectors for.
        embed: makes their vectors, (len(claims), D) float32.
        failed: reason by item number, of those that cannot be embedded.
    """

    claims: list[Claim]
    embed: Callable[[], Vectors]
    failed: dict[int, str]

    def covering(self, claims: list[Claim]) -> Prepared:
        """With every claimed item: those that a vector source left out count as failed."""
        left = {claim.item for claim in claims} - {claim.item for claim in self.claims} - set(self.failed)
        return replace(self, failed={**self.failed, **dict.fromkeys(sorted(left), "no vector was supplied")})


class VectorSource(Protocol):
    """Where the vectors of claimed items come from."""

    def take(self, claims: list[Claim]) -> Prepared:
        """Read what these items need to be embedded; runs while the items before them are embedded."""
        ...


class FromImages:
    """Vectors that a model makes from images."""

    def __init__(self, embedder: ItemEmbedder) -> None:
        self.embedder = embedder

    def take(self, claims: list[Claim]) -> Prepared:
        """Read the images of these items."""
        loaded = self.embedder.images.load([claim.id for claim in claims], [claim.content for claim in claims])
        return Prepared(
            [claims[place] for place in loaded.places],
            lambda: self.embedder.vectors(loaded.pixels),
            {claims[place].item: reason for place, reason in loaded.missing.items()},
        )


class FromVectors:
    """Vectors of the space that were made elsewhere, by item id."""

    def __init__(self, vectors: VectorSet, space: Space, score: Score = "cosine") -> None:
        if not vectors.has_ids:
            raise InputError(f"{vectors.name} has no ids; a backfill finds vectors by item id")
        require_precision(space, vectors.space, vectors.name)
        self.vectors, self.space, self.score = vectors, space, score

    def items(self, reader: LedgerReader) -> Ints:
        """Numbers of the gallery's items that have a vector here, ascending."""
        numbers: list[int] = []
        for start in range(0, len(self.vectors), _AT_ONCE):
            known = reader.find(self.vectors.ids[start : start + _AT_ONCE].tolist())
            numbers += [item.number for item in known.values() if not item.deleted]
        return np.array(sorted(numbers), dtype=np.int64)

    def take(self, claims: list[Claim]) -> Prepared:
        """Look up the vectors of these items; those without one are left out."""
        rows = self.vectors.rows_of([claim.id for claim in claims])
        chosen = [claim for claim, row in zip(claims, rows, strict=True) if row >= 0]
        values = self.vectors.take(rows[rows >= 0])
        require_vectors(values, self.space, self.vectors.name, [claim.id for claim in chosen], score=self.score)
        return Prepared(chosen, lambda: values, {})


class Listed:
    """The items on the work list that a set of vectors can serve, in the order of the list."""

    def __init__(self, ledger: Ledger, generation: int, vector_source: FromVectors) -> None:
        self._ledger, self._generation, self._vector_source = ledger, generation, vector_source
        self._known: Ints | None = None
        self._ahead = np.empty(0, dtype=np.int64)

    def reload(self) -> bool:
        """Read the list again; whether anything is on it."""
        with self._ledger.read() as reader:
            if self._known is None:
                self._known = self._vector_source.items(reader)
            listed = reader.open_work(self._generation)
        self._ahead = listed[np.isin(listed, self._known)]
        return len(self._ahead) > 0

    def next(self, count: int) -> list[int]:
        """The next items; none once all were tried."""
        if self._known is None:
            self.reload()
        some, self._ahead = self._ahead[:count], self._ahead[count:]
        return [int(item) for item in some]
