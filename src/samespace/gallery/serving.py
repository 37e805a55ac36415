"""The rule of a mixed gallery: an item is served by the newest servable space that has its vector.

Servable are the space that queries use and those it came from by upgrades, without retired ones; the way back ends at a
behind upgrade, whose two spaces are never compared. Spaces are named by their generation, which rises from space to
space. The rule is here as arrays and as SQL, for SQLite and PostgreSQL; a test holds the two together. An item whose
vector was deleted, or that was rolled back with its space, falls back to the next older servable space, or is served by
none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Generations = npt.NDArray[np.int16]


def servable(query: int, upgrades: Iterable[tuple[int, int]], present: Container[int]) -> tuple[int, ...]:
    """The lineage of the query space: it and its ancestors, ascending.

    A space that was rolled back is no ancestor of the space that was tried after it.

    Args:
        query: generation that queries use.
        upgrades: (old, new) generation of each upgrade that was carried out and not rolled back, oldest first.
        present: generations that are not retired.

    Example:
        >>> servable(4, [(1, 2), (2, 4)], {1, 2, 3, 4})
        (1, 2, 4)
    """
    parents = {new: old for old, new in upgrades}
    lineage = [query]
    while lineage[-1] in parents:
        lineage.append(parents[lineage[-1]])
    return tuple(sorted(generation for generation in lineage if generation in present))


def newer(generation: int, servable: Sequence[int]) -> tuple[int, ...]:
    """The servable generations that come before this one: an item with a vector in any of them is served there."""
    return tuple(other for other in servable if other > generation)


def serving_generations(
    rows: Mapping[int, npt.NDArray[np.int64]], servable: Sequence[int], count: int
) -> npt.NDArray[np.int16]:
    """The generation that serves each item, 0 where none does.

    Args:
        rows: for each servable generation the vector row of each item, by item number; 0 where it has none.
        servable: generations, ascending.
        count: of item numbers; the length of each array.

    Example:
        >>> serving_generations({1: np.array([0, 7, 8]), 2: np.array([0, 0, 9])}, (1, 2), 3).tolist()
        [0, 1, 2]
    """
    newest = np.zeros(count, dtype=np.int16)
    for generation in servable:
        newest[rows[generation] > 0] = generation
    return newest


def has_vector_sql(generations: Iterable[int], item: str) -> str:
    """SQL that is true where an item, SQL such as `i.no`, has a vector in at least one of these generations."""
    return "(" + (" OR ".join(_has_vector(generation, item) for generation in generations) or "1 = 0") + ")"


def served_sql(generation: int, servable: Sequence[int]) -> str:
    """SQL that is true for a row `v` of `vector_<generation>` that serves its item: no newer space has a vector of it.

    Example:
        >>> served_sql(1, (1, 2))
        'NOT EXISTS (SELECT 1 FROM vector_2 w WHERE w.item = v.item)'
    """
    return " AND ".join(f"NOT {_has_vector(other, 'v.item')}" for other in newer(generation, servable)) or "1 = 1"


def _has_vector(generation: int, item: str) -> str:
    return f"EXISTS (SELECT 1 FROM vector_{generation} w WHERE w.item = {item})"
