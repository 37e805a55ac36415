"""A training that starts from pretrained weights against the same from scratch, on Omniglot.

The characters to train on, turned by 90, 180 and 270 degrees, are characters of their own: a network is pretrained on
these alone. Then two trainings on the characters themselves, with one recipe, one budget and one seed, differ in
`model.init`; a third one from scratch takes as many images as pretraining and training together. All are judged on
characters of alphabets that none saw, a fifth of them without a mate:

    python benchmarks/pretrained.py --data omniglot.npz --work runs/pretrained [--out docs/results/pretrained.md]

Run it again after a stop and it carries on. The page and its figure are written at the end.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import numpy as np
import torch

from candidate_checks import Search
from samespace.data import ArraySource, holdout
from samespace.files import read_json, write_text
from samespace.metrics import interval
from samespace.models import Embedder
from samespace.models.extract import embed_rows
from samespace.progress import bar, clock
from samespace.report.figures.drawing import LIGHT, Drawing, canvas, legend, name_axes, save_png, settings
from samespace.train import flushed_denormals, parse_recipe, run

ARMS = {"scratch": "from scratch", "pretrained": "from pretrained weights"}
TRAININGS = {"rotations": "pretraining", **ARMS, "longer": "from scratch, longer"}
TURNS = (1, 2, 3)
METRICS = ("rank@1", "mAP")
VALIDATION = 40

Values = dict[str, np.ndarray]


def sources(path: Path, classes: int, check_classes: int) -> dict[str, ArraySource]:
    """Images to pretrain on, to train on, and to check with; the classes are drawn by a fixed seed."""
    held = np.load(path)
    random, late = np.random.default_rng(666), held["class_is_evaluation"]
    chosen = random.permutation(np.flatnonzero(~late))[: classes + VALIDATION]
    unseen = random.permutation(np.flatnonzero(late))[:check_classes]
    images, labels = held["images"], held["labels"].astype(np.int64)
    own, check = np.isin(labels, chosen[:classes]), np.isin(labels, unseen)
    train = np.isin(labels, chosen)
    total = len(held["label_names"])
    turned = np.concatenate([np.rot90(images[own], turns, axes=(1, 2)) for turns in TURNS])
    of_turned = np.concatenate([labels[own] + total * turns for turns in TURNS])
    return {
        "turned": ArraySource(turned, of_turned, name="omniglot, turned"),
        "train": ArraySource(images[train], labels[train], name="omniglot"),
        "check": ArraySource(images[check], labels[check], name="omniglot, check"),
    }


def recipe(arguments: argparse.Namespace, seed: int, epochs: int, init: Path | None, watch: float | None) -> dict:
    """One recipe for all trainings."""
    return {
        "data": {"source": str(arguments.data)},
        "model": {"backbone": "convnet16", "embedding_dim": 64, "init": None if init is None else str(init)},
        "head": {"scale": 16.0, "margin_value": 0.2},
        "optim": {"epochs": epochs, "batch_size": 64, "lr": 0.1, "weight_decay": 5e-4, "schedule": "cosine"},
        "augment": {"rotate": 8.0, "translate": 0.06, "scale": 0.1},
        "validation": {"classes": watch, "metrics": list(METRICS)},
        "run": {"device": "cpu", "precision": "fp32"},
        "seed": seed,
    }


def train_all(arguments: argparse.Namespace, images: dict[str, ArraySource]) -> None:
    """Every training of every seed; those that are done stay."""
    for seed in arguments.seeds:
        place = arguments.work / f"seed-{seed}"
        first = parse_recipe(recipe(arguments, 100 + seed, arguments.pretrain_epochs, None, None))
        start = run(first, place / "rotations", source=images["turned"]).model
        for arm in (*ARMS, "longer"):
            init = start if arm == "pretrained" else None
            epochs = longer(arguments) if arm == "longer" else arguments.epochs
            second = parse_recipe(recipe(arguments, seed, epochs, init, VALIDATION))
            run(second, place / arm, source=images["train"])


def longer(arguments: argparse.Namespace) -> int:
    """Epochs of training that take as many images as pretraining and training together."""
    return int(arguments.epochs + len(TURNS) * arguments.pretrain_epochs)


def judge(arguments: argparse.Namespace, check: ArraySource) -> dict[int, dict[str, Values]]:
    """By seed and model, the metrics of its self test on the check classes, themselves and of each resample."""
    split = holdout(check.labels, check_classes=np.unique(check.labels), queries_per_class=0.5, open_set=0.2)
    queries, gallery = split.query_rows, split.gallery_rows
    search = Search(check.labels[queries], check.labels[gallery])
    found: dict[int, dict[str, Values]] = {}
    with bar("judging", len(TRAININGS) * len(arguments.seeds), "models") as show:
        for seed in arguments.seeds:
            found[seed] = {}
            for arm in TRAININGS:
                model = Embedder.load(arguments.work / f"seed-{seed}" / arm / "model")
                vectors = embed_rows(model, check)
                found[seed][arm] = search.values(vectors[queries] @ vectors[gallery].T)
                show(1)
    return found


def percent(values: np.ndarray) -> str:
    low, high = interval(values[1:])
    return f"{100 * values[0]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def points(values: np.ndarray) -> str:
    low, high = interval(values[1:])
    return f"{100 * values[0]:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def curve(arguments: argparse.Namespace, arm: str, metric: str) -> np.ndarray:
    """(seeds, epochs) of a metric on the classes kept out while training, in percent."""
    rows = []
    for seed in arguments.seeds:
        text = (arguments.work / f"seed-{seed}" / arm / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        rows.append([100 * line[f"{metric}/new"] for line in lines if line["kind"] == "validation"])
    return np.array(rows)


def draw(arguments: argparse.Namespace) -> Drawing:
    figure, panels = canvas(420, LIGHT, panels=len(METRICS), top=50, gap=44)
    styles = {"scratch": ("--", LIGHT.muted), "pretrained": ("-", LIGHT.new)}
    for axes, metric in zip(panels, METRICS, strict=True):
        for arm, words in ARMS.items():
            rows = curve(arguments, arm, metric)
            line, colour = styles[arm]
            epochs = np.arange(1, rows.shape[1] + 1)
            for row in rows:
                axes.plot(epochs, row, line, color=colour, linewidth=0.7, alpha=0.5)
            axes.plot(epochs, rows.mean(axis=0), line, color=colour, linewidth=2, label=words)
        last = metric == METRICS[-1]
        name_axes(axes, LIGHT, x="epoch" if last else None, y=f"{metric}, %")
    legend(panels[0], LIGHT)
    return Drawing("pretrained", "From pretrained weights and from scratch", "Accuracy after each epoch", figure)


def reading(difference: np.ndarray) -> str:
    """What the difference to the longer training from scratch means."""
    low, high = interval(difference[1:])
    if high < 0:
        return (
            "So weights that are there already save most of a training, and pretraining for the sake of a single one "
            "does not pay here: the same time is better spent on the characters themselves."
        )
    if low > 0:
        return "So pretraining pays even where it is done for this one training."
    return "So pretraining for the sake of a single training neither pays nor costs here."


def reached(name: str, scratch: np.ndarray, pretrained: np.ndarray) -> str:
    """When the pretrained side first has what the other has at its end."""
    ahead = np.flatnonzero(pretrained >= scratch[-1])
    when = f"is reached after epoch {ahead[0] + 1} of {len(scratch)}" if len(ahead) else "is not reached"
    return f"- {name}: what training from scratch has at its end, {scratch[-1]:.1f} %, {when} from pretrained weights."


def page(arguments: argparse.Namespace, found: dict[int, dict[str, Values]], seconds: dict[str, float]) -> str:
    def mean(arm: str, metric: str) -> np.ndarray:
        return np.mean([found[seed][arm][metric] for seed in found], axis=0)

    ahead = [interval((mean("pretrained", name) - mean("scratch", name))[1:])[0] > 0 for name in METRICS]
    verdict = (
        "Pretrained weights are ahead by both metrics" if all(ahead)
        else "Pretrained weights are ahead by one metric alone" if any(ahead)
        else "Pretrained weights are not ahead: the intervals of the difference reach zero"
    )  # fmt: skip
    lines = [
        "# From pretrained weights, recorded",
        "",
        f"`python benchmarks/pretrained.py --data omniglot.npz --work runs/pretrained --seeds "
        f"{' '.join(map(str, arguments.seeds))}`",
        "",
        f"Omniglot (Lake et al., Science 2015). A `convnet16` is pretrained for {arguments.pretrain_epochs} epochs on "
        f"{3 * arguments.classes} classes: {arguments.classes} characters turned by 90, 180 and 270 degrees, and not "
        f"the characters themselves. Then it is trained on the {arguments.classes} characters for {arguments.epochs} "
        "epochs by one recipe, from these weights (`model.init`) and from scratch, with the same seeds, order and "
        f"augmentation. Judged on {arguments.check_classes} characters of other alphabets, half of the images of each "
        "as queries, a fifth of the characters without a mate. 95 % intervals over characters; differences are paired.",
        "",
        f"**{verdict}**, on the mean of {len(found)} seeds: "
        + ", ".join(f"{name} {points(mean('pretrained', name) - mean('scratch', name))} points" for name in METRICS)
        + ".",
        "",
        f"Against training from scratch for {longer(arguments)} epochs, as many images as pretraining and training "
        "together: "
        + ", ".join(f"{name} {points(mean('pretrained', name) - mean('longer', name))} points" for name in METRICS)
        + f". {reading(mean('pretrained', 'mAP') - mean('longer', 'mAP'))}",
        "",
        "| seed | metric | from scratch, % | from pretrained weights, % | difference, points | pretrained alone, % "
        f"| from scratch, {longer(arguments)} epochs, % |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    means = {arm: {name: mean(arm, name) for name in METRICS} for arm in TRAININGS}
    for seed, arms in [*found.items(), ("mean", means)]:
        for name in METRICS:
            a, b, alone, more = (arms[arm][name] for arm in ("scratch", "pretrained", "rotations", "longer"))
            shown = (percent(a), percent(b), points(b - a), percent(alone), percent(more))
            lines.append(f"| {seed} | {name} | {' | '.join(shown)} |")
    lines += [
        "",
        f"While training, on {VALIDATION} further characters that are kept out (thin: each seed, thick: their mean):",
        "",
        "![Accuracy after each epoch](pretrained.png)",
        "",
        *(reached(name, *(curve(arguments, arm, name).mean(axis=0) for arm in ARMS)) for name in METRICS),
    ]
    spent = ", ".join(f"{words} {clock(seconds[arm])}" for arm, words in TRAININGS.items())
    lines += [
        "",
        f"Wall time of all seeds: {spent}, one thread, Python {platform.python_version()}, torch {torch.__version__}, "
        "on a machine that other work shared.",
    ]
    return "\n".join(lines) + "\n"


def seconds_of(training: Path) -> float:
    return float(read_json(training / "training.json", "a finished training")["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="omniglot.npz")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=Path("docs/results/pretrained.md"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classes", type=int, default=120, help="characters to train on")
    parser.add_argument("--check-classes", type=int, default=150)
    parser.add_argument("--pretrain-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = sources(arguments.data, arguments.classes, arguments.check_classes)
    with flushed_denormals():
        train_all(arguments, images)
        found = judge(arguments, images["check"])
    spent = {arm: sum(seconds_of(arguments.work / f"seed-{seed}" / arm) for seed in found) for arm in TRAININGS}
    with settings():
        save_png(draw(arguments), arguments.out.with_suffix(".png"))
    write_text(arguments.out, page(arguments, found, spent))
    print(f"{arguments.out}: written")


if __name__ == "__main__":
    main()
