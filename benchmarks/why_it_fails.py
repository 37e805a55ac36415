"""Why matched fails on an image set: near copies that only the old model finds, and how well its function was learnt.

    python benchmarks/why_it_fails.py runs/beyond-grocery --settings grocery-long.yaml --data grocery.npz

Reads a finished `samespace reproduce beyond` (table 1, row live), every allocation and seed that is there, trains
nothing, and writes two tables as Markdown:

- rank@1 of the old model, of matched on the old gallery and of the paragon, without mates that the paragon, which knows
  nothing of the old model, sees at a cosine or nearer, with the old model's lead over matched;
- the mean cosine between an image's new and old vectors, on training images (of one seed, 2,000 at most) and on the
  check's queries, and how near the old gallery's best mate and best other item are to an old query.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from samespace import VectorSet
from samespace.data import subset
from samespace.evaluate import NearCopies, near_copies
from samespace.models import Embedder
from samespace.models.extract import embed
from samespace.studies import Plan, beyond, load_settings
from samespace.studies.plan import open_training, training_images
from samespace.studies.study import Pair
from samespace.studies.unibct import SCENARIOS, pair_in

COSINES = (0.99, 0.95, 0.9, 0.8)
MOST_IMAGES = 2000

Sides = tuple[VectorSet, VectorSet]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of the study")
    parser.add_argument("--settings", required=True, help="its settings, as reproduce takes them")
    parser.add_argument("--data", required=True, help="its images")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds = tuple(sorted(int(folder.name.removeprefix("seed")) for folder in args.study.glob("seed*")))
    plan = Plan(beyond(), load_settings(args.settings), args.data, args.study, seeds)
    pairs = {name: pair for name in SCENARIOS if vectors_are_there(plan, pair := pair_in("matched", name))}
    print_near_copies(plan, pairs)
    print_cosines(plan, pairs)


def vectors_are_there(plan: Plan, pair: Pair) -> bool:
    return all(plan.vectors_folder(pair.new, seed, "gallery").is_dir() for seed in plan.seeds)


def sides(plan: Plan, model: str, seed: int) -> Sides:
    queries, gallery = (VectorSet.load(plan.vectors_folder(model, seed, side)) for side in ("queries", "gallery"))
    return queries, gallery


def print_near_copies(plan: Plan, pairs: dict[str, Pair]) -> None:
    header = ("Allocation", "mates left out", "queries with one", "old", "matched", "paragon")
    print(f"| {' | '.join(header)} | old's lead over matched, by seed |")
    print("|---|---|" + "---:|" * 4 + "---|")
    for allocation, pair in pairs.items():
        of_seeds = []
        for seed in plan.seeds:
            old, paragon = sides(plan, pair.old, seed), sides(plan, pair.paragon, seed)
            models = {"old": old, "matched": (sides(plan, pair.new, seed)[0], old[1]), "paragon": paragon}
            of_seeds.append(near_copies(models, witness="paragon", cosines=COSINES))
        for found in zip(*of_seeds, strict=True):
            print(near_copies_row(allocation, found))


def near_copies_row(allocation: str, found: tuple[NearCopies, ...]) -> str:
    ranks = 100 * np.array([[one.values[model]["rank@1"] for model in ("old", "matched", "paragon")] for one in found])
    leads = ", ".join(f"{old - matched:.1f}" for old, matched, _ in ranks)
    which = "none" if found[0].cosine is None else f"{found[0].cosine:g} or nearer"
    share = f"{100 * np.mean([one.share for one in found]):.0f} %"
    return (
        f"| {allocation} | {which} | {share} | {' | '.join(f'{value:.1f}' for value in ranks.mean(axis=0))} | {leads} |"
    )


def print_cosines(plan: Plan, pairs: dict[str, Pair]) -> None:
    print("\n| Allocation | new to old, training images | new to old, check | old: best mate | old: best other |")
    print("|---|---:|---:|---:|---:|")
    for allocation, pair in pairs.items():
        learnt = f"{on_training_images(plan, pair):.2f}"
        checked = np.mean([on_the_check(plan, pair, seed) for seed in plan.seeds], axis=0)
        print(f"| {allocation} | {learnt} | {' | '.join(f'{value:.2f}' for value in checked)} |")


def on_the_check(plan: Plan, pair: Pair, seed: int) -> tuple[float, float, float]:
    """Mean cosines: of new and old queries, of old queries and their best mate, and their best other item."""
    (new, _), (old, gallery) = sides(plan, pair.new, seed), sides(plan, pair.old, seed)
    scores = np.asarray(old.vectors) @ np.asarray(gallery.vectors).T
    mates = np.asarray(old.labels)[:, None] == np.asarray(gallery.labels)[None]
    mated = mates.any(axis=1)
    best, other = (np.where(mask, scores, -1).max(axis=1)[mated].mean() for mask in (mates, ~mates))
    return agreement(new, old), float(best), float(other)


def on_training_images(plan: Plan, pair: Pair) -> float:
    seed = plan.seeds[0]
    images = training_images(plan, open_training(plan), plan.study.model(pair.new), seed)
    drawn = np.sort(np.random.default_rng(0).permutation(len(images))[:MOST_IMAGES])
    models = (Embedder.load(plan.model_folder(model, seed) / "model") for model in (pair.new, pair.old))
    return agreement(*(embed(model, subset(images, drawn)) for model in models))


def agreement(one: VectorSet, other: VectorSet) -> float:
    """The mean cosine of an image's two vectors, which have length one."""
    return float((np.asarray(one.vectors) * np.asarray(other.vectors)).sum(axis=1).mean())


if __name__ == "__main__":
    main()
