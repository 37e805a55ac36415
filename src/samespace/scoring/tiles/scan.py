"""One pass over a large gallery: what the metrics need of every pair of models, without a table of scores.

Mates are scored first, exactly. Then all queries meet the gallery tile by tile, in float32; a score is computed anew,
exactly, where its error bound reaches a mate's score, the highest score of a query, the floor of the tail, or the score
of the same pair by another model. So every result is that of exact scores, and memory does not grow with the gallery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from threadpoolctl import threadpool_limits

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.scoring.blocks import ModelPairs
from samespace.scoring.found import Found
from samespace.scoring.mates import BlockMates, Mates
from samespace.scoring.score import single_error, vector_lengths
from samespace.scoring.sides import SideVectors
from samespace.scoring.tail import Tail, TailCollector
from samespace.scoring.tiles.counted_tail import CountedTail
from samespace.scoring.tiles.device import full_precision
from samespace.scoring.tiles.levels import Levels
from samespace.scoring.tiles.mixed import MIXED_OF, MixedTile
from samespace.scoring.tiles.pilot import Pilot
from samespace.scoring.tiles.score_counts import ScoreCounts
from samespace.scoring.tiles.strict import Counts, lowered
from samespace.scoring.tiles.tally import Reading, Tally
from samespace.scoring.tiles.tile import Tile, Vectors, Workspace, exact_pairs
from samespace.threads import in_order, threads

if TYPE_CHECKING:
    import torch

_TILE_QUERIES = 256
# items of a tile, at most; blocks of the gallery are read so
_TILE_ITEMS = 32_768
_FEWEST_ITEMS = 4096
_TILE_BYTES = 1 << 28
# where more lines than these are sorted, exactly, all are
_MOSTLY = 0.7
_PASS_BYTES = 1 << 28

Progress = Callable[[int], None]
Taker = TailCollector | ScoreCounts


class Watch(Protocol):
    """Sees every tile of a scan. Tiles are read by several threads, and what they show is added by one."""

    def begin(
        self,
        rows: slice,
        block: BlockMates,
        genuine: Mapping[str, Floats],
        errors: Mapping[str, Floats],
        few: Mapping[str, float],
    ) -> None:
        """A pass of the queries `rows` begins.

        `genuine` are the exact scores of their mates (P,) by name, `errors` the bounds on the error of a float32 score
        of each query, (q,) by name, and few impostors have scores above `few`.
        """

    def read(self, tiles: Mapping[str, Tile], rows: slice, first: int, mates: tuple[Ints, Ints]) -> Any:
        """What tiles show: of queries `rows` of the pass and items from `first` on, pairs of one identity `mates`."""

    def add(self, rows: slice, seen: Any) -> None:
        """Take what they show."""

    def end(self) -> None:
        """The pass has ended."""


@dataclass(frozen=True, eq=False)
class Gathered:
    """What one pair of models shows: of each query, of each pair of mates by query, and the impostor tail."""

    found: Found
    genuine: Floats
    tail: Tail | CountedTail


@dataclass(frozen=True, eq=False)
class Scan:
    """What all pairs of models show, and of `compared` two how many impostor scores are not higher, and lower."""

    gathered: dict[str, Gathered]
    lowered: Counts


def scan(
    pairs: ModelPairs,
    mates: Mates,
    tail_sizes: Mapping[str, int],
    blocks: Sequence[slice],
    *,
    compared: tuple[str, str] | None = None,
    counted: bool = False,
    mixed: Mapping[str, Mask] | None = None,
    watch: Watch | None = None,
    device: torch.device | None = None,
    progress: Progress | None = None,
) -> Scan:
    """Score every pair of models in one pass over queries × gallery.

    Args:
        pairs: query and gallery vectors by name.
        mates: who they are.
        tail_sizes: how many of the largest impostor scores to keep, by name.
        blocks: queries whose precision is summed together, in order; sums of floats depend on it in their last digit.
        compared: the names of an old and a new pair of models whose impostor scores to compare one by one.
        counted: whether tails are too long to keep, and are counted.
        mixed: by further names, which items (G,) are scored as by `new`, the others being scored as by `cross`.
        watch: sees every tile, too.
        device: where products of whole tiles are made, if not by NumPy.
        progress: called with the queries done.
    """
    mixed = mixed or {}
    pilot, slack = Pilot(pairs, mates), 1.0
    like = {name: (name,) for name in pairs} | dict.fromkeys(mixed, MIXED_OF)
    wanted = {name: min(size, mates.impostors) for name, size in tail_sizes.items()}
    while True:
        taker = ScoreCounts if counted else TailCollector
        tails: dict[str, Taker] = {
            name: taker(size, min(pilot.floor(one, size, slack) for one in like[name])) for name, size in wanted.items()
        }
        parts = [
            _Pass(pairs, mates, rows, pilot, tails, compared, mixed, watch, device).run(progress)
            for rows in _passes(pairs, len(mates.counts))
        ]
        if all(tail.seen >= wanted[name] for name, tail in tails.items()):
            break
        slack *= 8
    return Scan(
        {
            name: Gathered(
                found=_found(mates, [part.tallies[name] for part in parts], blocks),
                genuine=np.concatenate([part.genuine[name] for part in parts]),
                tail=_tail(tails.pop(name), pairs[like[name][0]], mates),
            )
            for name in like
        },
        (sum(part.lowered[0] for part in parts), sum(part.lowered[1] for part in parts)),
    )


def _passes(pairs: ModelPairs, count: int) -> Iterator[slice]:
    """Queries that are held at once."""
    # eight bytes of a value exactly, four in float32
    step = max(1, _PASS_BYTES // (12 * sum(queries.dim for queries, _ in pairs.values())))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


class _Pass:
    """Some queries, `rows`, against the whole gallery."""

    def __init__(
        self,
        pairs: ModelPairs,
        mates: Mates,
        rows: slice,
        pilot: Pilot,
        tails: Mapping[str, Taker],
        compared: tuple[str, str] | None,
        mixed: Mapping[str, Mask],
        watch: Watch | None,
        device: torch.device | None,
    ) -> None:
        self._pairs, self._mates, self._rows, self._compared = pairs, mates, rows, compared
        self._mixed, self._watch, self._device = mixed, watch, device
        self._queries = {
            name: Vectors.of(side.read(rows.start, rows.stop), device) for name, (side, _) in pairs.items()
        }
        self._galleries = {id(gallery): gallery for _, gallery in pairs.values()}
        self._longest = {key: _rounding_length(one) for key, one in self._galleries.items()}
        block = mates.block(np.arange(rows.start, rows.stop))
        self.genuine, lengths = self._mates_scored(block)
        self.lowered: Counts = 0, 0
        # of long tails so many scores are wanted exactly that all of a tile are made, beside those in float32
        exactly = sum(isinstance(tails[name], ScoreCounts) for name in pairs)
        self._workspace, self._items = Workspace(), _tile_items(len(pairs) + exactly + bool(mixed))
        self._errors = {
            name: single_error(
                vector_lengths(self._queries[name].exact), lengths[id(gallery)], gallery.dim, gallery.score
            )
            for name, (_, gallery) in pairs.items()
        }
        asked, place = block.row[block.keep], block.place[block.keep]
        few = {name: pilot.few(name) for name in pairs}
        for name, replaced in mixed.items():
            old, new = MIXED_OF
            self.genuine[name] = np.where(replaced[place], self.genuine[new], self.genuine[old])
            self._errors[name] = np.maximum(self._errors[old], self._errors[new])
            few[name] = max(few[old], few[new])
        if watch is not None:
            watch.begin(rows, block, self.genuine, self._errors, few)
        self.tallies = {
            name: Tally(Levels(asked, self.genuine[name], error, few[name]), error, tails[name], rows.start)
            for name, error in self._errors.items()
        }

    def run(self, progress: Progress | None) -> _Pass:
        """Read all tiles."""
        count = self._rows.stop - self._rows.start
        tiles = -(-len(next(iter(self._pairs.values()))[1]) // self._items) * -(-count // _TILE_QUERIES)
        # each thread makes its own products; threads within a product would wait for each other
        alone = threadpool_limits(1, user_api="blas")
        precisely = nullcontext() if self._device is None else full_precision()
        with alone, precisely, ThreadPoolExecutor(threads(), "samespace-tiles") as pool:
            for number, (rows, first, readings, fewer, seen) in enumerate(
                in_order(self._read, self._tiles(), pool, threads())
            ):
                for name, reading in readings.items():
                    self.tallies[name].add(rows, first, reading)
                if self._watch is not None:
                    self._watch.add(rows, seen)
                self.lowered = self.lowered[0] + fewer[0], self.lowered[1] + fewer[1]
                if progress is not None:
                    progress(self._rows.start + count * (number + 1) // tiles)
        # the results of all passes are kept to the end, and nothing that only a pass needs
        self._queries.clear()
        if self._watch is not None:
            self._watch.end()
        for tally in self.tallies.values():
            tally.levels.finish()
        return self

    def _tiles(self) -> Iterator[tuple[slice, int, dict[int, Vectors]]]:
        streams = (gallery.blocks(self._items) for gallery in self._galleries.values())
        for parts in zip(*streams, strict=True):
            items = {
                key: Vectors.of(values, self._device) for key, (_, values) in zip(self._galleries, parts, strict=True)
            }
            for start in range(0, self._rows.stop - self._rows.start, _TILE_QUERIES):
                stop = min(start + _TILE_QUERIES, self._rows.stop - self._rows.start)
                yield slice(start, stop), parts[0][0], items

    def _read(self, task: tuple[slice, int, dict[int, Vectors]]) -> tuple[slice, int, dict[str, Reading], Counts, Any]:
        rows, first, items = task
        absolute = slice(self._rows.start + rows.start, self._rows.start + rows.stop)
        listed = self._mates.listed(absolute, first, len(next(iter(items.values()))))
        tiles = {
            name: Tile(
                self._queries[name].part(rows),
                items[id(gallery)],
                gallery.score,
                self._longest[id(gallery)],
                self._workspace.array(name, (rows.stop - rows.start, len(items[id(gallery)]))),
                exactly=bool(self.tallies[name].levels.sorted[rows].mean() > _MOSTLY),
            )
            for name, (_, gallery) in self._pairs.items()
        }
        fewer: Counts = 0, 0
        if self._compared is not None:
            before, after = self._compared
            error = (self._errors[before] + self._errors[after])[rows]
            fewer = lowered(tiles[before], tiles[after], error, listed)
        seen = None if self._watch is None else self._watch.read(tiles, rows, first, listed)
        readings = {}
        for name, replaced in self._mixed.items():
            old, new = (tiles[one] for one in MIXED_OF)
            out = self._workspace.array("mixed", old.singles.shape)
            both = MixedTile(old, new, replaced[first : first + old.singles.shape[1]], out)
            readings[name] = self.tallies[name].read(both, rows, listed)
        # this uses up the scores
        readings |= {name: self.tallies[name].read(tile, rows, listed) for name, tile in tiles.items()}
        return rows, first, readings, fewer, seen

    def _mates_scored(self, block: BlockMates) -> tuple[dict[str, Floats], dict[int, float]]:
        """The exact score of every pair of mates, (P,) by name, and the length of each gallery's longest vector."""
        query, place = block.row[block.keep], block.place[block.keep]
        order = np.argsort(place, kind="stable")
        ordered = place[order]
        genuine = {name: np.empty(len(place), dtype=np.float32) for name in self._pairs}
        lengths = dict.fromkeys(self._galleries, 0.0)
        for key, gallery in self._galleries.items():
            for first, values in gallery.blocks(_TILE_ITEMS):
                lengths[key] = max(lengths[key], float(vector_lengths(values).max(initial=0.0)))
                some = order[slice(*ordered.searchsorted([first, first + len(values)]))]
                for name, (_, other) in self._pairs.items():
                    if other is gallery:
                        genuine[name][some] = exact_pairs(
                            self._queries[name].exact,
                            values,
                            query[some],
                            place[some] - first,
                            gallery.score,
                            self._longest[key],
                        )
        return genuine, lengths


