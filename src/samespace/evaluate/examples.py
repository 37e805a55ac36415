"""Example queries: the best items of the gallery under the old and the new model, for queries drawn at random."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from samespace.evaluate.certificate import Example, Hit, Item, Kind
from samespace.evaluate.inputs import AlignedSets
from samespace.metrics._arrays import Floats, Ints
from samespace.scoring.blocks import score_blocks
from samespace.scoring.judged import best_places
from samespace.scoring.scores import Scores

_SHOWN = 5


def examples(aligned: AlignedSets, tests: Mapping[str, Scores], count: int, seed: int) -> tuple[Example, ...]:
    """Up to `count` mated queries, taken in turn from those an update fixes, breaks, leaves wrong and leaves right.

    Within a kind they are drawn at random from the seed. Each shows the best five items of the gallery under the
    old model, across models, and where there is a new gallery under the new one.
    """
    chosen = _choose(tests["old"].matches.rank, tests["cross"].matches.rank, count, seed)
    if not chosen:
        return ()
    rows = np.array([row for row, _ in chosen], dtype=np.int64)
    shown: list[str] = [name for name in ("old", "cross", "new") if name in aligned.pairs]
    pairs = {name: (aligned.pairs[name][0].subset(rows), aligned.pairs[name][1]) for name in shown}
    scores: dict[str, list[Floats]] = {name: [] for name in pairs}
    for _, blocks in score_blocks(pairs):
        for name, block in blocks.items():
            scores[name].append(block.copy())
    whole = {name: np.concatenate(parts) for name, parts in scores.items()}
    return tuple(
        Example(
            query=Item(str(aligned.queries.ids[row]), _plain(aligned.queries.labels, row)),
            kind=kind,
            **{name: _best(aligned, whole[name][place], row) for name in shown},
        )
        for place, (row, kind) in enumerate(chosen)
    )


def _choose(old: Ints, cross: Ints, count: int, seed: int) -> list[tuple[int, Kind]]:
    mated = old > 0
    before, after = old == 1, cross == 1
    masks = (~before & after, before & ~after, ~before & ~after, before & after)
    generator = np.random.default_rng(seed)
    queues = [generator.permutation(np.flatnonzero(mask & mated)) for mask in masks]
    taken = [0] * len(queues)
    while sum(taken) < count and any(done < len(queue) for done, queue in zip(taken, queues, strict=True)):
        for kind, queue in enumerate(queues):
            if taken[kind] < len(queue) and sum(taken) < count:
                taken[kind] += 1
    return [
        (int(row), name)
        for name, queue, done in zip(get_args(Kind), queues, taken, strict=True)
        for row in queue[:done]
    ]


def _best(aligned: AlignedSets, scores: Floats, row: int) -> tuple[Hit, ...]:
    scores = scores.copy()
    if aligned.mates.self_place[row] >= 0:
        scores[aligned.mates.self_place[row]] = -np.inf
    (best,) = best_places(scores[None], _SHOWN)
    return tuple(
        Hit(
            id=str(aligned.gallery.ids[aligned.gallery_order[place]]),
            label=_plain(aligned.gallery.labels, int(aligned.gallery_order[place])),
            score=float(scores[place]),
            mate=bool(aligned.mates.gallery_codes[place] == aligned.mates.query_codes[row]),
        )
        for place in best
        if np.isfinite(scores[place])
    )


def _plain(labels: Any, row: int) -> str | int:
    value: str | int = labels[row].item()
    return value
