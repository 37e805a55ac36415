"""How methods do in short trainings on glyphs, by recipes alone: a strong and a weak old model, several settings each.

    python benchmarks/short_trainings.py OUT [--world strong weak] [--seed 0 1] [--only NAME …]

One small network, one training at a time; what OUT holds is not trained again. Every successor of a seed and world
starts from the same weights and sees the same order. Prints the rows of docs/results/short-trainings.md.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from samespace.data import Allocation, ImageSource, allocate, holdout, open_source, part
from samespace.evaluate import Certificate, check
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.train import flushed_denormals, run
from samespace.train.recipe_file import parse_recipe

METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")


@dataclass(frozen=True)
class World:
    """Glyphs, how their classes are shared out, and how long the old model and its successors are trained.

    Attributes:
        difficulty: of the glyphs.
        kind: the allocation.
        old_epochs: 27 steps each.
        epochs: of successors; 63 steps each in open-class, 90 in extended-class.
        rows: what is trained against the old model, by name: keys of the recipe's compatibility section, and `epochs`.
    """

    difficulty: float
    kind: Literal["open-class", "extended-class"]
    old_epochs: int
    epochs: int
    rows: dict[str, dict[str, Any]]


METHODS: dict[str, dict[str, Any]] = {
    "matched": {},
    "unibct-mean": {"method": "unibct-mean"},
}
WORLDS = {
    "strong": World(
        0.4,
        "open-class",
        22,
        13,
        {
            "matched": {},
            "matching weight 10": {"matching_weight": 10.0},
            "matching weight 20": {"matching_weight": 20.0},
            "weight 2": {"weight": 2.0},
            "held back for a fifth": {"warmup_epochs": 3},
            "held back, matching weight 10": {"matching_weight": 10.0, "warmup_epochs": 3},
            "held back, matching weight 20": {"matching_weight": 20.0, "warmup_epochs": 3},
            "twice as long": {"epochs": 26},
            "twice as long, matching weight 10": {"epochs": 26, "matching_weight": 10.0},
            "twice as long, held back for a fifth": {"epochs": 26, "warmup_epochs": 5},
        },
    ),
    "weak": World(0.6, "extended-class", 8, 9, METHODS),
}


def recipe(world: World, source: str, allocation: Path, name: str, seed: int, **keys: Any) -> dict[str, Any]:
    """A recipe as a tree: the old model's, the paragon's, or that of a row against the old model."""
    old = name == "old"
    epochs = keys.pop("epochs", world.old_epochs if old else world.epochs)
    return {
        "data": {"source": source, "allocation": str(allocation), "part": "old" if old else "new"},
        "model": {"backbone": "convnet16", "embedding_dim": 64, "batch_norm": True, "name": name},
        "head": {"margin": "arcface", "scale": 16.0, "margin_value": 0.2},
        "optim": {"epochs": epochs, "batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine"},
        "augment": {"rotate": 8.0, "translate": 0.08, "scale": 0.1, "padding": "zeros"},
        "compatibility": keys,
        "run": {"device": "cpu"},
        "seed": 10 * seed + (0 if old else 1),
    }


class Trainings:
    """The models of one world and seed, each trained when it is asked for."""

    def __init__(self, world: World, seed: int, out: Path) -> None:
        self.world, self.seed, self.out = world, seed, out
        self.name = f"glyphs:classes=600,images=16,size=16,difficulty={world.difficulty:g},seed={seed}"
        self.source: ImageSource = open_source(self.name)
        kept = holdout(self.source, fraction=0.4, seed=seed, open_set=0.2)
        self.allocation: Allocation = allocate(self.source, world.kind, seed=seed, holdout=kept)
        self.allocation.save(out / "allocation.json", self.source)

    def vectors(self, name: str, **keys: Any) -> Any:
        """The queries and the gallery by a model."""
        folder = self.out / name.replace(",", "").replace(" ", "-")
        if keys or name in self.world.rows:
            keys = {"old_model": str(self.out / "old" / "model"), **keys}
        tree = recipe(self.world, self.name, self.out / "allocation.json", name, self.seed, **keys)
        trained = run(parse_recipe(tree), folder, quiet=True)
        if trained.fresh:
            print(f"{folder}: {trained.seconds:.0f} s", flush=True)
        model = Embedder.load(trained.model)
        sides = ("queries", "gallery")
        return [embed_to(model, part(self.source, self.allocation, side), folder / side) for side in sides]

    def certificate(self, name: str) -> Certificate:
        """A row against the old model."""
        old, paragon = self.vectors("old"), self.vectors("paragon")
        new = self.vectors(name, **self.world.rows[name])
        return check(
            queries=new[0],
            gallery=old[1],
            baseline=old[0],
            new_gallery=new[1],
            paragon=tuple(paragon),
            metrics=METRICS,
            replicates=1000,
            seed=self.seed,
            examples=0,
            backfill_steps=1,
        )


def lines(name: str, certificate: Certificate) -> str:
    """A row of a table: cross with its interval of the gain, and self."""
    cells = []
    for metric in METRICS:
        one = certificate[metric]
        low, high = (100 * end for end in one.difference)
        cells.append(f"{100 * one.cross:.1f} [{low:+.1f} … {high:+.1f}]")
    own = " / ".join(f"{100 * (certificate[metric].new or 0):.1f}" for metric in METRICS)
    return f"| {name} | {' | '.join(cells)} | {own} |"


def main() -> None:
    """Train, check and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--world", nargs="+", default=list(WORLDS), choices=list(WORLDS))
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with flushed_denormals():
        for title in options.world:
            for seed in options.seed:
                world = WORLDS[title]
                trainings = Trainings(world, seed, options.out / title.replace(", ", "-") / f"seed{seed}")
                print(f"\n{title}, seed {seed}", flush=True)
                certificate = None
                for name in options.only or world.rows:
                    certificate = trainings.certificate(name)
                    print(lines(name, certificate), flush=True)
                if certificate is not None:
                    old = [f"{100 * certificate[metric].old:.1f}" for metric in METRICS]
                    paragon = [f"{100 * (certificate[metric].paragon or 0):.1f}" for metric in METRICS]
                    print(f"| *old; paragon* | {' | '.join(old)} | {' / '.join(paragon)} |", flush=True)


if __name__ == "__main__":
    main()
