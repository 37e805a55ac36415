"""Blocks of scores: queries × gallery of several pairs of models in float64, or one table of float32 scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from samespace.errors import InputError
from samespace.metrics._arrays import Floats
from samespace.scoring.grid import TABLE_DIGITS, Doubles
from samespace.scoring.score import score_table
from samespace.scoring.sides import SideVectors
from samespace.space import Score
from samespace.threads import in_order, threads

Blocks = dict[str, Floats]
Units = npt.NDArray[np.float32]
ModelPairs = Mapping[str, tuple[SideVectors, SideVectors]]

MEMORY = 1 << 30
_BLOCK_BYTES = 1 << 27
_PASS_BYTES = 1 << 30
_PASS_QUERIES = 64, 256
_TILE_ROWS, _TILE_COLUMNS, _TILE_SCORES = 4096, 1024, 1 << 26


def score_blocks(pairs: ModelPairs, block_size: int | None = None) -> Iterator[tuple[int, Blocks]]:
    """Scores of each pair of models, a block of queries at a time against the whole gallery.

    A large gallery is read and normalised anew in every pass over it, so a pass scores many queries at once, which are
    then handed out in blocks: 256 where their scores fit 1 GB, fewer in larger galleries, but never below 64. At that
    minimum the scores take 64 × G × 4 bytes for each pair of models: 1.3 GB for five pairs on a million items.

    Args:
        pairs: query and gallery vectors by name; all share their numbers of queries and of gallery items.
        block_size: queries per block and per pass; by default as many per block as keep the work on it within about
            128 MB.

    Yields:
        (first query, {name: (q, G) float32}), summed in float64; the arrays are the caller's to use up.
    """
    _, gallery = next(iter(pairs.values()))
    with ThreadPoolExecutor(threads(), "samespace-scores") as pool:
        for blocks in query_blocks(pairs, block_size):
            first, stop = blocks[0].start, blocks[-1].stop
            out = {name: np.empty((stop - first, len(gallery)), np.float32) for name in pairs}
            _fill(out, pairs, first, stop, pool)
            for rows in blocks:
                yield rows.start, {name: block[rows.start - first : rows.stop - first] for name, block in out.items()}


def query_blocks(pairs: ModelPairs, block_size: int | None = None) -> Iterator[list[slice]]:
    """The blocks of queries of each pass of `score_blocks`."""
    queries, gallery = next(iter(pairs.values()))
    size = block_size or max(1, _BLOCK_BYTES // (4 * len(gallery) * (len(pairs) + 2)))
    least, most = _PASS_QUERIES
    at_once = max(least, min(most, _PASS_BYTES // (4 * len(gallery) * len(pairs))))
    step = block_size or max(size, at_once)
    for first in range(0, len(queries), step):
        stop = min(first + step, len(queries))
        yield [slice(start, min(start + size, stop)) for start in range(first, stop, size)]


def _fill(out: Blocks, pairs: ModelPairs, start: int, stop: int, pool: ThreadPoolExecutor) -> None:
    """Write the scores of queries `start` to `stop`; a gallery that several pairs share is read once."""
    for gallery in {id(gallery): gallery for _, gallery in pairs.values()}.values():
        left = {name: queries.read(start, stop) for name, (queries, other) in pairs.items() if other is gallery}
        longest = None if gallery.score == "cosine" else gallery.longest

        def score(
            block: tuple[int, Doubles],
            left: Mapping[str, Doubles] = left,
            kind: Score = gallery.score,
            longest: float | None = longest,
        ) -> None:
            first, right = block
            for name, vectors in left.items():
                part = out[name][: stop - start, first : first + len(right)]
                score_table(vectors, right, kind, longest=longest, out=part)

        for _ in in_order(score, gallery.blocks(), pool, threads()):
            pass


def table_blocks(rows: Units, columns: Units, *, memory: int = MEMORY) -> Iterator[tuple[int, Units]]:
    """Cosine of all `rows` (R, D) with each of `columns` (C, D), some columns at a time.

    The products are float32, always cut into the same tiles whatever the memory, so that no score depends on it.
    At least one tile is made at a time, 256 MB or 64 columns, even where `memory` is less.

    Vectors are float32 of length one, or zero.

    Yields:
        (first column, (R, c) float32 multiples of 2⁻²⁰); the array is the caller's to use up.
    """
    # torch shares the work on a tile out over threads
    import torch

    require_table(rows, columns, memory)
    tile, step = _tile_columns(len(rows)), block_columns(len(rows), memory)
    left, rounder = torch.from_numpy(np.ascontiguousarray(rows)), 1.5 * 2.0 ** (23 - TABLE_DIGITS)
    buffer = torch.empty(tile * min(len(rows), _TILE_ROWS))
    for first in range(0, len(columns), step):
        width = min(step, len(columns) - first)
        block = torch.empty((len(rows), width))
        for start in range(0, width, tile):
            stop = min(start + tile, width)
            right = torch.from_numpy(np.ascontiguousarray(columns[first + start : first + stop])).T
            for row in range(0, len(rows), _TILE_ROWS):
                part = left[row : row + _TILE_ROWS]
                product = buffer[: len(part) * (stop - start)].view(len(part), stop - start)
                torch.mm(part, right, out=product)
                torch.sub(product.add_(rounder), rounder, out=block[row : row + _TILE_ROWS, start:stop])
        yield first, np.asarray(block.numpy())


def block_columns(rows: int, memory: int) -> int:
    """How many columns `table_blocks` makes at a time for so many rows."""
    tile = _tile_columns(rows)
    return max(1, memory // (4 * max(1, rows) * tile)) * tile


def require_table(left: Units, right: Units, memory: int) -> None:
    """Refuse vectors that cannot be scored against each other in float32, or no memory, by an InputError."""
    for side in (left, right):
        if side.ndim != 2 or side.dtype != np.float32:
            raise InputError(f"vectors to score should be (items, dims) float32, got {side.dtype} {side.shape}")
    if left.shape[1] != right.shape[1]:
        raise InputError(f"vectors to score should agree in dimension, got {left.shape[1]} and {right.shape[1]}")
    if memory < 1:
        raise InputError(f"memory should be at least 1 byte, got {memory}")


def _tile_columns(rows: int) -> int:
    return max(64, min(_TILE_COLUMNS, _TILE_SCORES // max(1, rows)))
