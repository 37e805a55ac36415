"""Every method on Omniglot: train on the background alphabets, check on the evaluation alphabets.

Run it as

    python benchmarks/omniglot.py --data PATH/omniglot.npz --out runs/omniglot --write docs/results/omniglot.md

It can be killed and carries on; what is finished is not done again. `--seeds 0 --epochs 2` gives a quick look.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samespace.data import Allocation, ImageSource, allocate, holdout, open_source, part
from samespace.evaluate import Certificate, check
from samespace.files import write_text
from samespace.models import Embedder
from samespace.models.extract import embed_to
from samespace.train import parse_recipe, run
from samespace.vectors import VectorSet

METHODS = {
    "independent": "none",
    "L2": "l2",
    "BCT": "bct",
    "BCT-synthesised": "bct-synth",
    "UniBCT mean": "unibct-mean",
    "UniBCT refined": "unibct-refined",
}
SETTINGS = {
    "extended-class": tuple(METHODS),
    # without a shared class plain BCT has nothing to act on
    "open-class": ("independent", "L2", "BCT-synthesised", "UniBCT mean", "UniBCT refined"),
}
METRICS = ("rank@1", "mAP", "TAR@FAR=1e-3", "TPIR@FPIR=1e-1")


@dataclass(frozen=True)
class Study:
    """One run of this file."""

    out: Path
    epochs: int
    backbone: str
    dim: int
    replicates: int

    def recipe(self, method: str, old: Path | None, seed: int) -> Any:
        """The recipe of one training; only the compatibility section differs between methods."""
        value: dict[str, Any] = {
            "data": {"source": "omniglot"},
            "model": {"backbone": self.backbone, "embedding_dim": self.dim},
            "head": {"margin": "arcface", "scale": 16.0, "margin_value": 0.2},
            "optim": {"epochs": self.epochs, "batch_size": 128, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine"},
            "augment": {"rotate": 10.0, "translate": 0.06, "scale": 0.1, "padding": "zeros"},
            "run": {"device": "cpu"},
            "seed": seed,
        }
        if method != "none":
            value["compatibility"] = {"method": method, "old_model": str(old)}
        return parse_recipe(value)


def certificates(
    study: Study, source: ImageSource, check_classes: np.ndarray, setting: str, seed: int
) -> dict[str, Certificate]:
    """Train all methods of a setting for one seed and check each against the old model."""
    kept = holdout(source, seed=seed, check_classes=check_classes, open_set=0.1)
    allocation = allocate(source, setting, seed=seed, holdout=kept)
    base = study.out / f"seed{seed}"
    old = run(study.recipe("none", None, seed), base / "old", source=part(source, allocation, "old")).model
    new_source = part(source, allocation, "new")
    models = {"old": old}
    # the old model and its successors must not start from the same weights: that is half way to compatible
    for name in SETTINGS[setting]:
        folder = base / setting / name.lower().replace(" ", "-")
        models[name] = run(study.recipe(METHODS[name], old, 1000 + seed), folder, source=new_source).model
    vectors = {
        name: embed_both(model, source, allocation, base / "vectors" / setting / name) for name, model in models.items()
    }
    found = {}
    for name in SETTINGS[setting]:
        file = base / setting / f"{name}.json"
        if not file.exists():
            check(
                queries=vectors[name][0],
                gallery=vectors["old"][1],
                baseline=vectors["old"][0],
                new_gallery=vectors[name][1],
                paragon=vectors["independent"],
                metrics=list(METRICS),
                replicates=study.replicates,
                seed=seed,
            ).save(file)
        found[name] = Certificate.load(file)
    return found


def embed_both(model: Path, source: ImageSource, allocation: Allocation, out: Path) -> tuple[VectorSet, VectorSet]:
    embedder = Embedder.load(model)
    return tuple(embed_to(embedder, part(source, allocation, name), out / name) for name in ("queries", "gallery"))


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def table(found: dict[int, dict[str, Certificate]], metric: str) -> str:
    """One metric of one setting: a row per method, a column per seed, and the means."""
    seeds = sorted(found)
    methods = list(found[seeds[0]])
    lines = [
        "| method | "
        + " | ".join(f"seed {seed}: cross − old [95 % interval]" for seed in seeds)
        + " | mean cross | mean self | mean update gain | compatible |",
        "|---|" + "---|" * (len(seeds) + 4),
    ]
    for method in methods:
        results = [found[seed][method][metric] for seed in seeds]
        cells = []
        for result in results:
            low, high = result.difference
            mark = "✓" if result.compatible else "✗"
            cells.append(f"{100 * (result.cross - result.old):+.2f} [{100 * low:+.2f}, {100 * high:+.2f}] {mark}")
        gains = [result.update_gain for result in results]
        gain = None if any(value is None for value in gains) else float(np.mean(gains))
        cross, new = (float(np.mean([getattr(result, key) for result in results])) for key in ("cross", "new"))
        passed = sum(result.compatible for result in results)
        lines.append(
            f"| {method} | "
            + " | ".join(cells)
            + f" | {percent(cross)} | {percent(new)} | {percent(gain)} | {passed}/{len(seeds)} |"
        )
    old = float(np.mean([found[seed][methods[0]][metric].old for seed in seeds]))
    paragon = float(np.mean([found[seed][methods[0]][metric].paragon for seed in seeds]))
    lines.append(f"\nOld model {percent(old)}, paragon {percent(paragon)} (means over the seeds).")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="omniglot.npz")
    parser.add_argument("--out", type=Path, default=Path("runs/omniglot"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--backbone", default="convnet16")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", type=Path, help="Markdown file whose tables are replaced")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    study = Study(args.out, args.epochs, args.backbone, args.dim, args.replicates)
    source = open_source(str(args.data))
    with np.load(args.data, allow_pickle=False) as file:
        check_classes = np.flatnonzero(file["class_is_evaluation"])
    found: dict[str, dict[int, dict[str, Certificate]]] = {setting: {} for setting in args.settings}
    for seed in args.seeds:
        for setting in args.settings:
            found[setting][seed] = certificates(study, source, check_classes, setting, seed)
    sections = []
    for setting in args.settings:
        sections.append(f"## {setting}")
        sections += [f"### {metric}\n\n{table(found[setting], metric)}" for metric in METRICS]
    text = "\n\n".join(sections) + "\n"
    print(text)
    if args.write:
        write_tables(args.write, text)
    summary = {
        s: {seed: {m: c.to_dict()["metrics"] for m, c in methods.items()} for seed, methods in by_seed.items()}
        for s, by_seed in found.items()
    }
    write_text(args.out / "summary.json", json.dumps(summary, indent=1))


def write_tables(path: Path, text: str) -> None:
    """Put the tables between the markers of a Markdown file, keeping what is written around them."""
    begin, end = "<!-- tables -->", "<!-- end of tables -->"
    page = path.read_text(encoding="utf-8") if path.exists() else f"{begin}\n{end}\n"
    before, rest = page.split(begin)
    _, after = rest.split(end)
    write_text(path, f"{before}{begin}\n\n{text}\n{end}{after}")


if __name__ == "__main__":
    main()
