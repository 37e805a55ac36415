"""How fast a search gets better while its gallery is re-embedded: orders, merges and thresholds, on Omniglot.

SAMESPACE_DATA=PATH python benchmarks/gallery_accuracy.py --write docs/results/gallery-accuracy.md

Trains the main job (extended-class, UniBCT with refined prototypes) for each seed, unless `--out` holds it already.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from gallery_accuracy_page import Curve, Study, write_page
from samespace.data import allocate, holdout, open_source, part
from samespace.errors import InputError
from samespace.evaluate.sweep import SHARES
from samespace.files import write_text
from samespace.metrics import Calibration, average_precision, calibrate
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.prototypes import distance_to_centre, turn_in_class
from samespace.train import load_recipe, run
from samespace.vectors import VectorSet

RATES = (1e-2, 1e-3)
MERGES = ("logistic", "fmr", "raw")
GREEDY_STEPS = 10
SERVED = 10
REFINED = {"method": "unibct-refined", "warmup_epochs": 1, "refresh_epochs": [1, 3]}
Vectors = dict[str, tuple[VectorSet, VectorSet]]


@dataclass(frozen=True)
class Half:
    """The queries and items of half the test classes; the gallery lies class by class.

    Attributes:
        old: old queries on the old gallery, (Q, G) cosines; `cross` new on old, `new` new on new.
        genuine: (Q, G) bool.
        mated: (Q,) whether a query has mates.
        query_class: (Q,) class of each query.
        item_class: (G,) class of each item, from 0 in order.
        old_items: (G, D) old vectors; `new_items` the new ones.
    """

    old: np.ndarray
    cross: np.ndarray
    new: np.ndarray
    genuine: np.ndarray
    mated: np.ndarray
    query_class: np.ndarray
    item_class: np.ndarray
    old_items: np.ndarray
    new_items: np.ndarray

    def calibration(self, pair: str) -> Calibration:
        """The calibration of a pair, from all pairs of items of this half."""
        scores = getattr(self, pair)
        return calibrate(scores[self.genuine], scores[~self.genuine])


def train(data: Path, out: Path, seed: int, compatibility: Mapping[str, object] = REFINED) -> Vectors:
    """Queries and gallery of the evaluation alphabets by the old model and its compatible successor."""
    marks = np.load(data)["class_is_evaluation"]
    source = open_source(data, image_size=24)
    kept = holdout(source, seed=seed, open_set=0.2, queries_per_class=0.5, check_classes=np.flatnonzero(marks))
    allocation = allocate(source, "extended-class", seed=seed, holdout=kept)
    allocation.save(out / "allocation.json", source)
    vectors = {}
    for place, name in enumerate(("old", "new")):
        recipe = {
            "data": {"source": str(data), "allocation": str(out / "allocation.json"), "part": name},
            "model": {"backbone": "convnet16", "embedding_dim": 64, "batch_norm": True, "image_size": 24, "name": name},
            "head": {"margin": "arcface", "scale": 16.0, "margin_value": 0.2},
            "optim": {"epochs": 5, "batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine"},
            "augment": {"rotate": 10.0, "translate": 0.06, "scale": 0.1},
            "seed": 10 * seed + place,
        }
        if name == "new":
            recipe["compatibility"] = {**compatibility, "old_model": str(out / "old" / "model")}
        write_text(out / f"{name}.yaml", yaml.safe_dump(recipe, sort_keys=False))
        model = Embedder.load(run(load_recipe(out / f"{name}.yaml"), out / name, quiet=True).model)
        vectors[name] = (
            embed_to(model, part(source, allocation, "queries"), out / "vectors" / name / "queries"),
            embed_to(model, part(source, allocation, "gallery"), out / "vectors" / name / "gallery"),
        )
    return vectors


def halves(vectors: Vectors, seed: int) -> tuple[Half, Half]:
    """Split the test classes at random into two that share neither queries nor items."""
    queries, gallery = vectors["old"]
    assert queries.labels is not None
    assert gallery.labels is not None
    classes = np.unique(np.concatenate([queries.labels, gallery.labels]))
    chosen = np.random.default_rng(seed).permutation(len(classes)) < len(classes) // 2

    def half(side: bool) -> Half:
        asked = np.flatnonzero(chosen[np.searchsorted(classes, queries.labels)] == side)
        stored = np.flatnonzero(chosen[np.searchsorted(classes, gallery.labels)] == side)
        stored = stored[np.argsort(gallery.labels[stored], kind="stable")]
        query_class = np.searchsorted(classes, queries.labels[asked])
        item_class = np.searchsorted(classes, gallery.labels[stored])
        rows = {(name, 0): unit(sides[0], asked) for name, sides in vectors.items()}
        rows |= {(name, 1): unit(sides[1], stored) for name, sides in vectors.items()}
        return Half(
            old=rows["old", 0] @ rows["old", 1].T,
            cross=rows["new", 0] @ rows["old", 1].T,
            new=rows["new", 0] @ rows["new", 1].T,
            genuine=query_class[:, None] == item_class[None],
            mated=np.isin(query_class, item_class),
            query_class=query_class,
            item_class=np.unique(item_class, return_inverse=True)[1],
            old_items=rows["old", 1],
            new_items=rows["new", 1],
        )

    return half(True), half(False)


def unit(source: VectorSet, rows: np.ndarray) -> np.ndarray:
    """Rows of a set as unit vectors, float32."""
    vectors = source.take(rows)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def quality(scores: np.ndarray, genuine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each mated query finds a mate first, and its average precision; every query has as many mates."""
    mates = np.sort(scores[genuine].reshape(len(scores), -1), axis=1)
    others = np.sort(np.where(genuine, -np.inf, scores), axis=1)
    return mates[:, -1] > others[:, -1], average_precision(mates, others)


