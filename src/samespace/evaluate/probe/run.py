"""`probe`: how strong is the old model, and which way of upgrading fits?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import numpy as np

from samespace.errors import InputError, SpaceError
from samespace.evaluate.inputs import same_items
from samespace.evaluate.probe.near_copies import copies_of
from samespace.evaluate.probe.result import Probe, Strength
from samespace.evaluate.probe.split import Split, data_of, mates_of, rotation, split_classes
from samespace.evaluate.probe.ways import Measure, ways
from samespace.evaluate.spaces import described_space
from samespace.evaluate.templates import pool_sides
from samespace.evaluate.verdict import (
    FEW_IDENTITIES,
    Replicates,
    quota_of,
    replicate_deepened,
    require_options,
    tail_size,
)
from samespace.metrics._arrays import Ints, encode
from samespace.metrics.bootstrap import interval
from samespace.metrics.spread import spread
from samespace.scoring.mates import Mates
from samespace.scoring.metric_names import Metric, choose_metrics, parse_all
from samespace.scoring.scores import Scores, collect_scores
from samespace.scoring.sides import SideVectors
from samespace.vectors import VectorSet

METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")
NEAR_DUPLICATE = 0.99

_MOST_LEARNT = 50_000
# classes in the gallery of the recorded studies
_STUDIED = 527


def probe(
    old: VectorSet,
    new: VectorSet | None = None,
    *,
    metrics: Sequence[str] | None = None,
    held_out: float = 0.5,
    replicates: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Probe:
    """Measure the old model on held-out classes, the new one too if given, and say which way of upgrading fits.

    A share of the classes is held out, up to 20,000 items. Half the items of each (rounded down) are queries and half
    are searched; a fifth of these classes have queries only. On the other classes a rotation from old to new vectors is
    learnt, which says what a map learnt from vectors alone keeps. Give vectors of classes that neither model was
    trained on; others flatter. The rules in `samespace.evaluate.probe.ways` decide which way fits.

    Args:
        old: the old model's vectors, labelled.
        new: vectors of the same items by a new model trained without regard to the old one, matched by id where both
            have ids, by row otherwise.
        metrics: names such as `mAP` or `TAR@FAR=1e-4` beside rank@1, which is always measured; by default rank@1, mAP,
            TAR@FAR=1e-3 and TPIR@FPIR=1e-1 where the data supports them.
        held_out: share of the classes.
        replicates: bootstrap resamples, over classes.
        confidence: of the intervals.
        seed: of the split and the resamples.
        progress: called with (queries done, queries in all).

    Raises:
        InputError: labels are missing, there are too few classes of two items, the sets differ in their items, or an
            option is out of range.
        SpaceError: both sets declare the same space.
    """
    require_options(confidence, replicates=(replicates, 1))
    if not 0 < held_out <= 1:
        raise InputError(f"the held-out share of the classes should be above 0 and at most 1, got {held_out}")
    sets, pooling = pool_sides({"old vectors": old, "new vectors": new}, {})
    old, new = sets["old vectors"], sets.get("new vectors")
    codes, rows = _codes(old), _rows(old, new)
    split = split_classes(codes, held_out, seed)
    pairs, notes = _pairs(old, new, rows, split)
    mates = mates_of(codes, split)
    chosen, left_out = _choose(metrics, mates)
    count, size = len(split.queries), tail_size(quota_of(chosen, mates))
    tests = collect_scores(
        pairs,
        mates,
        size,
        sampled=True,
        progress=progress and (lambda done: progress(done, count)),
    )
    tests, draws = replicate_deepened(
        chosen, tests, pairs, size=size, replicates=replicates, seed=seed, block_size=None
    )
    models = {name: sides for name, sides in pairs.items() if name != "mapped"}
    strengths = {
        test: _strength(source, tests[test], chosen, draws, test, confidence)
        for test, source in (("old", old), ("new", new))
        if source is not None
    }
    lead, mapped = (
        _differences(chosen, tests, draws, test, confidence) if test in tests else None for test in ("new", "mapped")
    )
    return Probe(
        version=version("samespace"),
        seed=seed,
        replicates=replicates,
        confidence=confidence,
        data=data_of(codes, split),
        old=strengths["old"],
        new=strengths.get("new"),
        lead=lead,
        mapped=mapped,
        near_copies=copies_of(models, mates, witness=list(models)[-1]),
        ways=ways(old.name, strengths["old"].metrics["rank@1"].value, lead, mapped),
        notes=(*pooling, *notes, *left_out, *_cautions(split)),
    )


def _codes(old: VectorSet) -> Ints:
    if old.labels is None:
        raise InputError(f"{old.name} has no labels; a probe needs the class of every item")
    return encode(old.labels)[0]


def _rows(old: VectorSet, new: VectorSet | None) -> Ints | None:
    """The row in `new` of each item of `old`."""
    if new is None:
        return None
    if old.space is not None and old.space == new.space:
        raise SpaceError(f"{old.name} and {new.name} declare one space, {old.space}; give the vectors of a new model")
    return same_items(old, new, "old vectors", "new vectors")


def _pairs(
    old: VectorSet, new: VectorSet | None, rows: Ints | None, split: Split
) -> tuple[dict[str, tuple[SideVectors, SideVectors]], list[str]]:
    """Queries and gallery of each test: old, and where given new, and new on a rotated old gallery."""
    pairs = {"old": (SideVectors(old, split.queries), SideVectors(old, split.gallery))}
    if new is None or rows is None:
        return pairs, []
    queries = SideVectors(new, rows[split.queries])
    pairs["new"] = queries, SideVectors(new, rows[split.gallery])
    needed = max(old.dim, new.dim)
    if len(split.learn) < needed:
        return pairs, [
            f"No rotation was learnt: the other classes have {len(split.learn)} items, {needed} are needed for "
            f"{needed} dimensions; hold out a smaller share."
        ]
    learn = split.learn[:: -(-len(split.learn) // _MOST_LEARNT)]
    matrix, shift = rotation(
        SideVectors(old, learn).read(0, len(learn)), SideVectors(new, rows[learn]).read(0, len(learn))
    )
    turned = pairs["old"][1].read(0, len(split.gallery)) @ matrix + shift
    mapped = VectorSet.from_arrays(turned.astype(np.float32), name=f"{old.name}, rotated")
    pairs["mapped"] = queries, SideVectors(mapped, np.arange(len(mapped)))
    return pairs, []


def _choose(names: Sequence[str] | None, mates: Mates) -> tuple[list[Metric], list[str]]:
    """The metrics asked for, after rank@1; by default those of `METRICS` that the data supports."""
    if names is not None:
        return choose_metrics(list(dict.fromkeys(["rank@1", *(metric.name for metric in parse_all(names))])), mates)
    metrics, notes = [], []
    for name in METRICS:
        try:
            chosen, cautions = choose_metrics([name], mates)
        except InputError as error:
            notes.append(f"Not measured: {error}.")
        else:
            metrics.extend(chosen)
            notes.extend(cautions)
    return metrics, notes


def _strength(
    source: VectorSet, scores: Scores, chosen: list[Metric], draws: Replicates, test: str, confidence: float
) -> Strength:
    best = np.maximum(scores.matches.mate, scores.matches.other)
    return Strength(
        space=described_space(source),
        metrics={
            metric.name: Measure(metric.value(scores), interval(draws[metric.name, test], confidence))
            for metric in chosen
        },
        genuine=spread(scores.genuine),
        impostor=spread(scores.sample),
        near_duplicates=float(np.mean(best >= NEAR_DUPLICATE)),
    )


def _differences(
    chosen: list[Metric], tests: Mapping[str, Scores], draws: Replicates, test: str, confidence: float
) -> dict[str, Measure]:
    return {
        metric.name: Measure(
            metric.value(tests[test]) - metric.value(tests["old"]),
            interval(draws[metric.name, test] - draws[metric.name, "old"], confidence),
        )
        for metric in chosen
    }


def _cautions(split: Split) -> list[str]:
    mated, notes = split.classes - split.unmated, []
    if mated < FEW_IDENTITIES:
        notes.append(
            f"Only {mated} held-out classes have gallery items: the intervals rest on few and may be too narrow."
        )
    if mated < _STUDIED // 2:
        notes.append(
            f"A model finds more at rank 1 among {mated} classes than among the {_STUDIED} of the recorded studies, by "
            "which 'weak' and 'strong' are meant: it may be weaker than it looks."
        )
    return notes
