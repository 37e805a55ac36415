"""What one search sees: spaces, leaves, calibrations and vectors as of one moment, whatever store they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from samespace.gallery.ledger.filters import Condition
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.progress import silent

Float64s = npt.NDArray[np.float64]
News = Callable[[int, str], None]
"""Called with how many more vectors are done, and what is going on, in words."""


@dataclass(frozen=True, eq=False)
class Found:
    """The nearest items of one query in one space, best first.

    Attributes:
        items: (n,) item numbers.
        raw: (n,) cosines, float64; the same vectors give the same bits, whatever lies beside them.
    """

    items: Ints
    raw: Float64s


class Snapshot(Protocol):
    """A gallery at one moment."""

    @property
    def state(self) -> State:
        """Spaces, leaves, calibrations."""
        ...

    def generations(self) -> list[int]:
        """Spaces that serve at least one item, ascending."""
        ...

    def allowed(self, where: Sequence[Condition]) -> Ints:
        """Numbers of the items that meet every condition, ascending, as of this moment."""
        ...

    def top(self, generation: int, queries: Vectors, k: int, *, allowed: Ints | None, exact: bool) -> list[Found]:
        """For each query the `k` items with the highest cosine among those that the space of `generation` serves.

        Items that tie with the last one are all returned, so that whoever merges can break ties by id.

        Args:
            generation: of the space.
            queries: (Q, D) float32 unit vectors of the space's dimension.
            k: at least 1.
            allowed: item numbers to choose from; all where None.
            exact: look at every vector; otherwise an approximate index may be used where there is one.
        """
        ...

    def ids(self, items: Ints) -> list[str]:
        """Ids of items by number."""
        ...


class Source(Protocol):
    """Where snapshots come from; safe to use from several threads."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """The gallery now: every change that was acknowledged before the call is in it, whoever made it."""
        ...

    def maintain(self, advance: News = silent) -> None:
        """Bring indexes up to date, where the store keeps any beside the ledger; searches go on meanwhile.

        Args:
            advance: called with how many more vectors are indexed, and a note that says how far the index of a space
                is; once with 0 where the store does not tell.
        """
        ...

    def coverage(self) -> dict[int, dict[str, int | str]]:
        """Per servable generation, how many rows its index covers (`indexed`), how many it lacks (`lag`), and `kind`.

        Rows that are searched exactly, and need no index as they are few, count as covered.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...