def gains(now: np.ndarray, then: np.ndarray, genuine: np.ndarray) -> np.ndarray:
    """The exact change of mAP if one item alone moved from its column in `now` to that in `then`, for each item.

    An impostor that moves past mates changes the precision at these; a mate that moves is ranked anew.
    """
    mates = -np.sort(-now[genuine].reshape(len(now), -1), axis=1)
    width, order = mates.shape[1], np.arange(1, mates.shape[1] + 1)
    others = np.sort(np.where(genuine, -np.inf, now), axis=1)
    above = np.stack([_at_or_above(others, mates[:, place]) for place in range(width)], axis=1)
    base = order / (above + order)
    steps = [np.cumsum(order / (np.maximum(above + by, 0) + order) - base, axis=1) for by in (1, -1)]
    added, freed = (np.pad(step, ((0, 0), (1, 0))) for step in steps)
    before, after = (sum((mates[:, [place]] > side) for place in range(width)) for side in (now, then))
    at = [np.take_along_axis(table, place, 1) for table in (added, freed) for place in (before, after)]
    moved = np.where(after > before, at[3] - at[2], at[0] - at[1])
    moved[genuine] = 0.0
    total = moved.sum(axis=0) / width
    column = np.nonzero(genuine)[1].reshape(len(now), width)
    own = np.stack([_at_or_above(others, np.take_along_axis(now, column[:, [i]], 1)[:, 0]) for i in range(width)], 1)
    for place in range(width):
        changed = own.copy()
        changed[:, place] = _at_or_above(others, np.take_along_axis(then, column[:, [place]], 1)[:, 0])
        precision = (order / (np.sort(changed, axis=1) + order)).mean(axis=1)
        np.add.at(total, column[:, place], precision - base.mean(axis=1))
    return total / len(now)


