"""What a search sees of a gallery: a snapshot as of one revision, whatever store the vectors come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from samespace.errors import GalleryError
from samespace.gallery.index.found import Found, Key, Neighbours
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.progress import silent

QDRANT_FOLDER = "qdrant:"
"""What the address of a folder of Qdrant's client begins with."""
QDRANT_KEY = "QDRANT_API_KEY"
"""The environment variable that has the key of a Qdrant server that asks for one; a key is never stored."""
Coverage = dict[int, dict[str, int | str]]
Advance = Callable[[int, str], None]
"""Called with how many more vectors are done, and a note of what is going on."""


class Snapshot(Protocol):
    """A gallery as of one revision; nothing that is written later shows in it."""

    @property
    def state(self) -> State:
        """Spaces, permissions, calibrations."""
        ...

    @property
    def allowed(self) -> Ints | None:
        """Numbers of the items that meet the snapshot's conditions, ascending; None where it has no conditions."""
        ...

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        ...

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """For each query the `k` items with the highest score among those that the space of `generation` serves.

        Items that tie with the last one are all returned, so that whoever merges can break ties by id.

        Args:
            generation: of the space.
            queries: (Q, D) float32 of the space's dimension, at unit length where its score is the cosine.
            k: at least 1.
            allowed: item numbers to choose from; all where None.
            exact: look at every vector; otherwise an approximate index may be used where there is one.
        """
        ...

    def best(self, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
        """For each query the `k` items with the highest key among those that all spaces serve, and all that tie.

        Args:
            asked: the queries that the items of each generation are compared with, as of `top`; as many for each.
            k: at least 1.
            key: what items are sorted by.
            exact: see `top`.
        """
        ...

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        ...


class Source(Protocol):
    """Where snapshots come from; safe to use from several threads."""

    def snapshot(self, where: Sequence[Condition] = ()) -> AbstractContextManager[Snapshot]:
        """The gallery now, with every change that was acknowledged before the call; items meet all of `where`."""
        ...

    def maintain(self, advance: Advance = silent) -> None:
        """Bring indexes up to date, where the store keeps any beside the ledger; searches go on meanwhile.

        `advance` is called with how many more vectors are indexed, and a note that says how far the index of a space
        is; once with 0 where the store does not tell.
        """
        ...

    def coverage(self) -> Coverage:
        """Per servable generation, how many rows its index covers (`indexed`), how many it lacks (`lag`), and `kind`.

        Rows that are searched exactly, and need no index as they are few, count as covered.
        """
        ...

    def damaged(self) -> dict[int, list[str]]:
        """Names of index files that are not what was written, per generation; every byte is read."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


def ids_of(reader: LedgerReader, items: Ints) -> list[str]:
    """Ids of items by number."""
    known = reader.ids(items)
    if len(known) < len(np.unique(items)):
        gone = next(number for number in items.tolist() if number not in known)
        raise GalleryError(
            f"the gallery's database has a vector of an item {gone} that it does not have: it is damaged or was "
            "altered; run gallery.doctor()"
        )
    return [known[number] for number in items.tolist()]


def best_of_each(snapshot: Snapshot, asked: Mapping[int, Vectors], k: int, key: Key, *, exact: bool) -> Found:
    """`Snapshot.best` of a store that is searched space by space."""
    lists = {
        generation: snapshot.top(generation, queries, k, allowed=snapshot.allowed, exact=exact)
        for generation, queries in asked.items()
    }
    found = Found.listed(lists, key)
    return found.take(found.best(k))
