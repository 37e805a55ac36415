"""How often searches return each item: counted in memory, written down now and then."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

from samespace.errors import GalleryError
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.search.search import Answer

_HITS_AT_ONCE = 10_000


class Traffic:
    """Counts hits. A search neither waits for counts to be written nor fails by them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._hits: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._writing: threading.Thread | None = None

    def count(self, answer: Answer) -> None:
        """Count the hits of an answer; many of them are written down in a thread of their own."""
        with self._counting:
            for hits in answer.hits:
                self._hits.update(hit.item for hit in hits)
            busy = self._writing is not None and self._writing.is_alive()
            if self._hits.total() < _HITS_AT_ONCE or busy:
                return
            self._writing = threading.Thread(target=self._write_quietly, daemon=True)
            self._writing.start()

    def write(self) -> None:
        """Write down what was counted since the last time.

        Raises:
            GalleryError: it cannot be written; the counts are kept for the next time.
        """
        with self._counting:
            hits, self._hits = self._hits, Counter()
        if not hits or self.ledger.read_only:
            return
        try:
            with self.ledger.claiming() as writer:
                known = writer.find(hits)
                writer.count_hits({item.number: hits[name] for name, item in known.items()})
        except GalleryError:
            with self._counting:
                self._hits.update(hits)
            raise

    def close(self) -> None:
        """Write down what is left, if it can be."""
        if self._writing is not None:
            self._writing.join()
        self._write_quietly()

    def _write_quietly(self) -> None:
        # counts are a help, not a promise; a full disk must keep a gallery neither from answering nor from closing
        with suppress(GalleryError):
            self.write()
