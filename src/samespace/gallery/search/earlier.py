"""Searches by queries of an earlier space, answered from its own lineage while an upgrade grants them grace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from samespace.errors import GalleryError, counted
from samespace.gallery.index.base import Advance, Source
from samespace.gallery.index.open import open_source_of
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.query_counts import QueryCount, add_counts
from samespace.gallery.ledger.state import State

_WRITE_SECONDS = 5.0
_COUNTING_SHARE = 0.05


class Earlier:
    """The other spaces of a gallery that are searched or indexed beside the one that queries use.

    Queries of each are counted in memory and written to the ledger within five seconds, without a new revision. Safe to
    use from several threads.
    """

    def __init__(self, ledger: Ledger, opened: Callable[[Ledger], Source] = open_source_of) -> None:
        self.ledger, self._opened = ledger, opened
        self._sources: dict[int, Source] = {}
        self._counts: dict[int, QueryCount] = {}
        self._hidden: dict[int, tuple[int, float, int]] = {}
        self._timer: threading.Timer | None = None
        self._due = False
        self._guard = threading.Lock()

    def source(self, generation: int) -> Source:
        """Snapshots of the gallery as queries of a generation may search it."""
        with self._guard:
            if generation not in self._sources:
                self._sources[generation] = self._opened(self.ledger.queried_by(generation))
            return self._sources[generation]

    def count(self, generation: int, queries: int) -> None:
        """Count queries of an earlier space that were answered."""
        with self._guard:
            before = self._counts.get(generation, QueryCount(0, 0.0))
            self._counts[generation] = QueryCount(before.queries + queries, time.time())
            if not self._due:
                self._due = True
                self._timer = threading.Timer(_WRITE_SECONDS, self._write_quietly)
                self._timer.daemon = True
                self._timer.start()

    def notes(self, state: State) -> tuple[str, ...]:
        """What searches by the query space of `state` do not find, if anything.

        Counted anew where the gallery has changed, but not so often that counting would take up searches.
        """
        generation, now = state.query, time.monotonic()
        revision, after, hidden = self._hidden.get(generation, (-1, 0.0, 0))
        if revision != state.revision and now >= after:
            with self.ledger.read() as reader:
                hidden = len(reader.unserved(state.servable))
            ended = time.monotonic()
            self._hidden[generation] = state.revision, ended + (ended - now) / _COUNTING_SHARE, hidden
        if not hidden:
            return ()
        items = counted(hidden, "item has", "items have")
        space = state.spaces[generation].space
        return (f"{items} vectors of other spaces alone: queries of {space} do not find them",)

    def write(self) -> None:
        """Write down what was counted since the last time.

        Raises:
            GalleryError: it cannot be written; the counts are kept for the next time.
        """
        with self._guard:
            counts, self._counts, self._due = self._counts, {}, False
        if not counts or self.ledger.read_only:
            return
        try:
            with self.ledger.claiming() as writer:
                add_counts(writer, counts)
        except GalleryError:
            with self._guard:
                for generation, one in counts.items():
                    later = self._counts.get(generation, QueryCount(0, one.seen))
                    self._counts[generation] = replace(later, queries=later.queries + one.queries)
            raise

    def maintain(self, state: State, advance: Advance) -> None:
        """Bring the indexes of the spaces up to date that are filled, or searched by earlier queries."""
        others = [*state.graced, *([] if state.filling is None else [state.filling.new])]
        for generation in others:
            self.source(generation).maintain(advance)

    def close(self) -> None:
        """Write down what is left, if it can be, and let go of files and connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        self._write_quietly()
        for source in self._sources.values():
            source.close()

    def _write_quietly(self) -> None:
        # a full disk must keep a gallery neither from answering nor from closing
        with suppress(GalleryError):
            self.write()
