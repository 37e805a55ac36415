"""All that the metrics need to know of a pair of models, gathered from blocks of scores in one pass for all pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from samespace.metrics._arrays import Floats, Ints
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import Precisions
from samespace.scoring.blocks import Blocks, ModelPairs, score_blocks
from samespace.scoring.mates import BlockMates, Mates
from samespace.scoring.tail import Tail, TailCollector
from samespace.threads import threads

_SAMPLE_PAIRS = 2_000_000

Observer = Callable[[int, Blocks, BlockMates], None]


@dataclass(frozen=True, eq=False)
class Scores:
    """All that the metrics need to know about one pair of models.

    Attributes:
        mates: who the queries and the gallery items are.
        matches: rank and score of each query's best mate, and its best non-mate.
        precision: of each query, over the full ranking and among as many items as it has mates.
        genuine: (P,) scores of pairs of one identity, grouped by query.
        tail: the largest impostor scores.
        sample: all impostor scores of evenly spaced queries, at most about two million, for plots.
    """

    mates: Mates
    matches: Matches
    precision: Precisions
    genuine: Floats
    tail: Tail
    sample: Floats

    @property
    def genuine_identity(self) -> Ints:
        """(P,) the identity of each genuine pair."""
        return np.repeat(self.mates.query_codes, self.mates.counts)


class Collector:
    """Gathers the `Scores` of one pair of models from its score blocks, whatever the block size."""

    def __init__(self, mates: Mates, tail_size: int, *, sampled: bool = False) -> None:
        count = len(mates.query_codes)
        self.mates = mates
        self.matches = Matches.unfilled(count)
        self.precision = Precisions.unfilled(count)
        self.tail = TailCollector(min(tail_size, mates.impostors))
        self.stride = max(1, -(-count * len(mates.gallery_codes) // _SAMPLE_PAIRS)) if sampled else 0
        self._genuine: list[Floats] = []
        self._sample: list[Floats] = []

    def add(self, start: int, scores: Floats, block: BlockMates) -> None:
        """Take the scores of queries from `start` on, (q, G) float32; the array is used up."""
        rows = slice(start, start + len(scores))
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
        others, highest = _others(scores, mates)
        best = mates[:, -1]
        self.matches.rank[rows] = np.where(np.isfinite(best), 1 + others[:, -1], 0)
        self.matches.mate[rows] = best
        self.matches.other[rows] = highest
        self.precision.fill(rows, mates, others)

    def finish(self) -> Scores:
        """What was gathered."""
        return Scores(
            mates=self.mates,
            matches=self.matches,
            precision=self.precision,
            genuine=np.concatenate(self._genuine),
            tail=self.tail.finish(self.mates),
            sample=np.concatenate(self._sample) if self._sample else np.zeros(0, dtype=np.float32),
        )


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
    tail_size: int,
    *,
    block_size: int | None = None,
    sampled: bool = False,
    observers: Sequence[Observer] = (),
    progress: Callable[[int], None] | None = None,
) -> dict[str, Scores]:
    """Score every pair of models in one pass over queries × gallery.

    `tail_size` of the largest impostor scores are kept, and where `sampled` those of evenly spaced queries, for plots.
    Observers are called with (first query, blocks by name, mates of the block) before the blocks are used up.
    """
    collectors = {name: Collector(mates, tail_size, sampled=sampled) for name in pairs}
    with ThreadPoolExecutor(threads(), "samespace-collect") as pool:
        for start, blocks in score_blocks(pairs, block_size):
            stop = start + len(next(iter(blocks.values())))
            block = mates.block(np.arange(start, stop))
            for observe in observers:
                observe(start, blocks, block)
            done = [pool.submit(one.add, start, blocks[name], block) for name, one in collectors.items()]
            for future in done:
                future.result()
            if progress is not None:
                progress(stop)
    return {name: collector.finish() for name, collector in collectors.items()}
