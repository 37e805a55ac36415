"""The protocol: which pairs are compared, in one blocked pass over queries × gallery for every pair of models.

Cosines are summed in float64, rounded to multiples of 2⁻³⁰ and kept in float32, so that scores which are equal by
definition tie whatever block they fall into, and results do not depend on how the work is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from samespace.evaluate.inputs import Trial
from samespace.evaluate.tail import Tail, TailCollector
from samespace.evaluate.vectors import UnitVectors
from samespace.metrics._arrays import Floats, Ints, Mask
from samespace.metrics.identification import Matches
from samespace.metrics.retrieval import average_precision, places

Blocks = dict[str, Floats]

_BLOCK_BYTES = 1 << 27
_PASS_BYTES = 1 << 30
_PASS_QUERIES = 64, 256
_SAMPLE_PAIRS = 2_000_000
_ROUNDER = 1.5 * 2.0**22


@dataclass(frozen=True, eq=False)
class Outcome:
    """All that the metrics need to know about one pair of models.

    Attributes:
        found: rank and score of each query's best mate, and its best non-mate.
        precision: (Q,) average precision; NaN without a mate.
        genuine: (P,) scores of pairs of one identity, grouped by query.
        genuine_identity: (P,) the identity of each.
        tail: the largest impostor scores.
        impostors: how many impostor pairs there are.
        sample: all impostor scores of evenly spaced queries, at most about two million, for plots.
    """

    found: Matches
    precision: Floats
    genuine: Floats
    genuine_identity: Ints
    tail: Tail
    impostors: int
    sample: Floats


@dataclass(frozen=True, eq=False)
class MateIndex:
    """Where the mates of a block of queries stand in the sorted gallery.

    Attributes:
        row: (P,) row in the block of each pair of one identity.
        place: (P,) place in the gallery.
        keep: (P,) false where the pair is an item with itself.
        slot: (P,) running number of the pair within its query.
    """

    row: Ints
    place: Ints
    keep: Mask
    slot: Ints

    @classmethod
    def of(cls, trial: Trial, start: int, stop: int) -> MateIndex:
        """The mates of queries `start` to `stop`."""
        return cls.of_rows(trial, np.arange(start, stop))

    @classmethod
    def of_rows(cls, trial: Trial, rows: Ints) -> MateIndex:
        """The mates of some queries."""
        first, last = (bound[rows] for bound in trial.mate_range())
        count = last - first
        row = np.repeat(np.arange(len(rows)), count)
        slot = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
        place = first[row] + slot
        return cls(row=row, place=place, keep=place != trial.self_place[rows][row], slot=slot)


Observer = Callable[[int, Blocks, MateIndex], None]


class Collector:
    """Gathers the `Outcome` of one pair of models from its score blocks, whatever the block size."""

    def __init__(self, trial: Trial, tail_size: int, *, sampled: bool = False) -> None:
        count = len(trial.query_codes)
        self.trial = trial
        self.rank = np.zeros(count, dtype=np.int64)
        self.mate = np.full(count, -np.inf, dtype=np.float32)
        self.other = np.full(count, -np.inf, dtype=np.float32)
        self.precision = np.full(count, np.nan)
        self.tail = TailCollector(min(tail_size, impostor_pairs(trial)))
        self.stride = max(1, -(-count * len(trial.gallery_codes) // _SAMPLE_PAIRS)) if sampled else 0
        self._genuine: list[Floats] = []
        self._sample: list[Floats] = []

    def add(self, start: int, scores: Floats, index: MateIndex) -> None:
        """Take the scores of queries from `start` on, (q, G) float32; the array is used up."""
        rows = slice(start, start + len(scores))
        kept = index.row[index.keep], index.slot[index.keep]
        genuine = scores[index.row, index.place][index.keep]
        scores[index.row, index.place] = -np.inf
        self._genuine.append(genuine)
        self.tail.add(scores, start)
        if self.stride:
            chosen = scores[(-start) % self.stride :: self.stride]
            self._sample.append(chosen[np.isfinite(chosen)])
        scores.sort(axis=1)
        mates = np.full((len(scores), max(1, int(index.slot.max(initial=-1)) + 1)), -np.inf, dtype=np.float32)
        mates[kept] = genuine
        mates.sort(axis=1)
        best = mates[:, -1]
        mated = np.isfinite(best)
        above = scores.shape[1] - places(scores, best[:, None])[:, 0]
        self.rank[rows] = np.where(mated, 1 + above, 0)
        self.mate[rows] = best
        self.other[rows] = scores[:, -1]
        self.precision[rows] = average_precision(mates, scores)

    def finish(self) -> Outcome:
        """What was gathered."""
        trial = self.trial
        total = impostor_pairs(trial)
        return Outcome(
            found=Matches(rank=self.rank, mate=self.mate, other=self.other),
            precision=self.precision,
            genuine=np.concatenate(self._genuine),
            genuine_identity=np.repeat(trial.query_codes, trial.mate_counts()),
            tail=self.tail.finish(trial.query_codes, trial.gallery_codes, total),
            impostors=total,
            sample=np.concatenate(self._sample) if self._sample else np.zeros(0, dtype=np.float32),
        )


def score_blocks(
    pairs: Mapping[str, tuple[UnitVectors, UnitVectors]], block_size: int | None = None
) -> Iterator[tuple[int, Blocks]]:
    """Cosine scores of each pair of models, a block of queries at a time against the whole gallery.

    A large gallery is read and normalised anew in every pass over it, so a pass scores many queries at once, which are
    then handed out in blocks: 256 where their scores fit 1 GB, fewer in larger galleries, but never below 64. At that
    minimum the scores take 64 × G × 4 bytes for each pair of models: 1.3 GB for five pairs on a million items.

    Args:
        pairs: query and gallery vectors by name; all share their numbers of queries and of gallery items.
        block_size: queries per block and per pass; by default as many per block as keep the work on it within about
            128 MB.

    Yields:
        (first query, {name: (q, G) float32}); the arrays are the caller's to use up.
    """
    queries, gallery = next(iter(pairs.values()))
    size = block_size or max(1, _BLOCK_BYTES // (4 * len(gallery) * (len(pairs) + 2)))
    least, most = _PASS_QUERIES
    at_once = max(least, min(most, _PASS_BYTES // (4 * len(gallery) * len(pairs))))
    step = block_size or max(size, at_once)
    for first in range(0, len(queries), step):
        scores = _scores(pairs, first, min(first + step, len(queries)))
        for start in range(0, min(step, len(queries) - first), size):
            yield first + start, {name: block[start : start + size] for name, block in scores.items()}
        del scores


def scan(
    trial: Trial,
    names: list[str],
    tail_size: int,
    *,
    block_size: int | None = None,
    sampled: bool = False,
    observers: Sequence[Observer] = (),
    progress: Callable[[int], None] | None = None,
) -> dict[str, Outcome]:
    """Run the named tests of a trial in one pass.

    Args:
        trial: the aligned inputs.
        names: which of its pairs.
        tail_size: how many of the largest impostor scores to keep.
        block_size: queries per block; see `score_blocks`.
        sampled: keep impostor scores of evenly spaced queries for plots.
        observers: called with (first query, blocks by name, mates of the block) before the blocks are used up.
        progress: called with the number of queries done after each block.
    """
    collectors = {name: Collector(trial, tail_size, sampled=sampled) for name in names}
    for start, blocks in score_blocks({name: trial.pairs[name] for name in names}, block_size):
        stop = start + len(blocks[names[0]])
        index = MateIndex.of(trial, start, stop)
        for observe in observers:
            observe(start, blocks, index)
        for name in names:
            collectors[name].add(start, blocks.pop(name), index)
        if progress is not None:
            progress(stop)
    return {name: collector.finish() for name, collector in collectors.items()}


def impostor_pairs(trial: Trial) -> int:
    """How many pairs of unlike identities there are."""
    first, last = trial.mate_range()
    return len(trial.query_codes) * len(trial.gallery_codes) - int((last - first).sum())


def _scores(pairs: Mapping[str, tuple[UnitVectors, UnitVectors]], start: int, stop: int) -> Blocks:
    """Scores of queries `start` to `stop` by name; a gallery that several pairs share is read once."""
    out = {name: torch.empty((stop - start, len(gallery))) for name, (_, gallery) in pairs.items()}
    for gallery in {id(gallery): gallery for _, gallery in pairs.values()}.values():
        left = {name: queries.read(start, stop) for name, (queries, other) in pairs.items() if other is gallery}
        for first, right in gallery.blocks():
            for name, vectors in left.items():
                # Adding 1.5 · 2²² leaves a float64 no digit below 2⁻³⁰.
                rounded = (vectors @ right.T).add_(_ROUNDER).sub_(_ROUNDER)
                out[name][:, first : first + len(right)] = rounded
    return {name: np.asarray(scores.numpy()) for name, scores in out.items()}
