"""The demo for several seeds, all of them reported.

python benchmarks/demo_seeds.py --out runs/demo --seeds 0 1 2 --write docs/results/demo.md
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

import torch

from samespace.demo import DemoResult, DemoSettings, run_demo
from samespace.files import write_text
from samespace.progress import clock
from samespace.report import markdown_table

COMMAND = "python benchmarks/demo_seeds.py --out runs/demo --seeds {seeds} --write docs/results/demo.md"


def page(results: dict[int, DemoResult], threads: int) -> str:
    """The Markdown page of all seeds."""
    settings = DemoSettings()
    seeds = " ".join(map(str, results))
    passed = {
        name: sum(result.certificates[name].compatible for result in results.values())
        for name in next(iter(results.values())).certificates
    }
    verdicts = ", ".join(f"{name} {count} of {len(results)}" for name, count in passed.items())
    lines = [
        "# The demo, seed by seed",
        "",
        f"`{COMMAND.format(seeds=seeds)}`",
        "",
        f"{settings.classes} glyphs of {settings.images} images, {settings.held_out:.0%} of the glyphs held out; "
        f"{settings.backbone}, {settings.embedding_dim}-d, {settings.epochs} epochs; the old model sees 30 % of the other "
        "glyphs, its successors all of them. The seed decides the glyphs, the allocation and the weights; no seed "
        "was left out. A certificate is compatible where the interval of the gain lies above zero on all four metrics: "
        f"{verdicts}.",
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
