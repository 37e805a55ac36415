"""What was tried beside `matched`: each candidate trained on glyphs in open-class, with paired intervals to matched.

    python benchmarks/beyond_candidates.py OUT [--seed 0 --seed 1] [--only NAME …]

One small network, the same schedule for all; a model that OUT holds is not trained again. The results of a seed are
written to OUT/SEED.json and printed as tables: cross test, self test, a chain of three models, and the cohort.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from candidate_checks import Search, Sides, cohort_of_half, cohort_on, compared, normalised
from candidate_losses import (
    BoundaryInfluence,
    FeatureMixing,
    inverted_pairs,
    lambda_orthogonal,
)
from samespace.data import Augment, holdout, open_source
from samespace.losses import InfluenceLoss, MarginHead, MatchedLoss
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.models.folding import folded
from samespace.prototypes import mean

SOURCE = "glyphs:classes=600,images=16,size=16,difficulty=0.4"
WIDTH, DIM, SCALE, MARGIN, BATCH = "convnet16", 64, 16.0, 0.2, 64
STEPS, OLD_STEPS, FIRST = 800, 600, 0.2
HELD_OUT, OLD_SHARE, UNMATED = 0.4, 0.3, 0.2
AUGMENT = Augment(rotate=8, translate=0.08, scale=0.1, padding="zeros")


@dataclass(frozen=True)
class Candidate:
    """How one model is trained.

    Attributes:
        rows: which training images: `old`, `new` or `all`.
        against: names of the older models, whose vectors `term` gets in this order.
        term: from a `Step` to the compatibility term; None trains a model of its own.
        weight: of the term.
        mixes: the head sees the stored old vectors of some images in place of the new ones.
    """

    rows: str = "new"
    against: tuple[str, ...] = ("old",)
    term: Callable[[Step], Tensor] | None = None
    mixes: bool = False
    live: bool = True


@dataclass
class Side:
    """An older model in a training: itself, its stored vectors of the training images, and losses made of them."""

    model: Embedder
    stored: Tensor
    made: dict[str, Any] = field(default_factory=dict)

    def loss(self, name: str, make: Callable[[], Any]) -> Any:
        """The loss of this name, made at the first call."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]


@dataclass
class Step:
    """What a term sees of a batch: new unit vectors, labels, rows, old vectors of the same views, by older model."""

    new: Tensor
    labels: Tensor
    rows: Tensor
    views: list[Tensor]
    sides: list[Side]
    every: Tensor
    classes: int

    def stored(self, number: int = 0) -> Tensor:
        """The older model's stored vectors of the batch's images."""
        return self.sides[number].stored[self.rows]


def matched(step: Step, number: int = 0, seed: int = 0) -> Tensor:
    side = step.sides[number]
    loss = side.loss(
        "matched",
        lambda: MatchedLoss(
            side.stored, step.every, step.classes, matching_weight=10 * SCALE / 32, size=2048, seed=seed
        ),
    )
    value: Tensor = loss(step.new, step.labels, step.views[number], old_embeddings=step.stored(number))
    return value


def boundary_of(step: Step) -> BoundaryInfluence:
    side = step.sides[0]
    loss: BoundaryInfluence = side.loss("boundary", lambda: BoundaryInfluence(side.stored, step.every, step.classes))
    return loss


def boundary(step: Step) -> Tensor:
    value: Tensor = boundary_of(step)(step.new, step.labels)
    return value


def matched_and_boundary(step: Step) -> Tensor:
    return matched(step) + 5 * boundary_of(step).boundary(step.new, step.labels)


def matched_and_inverted(step: Step) -> Tensor:
    memory = step.sides[0].stored[torch.randint(len(step.every), (1024,))]
    return matched(step) + 0.5 * inverted_pairs(step.new, step.views[0], memory)


def prototypes(step: Step) -> Tensor:
    side = step.sides[0]
    options: dict[str, Any] = {"margin": "arcface", "scale": SCALE, "margin_value": MARGIN}
    loss = side.loss("mean", lambda: InfluenceLoss(mean(side.stored, step.every, step.classes), **options))
    value: Tensor = loss(step.new, step.labels)
    return value


def view_regression(weight: float) -> Callable[[Step], Tensor]:
    return lambda step: weight * (1 - (step.new * step.views[0]).sum(dim=1)).mean()


def stored_regression(weight: float) -> Callable[[Step], Tensor]:
    return lambda step: weight * (step.new - step.stored()).square().sum(dim=1).mean()


