"""What the influence loss adds to a training step, on the demo's network.

Runs plain and compatible steps turn by turn in one process, on the same batches, and prints the ratio of their times:

    python benchmarks/step_time.py [--json FILE]

The influence loss has as many prototypes as the head has classes, the most it can have.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import torch

from samespace.demo.run import DemoSettings, peak_memory
from samespace.losses import InfluenceLoss, MarginHead
from samespace.models import Embedder, EmbedderConfig, Preprocessing
from samespace.train import CompatibleTask

Step = tuple[CompatibleTask, torch.optim.Optimizer]


def build(classes: int, settings: DemoSettings, *, tied: bool) -> Step:
    """A task on the demo's network, with or without an influence loss, and its optimiser."""
    torch.manual_seed(0)
    config = EmbedderConfig(settings.backbone, settings.embedding_dim, Preprocessing(size=32, channels=1))
    head = MarginHead(classes, settings.embedding_dim, scale=16.0, margin_value=0.2)
    influence = None
    if tied:
        influence = InfluenceLoss(torch.randn(classes, settings.embedding_dim), scale=16.0, margin_value=0.2)
    task = CompatibleTask(Embedder(config), head, influence=influence)
    return task, torch.optim.SGD(task.parameters(), lr=0.01, momentum=0.9)


def step(side: Step, images: torch.Tensor, labels: torch.Tensor) -> float:
    """One training step; its wall time in seconds."""
    task, optimizer = side
    began = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    task(images, labels)["loss"].backward()
    optimizer.step()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--classes", type=int, nargs="+", default=[500, 10_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = DemoSettings()
    rows = []
    for classes in args.classes:
        plain, tied = (build(classes, settings, tied=flag) for flag in (False, True))
        generator = torch.Generator().manual_seed(0)
        times: dict[str, list[float]] = {"plain": [], "tied": []}
        for index in range(args.steps + 20):
            images = torch.rand(args.batch_size, 1, 32, 32, generator=generator)
            labels = torch.randint(0, classes, (args.batch_size,), generator=generator)
            for name, side in (("plain", plain), ("tied", tied))[:: 1 if index % 2 else -1]:
                seconds = step(side, images, labels)
                if index >= 20:
                    times[name].append(seconds)
        medians = {name: 1000 * statistics.median(values) for name, values in times.items()}
        ratio = statistics.median(b / a for a, b in zip(times["plain"], times["tied"], strict=True))
        rows.append({"classes": classes, **medians, "ratio": ratio})
        print(
            f"{settings.backbone}, {settings.embedding_dim}-d, batch {args.batch_size}, {classes:,} classes: "
            f"plain {medians['plain']:.2f} ms, with influence loss {medians['tied']:.2f} ms, "
            f"ratio {ratio:.3f} ({100 * (ratio - 1):+.1f} %)"
        )
    peak = peak_memory() / 2**30
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    print(f"peak memory {peak:.2f} GiB, {args.threads} threads, {versions}")
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "peak_gib": peak}, indent=2))


if __name__ == "__main__":
    main()
