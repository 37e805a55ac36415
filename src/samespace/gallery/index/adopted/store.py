"""What a gallery asks of a store whose vectors it serves in place: an application's own table or collection.

The application writes there as it likes, and the ledger learns of it later. What holds all the same, in any store:

- Each item is answered once, by one space, whatever the application does meanwhile.
- A row that is gone is not answered. A row whose vector has changed is answered by that vector, never by one of a later
  space that was made before the change. A row that was added is answered by its vector. Exact searches promise this at
  once; approximate ones promise the first two at once, the third for rows among the nearest, and for all after `scan`.
- A rollback is one row of the ledger, and changes nothing in the application's store.
- Nothing is written there before `put`, and `put` writes nothing but vectors that are new to it.

Given up, against vectors that the ledger has itself: there is no checksum of them, an approximate search takes the
application's index as it is, and a search sees the application's rows as of the search, not of a revision. An exact
search scores float32 vectors in float64, as everywhere, to the same bits; half-precision ones after they were rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from samespace.errors import GalleryError
from samespace.gallery.index.base import Source, ids_of
from samespace.gallery.index.found import Neighbours
from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.state import Ints, Rows, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader
from samespace.gallery.ledger.transactions.writer import LedgerWriter


@dataclass(frozen=True)
class SeenRow:
    """A row of the application's, as a scan saw it.

    Attributes:
        id: its id as text.
        content: stands for its vector; another content is another vector.
        number: of its item, where the ledger has listed it.
        mark: what the store wants to know of it at the next scan.
    """

    id: str
    content: str
    number: int | None = None
    mark: str = ""


@dataclass(frozen=True)
class Differences:
    """Rows that may differ from what the ledger has listed: added, changed, and the item numbers of those gone."""

    added: tuple[SeenRow, ...] = ()
    changed: tuple[SeenRow, ...] = ()
    gone: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Asked:
    """What one search knows: the ledger as of its start, and the application's rows that the ledger has not listed.

    Attributes:
        reader: the ledger's transaction.
        state: as of it.
        where: conditions that items meet.
        unlisted: numbers of rows that the ledger has not listed, by key: negative, of this search only.
        names: ids of these by number, where they are not their keys.
        longest: length of the longest vector, once it was asked for.
    """

    reader: LedgerReader
    state: State
    where: Sequence[Condition] = ()
    unlisted: dict[str, int] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    longest: list[float] = field(default_factory=list)

    def number(self, key: str) -> int:
        """Of a row that the ledger has not listed."""
        return self.unlisted.setdefault(key, -1 - len(self.unlisted))

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number, listed or not."""
        keys = {number: key for key, number in self.unlisted.items()}
        listed = iter(ids_of(self.reader, items[items >= 0]))
        return [self.names.get(one, keys[one]) if one < 0 else next(listed) for one in items.tolist()]


class AdoptedStore(Protocol):
    """An application's own vectors, as those of one space of a gallery."""

    @property
    def name(self) -> str:
        """Of the table or collection, as its users know it."""
        ...

    def scan(self) -> Iterator[Differences]:
        """What the application did since the ledger listed its rows, some thousand rows at a time, all of it.

        A row may be told again, or be told as changed though its vector is the same; none is left out.
        """
        ...

    def note(self, writer: LedgerWriter, rows: Sequence[SeenRow], numbers: Ints) -> None:
        """Remember these rows, which the ledger lists now under these numbers, within its transaction."""
        ...

    def top(self, asked: Asked, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Neighbours]:
        """For each query the nearest rows that no newer space serves; arguments as of `base.Snapshot.top`.

        A row that the ledger has not listed is judged by the conditions of `asked`, and numbered there.
        """
        ...

    def get(self, reader: LedgerReader, items: Ints) -> Rows:
        """The vectors of these items as they are now, of those whose row is there."""
        ...

    def put(self, generation: int, items: Ints) -> int:
        """Copy vectors of a later space beside the application's own, each only if its row is still the same; how many.

        Only the release calls this, and only after the application's operator has seen what will be done.
        """
        ...


def store_of(source: Source) -> AdoptedStore | None:
    """The application's store that a gallery serves in place, by its source of snapshots; None where there is none."""
    return getattr(source, "adopted", None)


def require_store(source: Source, location: str) -> AdoptedStore:
    """The application's store that the gallery at a location serves in place.

    Raises:
        GalleryError: there is none.
    """
    store = store_of(source)
    if store is None:
        raise GalleryError(f"{location} has adopted no table: its items change by 'add' and 'remove' only")
    return store


def require_own_items(source: Source, location: str) -> None:
    """Refuse a change of items that are an application's rows.

    Raises:
        GalleryError: they are.
    """
    store = store_of(source)
    if store is not None:
        raise GalleryError(
            f"{location}: its items are the rows of {store.name}; add, change and delete them there, "
            "gallery.sync() lists what has changed"
        )