def _tile_items(tables: int) -> int:
    """Items of a tile: the more, the less each score costs, as long as the tiles of all threads fit the memory."""
    fitting = _TILE_BYTES // (4 * _TILE_QUERIES * tables * threads())
    return min(_TILE_ITEMS, max(_FEWEST_ITEMS, fitting))


def _tail(taken: Taker, pair: tuple[SideVectors, SideVectors], mates: Mates) -> Tail | CountedTail:
    return CountedTail(taken, pair, mates) if isinstance(taken, ScoreCounts) else taken.finish(mates)


def _rounding_length(gallery: SideVectors) -> float | None:
    """The length that scores other than cosines are rounded by."""
    return None if gallery.score == "cosine" else gallery.longest


def _found(mates: Mates, tallies: Sequence[Tally], blocks: Sequence[slice]) -> Found:
    """What the queries find, put together from all passes."""
    found = Found.nothing(len(mates.query_codes))
    levels, others = (
        np.concatenate(parts)
        for parts in zip(*((tally.levels.exact, tally.levels.others) for tally in tallies), strict=True)
    )
    best = np.concatenate([tally.best for tally in tallies])
    ends = np.concatenate([[0], np.cumsum(mates.counts)])
    for rows in blocks:
        block = mates.block(np.arange(rows.start, rows.stop))
        count = mates.counts[rows]
        row = np.repeat(np.arange(len(count)), count)
        slot = block.width - np.repeat(np.cumsum(count), count) + np.arange(len(row))
        padded = np.full((len(count), block.width), -np.inf, dtype=np.float32)
        above = np.full(padded.shape, len(mates.gallery_codes), dtype=np.int64)
        part = slice(ends[rows.start], ends[rows.stop])
        padded[row, slot], above[row, slot] = levels[part], others[part]
        found.fill(rows, padded, above, best[rows])
    return found
