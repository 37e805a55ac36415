"""What a compatibility term adds to a training step: plain, influence and `matched`, the old model as large as the new.

Runs the training loop's own steps (augmentation, old side, forward, backward, update) of all sides turn by turn in one
process, on the same batches held in memory, and prints the ratio of each side's time to the plain step's:

    python benchmarks/step_time.py [--classes 700] [--sides plain influence] [--peak] [--device cuda] [--json FILE]

Peak memory is that of a process that runs one side alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from samespace import prototypes
from samespace.data import ArraySource, Batch, FixedViews
from samespace.demo.run import peak_memory
from samespace.losses import InfluenceLoss, MarginHead, MatchedLoss
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.train import CompatibleTask, flushed_denormals, parse_recipe
from samespace.train.loop import Training
from samespace.train.memory import keep_freed_memory
from samespace.train.methods.method import OldSide
from samespace.train.old_views import OldViews
from samespace.vectors import VectorSet

NETWORKS = {"demo": ("convnet16", 64, 1), "convnet32": ("convnet32", 128, 3)}
MIXED = {"matched live, none mixed": 0.0, "matched live, 1/8 mixed": 0.125, "matched live, 1/4 mixed": 0.25}
FIXED, STORED = "matched, 4 fixed views", "matched, stored views"
SIDES = ("plain", "influence", *MIXED, FIXED, STORED)
IMAGES, SIZE = 11_200, 32
WARM_UP = 10
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class World:
    """One network's images and what an old model of the same size knows of them."""

    def __init__(self, network: str, batch_size: int, classes: int, device: str) -> None:
        backbone, dim, channels = NETWORKS[network]
        random = np.random.default_rng(0)
        self.classes = classes
        count = classes * max(2, IMAGES // classes)
        shape = (count, SIZE, SIZE) if channels == 1 else (count, SIZE, SIZE, channels)
        self.source = ArraySource(random.integers(0, 256, shape, dtype=np.uint8), np.arange(count) % classes)
        self.config = EmbedderConfig(backbone, dim, Preprocessing(size=SIZE, channels=channels))
        self.stored = self._vectors(random)
        self.recipe = parse_recipe(
            {
                "data": {"source": "glyphs:classes=2,images=2"},
                "optim": {"batch_size": batch_size},
                "augment": {"rotate": 8.0, "translate": 0.06, "scale": 0.1},
            }
        ).resolved()
        views = FixedViews(self.recipe.augment, 4)
        sets = tuple(self._vectors(random) for _ in range(views.count))
        self.views = OldViews(views, views.numbers(self.source.ids), sets)
        self.device = torch.device(device)
        self.rows = [random.choice(count, batch_size, replace=False) for _ in range(50)]

    def _vectors(self, random: np.random.Generator) -> VectorSet:
        values = random.standard_normal((len(self.source), self.config.embedding_dim), dtype=np.float32)
        return VectorSet.from_arrays(values / np.linalg.norm(values, axis=1, keepdims=True), ids=self.source.ids)

    def batch(self, step: int) -> Batch:
        """One of 50 batches, in turn."""
        rows = self.rows[step % len(self.rows)]
        return Batch(step, rows, torch.from_numpy(self.source.labels[rows]), self.source.load(rows))

    def side(self, name: str, out: Path, clock: Callable[[], float] = time.perf_counter) -> Callable[[Batch], float]:
        """A training of its own; each call makes one step and returns its seconds by this clock."""
        torch.manual_seed(0)
        old_model = Embedder(self.config).eval()
        head = MarginHead(self.classes, self.config.embedding_dim, scale=16.0, margin_value=0.2)
        vectors, labels = torch.from_numpy(np.array(self.stored.vectors)), torch.from_numpy(self.source.labels)
        term: torch.nn.Module | None = None
        if name == "influence":
            term = InfluenceLoss(prototypes.mean(vectors, labels, self.classes), scale=16.0, margin_value=0.2)
        elif name != "plain":
            term = MatchedLoss(vectors, labels, self.classes, mixed_share=MIXED.get(name, 0.0))
        old = OldSide(
            self.stored, model=old_model if name in MIXED else None, views=self.views if name == FIXED else None
        )
        task = CompatibleTask(Embedder(self.config), head, influence=term)
        training = Training(task, self.source, self.recipe, out, old, None, self.device, None, quiet=True)
        task.train()

        def step(batch: Batch) -> float:
            began = clock()
            training.step(batch, 1, task.weight_at(1), 0.01)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            return clock() - began

        return step


def measure(
    world: World, names: list[str], steps: int, out: Path, clock: Callable[[], float]
) -> dict[str, dict[str, float]]:
    """Median milliseconds of each side, and the median ratio to the plain step of the same turn."""
    sides = {name: world.side(name, out, clock) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for index in range(steps + WARM_UP):
        batch = world.batch(index)
        for name in names[:: 1 if index % 2 else -1]:
            seconds = sides[name](batch)
            if index >= WARM_UP:
                times[name].append(seconds)
    plain = times["plain"]
    return {
        name: {
            "ms": 1000 * statistics.median(values),
            "ratio": statistics.median(mine / base for mine, base in zip(values, plain, strict=True)),
        }
        for name, values in times.items()
    }


def peak_of(name: str, args: argparse.Namespace, network: str) -> float:
    """Peak MiB of a process that runs this side alone."""
    command = [sys.executable, __file__, "--alone", name, "--networks", network, "--device", args.device]
    command += ["--batch-size", str(args.batch_size), "--threads", str(args.threads)]
    command += ["--classes", str(args.classes)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def alone(name: str, args: argparse.Namespace, out: Path) -> float:
    """Peak MiB of this process after some steps of one side."""
    world = World(args.networks[0], args.batch_size, args.classes, args.device)
    step = world.side(name, out)
    for index in range(WARM_UP):
        step(world.batch(index))
    on_gpu = world.device.type == "cuda"
    return (torch.cuda.max_memory_allocated() if on_gpu else peak_memory()) / 2**20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=700)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES, help="plain among them, and first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="cpu: processor time, on a busy machine")
    parser.add_argument("--peak", action="store_true", help="peak memory too")
    parser.add_argument("--alone", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder, flushed_denormals():
        out = Path(folder)
        if args.alone:
            print(alone(args.alone, args, out))
            return
        results = {}
        for network in args.networks:
            backbone, dim, _ = NETWORKS[network]
            print(
                f"{backbone}, {dim}-d, {SIZE} px, batch {args.batch_size}, {args.classes} classes, "
                f"{args.device}, {args.clock} time"
            )
            world = World(network, args.batch_size, args.classes, args.device)
            rows = measure(world, args.sides, args.steps, out, CLOCKS[args.clock])
            for name, row in rows.items():
                line = f"  {name:26} {row['ms']:7.2f} ms  ratio {row['ratio']:.3f}"
                if args.peak:
                    row["peak_mib"] = peak_of(name, args, network)
                    line += f"  peak {row['peak_mib']:4.0f} MiB"
                print(line)
            results[network] = rows
    busy = f"load {os.getloadavg()[0]:.1f}"
    print(f"{args.threads} threads, {busy}, torch {torch.__version__}, Python {platform.python_version()}")
    if args.json:
        args.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