WEIGHTS = (0.5, 2.0, 10.0, 30.0)
CANDIDATES: dict[str, Candidate] = {
    "old": Candidate("old", ()),
    "paragon": Candidate("new", ()),
    "matched": Candidate(term=matched),
    "mean": Candidate(term=prototypes, live=False),
    "boundary": Candidate(term=boundary, live=False),
    "matched+boundary": Candidate(term=matched_and_boundary),
    "mixbct": Candidate(mixes=True, live=False),
    "matched+inverted": Candidate(term=matched_and_inverted),
    "chain-paragon": Candidate("all", ()),
    "chain-one": Candidate("all", ("matched",), term=matched),
    "chain-both": Candidate(
        "all", ("matched", "old"), term=lambda step: 0.5 * (matched(step) + matched(step, 1, seed=1))
    ),
    **{f"view-{weight:g}": Candidate(term=view_regression(weight)) for weight in WEIGHTS},
    **{f"stored-{weight:g}": Candidate(term=stored_regression(weight), live=False) for weight in WEIGHTS},
}


class World:
    """The images of a seed, and which of them each model is trained and checked on."""

    def __init__(self, seed: int) -> None:
        source = open_source(f"{SOURCE},seed={seed}")
        self.images, self.labels, self.seed = source.load(np.arange(len(source))), source.labels, seed
        held = holdout(source, fraction=HELD_OUT, seed=seed, open_set=UNMATED)
        self.queries, self.gallery = held.query_rows, held.gallery_rows
        free = np.setdiff1d(np.arange(len(source.classes)), self.labels[np.r_[self.queries, self.gallery]])
        free = np.random.default_rng(seed).permutation(free)
        cut = round(OLD_SHARE * len(free))
        parts = {"old": free[:cut], "new": free[cut:], "all": free}
        self.rows = {name: np.flatnonzero(np.isin(self.labels, classes)) for name, classes in parts.items()}


