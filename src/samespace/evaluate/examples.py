"""Example queries: what the old and the new model find, chosen without a hand on the scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np

from samespace.evaluate.certificate import Example, Hit, Item, Kind
from samespace.evaluate.inputs import Trial
from samespace.evaluate.protocol import Outcome, score_blocks
from samespace.evaluate.vectors import Ints
from samespace.metrics._arrays import Floats

_SHOWN = 5


def examples(trial: Trial, outcomes: Mapping[str, Outcome], count: int, seed: int) -> tuple[Example, ...]:
    """Up to `count` mated queries, taken in turn from those an update fixes, breaks, leaves wrong and leaves right.

    Within a kind they are drawn at random from the seed. Each shows the best five items of the gallery under the
    old model, across models, and where there is a new gallery under the new one.
    """
    chosen = _choose(outcomes["old"].found.rank, outcomes["cross"].found.rank, count, seed)
    if not chosen:
        return ()
    rows = np.array([row for row, _ in chosen], dtype=np.int64)
    tests: list[str] = [name for name in ("old", "cross", "new") if name in trial.pairs]
    pairs = {name: (trial.pairs[name][0].subset(rows), trial.pairs[name][1]) for name in tests}
    scores: dict[str, list[Floats]] = {name: [] for name in pairs}
    for _, blocks in score_blocks(pairs):
        for name, block in blocks.items():
            scores[name].append(block)
    whole = {name: np.concatenate(parts) for name, parts in scores.items()}
    return tuple(
        Example(
            query=Item(str(trial.queries.ids[row]), _plain(trial.queries.labels, row)),
            kind=kind,
            **{name: _best(trial, whole[name][place], row) for name in tests},
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


def _best(trial: Trial, scores: Floats, row: int) -> tuple[Hit, ...]:
    scores = scores.copy()
    if trial.self_place[row] >= 0:
        scores[trial.self_place[row]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:_SHOWN]
    return tuple(
        Hit(
            id=str(trial.gallery.ids[trial.gallery_order[place]]),
            label=_plain(trial.gallery.labels, int(trial.gallery_order[place])),
            score=float(scores[place]),
            mate=bool(trial.gallery_codes[place] == trial.query_codes[row]),
        )
        for place in best
        if np.isfinite(scores[place])
    )


def _plain(labels: Any, row: int) -> str | int:
    value: str | int = labels[row].item()
    return value
