"""All that the metrics need to know of a pair of models, gathered from blocks of scores in one pass for all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import Precisions
from samespace.scoring.blocks import Blocks, ModelPairs, query_blocks, score_blocks
from samespace.scoring.found import Found
from samespace.scoring.mates import BlockMates, Mates
from samespace.scoring.strict_criterion import StrictCounter
from samespace.scoring.tail import Tail, TailCollector
from samespace.scoring.tiles.counted_tail import CountedTail
from samespace.scoring.tiles.mixed import MIXED_OF
from samespace.scoring.tiles.scan import Watch, scan
from samespace.threads import threads

if TYPE_CHECKING:
    import torch

_SAMPLE_PAIRS = 2_000_000
_LARGE, _FEWEST_OTHERS = 1 << 26, 64

Observer = Callable[[int, Blocks, BlockMates], None]


class RowWatch(Watch, Protocol):
    """A `Watch` that takes whole rows as well; `left` are the queries (n,) of which it needs them after a scan."""

    left: Ints

    def rows(self, rows: Ints, blocks: Blocks, block: BlockMates) -> None:
        """Take whole rows (q, G) of some queries (q,), by name, with their mates."""


@dataclass(frozen=True, eq=False)
class Scores:
    """All that the metrics need to know about one pair of models.

    Attributes:
        mates: who the queries and the gallery items are.
        matches: rank and score of each query's best mate, and its best non-mate.
        precision: of each query, over the full ranking and among as many items as it has mates.
        genuine: (P,) scores of pairs of one identity, grouped by query.
        tail: the largest impostor scores, or where there are too many to keep, how many there are of each.
        sample: all impostor scores of evenly spaced queries, at most about two million, for plots.
    """

    mates: Mates
    matches: Matches
    precision: Precisions
    genuine: Floats
    tail: Tail | CountedTail
    sample: Floats

    @property
    def genuine_identity(self) -> Ints:
        """(P,) the identity of each genuine pair."""
        return np.repeat(self.mates.query_codes, self.mates.counts)


class Collector:
    """Gathers the `Scores` of one pair of models from its score blocks, whatever the block size."""

    def __init__(self, mates: Mates, tail_size: int, *, sampled: bool = False) -> None:
        self.mates = mates
        self.found = Found.nothing(len(mates.query_codes))
        self.tail = TailCollector(min(tail_size, mates.impostors))
        self.stride = sample_stride(mates) if sampled else 0
        self._genuine: list[Floats] = []
        self._sample: list[Floats] = []

    def add(self, start: int, scores: Floats, block: BlockMates) -> None:
        """Take the scores of queries from `start` on, (q, G) float32; the array is used up."""
        genuine = scores[block.row, block.place][block.keep]
        scores[block.row, block.place] = -np.inf
        self._genuine.append(genuine)
        self.tail.add(scores, start)
        if self.stride:
            chosen = scores[(-start) % self.stride :: self.stride]
            self._sample.append(chosen[np.isfinite(chosen)])
        mates = np.full((len(scores), block.width), -np.inf, dtype=np.float32)
        mates[block.row[block.keep], block.slot[block.keep]] = genuine
        mates.sort(axis=1)
        self.found.fill(slice(start, start + len(scores)), mates, *_others(scores, mates))

    def finish(self) -> Scores:
        """What was gathered."""
        return Scores(
            mates=self.mates,
            matches=self.found.matches,
            precision=self.found.precision,
            genuine=np.concatenate(self._genuine),
            tail=self.tail.finish(self.mates),
            sample=np.concatenate(self._sample) if self._sample else np.zeros(0, dtype=np.float32),
        )


def sample_stride(mates: Mates) -> int:
    """Of how many queries one gives its impostor scores to the sample."""
    return max(1, -(-len(mates.query_codes) * len(mates.gallery_codes) // _SAMPLE_PAIRS))


def _others(scores: Floats, mates: Floats) -> tuple[Ints, Floats]:
    """How many scores of its row (q, G) are at or above each mate (q, M) ascending, and the highest of the row, (q,).

    Only the scores at or above the weakest mate are sorted. Mates that are −inf, which are none, count all.
    """
    others = np.full(mates.shape, scores.shape[1], dtype=np.int64)
    highest = scores.max(axis=1)
    for row, (line, mine) in enumerate(zip(scores, mates, strict=True)):
        real = mine[mine.searchsorted(-np.inf, side="right") :]
        if len(real):
            met = line[line >= real[0]]
            met.sort()
            others[row, len(mine) - len(real) :] = len(met) - met.searchsorted(real)
    return others, highest


def collect_scores(
    pairs: ModelPairs,
    mates: Mates,
    tail_size: int | Mapping[str, int],
    *,
    block_size: int | None = None,
    sampled: bool = False,
    counted: bool = False,
    mixed: Mapping[str, Mask] | None = None,
    watch: RowWatch | None = None,
    device: torch.device | None = None,
    strict: StrictCounter | None = None,
    observers: Sequence[Observer] = (),
    progress: Callable[[int], None] | None = None,
) -> dict[str, Scores]:
    """Score every pair of models in one pass over queries × gallery.

    Large searches are scored tile by tile (`scoring.tiles`), others and those with observers in whole rows: the results
    are the same.

    Args:
        pairs: query and gallery vectors by name.
        mates: who they are.
        tail_size: how many of the largest impostor scores to keep, of each pair of models or by its name.
        block_size: queries per block of scores; as in `score_blocks`.
        sampled: whether to keep the impostor scores of evenly spaced queries, for plots.
        counted: whether tails are too long to keep: they are counted where the search is scored tile by tile.
        mixed: which items (G,) of a gallery that is partly re-embedded are scored as by `new`, the others as by
            `cross`; by names of their own, under which the result has their scores.
        watch: an observer of `cross` and `new` that sees tiles as well, and whole rows only of the queries it asks for.
        device: where products of tiles are made, if not by NumPy.
        strict: counts `old` and `cross`.
        observers: called with (first query, blocks by name, mates of the block) before the blocks are used up.
        progress: called with the queries done.
    """
    mixed = mixed or {}
    sizes = {name: tail_size[name] if isinstance(tail_size, Mapping) else tail_size for name in (*pairs, *mixed)}
    if not observers and is_large(mates):
        return _collect_by_tiles(
            pairs, mates, sizes, block_size, sampled, counted, mixed, watch, device, strict, progress
        )
    collectors = {name: Collector(mates, size, sampled=sampled and name in pairs) for name, size in sizes.items()}
    with ThreadPoolExecutor(threads(), "samespace-collect") as pool:
        for start, blocks in score_blocks(pairs, block_size):
            stop = start + len(next(iter(blocks.values())))
            block = mates.block(np.arange(start, stop))
            if strict is not None:
                strict(start, blocks, block)
            for observe in observers:
                observe(start, blocks, block)
            if watch is not None:
                watch.rows(np.arange(start, stop), blocks, block)
            for name, replaced in mixed.items():
                blocks[name] = np.where(replaced, blocks["new"], blocks["cross"])
            done = [pool.submit(one.add, start, blocks[name], block) for name, one in collectors.items()]
            for future in done:
                future.result()
            if progress is not None:
                progress(stop)
    return {name: collector.finish() for name, collector in collectors.items()}


def is_large(mates: Mates) -> bool:
    """Whether a search is worth scoring tile by tile: many pairs, and few of them mates."""
    pairs = len(mates.query_codes) * len(mates.gallery_codes)
    return pairs >= _LARGE and int(mates.counts.sum()) * _FEWEST_OTHERS <= pairs


def _collect_by_tiles(
    pairs: ModelPairs,
    mates: Mates,
    sizes: Mapping[str, int],
    block_size: int | None,
    sampled: bool,
    counted: bool,
    mixed: Mapping[str, Mask],
    watch: RowWatch | None,
    device: torch.device | None,
    strict: StrictCounter | None,
    progress: Callable[[int], None] | None,
) -> dict[str, Scores]:
    blocks = [rows for some in query_blocks(pairs, block_size) for rows in some]
    compared = ("old", "cross") if strict else None
    found = scan(
        pairs,
        mates,
        sizes,
        blocks,
        compared=compared,
        counted=counted,
        mixed=mixed,
        watch=watch,
        device=device,
        progress=progress,
    )
    if strict is not None:
        strict.add(found.gathered["old"].genuine, found.gathered["cross"].genuine, found.lowered)
    if watch is not None and len(watch.left):
        some = {name: (pairs[name][0].subset(watch.left), pairs[name][1]) for name in MIXED_OF}
        for start, table in score_blocks(some, block_size):
            rows = watch.left[start : start + len(table["new"])]
            watch.rows(rows, table, mates.block(rows))
    samples = _samples(pairs, mates) if sampled else {}
    return {
        name: Scores(
            mates=mates,
            matches=one.found.matches,
            precision=one.found.precision,
            genuine=one.genuine,
            tail=one.tail,
            sample=samples.get(name, np.zeros(0, dtype=np.float32)),
        )
        for name, one in found.gathered.items()
    }


def _samples(pairs: ModelPairs, mates: Mates) -> dict[str, Floats]:
    """The impostor scores of evenly spaced queries."""
    rows = np.arange(0, len(mates.query_codes), sample_stride(mates))
    some = {name: (queries.subset(rows), gallery) for name, (queries, gallery) in pairs.items()}
    parts: dict[str, list[Floats]] = {name: [] for name in pairs}
    for start, blocks in score_blocks(some):
        for name, scores in blocks.items():
            block = mates.block(rows[start : start + len(scores)])
            scores[block.row, block.place] = -np.inf
            parts[name].append(scores[np.isfinite(scores)])
    return {name: np.concatenate(part) for name, part in parts.items()}