def _at_or_above(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.asarray(np.count_nonzero(ordered >= values[:, None], axis=1))


def greedy(now: np.ndarray, then: np.ndarray, genuine: np.ndarray) -> np.ndarray:
    """Turns of the items if a tenth at a time goes those that add most to the mAP of the test queries themselves."""
    state, turn = now.copy(), np.full(now.shape[1], -1)
    for chunk in np.array_split(np.arange(now.shape[1]), GREEDY_STEPS):
        found = np.where(turn < 0, gains(state, then, genuine), -np.inf)
        best = np.argsort(-found, kind="stable")[: len(chunk)]
        turn[best] = chunk
        state[:, best] = then[:, best]
    return turn


def traffic_of(half: Half, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each mated query, Zipf with exponent 1 over classes in random order, and which half is the past."""
    generator = np.random.default_rng(seed)
    classes = half.query_class[half.mated]
    names, which = np.unique(classes, return_inverse=True)
    popularity = 1.0 / (1 + generator.permutation(len(names)))
    past = generator.permutation(len(classes)) % 2 == 0
    return popularity[which], past


def turns(
    half: Half, now: np.ndarray, then: np.ndarray, weight: np.ndarray, past: np.ndarray, seed: int
) -> dict[str, np.ndarray]:
    """The turn of each item in each order, by name; `now` and `then` are calibrated, of the mated queries."""
    tie = np.random.default_rng(seed).permutation(now.shape[1])
    old, classes = half.old_items, half.item_class
    served = np.argpartition(-now[past], SERVED, axis=1)[:, :SERVED]
    hits = np.bincount(served.ravel(), np.repeat(weight[past], SERVED), minlength=now.shape[1])
    turn = turn_in_class(old, classes)
    genuine = half.genuine[half.mated]
    asked = ~past
    keys = {
        "random": np.zeros(len(tie)),
        "distance": -distance_to_centre(old, classes),
        "cluster distance": -distance_to_centre(old, seed=seed),
        "centre": turn,
        "cluster centre": turn_in_class(old, clusters=len(old) // 5, seed=seed),
        "traffic": -hits,
        "traffic and centre": -np.bincount(classes, hits)[classes] / (1 + turn),
        "oracle: change": -(1 - np.sum(half.old_items * half.new_items, axis=1)),
        "oracle: gain": -gains(now[asked], then[asked], genuine[asked]),
        "oracle: greedy": greedy(now[asked], then[asked], genuine[asked]),
    }
    found = {}
    for name, key in keys.items():
        found[name] = np.empty(len(tie), dtype=np.int64)
        found[name][np.lexsort((tie, key))] = np.arange(len(tie))
    return found


def backfills(half: Half, other: Half, seed: int) -> dict[tuple[str, str], Curve]:
    """Curves by (order, merge) on the second half of the queries of `half`, calibrated on `other`."""
    weight, past = traffic_of(half, seed)
    asked = ~past
    cross, new = half.cross[half.mated], half.new[half.mated]
    genuine = half.genuine[half.mated][asked]
    learnt = other.calibration("cross"), other.calibration("new")
    merged = {
        "logistic": (learnt[0].log_odds(cross), learnt[1].log_odds(new)),
        "fmr": (learnt[0].level(cross), learnt[1].level(new)),
        "raw": (cross, new),
    }
    before = quality(half.old[half.mated][asked], genuine)[0]
    orders = turns(half, *merged["logistic"], weight, past, seed)
    found = {}
    for merge, (now, then) in merged.items():
        now, then = now[asked].astype(np.float32), then[asked].astype(np.float32)
        ends = [quality(side, genuine) for side in (now, then)]
        for order, turn in orders.items():
            if merge != "logistic" and order not in ("random", "distance", "centre"):
                continue
            between = [quality(np.where(turn < round(share * len(turn)), then, now), genuine) for share in SHARES[1:-1]]
            found[order, merge] = summary([ends[0], *between, ends[1]], before, weight[asked])
    return found


def summary(stages: list[tuple[np.ndarray, np.ndarray]], before: np.ndarray, weight: np.ndarray) -> Curve:
    """Values at each share: plain, weighted by traffic, and negative flips at rank 1."""
    return {
        "rank@1": [float(first.mean()) for first, _ in stages],
        "mAP": [float(precision.mean()) for _, precision in stages],
        "rank@1 by traffic": [float(np.average(first, weights=weight)) for first, _ in stages],
        "mAP by traffic": [float(np.average(precision, weights=weight)) for _, precision in stages],
        "negative flips": [float(np.mean(before & ~first)) for first, _ in stages],
    }


def thresholds(half: Half, other: Half, seed: int) -> dict[tuple[str, float], list[float]]:
    """False-match rates on `half` of thresholds set on `other` before the upgrade: old system, then each share."""
    learnt = {pair: other.calibration(pair) for pair in ("old", "cross", "new")}
    impostor = ~half.genuine
    turn = np.random.default_rng(seed).permutation(len(half.item_class))
    found = {}
    for rate in RATES:
        limits = {
            "fmr": {pair: one.raw_at(-np.log10(rate), "fmr") for pair, one in learnt.items()},
            "raw": dict.fromkeys(learnt, learnt["old"].raw_at(-np.log10(rate), "fmr")),
        }
        for scale, limit in limits.items():
            accepted = {
                pair: np.count_nonzero((getattr(half, pair) >= limit[pair]) & impostor, axis=0) for pair in learnt
            }
            rates = [accepted["old"].sum()]
            for share in SHARES:
                rates.append(np.where(turn < round(share * len(turn)), accepted["new"], accepted["cross"]).sum())
            found[scale, rate] = [float(count / impostor.sum() / rate) for count in rates]
    return found


def study(load: Callable[[int], Vectors], seeds: list[int], say: Callable[[str], None] = print) -> Study:
    """All runs: for each seed each half of the test classes once as the test, once as the calibration."""
    curves: dict[tuple[str, str], list[Curve]] = {}
    rates: dict[tuple[str, float], list[list[float]]] = {}
    shape = 0, 0, 0
    for seed in seeds:
        began = time.monotonic()
        vectors = load(seed)
        say(f"seed {seed}: models and vectors after {time.monotonic() - began:.0f} s")
        pair = halves(vectors, seed)
        for half, other in (pair, pair[::-1]):
            shape = len(half.query_class), len(half.item_class), len(np.unique(half.query_class))
            _append(curves, backfills(half, other, seed))
            _append(rates, thresholds(half, other, seed))
        say(f"seed {seed}: done after {time.monotonic() - began:.0f} s")
    return Study(curves, rates, shape)


def _append(everything: dict, one: Mapping) -> None:  # type: ignore[type-arg]
    for key, value in one.items():
        everything.setdefault(key, []).append(value)


def main() -> None:
    """Run the seeds and write the page with its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SAMESPACE_DATA") or shared) / "omniglot.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/gallery-accuracy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    if not args.data.is_file():
        raise InputError(f"{args.data} is missing; set SAMESPACE_DATA to the folder that holds omniglot.npz, or --data")
    began = time.monotonic()
    found = study(lambda seed: train(args.data, args.out / f"seed{seed}", seed), args.seeds)
    write_page(found, args.write, args.seeds, time.monotonic() - began)


if __name__ == "__main__":
    main()
