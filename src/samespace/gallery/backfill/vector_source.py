"""Where the vectors of a backfill come from: a model and images, or a set that was made elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from samespace.errors import InputError
from samespace.gallery.ingest.checks import require_vectors
from samespace.gallery.ingest.images import Encoder, Images, another_image
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.reader import LedgerReader
from samespace.gallery.ledger.state import Claim, Ints, Vectors
from samespace.space import Space
from samespace.vectors import VectorSet

_AT_ONCE = 10_000


@dataclass(frozen=True)
class Batch:
    """Images of claimed items, ready to be embedded."""

    claims: list[Claim]
    embed: Callable[[], Vectors]
    failed: dict[int, str]


class VectorSource(Protocol):
    """Where the vectors of claimed items come from."""

    def take(self, claims: list[Claim]) -> Batch:
        """Fetch what is needed for these items; runs beside the embedding of the batch before."""
        ...


class FromImages:
    """Vectors by a model from images.

    Args:
        encoder: the model.
        images: of the items, as the model takes them.
    """

    def __init__(self, encoder: Encoder, images: Images) -> None:
        self.encoder, self.images = encoder, images

    def take(self, claims: list[Claim]) -> Batch:
        """Read the images of these items."""
        loaded = self.images.load([claim.id for claim in claims])
        failed = {claims[place].item: reason for place, reason in loaded.missing.items()}
        kept = []
        for slot, (place, content) in enumerate(zip(loaded.places, loaded.contents, strict=True)):
            if another_image(claims[place].content, content):
                failed[claims[place].item] = "the image is not the one that was added; add the item again with update"
            else:
                kept.append(slot)
        pixels = loaded.pixels if len(kept) == len(loaded.places) else loaded.pixels[kept]
        chosen = [claims[loaded.places[slot]] for slot in kept]
        return Batch(chosen, lambda: self.encoder.vectors(pixels), failed)


class FromVectors:
    """Vectors that were made elsewhere.

    Args:
        vectors: a set of the space, by item id.
        space: of the vectors.
    """

    def __init__(self, vectors: VectorSet, space: Space) -> None:
        if not vectors.has_ids:
            raise InputError(f"{vectors.name} has no ids; a backfill finds vectors by item id")
        self.vectors, self.space = vectors, space
        self._order = np.argsort(vectors.ids, kind="stable")
        self._sorted = vectors.ids[self._order]

    def items(self, reader: LedgerReader) -> Ints:
        """Numbers of the gallery's items that have a vector here, ascending."""
        found: list[int] = []
        for start in range(0, len(self._sorted), _AT_ONCE):
            known = reader.find(self._sorted[start : start + _AT_ONCE].tolist())
            found += [item.number for item in known.values() if not item.deleted]
        return np.array(sorted(found), dtype=np.int64)

    def take(self, claims: list[Claim]) -> Batch:
        """Find the vectors of these items; those without one are left out."""
        wanted = np.asarray([claim.id for claim in claims], dtype=np.str_)
        place = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        found = self._sorted[place] == wanted
        values = self.vectors.take(self._order[place[found]])
        require_vectors(values, self.space, self.vectors.name, wanted[found])
        return Batch([claims[slot] for slot in np.flatnonzero(found)], lambda: values, {})


class Wanted:
    """The open items of which a set of vectors knows, in the order of the work list, so that no other is claimed."""

    def __init__(self, ledger: Ledger, generation: int, vector_source: FromVectors) -> None:
        self._ledger, self._rank, self._supply = ledger, generation, vector_source
        self._known: Ints | None = None
        self._ahead = np.empty(0, dtype=np.int64)

    def again(self) -> bool:
        """Look at the list anew; whether anything is on it."""
        with self._ledger.read() as reader:
            if self._known is None:
                self._known = self._supply.items(reader)
            listed = reader.open_work(self._rank)
        self._ahead = listed[np.isin(listed, self._known)]
        return len(self._ahead) > 0

    def next(self, count: int) -> list[int]:
        """The next items; none when all were tried."""
        if self._known is None:
            self.again()
        some, self._ahead = self._ahead[:count], self._ahead[count:]
        return [int(item) for item in some]


def accounted(claims: list[Claim], batch: Batch) -> Batch:
    """A batch in which every claimed item has its place: what a vector source left out counts as failed."""
    left = {claim.item for claim in claims} - {claim.item for claim in batch.claims} - set(batch.failed)
    return replace(batch, failed={**batch.failed, **dict.fromkeys(sorted(left), "no vector was supplied")})
