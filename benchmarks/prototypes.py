"""Refined prototypes against the loop of UniBCT's supplement, both in one process and on the same features.

The loop follows the printed Algorithm 2, with Equation 6 as the text states it (normalised by rows, with the
temperature): features are gathered sample by sample into a list per class; per class come the similarities, the row
softmax, the explicit inverse of Equation 9, its product with the old features, and the mean of Equation 10.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from samespace import prototypes

DAMPING = 0.9
TEMPERATURE = 0.05
AGREEMENT = 1e-5
ALLOCATOR = ctypes.CDLL(None)


def make_features(classes: int, samples: int, dim: int, order: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Unit old and new features (N, dim) scattered around class centres, and labels (N,) sorted or shuffled."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(classes).repeat_interleave(samples)
    if order == "shuffled":
        labels = labels[torch.randperm(len(labels), generator=generator)]
    both = []
    for spread in (1.2, 0.8):
        centres = torch.randn(classes, dim, generator=generator)
        features = torch.randn(len(labels), dim, generator=generator).mul_(spread)
        for rows in torch.split(torch.arange(len(labels)), 65_536):
            features[rows] += centres[labels[rows]]
        features.div_(torch.linalg.vector_norm(features, dim=1, keepdim=True))
        both.append(features)
    return both[0], both[1], labels


def paper_loop(features: Tensor, labels: Tensor, classes: int, guide: Tensor) -> Tensor:
    """Algorithm 2 of the supplement, with Equation 6 by rows."""
    old_lists: list[list[Tensor]] = [[] for _ in range(classes)]
    new_lists: list[list[Tensor]] = [[] for _ in range(classes)]
    for i, label in enumerate(labels.tolist()):
        new_lists[label].append(guide[i, :].unsqueeze(0))
        old_lists[label].append(features[i, :].unsqueeze(0))
    result = torch.full((classes, features.shape[1]), torch.nan)
    for label in range(classes):
        old = torch.cat(old_lists[label])
        new = torch.cat(new_lists[label])
        edges = torch.mm(new, new.t()) / TEMPERATURE
        identity = torch.eye(edges.size(0))
        edges.masked_fill_(identity.bool(), -torch.inf)
        edges = torch.softmax(edges, dim=1)
        edges = (1 - DAMPING) * torch.inverse(identity - DAMPING * edges)
        result[label] = torch.mm(edges, old).mean(dim=0)
    return result


def ours(features: Tensor, labels: Tensor, classes: int, guide: Tensor) -> Tensor:
    return prototypes.refined(features, labels, classes, guide=guide, damping=DAMPING, temperature=TEMPERATURE)


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def peak_above_start() -> Iterator[list[int]]:
    """Sample resident memory; the list holds the highest rise above the start, in bytes.

    Freed memory that the allocator keeps is given back first, or reusing it would not show as a rise.
    """
    gc.collect()
    if hasattr(ALLOCATOR, "malloc_trim"):
        ALLOCATOR.malloc_trim(0)
    start, stop, rise = resident_bytes(), threading.Event(), [0]

    def watch() -> None:
        while not stop.wait(0.005):
            rise[0] = max(rise[0], resident_bytes() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield rise
    finally:
        stop.set()
        thread.join()


def measure(side: Callable[..., Tensor], arguments: tuple[Tensor, Tensor, int, Tensor]) -> tuple[Tensor, float, int]:
    """Result, seconds and peak bytes of one run."""
    with peak_above_start() as rise:
        start = time.perf_counter()
        result = side(*arguments)
        seconds = time.perf_counter() - start
    return result, seconds, rise[0]


def compare(
    classes: int, samples: int, dim: int, order: str, repeats: int, threads: dict[str, int]
) -> dict[str, object]:
    """Run both sides in turn and report medians, highest memory and the largest difference."""
    features, guide, labels = make_features(classes, samples, dim, order)
    arguments = (features, labels, classes, guide)
    seconds: dict[str, list[float]] = {"loop": [], "samespace": []}
    memory = {"loop": 0, "samespace": 0}
    difference = 0.0
    for _ in range(repeats):
        results = {}
        for name, side in (("loop", paper_loop), ("samespace", ours)):
            torch.set_num_threads(threads[name])
            results[name], taken, peak = measure(side, arguments)
            seconds[name].append(taken)
            memory[name] = max(memory[name], peak)
        difference = max(difference, float((results["loop"] - results["samespace"]).abs().max()))
    moved = float((results["samespace"] - prototypes.mean(features, labels, classes)).abs().max())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "order": order,
        "classes": classes,
        "samples": samples,
        "dim": dim,
        "repeats": repeats,
        "threads": threads,
        "seconds": seconds,
        "median_seconds": medians,
        "ratio": medians["loop"] / medians["samespace"],
        "peak_mib": {name: peak / 2**20 for name, peak in memory.items()},
        "largest_difference": difference,
        "largest_move_from_mean": moved,
    }


def show(row: dict[str, object]) -> None:
    medians, peaks, seconds = row["median_seconds"], row["peak_mib"], row["seconds"]
    assert isinstance(medians, dict)
    assert isinstance(peaks, dict)
    assert isinstance(seconds, dict)
    print(f"\n{row['classes']} classes x {row['samples']} samples x {row['dim']} dimensions, {row['order']}")
    for name in ("loop", "samespace"):
        runs = ", ".join(f"{value:.2f}" for value in seconds[name])
        print(f"  {name:<10} {medians[name]:8.2f} s median ({runs})   {peaks[name]:8.0f} MiB above the features")
    print(f"  ratio {row['ratio']:.1f}x   largest difference {row['largest_difference']:.1e}", end="")
    print(f"   (refined differs from the plain mean by up to {row['largest_move_from_mean']:.1e})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--samples", type=int, default=55, help="per class")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--loop-threads", type=int, help="threads for the loop; as many as for samespace if not given")
    parser.add_argument("--order", choices=["sorted", "shuffled", "both"], default="both")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args()
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}, "
        f"{platform.machine()}, {torch.get_num_threads()} threads, "
        f"{options.loop_threads or torch.get_num_threads()} for the loop"
    )
    threads = {"samespace": torch.get_num_threads(), "loop": options.loop_threads or torch.get_num_threads()}
    for side in (paper_loop, ours):
        small, guide, labels = make_features(20, 10, options.dim, "sorted")
        side(small, labels, 20, guide)
    rows = []
    for order in ("sorted", "shuffled") if options.order == "both" else (options.order,):
        rows.append(compare(options.classes, options.samples, options.dim, order, options.repeats, threads))
        show(rows[-1])
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    if any(float(str(row["largest_difference"])) > AGREEMENT for row in rows):
        raise SystemExit(f"the two sides differ by more than {AGREEMENT}")


if __name__ == "__main__":
    main()
