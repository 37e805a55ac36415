"""The demo for several seeds, all of them reported.

python benchmarks/demo_seeds.py --out runs/demo --seeds 0 1 2 --write docs/results/demo.md
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from samespace.demo.run import DemoResult, DemoSettings, run_demo
from samespace.files import write_text
from samespace.progress import clock
from samespace.report import markdown_table

COMMAND = "python benchmarks/demo_seeds.py --out runs/demo --seeds {seeds} --write docs/results/demo.md"


def proven(results: dict[int, DemoResult], name: str) -> dict[str, int]:
    """For each metric the number of seeds on which a successor is compatible."""
    certificates = [result.certificates[name] for result in results.values()]
    return {metric: sum(one[metric].compatible for one in certificates) for metric in certificates[0].metrics}


def page(results: dict[int, DemoResult], threads: int) -> str:
    """The Markdown page of all seeds."""
    settings = DemoSettings()
    seeds = " ".join(map(str, results))
    counts = [
        f"- {name}: "
        + ", ".join(f"{metric} {count} of {len(results)}" for metric, count in proven(results, name).items())
        for name in next(iter(results.values())).certificates
    ]
    lines = [
        "# The demo, seed by seed",
        "",
        f"`{COMMAND.format(seeds=seeds)}`",
        "",
        f"{settings.classes} glyphs of {settings.images} images, {settings.held_out:.0%} of the glyphs held out; "
        f"{settings.backbone}, {settings.embedding_dim}-d, {settings.epochs} epochs; the old model sees 30 % of the "
        "other glyphs, its successors all of them. The seed decides the glyphs, the allocation and the weights; no "
        "seed was left out. Seeds whose interval of the gain lies above zero:",
        "",
        *counts,
        "",
        f"Measured with torch {torch.__version__} on Python {platform.python_version()}, {threads} threads.",
    ]
    for seed, result in results.items():
        peak = f"{result.peak_bytes / 2**30:.2f} GiB"
        lines += ["", f"## Seed {seed}", "", f"Work: {clock(result.seconds)}, peak memory {peak}.", ""]
        lines.append(markdown_table(result.certificates))
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the seeds and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    results = {seed: run_demo(args.out / f"seed{seed}", DemoSettings(seed=seed)) for seed in args.seeds}
    text = page(results, torch.get_num_threads())
    print(text)
    if args.write:
        write_text(args.write, text)


if __name__ == "__main__":
    main()
