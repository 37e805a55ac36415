"""Approximate search: a navigable graph (HNSW, Malkov and Yashunin, arXiv:1603.09320) over the rows of one space.

The graph only proposes rows, from vectors of 8 bits a dimension, or in float32 where their lengths count; scores come
from the segments in float64, as those of a scan do. It covers every row of its space up to one row number, whether the
row is served or not, so that neither an upgrade nor a rollback touches it; a bitmap tells which rows are served now.
Rows beyond that number are scanned.

One graph per space: a filter on a minority within a graph of all spaces loses half of the neighbours or more. For the
same reason the rows of a space that serve get a graph of their own where they are less than half.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from samespace.gallery.index.exact import Bools
from samespace.gallery.index.segments import Segment
from samespace.gallery.ledger.state import Ints, Vectors
from samespace.space import Score

_NEIGHBOURS = 16
# a graph of 1,000,000 x 256 in 4,000 clusters built with 40: 0.4 of the time, and no walk finds above 98 %
_BUILD_WIDTH = 100
# few rows lie far apart and are harder to find: of 6,000 from 4,000 clusters narrow walks found 97 % with the number
# above, 99 % with this one; they are quickly added
_FEW, _BUILD_WIDTH_OF_FEW = 20_000, 200
_WIDTH, _WIDE_FROM = 64, 250_000
# where lengths count graphs are harder to walk: with the numbers above a recall at 10 of 1.0 for cosines was 0.92 for
# L2 and 0.99 for inner products when lengths spread by 30 %, with these 0.99 and 0.998 (50,000 x 64, 2,000 clusters)
_NEIGHBOURS_BY_LENGTH, _BUILD_WIDTH_BY_LENGTH, _WIDTH_BY_LENGTH = 32, 200, 128
_ADDED_AT_ONCE = 8_192
_SAMPLE, _BEYOND, _MOST_OUTSIDE = 16_384, 0.1, 0.01


@dataclass(frozen=True, eq=False)
class Graph:
    """An approximate index of a space.

    Attributes:
        index: of FAISS.
        numbers: (N,) ledger row number of each row of the index, ascending.
        items: (N,) item numbers.
        name: of the files; empty where it is in memory only.
        file: that the index's vectors are mapped from; None where they are in memory.
        served: a graph of the rows alone that served items when it was made, where these were less than half.
    """

    index: Any
    numbers: Ints
    items: Ints
    name: str = ""
    file: Path | None = None
    served: Graph | None = None

    @cached_property
    def _bytes(self) -> int:
        return int(self.index.storage.sa_code_size())

    def both(self) -> list[Graph]:
        """Itself, and the one of served rows."""
        return [self] if self.served is None else [self, self.served]

    def cut_short(self) -> bool:
        """Whether the mapped file has lost its end, so that to read there would end the process (SIGBUS)."""
        try:
            return self.file is not None and os.stat(self.file).st_size < len(self.numbers) * self._bytes
        except FileNotFoundError:
            # what is mapped outlives its name
            return False

    def copied(self, score: Score) -> Any:
        """The index in memory alone, to add rows to that are searched by `score`."""
        faiss = faiss_module()
        index = faiss.clone_index(self.index)
        if self.file is None:
            return index
        mapped = faiss.downcast_index(self.index.storage)
        codes = faiss.rev_swig_ptr(mapped.codes.data(), mapped.ntotal * mapped.sa_code_size())
        if score == "cosine":
            # files of earlier versions are in half precision, and stay so
            storage = faiss.IndexScalarQuantizer(mapped.d, mapped.sq.qtype, mapped.metric_type)
            faiss.copy_array_to_vector(faiss.vector_to_array(mapped.sq.trained), storage.sq.trained)
            storage.is_trained = True
        else:
            storage = faiss.IndexFlat(mapped.d, mapped.metric_type)
        storage.add_sa_codes(codes.reshape(mapped.ntotal, -1))
        storage.this.disown()
        index.storage, index.own_fields = storage, True
        return index

    def beyond(self, segment: Segment) -> int:
        """The first row of a segment that the graph does not cover."""
        return int(np.searchsorted(segment.numbers, self.numbers[-1], side="right"))

    def fits(self, next_vector: int) -> bool:
        """Whether the ledger has given all its row numbers."""
        return bool(self.numbers[-1] < next_vector)


def available() -> bool:
    """Whether FAISS is installed."""
    try:
        faiss_module()
    except ImportError:
        return False
    return True


def few_rows(graph_from: int) -> int:
    """How many rows a space must have for a graph where others serve with it, and all together have `graph_from`."""
    return max(1, graph_from // 50)


def proposals(k: int, share: float = 1.0) -> int:
    """How many rows a walk of a share of the full width proposes for the `k` nearest."""
    return max(1, int(share * (2 * k + 10)))


def walked(
    graph: Graph, queries: Vectors, k: int, live: int, chosen: Any = None, *, among: int, share: float = 1.0
) -> tuple[Ints, Ints]:
    """Query and row, by place in the graph, of rows that may be among the `k` nearest.

    Args:
        graph: to walk.
        queries: (Q, D) float32.
        k: at least 1.
        live: how many rows may be found.
        chosen: which they are, see `selector`; all where None.
        among: of how many rows these are, for the width.
        share: of the width that a search of this space alone walks with, and of the rows that it proposes.
    """
    count = min(proposals(k), live)
    # rows that may not be found take up room in the walk, so it is made wider; the root kept recall above 0.99
    spread = (among / max(1, live)) ** 0.5
    # where rows crowd many are nearly as near: of those 1,000,000 a width of 64 found 99.3 %, one of 96 99.97 %
    least = _WIDTH * max(1.0, len(graph.numbers) / _WIDE_FROM) ** 0.3
    width = int(max(least, graph.index.hnsw.efSearch, 1.5 * count) * spread * share)
    count = min(proposals(k, share), live)
    faiss, queries = faiss_module(), np.ascontiguousarray(queries, dtype=np.float32)
    if queries.shape[1] != graph.index.d:
        raise ValueError(f"queries of {queries.shape[1]} dimensions for a graph of {graph.index.d}")
    scores = np.empty((len(queries), count), dtype=np.float32)
    labels = np.empty((len(queries), count), dtype=np.int64)
    # without the wrapper, which takes as long as a fifth of a walk
    graph.index.search_c(
        len(queries), faiss.swig_ptr(queries), count, faiss.swig_ptr(scores), faiss.swig_ptr(labels),
        _parameters(width, chosen),
    )  # fmt: skip
    query = np.repeat(np.arange(len(labels)), count)
    row = labels.ravel()
    return (query, row) if row.min() >= 0 else (query[row >= 0], row[row >= 0])


@lru_cache(maxsize=16)
def _parameters(width: int, chosen: Any) -> Any:
    """What FAISS takes for a walk: how wide, and which rows may be found."""
    options = {} if chosen is None else {"sel": chosen}
    return faiss_module().SearchParametersHNSW(efSearch=width, **options)


def selector(mask: Bools) -> Any:
    """What `walked` takes for the rows of a mask."""
    return faiss_module().IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def lacked(graph: Graph, rows: Sequence[tuple[Segment, Bools]]) -> int:
    """How many rows of segments with masks a graph does not cover."""
    return sum(int(np.count_nonzero(mask[graph.beyond(segment) :])) for segment, mask in rows)


def grown(
    old: Graph | None,
    segments: Sequence[tuple[Segment, Bools]],
    dim: int,
    advance: Callable[[int, int, int], None] = lambda more, done, rows: None,
) -> Graph:
    """A graph with the given rows of segments in it; `old` is copied and added to, where there is one.

    The segments with their masks are every current row of the space; `old` has all of them up to its highest row
    number, and perhaps dead ones. `advance` is called with how many rows were just added, are in, and will be.
    """
    last = 0 if old is None else int(old.numbers[-1])
    rows = [(segment, np.flatnonzero(mask & (segment.numbers > last))) for segment, mask in segments]
    numbers = np.concatenate([segment.numbers[places] for segment, places in rows])
    items = np.concatenate([segment.items[places] for segment, places in rows])
    source = np.repeat(np.arange(len(rows)), [len(places) for _, places in rows])
    place = np.concatenate([places for _, places in rows])
    order = np.argsort(numbers, kind="stable")

    def values(some: Ints) -> Vectors:
        block = np.empty((len(some), dim), dtype=np.float32)
        for which in np.unique(source[some]).tolist():
            mine = source[some] == which
            block[mine] = rows[which][0].values[place[some[mine]]]
        return block

    score, sample = segments[0][0].score, values(order[:: 1 + len(order) // _SAMPLE])
    if old is not None and _outside(old.index, sample) > _MOST_OUTSIDE:
        return grown(None, segments, dim, advance)
    index = _empty_index(dim, score, sample) if old is None else old.copied(score)
    total = index.ntotal + len(order)
    if score == "cosine":
        index.hnsw.efConstruction = _BUILD_WIDTH_OF_FEW if total <= _FEW else _BUILD_WIDTH
    advance(0, index.ntotal, total)
    for start in range(0, len(order), _ADDED_AT_ONCE):
        some = order[start : start + _ADDED_AT_ONCE]
        index.add(values(some))
        advance(len(some), index.ntotal, total)
    numbers, items = numbers[order], items[order]
    if old is not None:
        numbers, items = np.concatenate([old.numbers, numbers]), np.concatenate([old.items, items])
    return Graph(index, numbers, items)


def _outside(index: Any, sample: Vectors) -> float:
    """Which share of the numbers in some rows lies outside of what an index can hold."""
    faiss = faiss_module()
    quantizer = getattr(faiss.downcast_index(index.storage), "sq", None)
    ranges = np.empty(0) if quantizer is None else faiss.vector_to_array(quantizer.trained)
    if not len(ranges):
        return 0.0
    low, width = ranges.reshape(2, -1)
    return float(np.mean((sample < low) | (sample > low + width)))


def metric(score: Score) -> Any:
    """What FAISS compares by where searches go by a score."""
    return faiss_module().METRIC_L2 if score == "l2" else faiss_module().METRIC_INNER_PRODUCT


def _empty_index(dim: int, score: Score, sample: Vectors) -> Any:
    """An index for rows of which a sample is given: its dimensions' ranges are divided by 255."""
    faiss = faiss_module()
    if score == "cosine":
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, _NEIGHBOURS, metric(score))
        # rows to come may lie a little outside
        faiss.downcast_index(index.storage).sq.rangestat_arg = _BEYOND
    else:
        # fewer bits lose what distances between long vectors are made of
        index = faiss.IndexHNSWFlat(dim, _NEIGHBOURS_BY_LENGTH, metric(score))
        index.hnsw.efConstruction, index.hnsw.efSearch = _BUILD_WIDTH_BY_LENGTH, _WIDTH_BY_LENGTH
    index.train(sample)
    return index


def faiss_module() -> Any:
    """The module, imported where it is first used."""
    if sys.modules.get("faiss") is not None:
        return sys.modules["faiss"]
    with warnings.catch_warnings():
        # its SWIG wrappers give deprecation warnings that no user can act on
        warnings.simplefilter("ignore", DeprecationWarning)
        return importlib.import_module("faiss")