def train(world: World, name: str, folder: Path) -> Embedder:
    """Train a candidate, or load what was trained before."""
    if (folder / name / "config.json").exists():
        return Embedder.load(folder / name)
    candidate, began = CANDIDATES[name], time.monotonic()
    rows = world.rows[candidate.rows]
    images = world.images[rows]
    present, codes = np.unique(world.labels[rows], return_inverse=True)
    labels, number = torch.from_numpy(codes), list(CANDIDATES).index(name)
    torch.manual_seed(1000 * world.seed + number)
    preprocessing = Preprocessing(images.shape[-1], images.shape[1])
    embedder = Embedder(EmbedderConfig(WIDTH, DIM, preprocessing, batch_norm=True), name=name)
    head = MarginHead(len(present), DIM, margin="arcface", scale=SCALE, margin_value=MARGIN)
    older = [train(world, other, folder) for other in candidate.against]
    sides = [Side(folded(model), torch.from_numpy(embedded(model, images))) for model in older]
    mixing = FeatureMixing(sides[0].stored, labels, len(present)) if candidate.mixes else None
    optimizer = torch.optim.SGD(
        [*embedder.parameters(), *head.parameters()], lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = OLD_STEPS if name == "old" else STEPS
    generator = torch.Generator().manual_seed(7000 * world.seed + number)
    embedder.train()
    for step, chosen in enumerate(drawn(len(images), steps, generator)):
        for group in optimizer.param_groups:
            group["lr"] = 0.05 * (1 + math.cos(math.pi * step / steps))
        unit = AUGMENT.apply(preprocessing.to_unit(images[chosen]), AUGMENT.draw(len(chosen), generator))
        new = functional.normalize(embedder(preprocessing.normalize(unit)))
        ramp = min(1.0, max(0.0, (step / steps - FIRST) / 0.05))
        seen = new if mixing is None or not ramp else mixing(new, labels[chosen], sides[0].stored[chosen], generator)
        loss = head(seen, labels[chosen])
        if candidate.term is not None and ramp:
            views = [side.model.embed_unit(unit) for side in sides] if candidate.live else []
            seen_by_term = Step(new, labels[chosen], chosen, views, sides, labels, len(present))
            loss = loss + ramp * candidate.term(seen_by_term)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    embedder.eval()
    embedder.save(folder / name)
    print(f"{name} (seed {world.seed}): {time.monotonic() - began:.0f} s, last loss {float(loss):.2f}", flush=True)
    return embedder


def drawn(count: int, steps: int, generator: torch.Generator) -> Iterable[Tensor]:
    """Batches of rows, epoch after epoch."""
    order, made = torch.randperm(count, generator=generator), 0
    for _ in range(steps):
        if made + BATCH > count:
            order, made = torch.randperm(count, generator=generator), 0
        yield order[made : made + BATCH]
        made += BATCH


def embedded(model: Embedder, images: Tensor) -> np.ndarray:
    return np.concatenate([model.embed(part).numpy() for part in images.split(512)])


def measure(world: World, folder: Path, names: list[str]) -> dict[str, Any]:
    """All tables of a seed."""
    search = Search(world.labels[world.queries], world.labels[world.gallery])
    sets: dict[str, Sides] = {}
    for name in names:
        model = train(world, name, folder)
        sets[name] = embedded(model, world.images[world.queries]), embedded(model, world.images[world.gallery])
    old, base = sets["old"], sets["matched"]
    scored = {name: search.values(queries @ old[1].T) for name, (queries, _) in sets.items()}
    own = {name: search.values(queries @ gallery.T) for name, (queries, gallery) in sets.items()}
    maps = _mapped(world, folder, sets["paragon"][0])
    scored |= {name: search.values(queries @ old[1].T) for name, queries in maps.items()}
    result: dict[str, Any] = {
        "cross against old": {name: compared(one, own["old"]) for name, one in scored.items()},
        "cross against matched": {name: compared(one, scored["matched"]) for name, one in scored.items()},
        "self against matched": {name: compared(one, own["matched"]) for name, one in own.items()},
    }
    middle = {name: search.values(sets[name][0] @ base[1].T) for name in ("chain-one", "chain-both") if name in sets}
    if middle:
        result["chain, new queries on the old gallery, against old"] = {
            name: compared(scored[name], own["old"]) for name in middle
        }
        result["chain, new queries on the middle gallery, against middle"] = {
            name: compared(one, own["matched"]) for name, one in middle.items()
        }
        if len(middle) == 2:
            for title, values in (("old", scored), ("middle", middle), ("new", own)):
                both = compared(values["chain-both"], values["chain-one"])
                result[f"chain, both against one, on the {title} gallery"] = {"chain-both": both}
    result["cohort, on the old gallery"] = _cohort(world, folder, sets)
    return result


def _mapped(world: World, folder: Path, queries: np.ndarray) -> dict[str, np.ndarray]:
    """Queries of the free model in the old space, by rotation, strict or loose."""
    images = world.images[world.rows["new"]]
    labels = torch.from_numpy(np.unique(world.labels[world.rows["new"]], return_inverse=True)[1])
    source, target = (torch.from_numpy(embedded(train(world, name, folder), images)) for name in ("paragon", "old"))
    left, _, right = torch.linalg.svd(source.T @ target)
    maps = {"rotation": left @ right}
    maps |= {f"λ-orthogonal, λ {bound:g}": lambda_orthogonal(source, target, labels, bound=bound) for bound in (1, 12)}
    return {name: functional.normalize(torch.from_numpy(queries) @ weight).numpy() for name, weight in maps.items()}


def _cohort(world: World, folder: Path, sets: dict[str, Sides]) -> dict[str, Any]:
    """Scores normalised against the old vectors of the new training images, and against half of the check classes."""
    labels = world.labels[world.queries], world.labels[world.gallery]
    search, gallery = Search(*labels), sets["old"][1]
    cohort, result = embedded(train(world, "old", folder), world.images[world.rows["new"]]), {}
    for name in ("old", "matched"):
        queries = sets[name][0]
        result[f"{name}, cohort of training images"] = normalised(search, queries, gallery, cohort)
    old, new = sets["old"], sets["matched"]
    return result | cohort_of_half({"old": old[0], "matched": new[0]}, old, labels, world.seed)


def show(result: dict[str, Any]) -> None:
    for title, rows in result.items():
        print(f"\n{title}: value [difference in points]")
        for name, cells in rows.items():
            shown = (f"{metric} {one:5.1f} [{low:+5.1f} … {high:+5.1f}]" for metric, (one, low, high) in cells.items())
            print(f"  {name:<22} {'   '.join(shown)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, action="append", default=None)
    parser.add_argument("--vectors", type=Path, help="only the cohort, on the vectors of a check in this folder")
    parser.add_argument("--only", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.vectors is not None:
        for seed in options.seed or [0, 1]:
            print(f"\nseed {seed}")
            show(cohort_on(options.vectors, seed))
        return
    names = [name for name in CANDIDATES if name in {*options.only, "old", "paragon", "matched"}]
    for seed in options.seed or [0, 1]:
        world, folder = World(seed), options.out / str(seed)
        for name in names:
            train(world, name, folder)
        result = measure(world, folder, names)
        (options.out / f"{seed}.json").write_text(json.dumps(result, indent=1), encoding="utf-8")
        print(f"\nseed {seed}")
        show(result)


if __name__ == "__main__":
    main()
