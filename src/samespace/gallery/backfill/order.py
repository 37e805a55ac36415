"""The order of a backfill: which items are worth embedding first."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from samespace import text
from samespace.errors import InputError, suggest
from samespace.gallery.ledger.ledger import Ledger
from samespace.gallery.ledger.state import Ints, State, Vectors
from samespace.gallery.ledger.transactions.reader import LedgerReader

Order = Literal["random", "centre", "distance", "traffic", "both"]
ORDERS: tuple[str, ...] = get_args(Order)
Priorities = npt.NDArray[np.float64]
Custom = Mapping[str, float] | Callable[[Sequence[str]], Sequence[float]]
"""The user's own order: a number for each id, the highest first; ids without one come last."""


def priorities(
    ledger: Ledger, state: State, items: Ints, order: Order | Custom, *, target: int | None = None, seed: int = 0
) -> Priorities:
    """How early each item should be embedded; the highest first.

    | order | priority |
    |---|---|
    | `random` | drawn from the seed |
    | `centre` | of each class or cluster the item next to its centre first, then the second of each, and so on |
    | `distance` | 1 − cosine of the stored vector to the centre of its class or, without labels, cluster |
    | `traffic` | how often searches returned the item |
    | `both` | (1 + traffic of the item's class) ÷ its turn by `centre`; without labels, traffic of the item |

    `items` are (N,) numbers, ascending; `target` is the space they are to be embedded for, by default the one that
    queries use. The ledger is read first, so that nothing is held open meanwhile.

    Raises:
        InputError: an unknown order, or values of the user's own that are not numbers.
    """
    if not isinstance(order, str):
        return _custom(ledger, items, order)
    if order not in ORDERS:
        raise InputError(f"there is no order '{order}'; {suggest(order, ORDERS)}, or a file of ids and priorities")
    if order == "random":
        return np.random.default_rng(seed).permutation(len(items)).astype(np.float64)
    tie = np.random.default_rng(seed).random(len(items)) / 2
    with ledger.read() as reader:
        seen, hits = reader.traffic()
    if order == "traffic":
        # ties, most of them items nobody has asked for, in random order rather than in the order they were added
        return np.asarray(_of_items(items, seen, hits) + tie)

    from samespace.prototypes.outliers import distance_to_centre, turn_in_class

    def value(owners: Ints, vectors: Vectors, names: list[str] | None) -> Priorities:
        if order == "distance":
            return distance_to_centre(vectors, names, seed=seed).astype(np.float64)
        turn = turn_in_class(vectors, names, seed=seed).astype(np.float64)
        return -turn if order == "centre" else (1 + _of_classes(owners, names, seen, hits)) / (1 + turn)

    known = [one for one in state.servable if one != (target or state.query)] or state.servable
    values = _by_centre(ledger, state, items, known, value)
    return values + tie if order == "centre" else values


def read_order(path: Path) -> dict[str, float]:
    """The user's own order from a file: JSON `{id: priority}`, or CSV lines `id,priority`, with or without a header.

    Raises:
        InputError: the file is missing or malformed.
    """
    what = "priorities: a CSV of id,priority or a JSON object"
    order: dict[str, float] = {}
    if path.suffix.lower() == ".json":
        given = text.read_object(path, what)
        return _require_some({name: _priority(value, name, path) for name, value in given.items()}, path)
    for place, (number, row) in enumerate(text.rows(path, what)):
        if len(row) != 2:
            raise InputError(f"{path}, line {number}: expected id,priority, got {len(row)} values")
        if place == 0 and not _is_number(row[1]):
            continue
        if row[0] in order:
            raise InputError(f"{path}, line {number}: the id '{row[0]}' comes twice")
        order[row[0]] = _priority(row[1], row[0], path)
    return _require_some(order, path)


def _require_some(order: dict[str, float], path: Path) -> dict[str, float]:
    if not order:
        raise InputError(f"{path} holds no priorities; expected id,priority lines")
    return order


def _priority(value: object, name: str, path: Path) -> float:
    if isinstance(value, bool) or not _is_number(value):
        raise InputError(f"{path}: the priority of '{name}' should be a finite number, got {json.dumps(value)}")
    return float(value)  # type: ignore[arg-type]


def _custom(ledger: Ledger, items: Ints, order: Custom) -> Priorities:
    with ledger.read() as reader:
        known = reader.items(items)
    ids = [known[number].id for number in items.tolist()]
    given = order(ids) if callable(order) else [order.get(name, -math.inf) for name in ids]
    values = np.asarray(given, dtype=np.float64)
    if values.shape != (len(ids),) or np.isnan(values).any():
        raise InputError(f"an order should give one number for each of {len(ids)} ids, got shape {values.shape}")
    # databases keep no infinities in common
    return np.nan_to_num(values, neginf=-1e300, posinf=1e300)


def _by_centre(
    ledger: Ledger,
    state: State,
    items: Ints,
    generations: Sequence[int],
    value: Callable[[Ints, Vectors, list[str] | None], Priorities],
) -> Priorities:
    """A value of each item's vector within its space, the last of these spaces that has one; else the lowest."""
    result = np.full(len(items), np.nan)
    for generation in reversed(generations):
        with ledger.read() as reader:
            numbers, labels = reader.labels()
            owners, vectors = _of_space(reader, generation, state.spaces[generation].space.dim)
        if not len(owners):
            continue
        place = np.minimum(np.searchsorted(owners, items), len(owners) - 1)
        here = np.isnan(result) & (owners[place] == items)
        if here.any():
            result[here] = value(owners, vectors, _labels_of(owners, numbers, labels))[place[here]]
    lowest = np.nanmin(result) if np.isfinite(result).any() else 0.0
    return np.where(np.isnan(result), lowest, result)


def _of_items(items: Ints, seen: Ints, hits: Ints) -> Priorities:
    """How often each item was returned."""
    counts = np.zeros(len(items))
    known = np.isin(items, seen)
    counts[known] = hits[np.searchsorted(seen, items[known])]
    return counts


def _of_classes(owners: Ints, names: list[str] | None, seen: Ints, hits: Ints) -> Priorities:
    """How often items of each item's class were returned."""
    counts = _of_items(owners, seen, hits)
    if names is None:
        return counts
    _, place = np.unique(np.asarray(names), return_inverse=True)
    return np.asarray(np.bincount(place, weights=counts)[place], dtype=np.float64)


def _of_space(reader: LedgerReader, generation: int, dim: int) -> tuple[Ints, npt.NDArray[np.float32]]:
    """Items, ascending, and vectors of a space; the vectors lie in a temporary file, not in memory."""
    count = reader.stored(generation)
    if not count:
        return np.empty(0, dtype=np.int64), np.empty((0, dim), dtype=np.float32)
    with tempfile.TemporaryFile() as file:
        values: npt.NDArray[np.float32] = np.memmap(file, dtype=np.float32, mode="w+", shape=(count, dim))
    owners, start = np.empty(count, dtype=np.int64), 0
    for rows in reader.batches(generation):
        stop = start + len(rows.items)
        owners[start:stop], values[start:stop] = rows.items, rows.values
        start = stop
    if (np.diff(owners) > 0).all():
        return owners, values
    order = np.argsort(owners)
    return owners[order], values[order]


def _labels_of(owners: Ints, numbers: Ints, labels: list[str | None]) -> list[str] | None:
    place = np.minimum(np.searchsorted(numbers, owners), len(numbers) - 1)
    names = [labels[spot] for spot in place.tolist()]
    return None if any(name is None for name in names) else [str(name) for name in names]


def _is_number(value: object) -> bool:
    try:
        return "_" not in str(value) and math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
